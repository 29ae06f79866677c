"""Anthropic both ways: its official SDK against the gateway on channels of two protocols, and OpenAI's SDK on an Anthropic channel.

The Anthropic-protocol upstream plays back bytes over real HTTP; the OpenAI-protocol one is scripted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.e2e.conftest import Caller, House
from tests.e2e.playback import Playback, Recording, Tape

CASES = Path(__file__).parents[1] / "adapters" / "cases" / "anthropic"
MESSAGES: Any = [{"role": "user", "content": "Say something nice."}]
TOOLS: Any = [
    {"name": "get_weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {}}}
]
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def played(name: str) -> bytes:
    return (CASES / name).read_bytes()


def refused(status: int, kind: str, message: str, **headers: str) -> Recording:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_of_anthropic"}
    return Recording(json.dumps(body, indent=2).encode(), status, headers=headers)


THEIRS = {
    "request-id": "req_of_anthropic",
    "anthropic-ratelimit-requests-remaining": "7",
    "anthropic-organization-id": "org-of-the-operator",
    "set-cookie": "a=b",
    "x-request-id": "theirs",
}


@pytest.fixture
async def caller(house: House) -> Caller:
    return await house.caller()


@pytest.fixture
async def claude(house: House, caller: Caller) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official SDK as a client of the gateway."""
    async with anthropic.AsyncAnthropic(base_url=house.url, api_key=caller.key, max_retries=0, timeout=30) as sdk:
        yield sdk


async def channel(house: House, playback: Playback, *recordings: Recording | bytes, **fields: Any) -> tuple[str, Tape]:
    """A new model on an Anthropic-protocol channel that plays `recordings`."""
    model = await house.model()
    tape = playback.tape(model, *recordings)
    await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1", **fields)
    return model, tape


# --- Anthropic's client on an Anthropic channel ----------------------------------------------------------------------


async def test_a_whole_answer_is_the_providers_own(
    house: House, playback: Playback, caller: Caller, claude: anthropic.AsyncAnthropic
) -> None:
    model, tape = await channel(house, playback, played("whole.json"))
    answer = await claude.messages.with_raw_response.create(
        model=model,
        max_tokens=50,
        messages=MESSAGES,
        extra_headers={"anthropic-beta": "one-2026,two-2026", "x-claude-code-session-id": "private"},
        extra_body={"field_of_tomorrow": [1]},
        metadata={"user_id": "somebody"},
    )
    assert answer.http_response.content == played("whole.json").strip()
    call = tape.calls[0]
    assert (call.path, call.headers["anthropic-beta"]) == ("/v1/messages", "one-2026,two-2026")
    assert call.headers["anthropic-version"] == "2026-10-21"
    assert call.body["field_of_tomorrow"] == [1]
    assert call.headers["x-api-key"].startswith("sk-upstream-")
    assert caller.key not in str(call.headers)
    assert "x-claude-code-session-id" not in call.headers
    assert "x-sluice-dropped" not in answer.headers
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    usage = entry.receipt.usage
    assert (usage.input, usage.cached, usage.cache_write, usage.output, usage.source) == (10, 3, 2, 11, "provider")


@pytest.mark.parametrize("name", ["text.sse", "thinking.sse", "tools.sse", "server_tool.sse"])
async def test_a_stream_is_the_providers_own_to_the_byte(
    house: House, playback: Playback, caller: Caller, name: str
) -> None:
    model, _ = await channel(house, playback, Recording(played(name), piece=7))
    body = {"model": model, "max_tokens": 50, "messages": MESSAGES, "stream": True}
    answer = await caller.http.post("/v1/messages", json=body)
    assert answer.content == played(name).rstrip(b"\n") + b"\n\n"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_sees_the_providers_own_headers_and_none_of_the_operators(
    house: House, playback: Playback, caller: Caller, stream: bool
) -> None:
    model, tape = await channel(
        house, playback, Recording(played("text.sse" if stream else "whole.json"), headers=THEIRS)
    )
    body = {"model": model, "max_tokens": 50, "messages": MESSAGES, "stream": stream}
    answer = await caller.http.post("/v1/messages", json=body)
    assert answer.headers["request-id"] == "req_of_anthropic"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-request-id"] != "theirs"
    assert not {"anthropic-organization-id", "set-cookie"} & answer.headers.keys()
    other = await caller.http.post(
        "/v1/chat/completions", json={"model": model, "messages": MESSAGES, "stream": stream}
    )
    assert other.headers["request-id"] == other.headers["x-request-id"]
    assert "anthropic-ratelimit-requests-remaining" not in other.headers
    assert len(tape.calls) == 2


async def test_the_sdk_streams_before_the_upstream_has_ended(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    raw = played("text.sse")
    stall = raw.index(b"event: content_block_stop")
    model, tape = await channel(house, playback, Recording(raw, stall=stall))
    async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES) as stream:
        texts = aiter(stream.text_stream)
        assert await anext(texts) == "Grüße"
        assert tape.calls[0].bytes_sent == stall
        tape.release()
        assert [text async for text in texts] == [" 世界 👋"]
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 61, 9)


async def test_a_two_turn_tool_loop_sends_back_every_block_as_it_came(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model, tape = await channel(house, playback, played("thinking.sse"), played("whole.json"), played("text.sse"))
    turns: list[Any] = [*MESSAGES]
    async with claude.messages.stream(model=model, max_tokens=50, messages=turns, tools=TOOLS) as stream:
        thoughts = await stream.get_final_message()
    assert [block.type for block in thoughts.content] == ["thinking", "redacted_thinking", "text"]
    turns += [{"role": "assistant", "content": thoughts.content}, {"role": "user", "content": [IMAGE]}]
    calls = await claude.messages.create(model=model, max_tokens=50, messages=turns, tools=TOOLS)
    used = [block for block in calls.content if block.type == "tool_use"]
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": [IMAGE]} for call in used]
    turns += [{"role": "assistant", "content": calls.content}, {"role": "user", "content": results}]
    async with claude.messages.stream(model=model, max_tokens=50, messages=turns, tools=TOOLS) as stream:
        assert await stream.get_final_text() == "Grüße 世界 👋"
    sent = tape.calls[-1].body["messages"]
    assert sent[1]["content"][:2] == [
        {"type": "thinking", "thinking": "One step, another.", "signature": "EqQB=="},
        {"type": "redacted_thinking", "data": "Eo8C"},
    ]
    assert sent[2]["content"] == [IMAGE]
    assert sent[3]["content"][0]["signature"] == "Sg=="
    assert sent[4]["content"] == results


async def test_an_overloaded_anthropic_channel_gives_way_to_one_of_another_protocol(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model, tape = await channel(house, playback, refused(529, "overloaded_error", "Overloaded"))
    await house.channel(model, "text=Here", priority=1)
    async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES) as stream:
        assert await stream.get_final_text() == "Here"
    assert len(tape.calls) == 1


async def test_a_mapped_model_keeps_the_clients_name(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model()
    tape = playback.tape(model, played("whole.json"), played("text.sse"))
    await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1", mapping={model: "claude-opus-4-7"})
    assert (await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES)).model == model
    async with claude.messages.stream(model=model, max_tokens=5, messages=MESSAGES) as stream:
        assert (await stream.get_final_message()).model == model
    assert {call.body["model"] for call in tape.calls} == {"claude-opus-4-7"}


async def test_the_providers_words_about_a_bad_request_reach_the_client_unmodified(
    house: House, playback: Playback, caller: Caller, claude: anthropic.AsyncAnthropic
) -> None:
    too_long = refused(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    model, _ = await channel(house, playback, too_long)
    answer = await caller.http.post("/v1/messages", json={"model": model, "max_tokens": 5, "messages": MESSAGES})
    assert (answer.status_code, answer.content) == (400, too_long.body)
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES)


async def test_an_error_in_mid_stream_is_the_providers_own_event(
    house: House, playback: Playback, caller: Caller, claude: anthropic.AsyncAnthropic
) -> None:
    told = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_theirs"}'
    head = played("text.sse").split(b"event: content_block_stop")[0]
    model, _ = await channel(house, playback, head + b"event: error\ndata: " + told + b"\n\n")
    answer = await caller.http.post(
        "/v1/messages", json={"model": model, "max_tokens": 5, "messages": MESSAGES, "stream": True}
    )
    assert answer.content.strip().endswith(b"event: error\ndata: " + told)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with claude.messages.stream(model=model, max_tokens=5, messages=MESSAGES) as stream:
            await stream.get_final_message()


async def test_a_cut_stream_ends_with_an_error_event_and_fails_over_before_content(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    raw = played("text.sse")
    model, _ = await channel(house, playback, Recording(raw, cut=raw.index(b"event: content_block_stop")))
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        async with claude.messages.stream(model=model, max_tokens=5, messages=MESSAGES) as stream:
            await stream.get_final_message()
    early, _ = await channel(house, playback, Recording(raw, cut=raw.index(b"event: content_block_delta")))
    tape = playback.tape(f"{early}-second", raw)
    await house.channel(early, type="anthropic", endpoint=f"{tape.url}/v1", priority=1)
    async with claude.messages.stream(model=early, max_tokens=5, messages=MESSAGES) as stream:
        assert await stream.get_final_text() == "Grüße 世界 👋"


@pytest.mark.parametrize(("status", "kind"), [(529, "overloaded_error"), (500, "api_error"), (429, "rate_limit_error")])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_every_channel_refused_in_its_own_words_passes_as_it_was_said(
    house: House, playback: Playback, caller: Caller, status: int, kind: str, stream: bool
) -> None:
    said = refused(status, kind, "This would exceed your organization's rate limit.", **THEIRS, **{"retry-after": "7"})
    model, _ = await channel(house, playback, refused(503, "overloaded_error", "Overloaded"))
    second = playback.tape(f"{model}-second", said)
    await house.channel(model, type="anthropic", endpoint=f"{second.url}/v1", priority=1)
    body = {"model": model, "max_tokens": 5, "messages": MESSAGES, "stream": stream}
    answer = await caller.http.post("/v1/messages", json=body)
    assert (answer.status_code, answer.content) == (status, said.body)
    assert (answer.headers["retry-after"], answer.headers["request-id"]) == ("7", "req_of_anthropic")
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert "anthropic-organization-id" not in answer.headers
    assert answer.headers["x-sluice-attempts"].count("/503") == 1
    assert (await house.last_charge(caller)).delta == 0


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (529, "overloaded_error", "words about the operator's account"),
        (429, "rate_limit_error", "exceeds the limit of organization 3f2b9c1e-aaaa-4bbb-8ccc-1234567890ab"),
        (429, "rate_limit_error", "exceeds the limit of org-Abc123456"),
        (429, "rate_limit_error", "the key sk-upstream-CHANNEL-secret is too fast"),
        (500, "api_error", "ask ENDPOINT again"),
        (401, "authentication_error", "invalid x-api-key"),
        (403, "permission_error", "not for this key"),
        (400, "invalid_request_error", "Your credit balance is too low"),
    ],
)
async def test_what_tells_of_the_operator_is_told_in_our_words_and_anthropics_shape(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic, status: int, kind: str, message: str
) -> None:
    model = await house.model()
    tape = playback.tape(model)
    channel_id = await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1")
    message = message.replace("CHANNEL", channel_id).replace("ENDPOINT", tape.url)
    tape.recordings.append(refused(status, kind, message))
    with pytest.raises(anthropic.APIStatusError, match="You were not charged") as met:
        await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES)
    assert isinstance(met.value.body, dict)
    assert met.value.body["type"] == "error"
    assert met.value.request_id == met.value.body["request_id"]
    assert message not in str(met.value.body)


async def test_of_several_formats_of_error_none_is_the_clients(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model("status=429")
    tape = playback.tape(model, refused(529, "overloaded_error", "Overloaded"))
    await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1", priority=1)
    with pytest.raises(anthropic.APIStatusError, match="You were not charged"):
        await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES)


async def test_an_error_inside_a_stream_that_had_not_begun_has_a_status_of_an_error(
    house: House, playback: Playback, caller: Caller
) -> None:
    told = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    model, _ = await channel(house, playback, b"event: error\ndata: " + told + b"\n\n")
    body = {"model": model, "max_tokens": 5, "messages": MESSAGES, "stream": True}
    answer = await caller.http.post("/v1/messages", json=body)
    assert (answer.status_code, answer.content) == (503, told)
    told = b'{"type":"error","error":{"type":"invalid_request_error","message":"messages: too odd"}}'
    model, _ = await channel(house, playback, b"event: error\ndata: " + told + b"\n\n")
    answer = await caller.http.post("/v1/messages", json={**body, "model": model})
    assert (answer.status_code, answer.content) == (400, told)


# --- Anthropic's client on an OpenAI channel -------------------------------------------------------------------------


async def test_text_whole_and_streamed_by_an_openai_channel(
    house: House, caller: Caller, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model("text=Hello%20there,prompt=11,completion=3,cached=4")
    answer = await claude.messages.create(
        model=model,
        max_tokens=50,
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        messages=MESSAGES,
        stop_sequences=["END"],
        metadata={"user_id": "private"},
    )
    assert [block.text for block in answer.content if block.type == "text"] == ["Hello there"]
    assert (answer.model, answer.stop_reason, answer.type) == (model, "end_turn", "message")
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (7, 4, 3)
    async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES) as stream:
        assert "".join([text async for text in stream.text_stream]) == "Hello there"
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 7, 3)
    body = house.up.calls[0].body
    assert body["messages"][0]["role"] == "system"
    assert "Be kind." in str(body["messages"][0]["content"])
    assert (body["stop"], body["max_completion_tokens"]) == (["END"], 50)
    assert "private" not in str(body)
    assert (await house.last_charge(caller)).delta < 0


async def test_a_two_turn_tool_loop_by_an_openai_channel(house: House, claude: anthropic.AsyncAnthropic) -> None:
    model = await house.model("tools")
    whole = await claude.messages.create(model=model, max_tokens=50, messages=MESSAGES, tools=TOOLS)
    async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES, tools=TOOLS) as stream:
        final = await stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    assert final.stop_reason == whole.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [
        (block.name, block.input) for block in whole.content if block.type == "tool_use"
    ]
    assert len(calls) == 2
    results: Any = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "Rain."}, IMAGE]},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": "No such city", "is_error": True},
        {"type": "text", "text": "So?"},
    ]
    history = [*MESSAGES, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
    await claude.messages.create(model=model, max_tokens=50, messages=history, tools=TOOLS)
    user, assistant, first, second, after = house.up.calls[-1].body["messages"]
    assert user["content"] == MESSAGES[0]["content"]
    assert [call["id"] for call in assistant["tool_calls"]] == [calls[0].id, calls[1].id]
    assert (first["role"], first["tool_call_id"], first["content"]) == ("tool", calls[0].id, "Rain.")
    assert second["content"] == "Error: No such city"
    assert [part["type"] for part in after["content"]] == ["text", "image_url", "text"]
    assert after["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def thinking_aloud() -> bytes:
    """An OpenAI-protocol stream whose provider shows its reasoning, unsigned."""
    deltas: list[Any] = [{"reasoning_content": "Step "}, {"reasoning_content": "one."}, {"content": "Done"}, {}]
    chunks = [
        {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (*chunks, usage)) + b"data: [DONE]\n\n"


async def test_reasoning_of_another_provider_comes_in_blocks_that_can_be_sent_back(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model()
    tape = playback.tape(model, thinking_aloud())
    await house.channel(model, endpoint=f"{tape.url}/v1")
    async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES) as stream:
        final = await stream.get_final_message()
    thought, text = final.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert thought.thinking == "Step one."  # type: ignore[union-attr]
    assert thought.signature  # type: ignore[union-attr]
    history: Any = [*MESSAGES, {"role": "assistant", "content": final.content}, *MESSAGES]
    await claude.messages.create(model=model, max_tokens=50, messages=history)
    assert tape.calls[1].body["messages"][1]["content"] == "Done"
    native, theirs = await channel(house, playback, played("whole.json"))
    await claude.messages.create(model=native, max_tokens=50, messages=history)
    assert [block["type"] for block in theirs.calls[0].body["messages"][1]["content"]] == ["text"]


async def test_what_only_anthropic_understands_is_named_and_goes_where_it_is_understood(
    house: House, playback: Playback, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model("ok")
    tools: Any = [{"type": "web_search_20260318", "name": "web_search"}]
    with pytest.raises(anthropic.BadRequestError, match=r"`tools\[0\]\.type`"):
        await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES, tools=tools)
    assert not house.up.calls
    tape = playback.tape(model, played("whole.json"))
    await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1", priority=9)
    await claude.messages.create(model=model, max_tokens=5, messages=MESSAGES, tools=tools)
    assert tape.calls[0].body["tools"] == tools


async def test_an_image_and_a_schema_reach_an_openai_channel(house: House, claude: anthropic.AsyncAnthropic) -> None:
    model = await house.model("text=%7B%7D")
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    await claude.messages.create(
        model=model,
        max_tokens=5,
        messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    body = house.up.calls[0].body
    assert body["messages"][0]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert body["response_format"]["json_schema"]["schema"] == schema


async def test_what_is_lost_on_another_provider_is_named(house: House, claude: anthropic.AsyncAnthropic) -> None:
    model = await house.model("ok")
    answer = await claude.messages.with_raw_response.create(
        model=model,
        max_tokens=5,
        messages=MESSAGES,
        metadata={"user_id": "x"},
        service_tier="auto",
        extra_body={"context_management": {"edits": []}},
    )
    dropped = answer.headers["x-sluice-dropped"].split(",")
    assert {"context_management", "metadata", "service_tier"} <= set(dropped)


async def test_a_broken_stream_of_an_openai_channel_raises(house: House, claude: anthropic.AsyncAnthropic) -> None:
    model = await house.model("chunks=5,cut=2")
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        async with claude.messages.stream(model=model, max_tokens=50, messages=MESSAGES) as stream:
            await stream.get_final_message()


# --- what needs no channel -------------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_our_own_tokenizer(
    house: House, caller: Caller, claude: anthropic.AsyncAnthropic
) -> None:
    model = await house.model("ok")
    short = await claude.messages.count_tokens(model=model, messages=MESSAGES)
    longer = await claude.messages.count_tokens(model=model, messages=MESSAGES, system="word " * 100, tools=TOOLS)
    assert 5 < short.input_tokens < 20
    assert longer.input_tokens > short.input_tokens + 100
    assert not house.up.calls
    assert (await house.wallet(caller)).balance == 10**10


async def test_models_in_the_askers_shape(house: House, claude: anthropic.AsyncAnthropic, caller: Caller) -> None:
    model = await house.model("ok")
    page = await claude.models.list(limit=1000)
    assert model in [one.id for one in page.data]
    assert (page.has_more, page.data[0].type) == (False, "model")
    assert (await claude.models.retrieve(model)).id == model
    assert (await caller.sdk.models.retrieve(model)).object == "model"
    with pytest.raises(anthropic.NotFoundError):
        await claude.models.retrieve("nothing")


async def test_wrong_key_unknown_model_empty_wallet_and_bad_body_raise_the_right_class(
    house: House, claude: anthropic.AsyncAnthropic
) -> None:
    poor = await house.caller(nano=0)
    model = await house.model("ok")
    create = claude.messages.create
    with pytest.raises(anthropic.AuthenticationError, match="This API key is not known"):
        await claude.with_options(api_key="sk-" + "x" * 40).messages.create(
            model=model, max_tokens=5, messages=MESSAGES
        )
    with pytest.raises(anthropic.NotFoundError, match="The model `nothing` does not exist"):
        await create(model="nothing", max_tokens=5, messages=MESSAGES)
    with pytest.raises(anthropic.APIStatusError, match=r"balance|credit") as met:
        await claude.with_options(api_key=poor.key).messages.create(model=model, max_tokens=5, messages=MESSAGES)
    assert met.value.status_code == 402
    assert met.value.body["error"]["type"] == "billing_error"  # type: ignore[index,call-overload]
    with pytest.raises(anthropic.BadRequestError, match="`messages`"):
        await create(model=model, max_tokens=5, messages=[])
    assert not house.up.calls


async def test_the_key_is_taken_from_either_header(house: House, caller: Caller) -> None:
    model = await house.model("ok")
    body = {"model": model, "max_tokens": 5, "messages": MESSAGES}
    caller.http.headers.pop("authorization")
    assert (await caller.http.post("/v1/messages?beta=true", json=body)).status_code == 401
    answer = await caller.http.post("/v1/messages?beta=true", json=body, headers={"x-api-key": caller.key})
    assert answer.json()["type"] == "message"


# --- OpenAI's client on an Anthropic channel -------------------------------------------------------------------------


async def test_openais_client_gets_text_and_reasoning_of_an_anthropic_channel(
    house: House, playback: Playback, caller: Caller
) -> None:
    model, tape = await channel(house, playback, played("thinking.sse"), played("whole.json"))
    messages: Any = [{"role": "system", "content": "Be kind."}, *MESSAGES]
    stream = await caller.sdk.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}, user="private", seed=1
    )
    chunks = [chunk async for chunk in stream]
    said = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in said) == "42"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in said) == "One step, another."
    assert chunks[-2].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens) == (127, 100, 30)
    sent = tape.calls[0].body
    assert sent["system"] == [{"type": "text", "text": "Be kind."}]
    assert sent["max_tokens"] == house.relay.deps.settings.default_max_tokens
    assert "private" not in str(sent)
    whole = await caller.sdk.chat.completions.with_raw_response.create(model=model, messages=messages, seed=1)
    assert whole.headers["x-sluice-dropped"] == "seed"
    assert whole.parse().choices[0].message.content == "Sure."


async def test_openais_client_runs_a_tool_loop_with_signed_reasoning_on_an_anthropic_channel(
    house: House, playback: Playback, caller: Caller
) -> None:
    model, tape = await channel(house, playback, played("whole.json"), played("tools.sse"))
    create = caller.sdk.chat.completions.create
    answer = await create(model=model, messages=MESSAGES, tools=OPENAI_TOOLS)
    message = answer.choices[0].message
    assert message.tool_calls is not None
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]
    history: Any = [*MESSAGES, message, *results, {"role": "user", "content": "And?"}]
    stream = await create(model=model, messages=history, tools=OPENAI_TOOLS, stream=True)
    pieces: dict[int, str] = {}
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            pieces[call.index] = pieces.get(call.index, "") + (call.function.arguments or "")
    assert pieces == {0: '{"city": "Oslo"}', 1: "{}"}
    _, assistant, user = tape.calls[1].body["messages"]
    assert [block["type"] for block in assistant["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert assistant["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "Sg=="}
    assert [block["type"] for block in user["content"]] == ["tool_result", "tool_result", "text"]


async def test_openais_client_is_told_in_its_own_shape(house: House, playback: Playback, caller: Caller) -> None:
    model, _ = await channel(house, playback, refused(400, "invalid_request_error", "messages: too odd"))
    answer = await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages: too odd"
    two = await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, "n": 2})
    assert (two.status_code, two.json()["error"]["param"]) == (400, "n")
