"""Every provider of the compatible family behind OpenAI's own SDK: what its stream was like, the client cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from sluice import adapters
from sluice.adapters._openai import OpenAICompatible
from tests.adapters.test_every_adapter import CASES, expected, name_of
from tests.e2e.conftest import MESSAGES, House
from tests.e2e.playback import Playback, Recording

ROWS = [name for name in sorted(adapters.available()) if isinstance(adapters.load(name), OpenAICompatible)]
STREAMS = [
    path for name in ROWS for path in sorted((CASES / name).glob("*.sse")) if path.stem != "two_choices_reasoning"
]
COUNTING_ODDLY = frozenset({"groq", "hunyuan", "minimax", "moonshot", "vllm", "xai"})


def gathered(chunks: list[ChatCompletionChunk]) -> dict[str, Any]:
    """What an ordinary client makes of the chunks, in the form of an expected choice."""
    text, reasoning, finish = "", "", []
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta
            extra = delta.model_extra or {}
            text += delta.content or ""
            reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
            for call in delta.tool_calls or ():
                assert call.function is not None
                told = calls.setdefault(call.index, ["", "", ""])
                told[0] = call.id if call.id is not None else told[0]
                told[1] += call.function.name or ""
                told[2] += call.function.arguments or ""
    (reason,) = finish
    return {"text": text, "reasoning": reasoning, "tool_calls": list(calls.values()), "finish_reason": reason}


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
async def test_the_sdk_reads_what_the_provider_said(house: House, playback: Playback, path: Path) -> None:
    name, told = path.parent.name, expected(path)
    caller, model = await house.caller(), await house.model()
    tape = playback.tape("case", Recording(path.read_bytes(), piece=11))
    await house.channel(model, type=name, endpoint=f"{tape.url}/v1")
    stream = await caller.sdk.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert gathered(chunks) == told["choices"]["0"]
    assert last.usage is not None
    assert (last.choices, last.usage.prompt_tokens) == ([], told["usage"]["input"])
    if not adapters.load(name).wire:
        assert last.usage.completion_tokens == told["usage"]["output"]
        looks_clean(chunks)
    if name in COUNTING_ODDLY:
        entry = await house.last_charge(caller)
        assert entry.delta == -(told["usage"]["input"] * 1_000 + told["usage"]["output"] * 10_000)
        assert entry.receipt is not None
        assert entry.receipt.usage.source == "provider"


def looks_clean(chunks: list[ChatCompletionChunk]) -> None:
    """As OpenAI's own would, but for the usage at the end."""
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].id.startswith("chatcmpl-")
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length", "tool_calls", "content_filter")
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert all(call.id != "" for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ())


PASSED = b"""data: {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "theirs", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "extra": 1}

data: {"id": "c1",  "object": "chat.completion.chunk", "created": 5, "model": "theirs", "choices": [{"index": 0, "delta": {"content": "\\u00fc"}}]}

data: {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "theirs", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

data: {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "theirs",  "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "new": 2}}

data: [DONE]

"""
OF_OPENAI = {
    "x-ratelimit-remaining-requests": "7",
    "openai-processing-ms": "12",
    "openai-organization": "operators-own",
    "x-request-id": "theirs",
}


async def asked_openai(
    house: House, playback: Playback, recording: Recording, path: str, **body: Any
) -> httpx.Response:
    caller, model = await house.caller(), await house.model()
    tape = playback.tape(model, recording)
    await house.channel(model, endpoint=f"{tape.url}/v1")
    return await caller.http.post(f"/v1/{path}", json={"model": model, **body})


async def test_openais_own_frames_and_headers_reach_its_client_as_they_are(house: House, playback: Playback) -> None:
    recording = Recording(PASSED, headers=OF_OPENAI)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = await asked_openai(house, playback, recording, "chat/completions", messages=MESSAGES, **options)
    assert answer.content == PASSED
    assert (answer.headers["x-ratelimit-remaining-requests"], answer.headers["openai-processing-ms"]) == ("7", "12")
    assert "openai-organization" not in answer.headers
    assert answer.headers["x-request-id"].startswith("req_")
    unasked = await asked_openai(house, playback, recording, "chat/completions", messages=MESSAGES, stream=True)
    *frames, _, done, rest = PASSED.split(b"\n\n")
    assert unasked.content == b"\n\n".join((*frames, done, rest))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": MESSAGES}),
        ("chat/completions", {"messages": MESSAGES, "stream": True}),
        ("embeddings", {"input": "x"}),
        ("completions", {"prompt": "x", "stream": True}),
    ],
)
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_openais_own_error_reaches_its_client_as_it_is(
    house: House, playback: Playback, path: str, body: dict[str, Any], status: int
) -> None:
    said = b'{ "error": {"message": "Slow down.", "type": "server_error", "param": null, "code": null} }'
    recording = Recording(said, status, headers={**OF_OPENAI, "retry-after": "30"})
    answer = await asked_openai(house, playback, recording, path, **body)
    assert (answer.status_code, answer.content) == (status, said)
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining-requests"]) == ("30", "7")
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", ROWS)
async def test_a_whole_answer_is_read_too(house: House, playback: Playback, name: str) -> None:
    """A provider that is always asked for a stream is made whole again: its case is read as it would come."""
    caller, model = await house.caller(), await house.model()
    body = (CASES / name / "whole.json").read_bytes()
    tape = playback.tape("case", Recording(body))
    await house.channel(model, type=name, endpoint=f"{tape.url}/v1")
    answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    told = expected(CASES / name / "whole.json")["choices"]["0"]
    message = answer.choices[0].message
    calls = [[call.id, call.function.name, call.function.arguments] for call in message.tool_calls or ()]  # type: ignore[union-attr]
    assert message.content or told["text"] == ""
    assert [call[:2] for call in calls] == [call[:2] for call in told["tool_calls"]]
    assert answer.usage is not None
    assert json.loads(body)["usage"]["prompt_tokens"] <= answer.usage.prompt_tokens


async def test_a_stream_only_provider_serves_a_client_that_wants_no_stream(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    (path,) = (CASES / "qwen").glob("*.sse")
    tape = playback.tape("case", Recording(path.read_bytes()))
    await house.channel(model, type="qwen", endpoint=f"{tape.url}/compatible-mode/v1")
    answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert tape.calls[0].body["stream"] is True
    told = expected(path)["choices"]["0"]
    message = answer.choices[0].message
    calls = [[call.id, call.function.name, call.function.arguments] for call in message.tool_calls or ()]  # type: ignore[union-attr]
    assert (calls, answer.choices[0].finish_reason) == (told["tool_calls"], "tool_calls")
    assert (message.model_extra or {})["reasoning_content"] == told["reasoning"]
