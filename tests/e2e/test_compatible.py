"""Every provider of the compatible family behind OpenAI's own SDK: what its stream was like, the client cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
