"""OpenAI's Responses with its official SDK: any provider behind it, and the conversation kept by us."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import House
from tests.e2e.playback import Playback, Recording

TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
]
MONTH = 30 * 24 * 3600


async def test_a_text_whole(house: House) -> None:
    caller = await house.caller()
    model = await house.model("text=Hello%20there,prompt=11,completion=3,cached=4,reasoning=2")
    answer = await caller.sdk.responses.create(
        model=model, input="Say something nice.", instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=50
    )
    assert (answer.status, answer.output_text, answer.object) == ("completed", "Hello there", "response")
    assert (answer.instructions, answer.metadata, answer.max_output_tokens) == ("Be brief.", {"a": "b"}, 50)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (11, 3, 14)
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.output_tokens_details.reasoning_tokens == 2
    body = house.up.calls[0].body
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say something nice."},
    ]
    assert body["max_completion_tokens"] == 50
    assert not body.keys() & {"input", "instructions", "store", "metadata", "max_output_tokens"}
    assert (await house.last_charge(caller)).delta == -(11 * 1_000 + 3 * 10_000)


async def test_a_text_streamed(house: House) -> None:
    caller = await house.caller()
    model = await house.model("text=one%20two%20three,prompt=5,completion=3")
    stream = await caller.sdk.responses.create(model=model, input="Count.", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    assert last.response.output_text == "one two three"
    assert last.response.usage.total_tokens == 8


async def test_the_wire_of_a_stream(house: House) -> None:
    """Every event has its name twice, and nothing follows the last one."""
    caller = await house.caller()
    model = await house.model("ok")
    response = await caller.http.post("/v1/responses", json={"model": model, "input": "x", "stream": True})
    frames = [frame.split("\n") for frame in response.text.split("\n\n") if frame]
    assert all(len(frame) == 2 for frame in frames)
    names = [frame[0].removeprefix("event: ") for frame in frames]
    assert names == [json.loads(frame[1].removeprefix("data: "))["type"] for frame in frames]
    assert names[-1] == "response.completed"
    assert "[DONE]" not in response.text


async def test_the_first_piece_arrives_before_the_upstream_has_sent_its_last(house: House) -> None:
    caller = await house.caller()
    model = await house.model("stall=2,chunks=5")
    stream = await caller.sdk.responses.create(model=model, input="x", stream=True)
    first = await anext(event async for event in stream if event.type == "response.output_text.delta")
    assert first.delta
    assert not house.up.calls[0].ended.is_set()
    house.up.release()
    assert [event async for event in stream][-1].type == "response.completed"


async def test_a_tool_loop_in_two_turns_by_the_id_of_the_first(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    create = caller.sdk.responses.create
    first = await create(model=model, input="What is the weather?", instructions="First.", tools=TOOLS)
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.call_id, call.name, json.loads(call.arguments)) == ("call_0", "get_weather", {"city": "Berlin"})
    assert call.id != call.call_id
    second = await create(
        model=model,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}],
        tools=TOOLS,
        instructions="Second.",
    )
    assert second.output_text == "The tool answered: Sunny."
    assert second.previous_response_id == first.id
    messages = house.up.calls[1].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[0]["content"] == "Second."
    assert messages[2]["tool_calls"][0]["id"] == messages[3]["tool_call_id"] == "call_0"
    third = await create(model=model, previous_response_id=second.id, input="Thank you.")
    messages = house.up.calls[2].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert "Thank you." in third.output_text


async def test_the_same_loop_streamed_by_a_client_that_keeps_its_own_conversation(house: House) -> None:
    caller = await house.caller()
    model = await house.model("tools")
    asked: list[Any] = [{"role": "user", "content": "Both, please."}]
    async with caller.sdk.responses.stream(model=model, input=asked, tools=TOOLS, store=False) as stream:
        deltas = [event async for event in stream if event.type == "response.function_call_arguments.delta"]
        final = await stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.call_id for call in calls] == ["call_0", "call_1"]
    for call in calls:
        pieces = [event.delta for event in deltas if event.item_id == call.id]
        assert len(pieces) > 1
        assert "".join(pieces) == call.arguments
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "ok"} for call in calls]
    replayed = [item.model_dump(exclude_none=True) for item in final.output]
    await caller.sdk.responses.create(model=model, input=[*asked, *replayed, *outputs], tools=TOOLS, store=False)
    messages = house.up.calls[1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_0", "call_1"]


async def test_structured_output_parsed_by_the_sdk(house: House) -> None:
    from pydantic import BaseModel

    class Nice(BaseModel):
        word: str

    caller = await house.caller()
    model = await house.model("text=%7B%22word%22%3A%22hello%22%7D,chunks=2")
    answer = await caller.sdk.responses.parse(model=model, input="A word.", text_format=Nice)
    assert answer.output_parsed == Nice(word="hello")
    form = house.up.calls[0].body["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Nice", True)


async def test_an_answer_is_found_again_and_forgotten(house: House) -> None:
    caller = await house.caller()
    model = await house.model("text=Hello%20there")
    responses = caller.sdk.responses
    made = await responses.create(model=model, input=[{"role": "user", "content": "One."}])
    found = await responses.retrieve(made.id)
    assert found == made
    await responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        await responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await responses.create(model=model, input="x", previous_response_id=made.id)


async def test_what_was_not_to_be_stored_is_not(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    made = await caller.sdk.responses.create(model=model, input="x", store=False)
    assert made.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        await caller.sdk.responses.retrieve(made.id)


async def test_what_was_asked_in_pages(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    items: Any = [{"role": "user", "content": f"Line {number}."} for number in range(5)]
    made = await caller.sdk.responses.create(model=model, input=items)
    page = await caller.sdk.responses.input_items.list(made.id, limit=2, order="asc")
    assert page.has_more
    lines = [item.content[0].text async for item in page]  # type: ignore[union-attr]
    assert lines == [f"Line {number}." for number in range(5)]
    newest = await caller.sdk.responses.input_items.list(made.id, limit=1)
    assert newest.data[0].content[0].text == "Line 4."  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError, match="limit"):
        await caller.sdk.responses.input_items.list(made.id, limit=1000)


async def test_there_is_nothing_to_cancel(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    made = await caller.sdk.responses.create(model=model, input="x")
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        await caller.sdk.responses.cancel(made.id)


async def test_an_item_may_be_named_instead_of_sent(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    responses = caller.sdk.responses
    first = await responses.create(model=model, input="One.")
    second = await responses.create(
        model=model,
        input=[
            {"role": "user", "content": "One."},
            {"type": "item_reference", "id": first.output[0].id or ""},
            {"role": "user", "content": "Two."},
        ],
    )
    third: list[Any] = [
        {"type": "item_reference", "id": first.output[0].id},
        {"type": "item_reference", "id": second.output[0].id},
        {"role": "user", "content": "Three."},
    ]
    await responses.create(model=model, input=third)
    roles = [message["role"] for message in house.up.calls[2].body["messages"]]
    assert roles == ["assistant", "assistant", "user"]
    with pytest.raises(openai.NotFoundError, match="send the item itself"):
        await responses.create(model=model, input=[{"type": "item_reference", "id": "msg_unknown"}])


async def test_a_foreign_answer_cannot_be_told_from_none(house: House) -> None:
    caller, stranger = await house.caller(), await house.caller()
    model = await house.model("ok")
    made = await caller.sdk.responses.create(model=model, input="A secret.")
    foreign = stranger.sdk.responses
    for attempt in (
        foreign.retrieve(made.id),
        foreign.delete(made.id),
        foreign.cancel(made.id),
        foreign.input_items.list(made.id),
        foreign.create(model=model, input="Repeat it.", previous_response_id=made.id),
        foreign.create(model=model, input=[{"type": "item_reference", "id": made.output[0].id or ""}]),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt
    assert (await caller.sdk.responses.retrieve(made.id)).id == made.id
    assert len(house.up.calls) == 1
    assert (await house.wallet(stranger)).held == 0


async def test_an_answer_expires(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    made = await caller.sdk.responses.create(model=model, input="x")
    memory: Any = house.relay.deps.memory
    monkeypatch.setattr(memory, "_clock", lambda: time.time() + MONTH - 60)
    assert (await caller.sdk.responses.retrieve(made.id)).id == made.id
    monkeypatch.setattr(memory, "_clock", lambda: time.time() + MONTH + 60)
    with pytest.raises(openai.NotFoundError):
        await caller.sdk.responses.retrieve(made.id)


@pytest.mark.parametrize("script", ["chunks=6,cut=3", "chunks=6,error=3", "chunks=6,end=3"])
async def test_a_broken_upstream_fails_the_response_and_keeps_nothing(house: House, script: str) -> None:
    caller = await house.caller()
    model = await house.model(script)
    response = await caller.http.post("/v1/responses", json={"model": model, "input": "x", "stream": True})
    events = list(read(response))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "upstream_broken")
    assert failed["output"][0]["content"][0]["text"] == "word0 word1 word2 "
    assert failed["usage"]["output_tokens"] > 0
    with pytest.raises(openai.NotFoundError):
        await caller.sdk.responses.retrieve(failed["id"])
    stream = await caller.sdk.responses.create(model=model, input="x", stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in stream:
            pass
    assert (await house.last_charge(caller)).delta < 0


async def test_a_client_that_lost_its_stream_gets_the_rest_of_it(house: House) -> None:
    caller = await house.caller()
    model = await house.model("stall=2,chunks=6")
    body = {"model": model, "input": "x", "stream": True}
    heard: list[Any] = []
    async with caller.http.stream("POST", "/v1/responses", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                heard.append(json.loads(line.removeprefix("data: ")))
            if len(heard) == 6:
                break
    house.up.release()
    await house.settled()
    rest = await caller.sdk.responses.retrieve(
        heard[0]["response"]["id"], stream=True, starting_after=heard[-1]["sequence_number"]
    )
    events = [event async for event in rest]
    assert [event.sequence_number for event in events] == list(range(6, 6 + len(events)))
    said = [event["delta"] for event in heard if event["type"].endswith("text.delta")]
    said += [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(said) == " ".join(f"word{number}" for number in range(6))
    assert len(said) == 6
    assert events[-1].type == "response.completed"


async def test_an_answer_cut_short_is_incomplete_and_kept(house: House) -> None:
    caller = await house.caller()
    model = await house.model("chunks=20")
    stream = await caller.sdk.responses.create(model=model, input="x", max_output_tokens=3, stream=True)
    last: Any = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output[0].status == "incomplete"
    assert (await caller.sdk.responses.retrieve(last.response.id)).status == "incomplete"


async def test_failing_over_is_not_seen(house: House) -> None:
    caller = await house.caller()
    model = await house.model("status=500", "status=429", "text=Good")
    stream = await caller.sdk.responses.create(model=model, input="x", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events].count("response.created") == 1
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    assert (await caller.sdk.responses.retrieve(last.response.id)).output_text == "Good"


async def test_errors_are_the_sdks_own(house: House) -> None:
    caller, poor = await house.caller(), await house.caller(nano=0)
    model = await house.model("ok")
    create = caller.sdk.responses.create
    with pytest.raises(openai.AuthenticationError):
        await caller.sdk.with_options(api_key="sk-" + "x" * 40).responses.create(model=model, input="x")
    with pytest.raises(openai.NotFoundError, match="The model `nothing`"):
        await create(model="nothing", input="x")
    with pytest.raises(openai.APIStatusError, match=r"balance|credit") as met:
        await poor.sdk.responses.create(model=model, input="x")
    assert met.value.status_code == 402
    with pytest.raises(openai.BadRequestError) as refused:
        await create(model=model, input="x", tools=[{"type": "web_search"}])
    assert refused.value.param == "tools[0].type"
    with pytest.raises(openai.BadRequestError) as background:
        await create(model=model, input="x", background=True)
    assert background.value.param == "background"
    assert not house.up.calls


# --- on a provider of another protocol -------------------------------------------------------------------------------


def anthropic_turn(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "tool_use") -> Recording:
    """A stream of Anthropic's protocol: content blocks, each with its deltas."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 20, "output_tokens": 1}}}
    ]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    return Recording("".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events).encode())


THINKING = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [{"type": "thinking_delta", "thinking": "Let me see."}, {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}],
)
CALL = (
    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
    [
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Bern"}'},
    ],
)
WORDS = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "Sunny."}])
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize("kept_by", ["us", "the client"])
async def test_a_loop_with_reasoning_and_an_image_on_an_anthropic_channel(
    house: House, playback: Playback, kept_by: str
) -> None:
    """Reasoning that was signed comes back to the provider as it was, whoever keeps the conversation."""
    caller = await house.caller()
    model = await house.model()
    tape = playback.tape(model, anthropic_turn(THINKING, CALL), anthropic_turn(WORDS, stop="end_turn"))
    await house.channel(model, type="anthropic", endpoint=f"{tape.url}/v1")
    asked: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "The weather here?"},
                {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
            ],
        }
    ]
    shared: Any = {"model": model, "tools": TOOLS, "reasoning": {"effort": "low"}, "stream": True}
    include: Any = {"include": ["reasoning.encrypted_content"], "store": False} if kept_by == "the client" else {}
    stream = await caller.sdk.responses.create(input=asked, **shared, **include)
    last: Any = [event async for event in stream][-1]
    reasoning, call = last.response.output
    assert (reasoning.summary[0].text, call.name, json.loads(call.arguments)) == (
        "Let me see.",
        "get_weather",
        {"city": "Bern"},
    )
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    if kept_by == "us":
        stream = await caller.sdk.responses.create(input=[result], previous_response_id=last.response.id, **shared)
    else:
        replayed = [item.model_dump(exclude_none=True) for item in last.response.output]
        stream = await caller.sdk.responses.create(input=[*asked, *replayed, result], **shared, **include)
    last = [event async for event in stream][-1]
    assert last.response.output_text == "Sunny."
    assert last.response.usage.input_tokens == 20
    user, assistant, answer = tape.calls[1].body["messages"]
    assert [block["type"] for block in user["content"]] == ["text", "image"]
    thought, tool = assistant["content"]
    assert (thought["thinking"], thought["signature"]) == ("Let me see.", "c2lnbmF0dXJl")
    assert (tool["id"], tool["input"]) == ("toolu_1", {"city": "Bern"})
    assert (answer["content"][0]["type"], answer["content"][0]["tool_use_id"]) == ("tool_result", "toolu_1")


async def test_what_no_provider_has_a_place_for_is_named(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    answer = await caller.sdk.responses.with_raw_response.create(model=model, input="x", truncation="auto")
    assert answer.headers["x-sluice-dropped"] == "truncation"


async def test_counting_costs_nothing(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    made = await caller.sdk.responses.create(model=model, input="One two three.")
    short = await caller.sdk.responses.input_tokens.count(model=model, input="One.")
    long = await caller.sdk.responses.input_tokens.count(model=model, input="One.", previous_response_id=made.id)
    assert 0 < short.input_tokens < long.input_tokens
    assert len(house.up.calls) == 1


async def test_a_conversation_too_large_to_keep_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.stores.conversations.MOST_PARTS", 0)
    caller = await house.caller()
    model = await house.model("text=Hello")
    made = await caller.sdk.responses.create(model=model, input="x")
    assert (made.output_text, made.store) == ("Hello", False)  # type: ignore[attr-defined]
    stream = await caller.sdk.responses.create(model=model, input="x", stream=True)
    last: Any = [event async for event in stream][-1]
    assert (last.type, last.response.store) == ("response.completed", False)


@pytest.mark.parametrize("stored", [True, False])
async def test_keeping_is_one_call_beside_the_settlement_and_only_for_who_wants_it(
    house: House, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    await caller.sdk.responses.create(model=model, input="warm", store=False)
    calls = tables_called(house, monkeypatch)
    await caller.sdk.responses.create(model=model, input="x", store=stored)
    assert sorted(calls) == sorted([house.tables.ledger] * 2 + [house.tables.conversations] * stored)
    calls.clear()
    await caller.sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
    assert calls == [house.tables.ledger] * 2


def tables_called(house: House, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables of the relay's AWS calls from here on, but for the catalog's poll."""
    client = house.relay.deps.memory._store._client  # type: ignore[attr-defined]
    called: list[str] = []
    call = client.call

    def noted(operation: str, **arguments: Any) -> Any:
        if arguments["TableName"] not in (house.tables.catalog, house.tables.accounts):
            called.append(arguments["TableName"])
        return call(operation, **arguments)

    monkeypatch.setattr(client, "call", noted)
    return called


def read(response: httpx.Response) -> Iterator[Any]:
    for line in response.text.splitlines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
