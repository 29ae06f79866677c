"""OpenAI's format as clients read it: what is passed on, what is restated, what is made from canonical events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice import dialects
from sluice.buffer import Buffer
from sluice.errors import BadRequest, InsufficientQuota
from sluice.types import ChatRequest, Event, Finish, Frame, Inbound, Raw, Reasoning, Start, Text, ToolCall, Usage

OPENAI = dialects.load("openai")


def encoder(alias: str = "", **fields: Any) -> Any:
    return OPENAI.encoder(ChatRequest(model="m", body={}, stream=True, **fields), "req_1", 1_700_000_000, alias)


def chunk(**fields: Any) -> Frame:
    base = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 5, "model": "m-2026-01-01"}
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
    return Frame(json.dumps({**base, "choices": [choice], **fields}, separators=(",", ":")))


def read(frames: Any) -> list[Any]:
    return [json.loads(frame.data) if frame.data != "[DONE]" else "[DONE]" for frame in frames]


def test_a_frame_without_usage_is_passed_on_to_the_letter() -> None:
    relay = encoder()
    odd = chunk(a_field_of_tomorrow={"b": [1.50]})
    list(relay.relay(chunk()))
    assert list(relay.relay(odd)) == [odd]


def test_the_providers_snapshot_name_stays_and_a_mapped_one_does_not() -> None:
    assert read(encoder().relay(chunk()))[0]["model"] == "m-2026-01-01"
    mapped = encoder(alias="m")
    assert [read(mapped.relay(chunk()))[0]["model"] for _ in range(2)] == ["m", "m"]


def test_usage_in_a_chunk_with_choices_moves_to_the_end() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "a_new_kind": 9}
    relay = encoder(include_usage=True)
    (passed,) = read(relay.relay(chunk(usage=usage)))
    assert passed["usage"] is None
    last, done = read(relay.end(Usage(1, 2)))
    assert (last["id"], last["choices"], last["usage"], done) == ("chatcmpl-9", [], usage, "[DONE]")


def test_usage_that_was_counted_here_is_told_in_place_of_half_of_it() -> None:
    relay = encoder(include_usage=True)
    list(relay.relay(chunk(usage={"prompt_tokens": 1})))
    last, _ = read(relay.end(Usage(1, 2, source="counted")))
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (1, 2)


def test_who_did_not_ask_sees_no_usage() -> None:
    relay = encoder()
    assert read(relay.relay(chunk(choices=[], usage={"prompt_tokens": 1}))) == []
    assert "usage" not in read(relay.relay(chunk(usage=None)))[0]
    assert read(relay.end(Usage(1, 2))) == ["[DONE]"]


def test_events_become_chunks_that_say_the_same_as_the_completion() -> None:
    events: list[Event] = [
        Start("x", "m", 1),
        Reasoning("hm"),
        Text("Hello"),
        ToolCall(0, "call_a", "f", '{"a"'),
        ToolCall(0, "", "", ":1}"),
        Raw({"audio": {"id": "a"}}),
        Finish("tool_calls"),
        Usage(3, 4, cached=1, reasoning=2),
    ]
    made, buffer = encoder(include_usage=True), Buffer()
    frames = [frame for event in events for frame in made.encode(event)]
    for event in events:
        buffer.add(event)
    chunks = read([*frames, *made.end(buffer.usage)])
    deltas = [one["choices"][0]["delta"] for one in chunks[:-2]]
    assert deltas[0] == {"role": "assistant", "reasoning_content": "hm"}
    assert deltas[1] == {"content": "Hello"}
    assert deltas[2]["tool_calls"][0] == {
        "index": 0,
        "id": "call_a",
        "type": "function",
        "function": {"arguments": '{"a"', "name": "f"},
    }
    assert deltas[3]["tool_calls"][0] == {"index": 0, "function": {"arguments": ":1}"}}
    assert chunks[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-2]["usage"]["total_tokens"] == 7
    whole = json.loads(encoder().completion(buffer.completion(Usage(3, 4, cached=1, reasoning=2))))
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["audio"]) == ("Hello", "hm", {"id": "a"})
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert whole["usage"] == chunks[-2]["usage"]


def test_what_has_no_event_of_its_own_grows_together_and_logprobs_stand_beside_the_delta() -> None:
    def chances(token: str) -> Raw:
        return Raw({"logprobs": {"content": [{"token": token, "logprob": -0.1}]}})

    heard = [Raw({"audio": {"id": "a", "data": "QUI="}}), Raw({"audio": {"id": "a", "data": "Q0Q="}})]
    events: list[Event] = [Text("a"), chances("a"), Text("b"), chances("b"), *heard, Finish("stop")]
    made, buffer = encoder(), Buffer()
    chunks = read(frame for event in events for frame in made.encode(event))
    for event in events:
        buffer.add(event)
    assert chunks[1]["choices"][0]["logprobs"] == {"content": [{"token": "a", "logprob": -0.1}]}
    assert "logprobs" not in chunks[1]["choices"][0]["delta"]
    (choice,) = json.loads(encoder().completion(buffer.completion(Usage())))["choices"]
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["a", "b"]
    assert choice["message"]["audio"] == {"id": "a", "data": "QUI=Q0Q="}
    assert "logprobs" not in choice["message"]


def test_an_error_has_the_same_form_as_a_body_and_as_an_event() -> None:
    error = InsufficientQuota("Top up.")
    body = json.loads(OPENAI.error(error, "req_1"))
    assert body == json.loads(OPENAI.error_frame(error, "req_1").data)
    assert body["error"] == {
        "message": "Top up.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
        "request_id": "req_1",
    }


def test_parsing_keeps_every_field_and_takes_the_newer_cap() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x", "name": "n"}], "max_tokens": 5, "x_new": 1}
    chat = OPENAI.parse(Inbound(json.dumps({**body, "max_completion_tokens": 9, "n": 2}).encode()))
    assert (chat.max_tokens, chat.n, chat.body["x_new"], chat.body["messages"][0]["name"]) == (9, 2, 1, "n")


def test_stream_options_without_a_stream_are_refused_by_name() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": True}}
    with pytest.raises(BadRequest) as met:
        OPENAI.parse(Inbound(json.dumps(body).encode()))
    assert met.value.param == "stream_options"
