"""Gemini both ways: its official SDK against the gateway on channels of two protocols, and OpenAI's SDK on a Gemini channel.

The Gemini-protocol upstream plays back bytes over real HTTP; the OpenAI-protocol one is scripted.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from sluice.settings import Settings
from tests.e2e.conftest import Caller, House
from tests.e2e.playback import Playback, Recording, Tape

CASES = Path(__file__).parents[1] / "adapters" / "cases" / "gemini"
ASKED = "Say something nice."
MESSAGES: Any = [{"role": "user", "content": ASKED}]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather of a city.",
            parameters=types.Schema(
                type=types.Type.OBJECT,
                properties={"city": types.Schema(type=types.Type.STRING, nullable=True)},
                required=["city"],
            ),
        )
    ]
)
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def played(name: str) -> bytes:
    return (CASES / name).read_bytes()


def answered(*parts: dict[str, Any], finish: str = "STOP") -> bytes:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, "index": 0}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage, "responseId": "r"}).encode()


def refused(code: int, status: str, message: str, *details: Any) -> Recording:
    body = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return Recording(json.dumps(body, indent=2).encode(), code)


@pytest.fixture
async def caller(house: House) -> Caller:
    return await house.caller()


@pytest.fixture
async def gemini(house: House, caller: Caller) -> AsyncIterator[Any]:
    """The official SDK as a client of the gateway, with nothing set but where it is."""
    client = genai.Client(api_key=caller.key, http_options=types.HttpOptions(base_url=house.url))
    yield client.aio
    await client.aio.aclose()
    client.close()


async def channel(house: House, playback: Playback, *recordings: Recording | bytes, **fields: Any) -> tuple[str, Tape]:
    """A new model on a Gemini-protocol channel that plays `recordings`."""
    model = await house.model()
    tape = playback.tape(model, *recordings)
    await house.channel(model, type="gemini", endpoint=f"{tape.url}/v1beta", **fields)
    return model, tape


async def charged(house: House, caller: Caller) -> tuple[int, int]:
    """The tokens of the caller's last charge."""
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    return entry.receipt.usage.input, entry.receipt.usage.output


# --- Gemini's client on a Gemini channel -----------------------------------------------------------------------------


async def test_a_whole_answer_is_the_providers_own(
    house: House, playback: Playback, caller: Caller, gemini: Any
) -> None:
    model, tape = await channel(house, playback, played("whole.json"))
    answer = await gemini.models.generate_content(
        model=model,
        contents=ASKED,
        config={"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]},
    )
    assert answer.text == "There are **3**."
    assert answer.candidates[0].content.parts[0].thought_signature == base64.b64decode("EtoFCtcF")
    (call,) = tape.calls
    assert (call.path, call.query) == (f"/v1beta/models/{model}:generateContent", "")
    assert call.body["safetySettings"][0]["threshold"] == "OFF"
    assert call.headers["x-goog-api-key"].startswith("sk-upstream-")
    assert caller.key not in str(call.headers)
    assert await charged(house, caller) == (9, 272)


async def test_a_stream_is_the_providers_own(house: House, playback: Playback, caller: Caller, gemini: Any) -> None:
    model, tape = await channel(house, playback, played("text.sse"))
    stream = await gemini.models.generate_content_stream(model=model, contents=ASKED)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == "Grüße aus Zürich 🏔️.\n"
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.cached_content_token_count == 4
    assert (tape.calls[0].path, tape.calls[0].query) == (f"/v1beta/models/{model}:streamGenerateContent", "alt=sse")
    assert await charged(house, caller) == (13, 8)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("key", ["header", "query", "bearer"])
async def test_bytes_pass_untouched_on_both_versions_with_the_key_in_any_place(
    house: House, playback: Playback, caller: Caller, version: str, key: str
) -> None:
    model, _ = await channel(house, playback, played("tools.sse"))
    placed: dict[str, Any] = {
        "header": {"headers": {"x-goog-api-key": caller.key}, "params": {"alt": "sse"}},
        "query": {"params": {"alt": "sse", "key": caller.key}},
        "bearer": {"headers": {"authorization": f"Bearer {caller.key}"}, "params": {"alt": "sse"}},
    }[key]
    caller.http.headers.pop("authorization")
    body = {"contents": {"parts": {"text": "Hi"}}, "generation_config": {"thinkingConfig": {"thinking_level": "LOW"}}}
    url = f"/{version}/models/{model}:streamGenerateContent"
    answer = await caller.http.post(url, json=body, **placed)
    assert answer.content == played("tools.sse")
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_without_alt_sse_a_stream_is_one_json_array(house: House, playback: Playback, caller: Caller) -> None:
    second = played("text.sse").index(b"\n\n") + 10
    model, _ = await channel(house, playback, played("text.sse"), Recording(played("text.sse"), cut=second))
    url = f"/v1beta/models/{model}:streamGenerateContent"
    answer = await caller.http.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]})
    assert answer.headers["content-type"] == "application/json"
    frames = played("text.sse").decode().strip().split("\n\n")
    assert answer.json() == [json.loads(frame.removeprefix("data: ")) for frame in frames]
    broken = await caller.http.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]})
    assert [next(iter(one)) for one in broken.json()] == ["candidates", "error"]
    assert broken.json()[-1]["error"]["status"] == "UNAVAILABLE"


class TestWhileAProviderThinks:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, heartbeat_seconds=0.05)

    @pytest.mark.parametrize("protocol", ["gemini", "openai"])
    async def test_the_sdk_reads_on_through_heartbeats(
        self, house: House, playback: Playback, caller: Caller, gemini: Any, protocol: str
    ) -> None:
        if protocol == "gemini":
            first = played("text.sse").index(b"\n\n") + 2
            model, tape = await channel(house, playback, Recording(played("text.sse"), stall=first))
        else:
            model = await house.model("stall=1,chunks=3")
        stream = await gemini.models.generate_content_stream(model=model, contents=ASKED)
        waiting = asyncio.create_task(_texts(stream))
        url, body = f"/v1/models/{model}:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "Hi"}]}]}
        async with caller.http.stream("POST", url, json=body) as beside:
            pieces = beside.aiter_raw()
            for _ in range(3):
                while await anext(pieces) != b"\n":
                    pass
        assert not waiting.done()
        if protocol == "gemini":
            tape.release()
        house.up.release()
        assert len(await waiting) >= 3


async def _texts(stream: Any) -> list[str]:
    return [chunk.text or "" async for chunk in stream]


async def test_a_refusal_is_the_providers_own_words(house: House, playback: Playback, gemini: Any) -> None:
    told = refused(400, "INVALID_ARGUMENT", 'Unknown name "x": Cannot find field.', {"@type": "of google"})
    model, _ = await channel(house, playback, told)
    with pytest.raises(errors.ClientError) as met:
        await gemini.models.generate_content(model=model, contents=ASKED)
    assert (met.value.code, met.value.status) == (400, "INVALID_ARGUMENT")
    assert met.value.details == json.loads(told.body)


async def test_an_error_inside_a_stream_is_the_providers_own(house: House, playback: Playback, gemini: Any) -> None:
    first = played("text.sse").split(b"\n\n")[0] + b"\n\n"
    told = {"error": {"code": 503, "message": "Overloaded in the middle.", "status": "UNAVAILABLE"}}
    model, _ = await channel(house, playback, first + b"data: " + json.dumps(told).encode() + b"\n\n")
    stream = await gemini.models.generate_content_stream(model=model, contents=ASKED)
    assert (await anext(stream)).text == "Grüße"
    with pytest.raises(errors.ServerError, match="Overloaded in the middle") as met:
        await anext(stream)
    assert met.value.code == 503


async def test_a_stream_that_is_cut_raises_in_the_sdk(house: House, playback: Playback, gemini: Any) -> None:
    first = played("text.sse").split(b"\n\n")[0] + b"\n\n"
    model, _ = await channel(house, playback, Recording(first + b"data: {", cut=len(first) + 3))
    stream = await gemini.models.generate_content_stream(model=model, contents=ASKED)
    assert (await anext(stream)).text == "Grüße"
    with pytest.raises(errors.ServerError, match="broke off"):
        await anext(stream)


async def test_a_spoilt_call_is_shown_to_its_own_client(house: House, playback: Playback, gemini: Any) -> None:
    model, _ = await channel(house, playback, answered(finish="MALFORMED_FUNCTION_CALL"))
    answer = await gemini.models.generate_content(model=model, contents=ASKED)
    assert answer.candidates[0].finish_reason == types.FinishReason.MALFORMED_FUNCTION_CALL


async def test_a_blocked_prompt_is_an_answer(house: House, playback: Playback, caller: Caller, gemini: Any) -> None:
    model, _ = await channel(house, playback, played("blocked.sse"))
    chunks = [chunk async for chunk in await gemini.models.generate_content_stream(model=model, contents=ASKED)]
    assert [chunk.prompt_feedback.block_reason for chunk in chunks] == [types.BlockedReason.PROHIBITED_CONTENT]
    assert await charged(house, caller) == (7, 0)


async def test_a_mapped_model_keeps_the_clients_name(house: House, playback: Playback, gemini: Any) -> None:
    model = await house.model()
    tape = playback.tape(model, played("whole.json"), played("text.sse"))
    await house.channel(model, type="gemini", endpoint=f"{tape.url}/v1", mapping={model: "gemini-of-today"})
    assert (await gemini.models.generate_content(model=model, contents=ASKED)).model_version == model
    stream = await gemini.models.generate_content_stream(model=model, contents=ASKED)
    assert {chunk.model_version async for chunk in stream} == {model}
    assert {call.path.partition(":")[0] for call in tape.calls} == {"/v1/models/gemini-of-today"}


async def test_two_turns_with_a_tool_keep_the_signature(house: House, playback: Playback, gemini: Any) -> None:
    model, tape = await channel(house, playback, played("tools.sse"), answered({"text": "Sunny."}))
    config = types.GenerateContentConfig(tools=[WEATHER], automatic_function_calling=BY_HAND)
    asked = types.Content(role="user", parts=[types.Part(text="What is the weather in Zürich?")])
    parts = [
        part
        async for chunk in await gemini.models.generate_content_stream(model=model, contents=[asked], config=config)
        for part in chunk.candidates[0].content.parts
    ]
    call = next(part.function_call for part in parts if part.function_call)
    assert (call.name, call.args) == ("get_weather", {"city": "Zürich", "days": 2})
    told = types.Part.from_function_response(name="get_weather", response={"sky": "clear"})
    turns = [asked, types.Content(role="model", parts=parts), types.Content(role="user", parts=[told])]
    answer = await gemini.models.generate_content(model=model, contents=turns, config=config)
    assert answer.text == "Sunny."
    sent = tape.calls[1].body["contents"][1]["parts"]
    signature = next(part["thoughtSignature"] for part in sent if "functionCall" in part)
    assert base64.urlsafe_b64decode(signature) == base64.b64decode("EpwICpkIAXLI2nx+/A==")


# --- Gemini's client on an OpenAI channel ----------------------------------------------------------------------------


async def test_text_whole_and_streamed_from_another_protocol(house: House, caller: Caller, gemini: Any) -> None:
    model = await house.model("text=Hello%20there,prompt=11,completion=3")
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", max_output_tokens=100, temperature=0.5, stop_sequences=["END"], seed=7
    )
    answer = await gemini.models.generate_content(model=model, contents=ASKED, config=config)
    assert (answer.text, answer.model_version) == ("Hello there", model)
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert (answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count) == (11, 3)
    stream = await gemini.models.generate_content_stream(model=model, contents=ASKED, config=config)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == "Hello there"
    assert [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates[0].finish_reason] == ["STOP"]
    assert chunks[-1].usage_metadata.total_token_count == 14
    assert len({chunk.response_id for chunk in chunks}) == 1
    body = house.up.calls[0].body
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    assert (body["max_completion_tokens"], body["temperature"], body["stop"], body["seed"]) == (100, 0.5, ["END"], 7)
    assert await charged(house, caller) == (11, 3)


async def test_no_last_word_is_written_where_the_sdk_would_stumble_over_it(house: House, caller: Caller) -> None:
    model = await house.model("text=Hello")
    url = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    answer = await caller.http.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]})
    lines = [line for line in answer.text.split("\n") if line]
    assert all(line.startswith("data: {") for line in lines)
    assert "finishReason" in lines[-1]


async def test_two_turns_with_tools_on_another_protocol(house: House, gemini: Any) -> None:
    model = await house.model("tools")
    config = types.GenerateContentConfig(tools=[WEATHER], automatic_function_calling=BY_HAND)
    asked = types.Content(role="user", parts=[types.Part(text="What is the weather?")])
    whole = await gemini.models.generate_content(model=model, contents=[asked], config=config)
    stream = await gemini.models.generate_content_stream(model=model, contents=[asked], config=config)
    parts = [part async for chunk in stream for part in chunk.candidates[0].content.parts if part.function_call]
    calls = [(part.function_call.name, part.function_call.args) for part in parts]
    assert len(calls) == 2
    assert [(call.name, call.args) for call in whole.function_calls] == calls
    told = [
        types.Part(function_response=types.FunctionResponse(id=part.function_call.id, name=name, response={"n": n}))
        for n, (part, (name, _)) in enumerate(zip(parts, calls, strict=True))
    ]
    turns = [asked, types.Content(role="model", parts=parts), types.Content(role="user", parts=told)]
    await gemini.models.generate_content(model=model, contents=turns, config=config)
    sent = house.up.calls[-1].body
    assert sent["tools"][0]["function"]["parameters"]["properties"]["city"] == {"type": ["string", "null"]}
    _, spoken, *results = sent["messages"]
    assert [call["id"] for call in spoken["tool_calls"]] == [part.function_call.id for part in parts]
    assert [(one["tool_call_id"], one["content"]) for one in results] == [
        (part.function_call.id, f'{{"n":{n}}}') for n, part in enumerate(parts)
    ]


async def test_an_image_reaches_another_protocol(house: House, gemini: Any) -> None:
    model = await house.model("ok")
    image = types.Part.from_bytes(data=PIXEL, mime_type="image/png")
    await gemini.models.generate_content(model=model, contents=["What is this?", image])
    (message,) = house.up.calls[0].body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]
    url = message["content"][1]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == PIXEL


async def test_a_structured_answer_from_another_protocol(house: House, gemini: Any) -> None:
    model = await house.model("text=%7B%22n%22%3A3%7D")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=schema)
    answer = await gemini.models.generate_content(model=model, contents=ASKED, config=config)
    assert answer.parsed == {"n": 3}
    told = house.up.calls[0].body["response_format"]
    assert (told["type"], told["json_schema"]["schema"]) == ("json_schema", schema)


async def test_what_is_lost_is_named_and_what_cannot_be_lost_is_refused(
    house: House, caller: Caller, gemini: Any
) -> None:
    model = await house.model("ok")
    body = {
        "contents": [{"parts": [{"text": "Hi"}]}],
        "safetySettings": [],
        "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
    }
    answer = await caller.http.post(f"/v1/models/{model}:generateContent", json=body)
    assert answer.headers["x-sluice-dropped"] == "safetySettings,generationConfig.mediaResolution"
    search = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    with pytest.raises(errors.ClientError, match=r"tools\[0\]\.googleSearch") as met:
        await gemini.models.generate_content(model=model, contents=ASKED, config=search)
    assert met.value.code == 400
    assert len(house.up.calls) == 1


async def test_tokens_are_counted(house: House, caller: Caller, gemini: Any) -> None:
    model = await house.model("ok")
    short = await gemini.models.count_tokens(model=model, contents="Hello")
    long = await gemini.models.count_tokens(model=model, contents="Hello " * 100)
    assert 100 < long.total_tokens < 120 > short.total_tokens > 0
    inner = {"generateContentRequest": {"model": f"models/{model}", "contents": [{"parts": [{"text": "Hello"}]}]}}
    answer = await caller.http.post(f"/v1beta/models/{model}:countTokens", json=inner)
    assert answer.json() == {"totalTokens": short.total_tokens}
    assert not house.up.calls


async def test_models_are_listed_in_its_shape(house: House, gemini: Any) -> None:
    model = await house.model("ok")
    listed = [one async for one in await gemini.models.list()]
    assert f"models/{model}" in {one.name for one in listed}
    assert (await gemini.models.get(model=model)).name == f"models/{model}"
    with pytest.raises(errors.ClientError) as met:
        await gemini.models.get(model="nothing")
    assert (met.value.code, met.value.status) == (404, "NOT_FOUND")


async def test_our_own_errors_have_its_shape(house: House, gemini: Any, caller: Caller) -> None:
    model = await house.model("status=500")
    poor = await house.caller(nano=0)
    stranger = genai.Client(api_key="sk-" + "x" * 40, http_options=types.HttpOptions(base_url=house.url))
    with pytest.raises(errors.ClientError) as met:
        await stranger.aio.models.generate_content(model=model, contents=ASKED)
    assert (met.value.code, met.value.status) == (401, "UNAUTHENTICATED")
    await stranger.aio.aclose()
    stranger.close()
    with pytest.raises(errors.ServerError) as down:
        await gemini.models.generate_content(model=model, contents=ASKED)
    assert (down.value.code, down.value.status) == (502, "UNAVAILABLE")
    url = f"/v1beta/models/{model}:generateContent"
    unpaid = await poor.http.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]})
    assert (unpaid.status_code, unpaid.json()["error"]["status"]) == (402, "RESOURCE_EXHAUSTED")
    bad = await caller.http.post(url, json={"contents": []})
    assert bad.json()["error"]["details"][-1]["fieldViolations"][0]["field"] == "contents"
    lost = await caller.http.get("/v1beta/nothing", headers={"x-goog-api-key": caller.key})
    assert (lost.status_code, lost.json()["error"]["status"]) == (404, "NOT_FOUND")


async def test_a_key_in_the_query_opens_nothing_else(house: House, caller: Caller) -> None:
    caller.http.headers.pop("authorization")
    model = await house.model("ok")
    params = {"key": caller.key}
    body = {"model": model, "messages": MESSAGES}
    assert (await caller.http.post("/v1/chat/completions", json=body, params=params)).status_code == 401
    listed = await caller.http.get("/v1/models", params=params)
    assert "models" in listed.json()


# --- OpenAI's client on a Gemini channel -----------------------------------------------------------------------------


async def test_openais_client_reads_a_gemini_answer(house: House, playback: Playback, caller: Caller) -> None:
    model, tape = await channel(house, playback, played("whole.json"), played("text.sse"))
    create = caller.sdk.chat.completions.create
    whole = await create(model=model, messages=MESSAGES, max_completion_tokens=20)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("There are **3**.", "stop")
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (9, 272)
    stream = await create(model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Grüße aus Zürich 🏔️.\n"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 21
    assert tape.calls[0].body == {
        "contents": [{"role": "user", "parts": [{"text": ASKED}]}],
        "generationConfig": {"maxOutputTokens": 20},
    }


async def test_openais_client_runs_a_tool_loop_on_a_gemini_channel(
    house: House, playback: Playback, caller: Caller
) -> None:
    model, tape = await channel(house, playback, played("tools.sse"), answered({"text": "Sunny."}))
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, tools=OPENAI_TOOLS, stream=True)
    calls: list[Any] = []
    reason = None
    async for chunk in stream:
        calls += chunk.choices[0].delta.tool_calls or []
        reason = chunk.choices[0].finish_reason or reason
    assert (reason, [call.function.name for call in calls]) == ("tool_calls", ["get_weather", "get_time"])
    turns = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [call.model_dump(exclude={"index"}, exclude_none=True) for call in calls]},
        *({"role": "tool", "tool_call_id": call.id, "content": f"result {at}"} for at, call in enumerate(calls)),
    ]
    answer = await caller.sdk.chat.completions.create(model=model, messages=turns, tools=OPENAI_TOOLS)
    assert answer.choices[0].message.content == "Sunny."
    _, spoken, results = tape.calls[1].body["contents"]
    assert spoken["parts"][0]["thoughtSignature"] == "EpwICpkIAXLI2nx+/A=="
    assert "thoughtSignature" not in spoken["parts"][1]
    told = [part["functionResponse"] for part in results["parts"]]
    assert [(one["name"], one["response"]) for one in told] == [
        ("get_weather", {"result": "result 0"}),
        ("get_time", {"result": "result 1"}),
    ]


async def test_a_spoilt_call_is_tried_again_elsewhere(house: House, playback: Playback, caller: Caller) -> None:
    model, _ = await channel(house, playback, answered(finish="MALFORMED_FUNCTION_CALL"))
    await house.channel(model, "text=from%20the%20second", priority=1)
    answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert answer.choices[0].message.content == "from the second"


async def test_geminis_own_error_reaches_its_client_as_it_is(house: House, playback: Playback, caller: Caller) -> None:
    said = refused(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
    model, _ = await channel(house, playback, replace(said, headers={"server-timing": "gfet4t7; dur=5"}))
    answer = await caller.http.post(
        f"/v1beta/models/{model}:generateContent", json={"contents": [{"parts": [{"text": "x"}]}]}
    )
    assert (answer.status_code, answer.content) == (503, said.body)
    assert answer.headers["server-timing"] == "gfet4t7; dur=5"


@pytest.mark.parametrize("url", ["https://[no-address/a.png", "a.png"])
async def test_a_bad_address_of_an_image_is_the_clients_fault_in_its_own_format(
    house: House, playback: Playback, caller: Caller, url: str
) -> None:
    model, tape = await channel(house, playback, answered({"text": "x"}))
    image = {"type": "image_url", "image_url": {"url": url}}
    chat = {"model": model, "messages": [{"role": "user", "content": [image]}]}
    by_openai = await caller.http.post("/v1/chat/completions", json=chat)
    assert (by_openai.status_code, by_openai.json()["error"]["param"]) == (400, "messages[0].content[0].image_url")
    block = {"type": "image", "source": {"type": "url", "url": url}}
    message = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]}
    by_anthropic = await caller.http.post("/v1/messages", json=message)
    assert (by_anthropic.status_code, by_anthropic.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "messages[0].content[0].source.url" in by_anthropic.json()["error"]["message"]
    asked = {"model": model, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    by_responses = await caller.http.post("/v1/responses", json=asked)
    assert (by_responses.status_code, by_responses.json()["error"]["param"]) == (
        400,
        "input[0].content[0].image_url",
    )
    assert not tape.calls


async def test_a_bad_key_of_the_channel_is_not_the_clients(house: House, playback: Playback, caller: Caller) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    model, _ = await channel(house, playback, refused(400, "INVALID_ARGUMENT", "API key not valid.", info))
    with pytest.raises(openai.InternalServerError) as met:
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert (met.value.status_code, met.value.code) == (502, "upstream_refused")
    assert "API key" not in met.value.message


# --- Anthropic's client on a Gemini channel --------------------------------------------------------------------------


async def test_anthropics_client_runs_a_tool_loop_on_a_gemini_channel(
    house: House, playback: Playback, caller: Caller
) -> None:
    model, tape = await channel(house, playback, played("tools.sse"), answered({"text": "Sunny."}))
    asked: Any = {"role": "user", "content": [{"type": "text", "text": ASKED}]}
    tools: Any = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    async with anthropic.AsyncAnthropic(base_url=house.url, api_key=caller.key, max_retries=0) as claude:
        async with claude.messages.stream(model=model, max_tokens=50, messages=[asked], tools=tools) as stream:
            message = await stream.get_final_message()
        assert message.stop_reason == "tool_use"
        blocks: Any = [block.model_dump(exclude_none=True) for block in message.content]
        calls = [block for block in blocks if block["type"] == "tool_use"]
        assert [call["input"] for call in calls] == [{"city": "Zürich", "days": 2}, {}]
        results: Any = [{"type": "tool_result", "tool_use_id": call["id"], "content": "clear"} for call in calls]
        turns: Any = [asked, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
        answer = await claude.messages.create(model=model, max_tokens=50, messages=turns, tools=tools)
    assert [block.text for block in answer.content if block.type == "text"] == ["Sunny."]
    _, spoken, told = tape.calls[1].body["contents"]
    signatures = [part.get("thoughtSignature") for part in spoken["parts"] if "functionCall" in part]
    assert signatures == ["EpwICpkIAXLI2nx+/A==", None]
    assert [part["functionResponse"]["name"] for part in told["parts"]] == ["get_weather", "get_time"]


# --- a picture in an answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
async def test_a_picture_that_was_paid_reaches_every_client(
    house: House, playback: Playback, caller: Caller, streams: bool
) -> None:
    blob = base64.b64encode(PIXEL).decode()
    said = answered({"inlineData": {"mimeType": "image/png", "data": blob}})
    model, _ = await channel(house, playback, *[b"data: " + said + b"\n\n" if streams else said] * 2)
    asked: Any = {"role": "user", "content": ASKED}
    async with anthropic.AsyncAnthropic(base_url=house.url, api_key=caller.key, max_retries=0) as claude:
        if streams:
            async with claude.messages.stream(model=model, max_tokens=50, messages=[asked]) as stream:
                message = await stream.get_final_message()
        else:
            message = await claude.messages.create(model=model, max_tokens=50, messages=[asked])
    (block,) = message.content
    assert block.model_dump(include={"type", "text"}) == {
        "type": "text",
        "text": f"![picture](data:image/png;base64,{blob})",
    }
    if streams:
        async with caller.sdk.responses.stream(model=model, input=ASKED) as events:
            response: Any = await events.get_final_response()
    else:
        response = await caller.sdk.responses.create(model=model, input=ASKED)
    (item,) = response.output
    assert (item.type, item.status, item.result) == ("image_generation_call", "completed", blob)
