"""One chat request through everything, with OpenAI's own SDK on one side and real HTTP on the other."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.conftest import MESSAGES, House

TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
]


async def test_the_first_chunk_arrives_before_the_upstream_has_sent_its_last(house: House) -> None:
    caller = await house.caller()
    model = await house.model("stall=2,chunks=5")
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    first = await anext(chunk async for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    assert first.choices[0].delta.content
    (call,) = house.up.calls
    assert not call.ended.is_set()
    assert call.chunks_sent == 2
    house.up.release()
    rest = [chunk async for chunk in stream]
    assert rest[-1].choices[0].finish_reason == "stop"
    assert call.chunks_sent == 5


async def test_a_whole_answer_is_the_providers_own(house: House) -> None:
    caller = await house.caller()
    model = await house.model("text=Hello%20there,prompt=11,completion=3")
    answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3)
    entry = await house.last_charge(caller)
    assert entry.delta == -(11 * 1_000 + 3 * 10_000)
    assert entry.receipt is not None
    assert (entry.receipt.usage.source, entry.receipt.end_reason) == ("provider", "done")


async def test_every_unknown_field_goes_to_the_provider(house: House) -> None:
    caller = await house.caller()
    model = await house.model("ok")
    await caller.sdk.chat.completions.create(
        model=model, messages=MESSAGES, seed=7, extra_body={"field_of_tomorrow": {"deep": [1]}}
    )
    body = house.up.calls[0].body
    assert (body["seed"], body["field_of_tomorrow"], body["model"]) == (7, {"deep": [1]}, model)


async def test_tools_streamed_and_whole(house: House) -> None:
    caller = await house.caller()
    model = await house.model("tools")
    whole = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, tools=TOOLS)
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls) == 2
    assert whole.choices[0].finish_reason == "tool_calls"
    streamed: dict[int, list[str]] = {}
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, tools=TOOLS, stream=True)
    async for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            piece = streamed.setdefault(delta.index, ["", ""])
            piece[0] += delta.function.name or ""
            piece[1] += delta.function.arguments or ""
    expected = [(call.function.name, json.loads(call.function.arguments)) for call in calls]  # type: ignore[union-attr]
    assert [(name, json.loads(text)) for name, text in streamed.values()] == expected


async def test_two_choices_streamed_and_whole(house: House) -> None:
    caller = await house.caller()
    model = await house.model("text=one%20two,completion=8")
    whole = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, n=2)
    assert [choice.message.content for choice in whole.choices] == ["one two", "one two"]
    seen: dict[int, str] = {}
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, n=2, stream=True)
    async for chunk in stream:
        for choice in chunk.choices:
            seen[choice.index] = seen.get(choice.index, "") + (choice.delta.content or "")
    assert seen == {0: "one two", 1: "one two"}


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_is_shown_only_to_who_asked_and_always_asked_of_the_provider(house: House, asked: bool) -> None:
    caller = await house.caller()
    model = await house.model("prompt=20,completion=4")
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    response = await caller.http.post(
        "/v1/chat/completions", json={"model": model, "messages": MESSAGES, "stream": True, **options}
    )
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert house.up.calls[0].body["stream_options"]["include_usage"] is True
    if asked:
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 24)
    else:
        assert not any("usage" in chunk for chunk in chunks)
        assert all(chunk["choices"] for chunk in chunks)
    assert (await house.last_charge(caller)).delta == -(20 * 1_000 + 4 * 10_000)


async def test_usage_is_made_up_for_from_the_tokenizer_where_the_provider_never_says(house: House) -> None:
    caller = await house.caller()
    model = await house.model("nousage,text=hello%20world")
    stream = await caller.sdk.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]
    assert last.usage is not None
    assert last.usage.completion_tokens == 2
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert entry.receipt.usage.source == "counted"
    assert entry.receipt.usage.output == 2
    assert entry.delta == -(last.usage.prompt_tokens * 1_000 + 2 * 10_000)


async def test_wrong_key_unknown_model_empty_wallet_and_bad_body_raise_the_right_class(house: House) -> None:
    caller, poor = await house.caller(), await house.caller(nano=0)
    model = await house.model("ok")
    create = caller.sdk.chat.completions.create
    with pytest.raises(openai.AuthenticationError, match="This API key is not known"):
        await caller.sdk.with_options(api_key="sk-" + "x" * 40).chat.completions.create(model=model, messages=MESSAGES)
    with pytest.raises(openai.NotFoundError, match="The model `nothing` does not exist"):
        await create(model="nothing", messages=MESSAGES)
    with pytest.raises(openai.APIStatusError, match=r"balance|credit") as met:
        await poor.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert (met.value.status_code, met.value.code, met.value.type) == (402, "insufficient_quota", "insufficient_quota")
    with pytest.raises(openai.BadRequestError, match="`messages`") as bad:
        await create(model=model, messages=[])
    assert (bad.value.param, bad.value.request_id is not None) == ("messages", True)
    assert len(house.up.calls) == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"M","messages":"x"}', "messages"),
        (b'{"model":"M","messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"model":"M","messages":[{"role":"user","content":5}]}', "messages[0].content"),
        (b'{"model":"M","messages":[{"role":"user","content":"x"}],"n":0}', "n"),
        (b'{"model":"M","messages":[{"role":"user","content":"x"}],"max_tokens":-1}', "max_tokens"),
        (b'{"model":"M","messages":[{"role":"user","content":"x"}],"stream":"yes"}', "stream"),
        (
            b'{"model":"M","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":1}',
            "stream_options",
        ),
    ],
)
async def test_a_bad_body_names_its_field(house: House, body: bytes, param: str | None) -> None:
    caller = await house.caller()
    response = await caller.http.post("/v1/chat/completions", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_models_are_those_the_caller_can_use(house: House) -> None:
    open_model, closed = await house.model("ok"), await house.model("ok")
    unpriced = "vendor/not-priced"
    await house.channel(unpriced)
    caller = await house.caller(models=frozenset({open_model, unpriced}))
    assert [model.id async for model in caller.sdk.models.list()] == [open_model]
    assert (await caller.sdk.models.retrieve(open_model)).id == open_model
    with pytest.raises(openai.NotFoundError):
        await caller.sdk.models.retrieve(unpriced)
    with pytest.raises(openai.PermissionDeniedError, match="may not use the model"):
        await caller.sdk.chat.completions.create(model=closed, messages=MESSAGES)
    with pytest.raises(openai.NotFoundError, match="no price yet"):
        await caller.sdk.chat.completions.create(model=unpriced, messages=MESSAGES)


async def test_a_mapped_model_keeps_the_clients_name(house: House) -> None:
    caller = await house.caller()
    model = await house.model()
    await house.channel(model, "text=hi", mapping={model: "provider-name-2026"})
    whole = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    assert whole.model == model
    assert {chunk.model async for chunk in stream} == {model}
    assert {call.body["model"] for call in house.up.calls} == {"provider-name-2026"}


async def test_health_names_each_component(house: House) -> None:
    caller = await house.caller()
    health = (await caller.http.get("/health?deep=1")).json()
    assert health == {"status": "ok", "components": {"relay": "ok", "dynamodb": "ok", "valkey": "ok"}}


async def test_a_shallow_health_names_none(house: House) -> None:
    answer = await (await house.caller()).http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_what_is_not_there_is_said_in_the_surfaces_shape(house: House) -> None:
    caller = await house.caller()
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)):
        response = await caller.http.request(method, path)
        assert response.status_code == status
        assert "no GET" in response.json()["error"]["message"] or status == 405
