"""What nobody should send, and some do: odd bodies, odd providers. Each gets one clear answer, and nothing hangs or leaks."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from sluice import tokens
from sluice.types import Entry, Secret, Usage
from tests.adapters.aws_frames import event
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording

GOOD = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "good"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()


DEEP = "300 levels"
"""Stands for a value nested that deep, which Python's own JSON would not write."""


async def refused(caller: Caller, body: Any) -> dict[str, Any]:
    raw = json.dumps(body).replace(f'"{DEEP}"', "[" * 300 + "]" * 300).encode()
    response = await caller.http.post("/v1/chat/completions", content=raw)
    assert response.status_code == 400, response.text
    assert response.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("messages", [{"role": [], "content": "x"}], "messages[0].role"),
        ("messages", [{"role": {}, "content": "x"}], "messages[0].role"),
        ("messages", [{"role": "user", "content": [5]}], "messages[0].content[0]"),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": None}]}], "messages[0].content[0].text"),
        ("messages", [{"role": "assistant", "tool_calls": [1]}], "tool_calls"),
        ("tools", True, "tools"),
        ("tools", 1.5, "tools"),
        ("tools", ["x"], "tools"),
        ("response_format", "json", "response_format"),
        ("anything", DEEP, None),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": DEEP}}], None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_odd_body_is_told_what_is_wrong(house: House, field: str, value: Any, param: str | None) -> None:
    caller, model = await house.caller(), await house.model("ok")
    assert (await refused(caller, {"model": model, "messages": MESSAGES, field: value}))["param"] == param


async def test_an_odd_body_of_any_format_is_a_bad_request_in_that_format(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")
    odd = {"contents": [{"parts": [{"text": "x"}]}], "systemInstruction": {"parts": [{"text": True}]}}
    response = await caller.http.post(f"/v1beta/models/{model}:generateContent", json=odd)
    assert (response.status_code, response.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_an_embedding_of_nothing_is_no_answer(house: House, playback: Playback) -> None:
    caller, model = await played(house, playback, Recording(b'{"data":[]}'))
    response = await caller.http.post("/v1/embeddings", json={"model": model, "input": "x"})
    assert response.status_code == 502
    assert (await house.last_charge(caller)).delta == 0


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
EMBED = ("embeddings", {"input": ["x", "y"]})
DRAW = ("images/generations", {"prompt": "x"})
RANK = ("rerank", {"query": "x", "documents": ["x", "y"]})
VECTORS = {"data": [{"index": 0, "embedding": [0.5]}, {"index": 1, "embedding": [0.25]}]}


@pytest.mark.parametrize(
    ("asked", "nonsense", "good"),
    [
        (EMBED, {"data": VECTORS["data"][:1]}, VECTORS),
        (EMBED, {"data": [{"embedding": []}, {"embedding": []}]}, VECTORS),
        (EMBED, {"data": [{"embedding": [0.5]}, {"embedding": [0.5, 0.25]}]}, VECTORS),
        (EMBED, {"data": [{"embedding": ["a"]}, {"embedding": ["b"]}]}, VECTORS),
        (EMBED, {"data": [{"index": 0, "embedding": [1]}, {"index": 5, "embedding": [1]}]}, VECTORS),
        (DRAW, {"data": []}, {"data": [{"b64_json": PNG}]}),
        (DRAW, {"data": [{}]}, {"data": [{"url": "https://pictures.example/a.png"}]}),
        (DRAW, {"data": [{"b64_json": "no picture!"}]}, {"data": [{"b64_json": PNG}]}),
        (DRAW, {"data": [{"b64_json": ""}]}, {"data": [{"b64_json": PNG}]}),
        (DRAW, {"data": [{"error": {"message": "refused"}}]}, {"data": [{"b64_json": PNG}]}),
        (RANK, {"results": []}, {"results": [{"index": 1, "relevance_score": 0.5}]}),
        (RANK, {"results": [{"index": 2, "relevance_score": 0.5}]}, {"results": [{"index": 1, "relevance_score": 1}]}),
        (
            RANK,
            {"results": [{"index": 0, "relevance_score": 1}] * 2},
            {"results": [{"index": 1, "relevance_score": 1}]},
        ),
        (RANK, {"results": [{"index": 1, "relevance_score": "a"}]}, {"results": [{"index": 1, "relevance_score": 1}]}),
        (("moderations", {"input": ["x", "y"]}), {"results": [{}]}, {"results": [{"flagged": True}, {}]}),
        (("completions", {"prompt": "x"}), {"choices": []}, {"choices": [{"text": "y", "finish_reason": "stop"}]}),
    ],
)
async def test_an_answer_that_is_none_costs_nothing_and_the_next_channel_is_asked(
    house: House, playback: Playback, asked: tuple[str, Any], nonsense: Any, good: Any
) -> None:
    counted = {"usage": {"prompt_tokens": 5, "total_tokens": 5}}
    path, body = asked
    bad = Recording(json.dumps(nonsense | counted).encode())
    caller, model = await played(house, playback, bad)
    assert (await caller.http.post(f"/v1/{path}", json={"model": model, **body})).status_code == 502
    assert (await house.last_charge(caller)).delta == 0
    second, model = await played(house, playback, bad, Recording(json.dumps(good | counted).encode()))
    answer = await second.http.post(f"/v1/{path}", json={"model": model, **body})
    assert (answer.status_code, {**answer.json(), **good}) == (200, answer.json())
    assert (await house.last_charge(second)).delta < 0


async def test_a_stream_whose_picture_is_none_is_no_picture(house: House, playback: Playback) -> None:
    event = {"type": "image_generation.completed", "b64_json": "no picture!", "usage": {"input_tokens": 5}}
    stream = Recording(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    caller, model = await played(house, playback, stream)
    answer = await caller.http.post("/v1/images/generations", json={"model": model, "prompt": "x", "stream": True})
    assert answer.status_code == 502
    assert (await house.last_charge(caller)).delta == 0


async def test_more_pictures_than_were_asked_for_are_not_charged(house: House, playback: Playback) -> None:
    body = {"data": [{"b64_json": PNG}] * 4}
    caller = await house.caller()
    model = await house.model(given_input="0", output="0", rates={"per_image": Decimal("0.01")})
    await house.channel(model, endpoint=f"{playback.tape(model, Recording(json.dumps(body).encode())).url}/v1")
    await caller.http.post("/v1/images/generations", json={"model": model, "prompt": "x", "n": 2})
    assert (await house.last_charge(caller)).delta == -20_000_000


async def played(house: House, playback: Playback, *recordings: Recording) -> tuple[Caller, str]:
    """A model on one channel per recording, in this order."""
    caller, model = await house.caller(), await house.model()
    for priority, recording in enumerate(recordings):
        tape = playback.tape(f"{model}-{priority}", recording)
        await house.channel(model, priority=priority, endpoint=f"{tape.url}/v1")
    return caller, model


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1_000_000, "completion_tokens": -1_000_000},
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": 10**40, "completion_tokens": 1},
        {"prompt_tokens": "many", "completion_tokens": []},
        {"prompt_tokens": 9_999_999, "completion_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": 9_999_999},
        {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9_999_999}},
    ],
    ids=["negative", "half", "huge", "words", "input", "output", "cached"],
)
async def test_a_count_that_cannot_be_is_as_good_as_none(
    house: House, playback: Playback, usage: dict[str, Any], stream: bool
) -> None:
    told = json.loads(GOOD) | {"usage": usage}
    if stream:
        delta = {"index": 0, "delta": {"content": "good"}, "finish_reason": "stop"}
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}
        raw = f"data: {json.dumps(chunk)}\n\ndata: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
        recording = Recording(raw.encode(), content_type="text/event-stream")
    else:
        recording = Recording(json.dumps(told).encode())
    caller, model = await played(house, playback, recording)
    body = {"model": model, "messages": MESSAGES, "stream": stream}
    response = await caller.http.post("/v1/chat/completions", json=body)
    assert "good" in response.text
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert entry.receipt.usage.source == "counted"
    assert -1_000_000 < entry.delta < 0
    assert "insufficient_quota" not in response.text


WORDS = "one two three four five"


def whole_and_streamed(protocol: str, usage: Any) -> tuple[bytes, bytes]:
    """The same answer both ways. `usage` is what stands in its place; NOTHING where the place is not there."""
    frames: list[tuple[str, Any]]
    match protocol:
        case "openai":
            message = {"role": "assistant", "content": WORDS}
            told = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            delta = {"index": 0, "delta": {"content": WORDS}, "finish_reason": "stop"}
            frames = [("", {"id": "x", "choices": [delta]} | counts("usage", usage))]
        case "anthropic":
            told = {"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": WORDS}]}
            block = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}
            begun = {"type": "message_start", "message": {"id": "x", **counts("usage", usage)}}
            end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
            frames = [("", begun), ("", block), ("", end), ("", {"type": "message_stop"})]
        case "gemini":
            content = {"role": "model", "parts": [{"text": WORDS}]}
            told = {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}
            frames = [("", told | counts("usageMetadata", usage))]
            return json.dumps(frames[0][1]).encode(), sent(frames)
        case _:
            content = {"role": "assistant", "content": [{"text": WORDS}]}
            told = {"output": {"message": content}, "stopReason": "end_turn"}
            frames = [
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": WORDS}}),
                ("messageStop", {"stopReason": "end_turn"}),
                ("metadata", counts("usage", usage)),
            ]
    return json.dumps(told | counts("usage", usage)).encode(), sent(frames)


NOTHING = object()


def counts(name: str, usage: Any) -> dict[str, Any]:
    return {} if usage is NOTHING else {name: usage}


def sent(frames: list[tuple[str, Any]]) -> bytes:
    """Frames with a name are AWS's, the others server-sent events."""
    if any(name for name, _ in frames):
        return b"".join(event(name, json.dumps(told).encode()) for name, told in frames)
    return b"".join(f"data: {json.dumps(told)}\n\n".encode() for _, told in frames)


async def answered(
    house: House, playback: Playback, protocol: str, recording: Recording, *, stream: bool
) -> tuple[tuple[int, int], Usage, Entry]:
    """What OpenAI's client is told of an answer's tokens, what the receipt says of them, and the entry."""
    caller, model = await house.caller(), await house.model()
    tape = playback.tape(f"{model}-{protocol}", recording)
    secret = {"secret": Secret("bedrock-api-key-1")} if protocol == "bedrock" else {}
    base = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}.get(protocol, "")
    await house.channel(model, type=protocol, endpoint=tape.url + base, **secret)
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    body = {"model": model, "messages": MESSAGES, **options}
    response = await caller.http.post("/v1/chat/completions", json=body)
    assert WORDS in response.text
    pieces = response.text.split("data: ")[1:-1] if stream else [response.text]
    told = json.loads(pieces[-1]).get("usage") or {}
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    return (told.get("prompt_tokens", 0), told.get("completion_tokens", 0)), entry.receipt.usage, entry


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("usage", [NOTHING, None, {}, []], ids=["missing", "null", "object", "list"])
@pytest.mark.parametrize("protocol", ["anthropic", "bedrock"])
async def test_an_answer_whose_count_says_nothing_is_counted(
    house: House, playback: Playback, protocol: str, usage: Any, stream: bool
) -> None:
    whole, streamed = whole_and_streamed(protocol, usage)
    recording = Recording(streamed if stream else whole, content_type=KINDS[protocol] if stream else "")
    _, used, entry = await answered(house, playback, protocol, recording, stream=stream)
    assert (used.source, used.output) == ("counted", tokens.count(WORDS, "m"))
    assert used.input == tokens.count_prompt({"messages": MESSAGES}, "m")
    assert entry.delta == -(used.input * 1_000 + used.output * 10_000)


NAMES = {
    "openai": ("prompt_tokens", "completion_tokens"),
    "anthropic": ("input_tokens", "output_tokens"),
    "gemini": ("promptTokenCount", "candidatesTokenCount"),
    "bedrock": ("inputTokens", "outputTokens"),
}
KINDS = dict.fromkeys(NAMES, "text/event-stream") | {"bedrock": "application/vnd.amazon.eventstream"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("halves", [(77, None), (None, 88), (0, 0)], ids=str)
@pytest.mark.parametrize("protocol", NAMES)
async def test_the_half_that_a_count_does_not_say_is_counted(
    house: House, playback: Playback, protocol: str, halves: tuple[int | None, int | None], stream: bool
) -> None:
    usage = {name: half for name, half in zip(NAMES[protocol], halves, strict=True) if half is not None}
    whole, streamed = whole_and_streamed(protocol, usage)
    recording = Recording(streamed if stream else whole, content_type=KINDS[protocol] if stream else "")
    told, used, entry = await answered(house, playback, protocol, recording, stream=stream)
    said = halves[1] if not (stream and protocol == "anthropic") else None
    expected = (
        halves[0] or tokens.count_prompt({"messages": MESSAGES}, "m"),
        said or tokens.count(WORDS, "m"),
    )
    assert (used.source, used.input, used.output) == ("counted", *expected)
    assert entry.delta == -(used.input * 1_000 + used.output * 10_000)
    if protocol != "openai" or stream:
        assert told == expected


async def test_a_stream_cut_before_its_count_is_charged_by_the_input_it_began_with(
    house: House, playback: Playback
) -> None:
    _, streamed = whole_and_streamed("anthropic", {"input_tokens": 77, "output_tokens": 1})
    body = streamed[: streamed.index(b'data: {"type": "message_delta"')]
    recording = Recording(body + b": more\n\n", cut=len(body))
    _, used, entry = await answered(house, playback, "anthropic", recording, stream=True)
    assert entry.receipt is not None
    assert entry.receipt.end_reason == "upstream_cut"
    assert (used.source, used.input, used.output) == ("counted", 77, tokens.count(WORDS, "m"))


async def test_an_answer_of_nothing_may_count_nothing(house: House, playback: Playback) -> None:
    told = json.loads(GOOD) | {"usage": {"prompt_tokens": 3, "completion_tokens": 0}}
    told["choices"][0] |= {"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
    caller, model = await played(house, playback, Recording(json.dumps(told).encode()))
    await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.usage.source, entry.delta) == ("provider", -3_000)


async def test_reasoning_that_is_not_shown_is_paid_for(house: House, playback: Playback) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 59_990}}
    told = json.loads(GOOD) | {"usage": {"prompt_tokens": 3, "completion_tokens": 60_000, **details}}
    caller, model = await played(house, playback, Recording(json.dumps(told).encode()))
    await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, "max_tokens": 5})
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.usage.source, entry.delta) == ("provider", -(3 * 1_000 + 60_000 * 10_000))


async def test_a_calls_count_that_cannot_be_is_as_good_as_none(house: House, playback: Playback) -> None:
    told = {**VECTORS, "usage": {"prompt_tokens": 9_999_999, "total_tokens": 9_999_999}}
    caller, model = await played(house, playback, Recording(json.dumps(told).encode()))
    answer = await caller.http.post("/v1/embeddings", json={"model": model, "input": ["x", "y"]})
    assert answer.status_code == 200
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.usage.source, entry.delta) == ("counted", -2_000)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"index":0,"message":"just text"}]}',
        b'{"choices":[{"index":0,"message":{"content":' + b"[" * 2_000 + b"]" * 2_000 + b"}}]}",
        b'{"choices":7}',
        b"[1]",
        b"null",
    ],
    ids=["text", "deep", "number", "list", "null"],
)
async def test_an_answer_nobody_can_read_fails_over(
    house: House, playback: Playback, body: bytes, stream: bool
) -> None:
    caller, model = await played(house, playback, Recording(body), Recording(GOOD))
    response = await caller.http.post(
        "/v1/chat/completions", json={"model": model, "messages": MESSAGES, "stream": stream}
    )
    assert response.status_code == 200, response.text
    assert "good" in response.text
    assert (await house.last_charge(caller)).delta == -(3 * 1_000 + 1 * 10_000)


async def test_half_a_surrogate_pair_reaches_the_client(house: House, playback: Playback) -> None:
    body = GOOD.replace(b'"good"', b'"\\ud83d"')
    caller, model = await played(house, playback, Recording(body))
    response = await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
    assert response.status_code == 200
    assert b"\\ud83d" in response.content


async def test_a_provider_that_repeats_key_and_address_is_not_repeated(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    tape = playback.tape(f"{model}-leak", Recording(b"", status=400))
    channel = await house.channel(model, endpoint=f"{tape.url}/v1")
    leak = {"error": {"message": f"bad key Bearer sk-upstream-{channel}-secret at {tape.url}/v1", "type": "x"}}
    tape.recordings[:] = [Recording(json.dumps(leak).encode(), status=400)]
    error = await refused(caller, {"model": model, "messages": MESSAGES})
    assert error["message"].startswith("bad key")
    assert f"sk-upstream-{channel}" not in json.dumps(error)
    assert "127.0.0.1" not in json.dumps(error)


@pytest.mark.parametrize("told", ["9" * 400, "inf", "nan", "-5", "soon"])
async def test_a_wait_that_cannot_be_is_no_wait(house: House, playback: Playback, told: str) -> None:
    limited = Recording(b'{"error":{"message":"slow"}}', status=429, headers={"retry-after-ms": told})
    caller, model = await played(house, playback, limited)
    response = await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
    assert response.status_code == 429
    assert int(response.headers.get("retry-after", "0")) <= 86_400


@pytest.mark.parametrize(
    ("method", "path", "status", "shape"),
    [
        ("GET", "/v1/messages", 405, "anthropic"),
        ("POST", "/v1/messages/batches", 404, "anthropic"),
        ("POST", "/v1beta/models/x:foo", 405, "gemini"),
        ("GET", "/v1beta/files", 404, "gemini"),
        ("GET", "/v1/responses", 405, "openai"),
        ("GET", "/v1/embeddings", 405, "openai"),
        ("DELETE", "/v1/models/x", 405, "openai"),
        ("GET", "/v1/nothing", 404, "openai"),
        ("GET", "/nothing", 404, "openai"),
    ],
)
async def test_what_is_not_there_is_told_in_the_shape_of_its_path(
    house: House, method: str, path: str, status: int, shape: str
) -> None:
    caller = await house.caller()
    answer = await caller.http.request(method, path)
    told = answer.json()
    told_in = "anthropic" if told.get("type") == "error" else "gemini" if "status" in told["error"] else "openai"
    assert (answer.status_code, told_in) == (status, shape)


async def test_what_is_not_there_on_a_shared_path_is_told_in_the_askers_shape(house: House) -> None:
    caller = await house.caller()
    by_anthropic = await caller.http.get("/v1/nothing", headers={"anthropic-version": "2023-06-01"})
    assert by_anthropic.json()["type"] == "error"
    by_gemini = await caller.http.delete("/v1/models/x", headers={"x-goog-api-key": "k"})
    assert by_gemini.json()["error"]["status"] == "NOT_FOUND"


async def test_what_is_not_there_has_an_id_and_says_what_is_allowed(house: House) -> None:
    caller = await house.caller()
    wrong = await caller.http.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.headers["x-request-id"] == wrong.json()["error"]["request_id"]
    assert (await caller.http.post("/v1/chat/completions/", content=b"{}")).status_code == 404
