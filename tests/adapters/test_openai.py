"""What OpenAI's adapter sends, and what it makes of odd answers. Recorded traffic is read where the shared folder is present."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sluice import adapters
from sluice.adapters._attempt import retry_after
from sluice.adapters._openai import OpenAICompatible
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Finish, Frame, Secret, Text, UpstreamRequest
from tests.adapters.test_every_adapter import decoded, played

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "openai"
NEEDS_RECORDINGS = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded traffic is kept outside the repository"
)


def channel(**more: object) -> Channel:
    return Channel(id="c", type="openai", name="c", models=("gpt",), **more)  # type: ignore[arg-type]


def sent(body: dict[str, object], on: Channel) -> tuple[UpstreamRequest, dict[str, object]]:
    chat = ChatRequest(model="gpt", body={"model": "gpt", **body}, stream=bool(body.get("stream")))
    request = adapters.load("openai").adapter(0).request(chat, on)
    return request, json.loads(request.body)


def test_unknown_fields_go_through_and_usage_is_always_asked_for() -> None:
    body = {"stream": True, "messages": [], "new_in_2027": {"x": 1}, "stream_options": {"include_obfuscation": False}}
    request, out = sent(body, channel(secret=Secret("sk-upstream-123456"), mapping={"gpt": "gpt-2026"}))
    assert request.url == "https://api.openai.com/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer sk-upstream-123456"
    assert out["model"] == "gpt-2026"
    assert out["new_in_2027"] == {"x": 1}
    assert out["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_a_whole_answer_is_asked_for_without_stream_options() -> None:
    _, out = sent({"messages": []}, channel())
    assert out == {"model": "gpt", "messages": []}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/v1/chat/completions"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1/chat/completions"),
        ("http://127.0.0.1:9/v1/", "http://127.0.0.1:9/v1/chat/completions"),
        ("http://127.0.0.1:9/other/v4", "http://127.0.0.1:9/other/v4/chat/completions"),
    ],
)
def test_an_endpoint_without_a_path_gets_the_providers_own(endpoint: str, url: str) -> None:
    request, _ = sent({"messages": []}, channel(endpoint=endpoint))
    assert request.url == url


def test_a_row_renames_and_drops() -> None:
    row = OpenAICompatible(
        "x", "https://x.test/v1", rename={"max_completion_tokens": "max_tokens"}, drop=frozenset({"logit_bias"})
    )
    chat = ChatRequest("gpt", {"model": "gpt", "max_completion_tokens": 5, "logit_bias": {}, "seed": 1})
    assert json.loads(row.adapter(0).request(chat, channel()).body) == {"model": "gpt", "max_tokens": 5, "seed": 1}


def test_an_error_inside_a_stream_is_raised_with_its_kind() -> None:
    adapter = adapters.load("openai").adapter(0)
    with pytest.raises(ProviderError) as met:
        list(adapter.feed(Frame('{"error":{"message":"over","type":"server_error","code":"rate_limit_exceeded"}}')))
    assert met.value.kind == "rate_limit"


def test_an_error_in_an_openrouter_chunk_is_seen_before_its_choices() -> None:
    adapter = adapters.load("openai").adapter(0)
    with pytest.raises(ProviderError) as met:
        list(adapter.feed(Frame('{"error":{"code":502,"message":"gone"},"choices":[{"delta":{"content":""}}]}')))
    assert met.value.kind == "server"


def test_a_choice_that_has_ended_is_not_opened_again() -> None:
    adapter = adapters.load("openai").adapter(0)
    frames = (
        '{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}',
        '{"choices":[{"index":0,"delta":{}}]}',
    )
    events = [event for data in frames for event in adapter.feed(Frame(data))] + [
        *adapter.feed(Frame("[DONE]")),
        *adapter.finish(),
    ]
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]


@pytest.mark.parametrize("data", ["{", "[]", "null", "<html>"])
def test_a_frame_that_is_no_json_object_is_a_server_error(data: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load("openai").adapter(0).feed(Frame(data)))
    assert met.value.kind == "server"


def test_half_a_surrogate_pair_is_read() -> None:
    frame = Frame('{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}')
    last = Frame('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    adapter = adapters.load("openai").adapter(0)
    assert [*adapter.feed(frame), *adapter.feed(last)][1:] == [Text("\ufffd", 0), Finish("stop")]


def test_retry_after_as_a_date_counts_from_the_answers_own_clock() -> None:
    headers = {"date": "Sat, 21 Nov 2026 10:00:00 GMT", "retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}
    assert retry_after(headers) == 30
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@NEEDS_RECORDINGS
def test_recorded_text() -> None:
    answer = played("openai", decoded([(RECORDED / "chat_text.sse").read_bytes()]))
    assert answer["choices"]["0"]["finish_reason"] == "stop"
    assert answer["choices"]["0"]["text"].startswith("The")
    assert answer["usage"] == {"input": 78, "output": 9, "cached": 0, "reasoning": 0}


@NEEDS_RECORDINGS
def test_recorded_parallel_tool_calls() -> None:
    raw = (RECORDED / "chat_parallel_tool_calls.sse").read_bytes()
    calls = played("openai", decoded([raw]))["choices"]["0"]["tool_calls"]
    assert [name for _, name, _ in calls] == ["get_country", "get_product_name"]
    assert all(json.loads(arguments) == {} for _, _, arguments in calls)
