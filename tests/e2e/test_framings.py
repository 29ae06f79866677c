"""Providers that are not HTTP and events: AWS's binary framing, WebSocket messages, a token bought first. OpenAI's SDK in front,
real sockets behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from sluice.types import Secret
from tests.adapters.aws_frames import event, exception
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording, Tape

CASES = Path(__file__).parents[1] / "adapters" / "cases"
AWS = "application/vnd.amazon.eventstream"
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
]
KEYS = Secret("AKIDEXAMPLE:secret/of+aws")
TEXT = (CASES / "bedrock" / "text.eventstream.bin").read_bytes()


async def streamed(caller: Caller, model: str, **more: Any) -> list[Any]:
    stream = await caller.sdk.chat.completions.create(
        model=model,
        messages=more.pop("messages", MESSAGES),
        stream=True,
        stream_options={"include_usage": True},
        **more,
    )
    return [chunk async for chunk in stream]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# --- AWS's binary framing --------------------------------------------------------------------------------------------


async def bedrock(house: House, playback: Playback, *recordings: Recording, **fields: Any) -> tuple[str, Tape]:
    model = await house.model()
    tape = playback.tape(model, *recordings)
    settings: dict[str, Any] = {"secret": KEYS, "mapping": {model: "eu.maker.model-v1:0"}, **fields}
    await house.channel(model, type="bedrock", endpoint=tape.url, **settings)
    return model, tape


async def test_bedrock_streams_whatever_the_pieces_of_its_frames(house: House, playback: Playback) -> None:
    caller = await house.caller()
    model, tape = await bedrock(house, playback, Recording(TEXT, content_type=AWS, piece=7))
    chunks = await streamed(caller, model)
    assert text_of(chunks) == "Grüße aus\n東京 🗼"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.prompt_tokens == 111
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 80
    assert {chunk.model for chunk in chunks} == {model}
    (call,) = tape.calls
    assert call.path == "/model/eu.maker.model-v1%3A0/converse-stream"
    assert call.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.usage.input, entry.receipt.usage.cache_write, entry.receipt.end_reason) == (111, 20, "done")


async def test_bedrock_streams_its_first_words_before_its_last(house: House, playback: Playback) -> None:
    caller = await house.caller()
    model, tape = await bedrock(house, playback, Recording(TEXT, content_type=AWS, stall=400))
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    first = await anext(chunk async for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    assert first.choices[0].delta.content == "Grüße"
    assert tape.calls[0].bytes_sent == 400
    tape.release()
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


async def test_bedrock_in_a_loop_of_two_turns_keeps_what_it_thought(house: House, playback: Playback) -> None:
    caller = await house.caller()
    tools = Recording((CASES / "bedrock" / "tools.eventstream.bin").read_bytes(), content_type=AWS)
    whole = Recording((CASES / "bedrock" / "whole.json").read_bytes())
    model, tape = await bedrock(house, playback, tools, whole)
    calls: dict[int, dict[str, Any]] = {}
    details: list[Any] = []
    for chunk in await streamed(caller, model, tools=TOOLS):
        delta = chunk.choices[0].delta if chunk.choices else None
        details += getattr(delta, "reasoning_details", None) or []
        for call in getattr(delta, "tool_calls", None) or []:
            told = calls.setdefault(
                call.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            told["id"] = told["id"] or call.id
            told["function"]["name"] += call.function.name or ""
            told["function"]["arguments"] += call.function.arguments
    assert [call["function"] for call in calls.values()] == [
        {"name": "get_weather", "arguments": '{"city":"Rome"}'},
        {"name": "get_time", "arguments": "{}"},
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "fine"} for call in calls.values()]
    thought = {"reasoning_content": "Two cities, two calls.", "reasoning_details": details}
    turn = {"role": "assistant", **thought, "tool_calls": list(calls.values())}
    answer = await caller.sdk.chat.completions.create(
        model=model, messages=[*MESSAGES, turn, *results], tools=TOOLS, user="somebody"
    )
    assert answer.choices[0].message.content == "One moment."
    assert answer.choices[0].finish_reason == "length"
    _, said, answered = tape.calls[1].body["messages"]
    assert [next(iter(block)) for block in said["content"]] == ["reasoningContent"] * 2 + ["toolUse"] * 2
    assert said["content"][0]["reasoningContent"]["reasoningText"] == {
        "text": "Two cities, two calls.",
        "signature": "c2lnbmVk",
    }
    assert [block["toolResult"]["toolUseId"] for block in answered["content"]] == ["tooluse_A1", "tooluse_B2"]
    assert "somebody" not in str(tape.calls[1].body)


@pytest.mark.parametrize("cut", [200, len(TEXT) // 2, 700])
async def test_bedrock_cut_anywhere_is_never_a_success(house: House, playback: Playback, cut: int) -> None:
    caller = await house.caller()
    model, _ = await bedrock(house, playback, Recording(TEXT, content_type=AWS, cut=cut))
    with pytest.raises(openai.APIError):
        await streamed(caller, model)
    await house.proof(caller)


async def test_bedrocks_exception_in_mid_stream_is_an_error_event(house: House, playback: Playback) -> None:
    caller = await house.caller()
    begun = event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Well"}}')
    body = begun + exception("modelStreamErrorException", b'{"message":"private words"}')
    model, _ = await bedrock(house, playback, Recording(body, content_type=AWS))
    with pytest.raises(openai.APIError, match="broke off the answer") as met:
        await streamed(caller, model)
    assert "private words" not in str(met.value)
    assert (await house.last_charge(caller)).delta < 0


async def test_bedrocks_damaged_frame_is_no_answer(house: House, playback: Playback) -> None:
    caller = await house.caller()
    damaged = bytearray(TEXT)
    damaged[40] ^= 1
    model, _ = await bedrock(house, playback, Recording(bytes(damaged), content_type=AWS))
    with pytest.raises(openai.InternalServerError):
        await streamed(caller, model)
    assert (await house.last_charge(caller)).delta == 0


async def test_bedrock_fails_over_when_throttled_and_tells_a_bad_request(house: House, playback: Playback) -> None:
    caller = await house.caller()
    throttled = Recording(b'{"message":"slow"}', 429, headers={"x-amzn-errortype": "ThrottlingException"})
    model, _ = await bedrock(house, playback, throttled)
    other = playback.tape(f"{model}-2", Recording(TEXT, content_type=AWS))
    await house.channel(model, type="bedrock", endpoint=other.url, secret=KEYS, priority=1)
    assert text_of(await streamed(caller, model)) == "Grüße aus\n東京 🗼"

    refused = Recording(b'{"message":"maxTokens is too big"}', 400, headers={"x-amzn-errortype": "ValidationException"})
    model, _ = await bedrock(house, playback, refused)
    with pytest.raises(openai.BadRequestError, match="maxTokens is too big"):
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)


async def test_what_bedrock_cannot_say_is_a_400_that_names_it_or_a_header(house: House, playback: Playback) -> None:
    caller = await house.caller()
    model, tape = await bedrock(house, playback, Recording((CASES / "bedrock" / "whole.json").read_bytes()))
    with pytest.raises(openai.BadRequestError) as met:
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, n=2)
    assert met.value.param == "n"
    assert tape.calls == []
    answer = await caller.sdk.chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, seed=5, user="me"
    )
    assert answer.headers["x-sluice-dropped"] == "seed,user"


# --- WebSocket -------------------------------------------------------------------------------------------------------


class Spark:
    """A WebSocket server that answers each connection with the same frames, and then does as `after` says."""

    def __init__(
        self, frames: list[str], after: Callable[[ServerConnection], Any] | None = None, status: int = 0
    ) -> None:
        self.frames = frames
        self.after = after
        self.status = status
        self.heard: list[tuple[str, Any]] = []
        self.closed: list[int | None] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Spark]:
        async with serve(self._answer, "127.0.0.1", 0, process_request=self._admit, close_timeout=0.2) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if not self.status:
            return None
        return connection.respond(HTTPStatus(self.status), '{"message":"HMAC signature cannot be verified"}')

    async def _answer(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.heard.append((connection.request.path, json.loads(await connection.recv())))
        for frame in self.frames:
            await connection.send(frame)
        if self.after:
            await self.after(connection)
        await connection.wait_closed()
        self.closed.append(connection.close_code)


SPARK = (CASES / "spark_ws" / "text.ndjson").read_text().splitlines()


async def spark(house: House, server: Spark, **fields: Any) -> str:
    model = await house.model(output="10")
    settings: dict[str, Any] = {"secret": Secret("app1:key:secret"), "mapping": {model: "generalv3.5"}, **fields}
    await house.channel(model, type="spark_ws", endpoint=server.url, **settings)
    return model


async def test_spark_answers_streamed_and_whole(house: House) -> None:
    caller = await house.caller()
    async with Spark(SPARK).serving() as server:
        model = await spark(house, server)
        chunks = await streamed(caller, model, max_tokens=50)
        whole = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
        await house.settled()
    assert text_of(chunks) == whole.choices[0].message.content == "您好\n！"
    assert (chunks[-2].choices[0].finish_reason, chunks[-1].usage.completion_tokens) == ("stop", 169)
    assert server.closed == [1000, 1000]
    path, asked = server.heard[0]
    split = urlsplit(path)
    assert split.path == "/v3.5/chat"
    assert set(parse_qs(split.query)) == {"authorization", "date", "host"}
    assert asked["header"]["app_id"] == "app1"
    assert asked["parameter"]["chat"] == {"domain": "generalv3.5", "max_tokens": 50}
    assert asked["payload"]["message"]["text"] == MESSAGES
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.usage.input, entry.receipt.usage.output) == (37, 169)


async def test_spark_calls_a_function(house: House) -> None:
    caller = await house.caller()
    async with Spark((CASES / "spark_ws" / "tools.ndjson").read_text().splitlines()).serving() as server:
        model = await spark(house, server)
        answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].to_dict()["function"] == {"name": "get_weather", "arguments": '{"city":"合肥"}'}
    assert server.heard[0][1]["payload"]["functions"]["text"][0]["name"] == "get_weather"


@pytest.mark.parametrize("kept", range(len(SPARK)))
async def test_spark_hanging_up_early_is_never_a_success(house: House, kept: int) -> None:
    async def hang_up(connection: ServerConnection) -> None:
        connection.transport.abort()

    caller = await house.caller()
    async with Spark(SPARK[:kept], hang_up).serving() as server:
        model = await spark(house, server)
        with pytest.raises(openai.APIError):
            await streamed(caller, model)
        await house.proof(caller)


async def test_spark_refusing_the_handshake_is_failed_over(house: House) -> None:
    caller = await house.caller()
    async with Spark([], status=403).serving() as closed, Spark(SPARK).serving() as server:
        model = await spark(house, closed)
        await house.channel(model, type="spark_ws", endpoint=f"{server.url}/v1/x1", secret=Secret("a:b:c"), priority=1)
        answer = await caller.sdk.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    assert "=auth/403" in answer.headers["x-sluice-attempts"]
    assert urlsplit(server.heard[0][0]).path == "/v1/x1"


async def test_spark_a_redirect_is_not_followed(house: House) -> None:
    async with Spark(SPARK).serving() as elsewhere:

        def redirect(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["location"] = elsewhere.url.replace("http", "ws")
            return response

        caller = await house.caller()
        server = Spark([])
        server._admit = redirect  # type: ignore[method-assign]
        async with server.serving():
            model = await spark(house, server)
            with pytest.raises(openai.InternalServerError):
                await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
        assert elsewhere.heard == []


async def test_spark_telling_an_error_by_a_frame(house: House) -> None:
    caller = await house.caller()
    frame = {"header": {"code": 10013, "message": "the question was held back", "sid": "s", "status": 2}}
    async with Spark([json.dumps(frame)]).serving() as server:
        model = await spark(house, server)
        with pytest.raises(openai.BadRequestError, match="held back") as met:
            await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert met.value.code == "content_filter"


# --- a token bought first --------------------------------------------------------------------------------------------

TOKEN = Recording(b'{"access_token":"24.first","expires_in":2592000}')
BAIDU = Recording((CASES / "baidu_v1" / "text.sse").read_bytes())
STALE = Recording(b'{"error_code":110,"error_msg":"Access token invalid or no longer valid"}')


async def baidu(house: House, playback: Playback, *recordings: Recording) -> tuple[str, Tape]:
    model = await house.model()
    tape = playback.tape(model, *recordings)
    await house.channel(
        model,
        type="baidu_v1",
        endpoint=tape.url,
        secret=Secret("key-of-baidu:secret-of-baidu"),
        mapping={model: "ERNIE-4.0-8K"},
    )
    return model, tape


async def test_a_token_is_bought_once_and_used_again(house: House, playback: Playback) -> None:
    caller = await house.caller()
    model, tape = await baidu(house, playback, TOKEN, BAIDU)
    for _ in range(2):
        assert text_of(await streamed(caller, model)) == "当然可以，请说。"
    bought, *asked = tape.calls
    assert (bought.path, bought.method) == ("/oauth/2.0/token", "POST")
    assert parse_qs(bought.query)["client_secret"] == ["secret-of-baidu"]
    assert [call.query for call in asked] == ["access_token=24.first"] * 2
    assert {call.path for call in asked} == {"/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro"}


async def test_a_token_that_is_refused_is_bought_anew_once(house: House, playback: Playback) -> None:
    caller = await house.caller()
    again = Recording(b'{"access_token":"24.second","expires_in":2592000}')
    model, tape = await baidu(house, playback, TOKEN, BAIDU, STALE, again, BAIDU)
    assert text_of(await streamed(caller, model)) == "当然可以，请说。"
    assert text_of(await streamed(caller, model)) == "当然可以，请说。"
    assert [call.query for call in tape.calls if "oauth" not in call.path] == [
        "access_token=24.first",
        "access_token=24.first",
        "access_token=24.second",
    ]


async def test_a_token_refused_for_good_marks_the_channel(house: House, playback: Playback) -> None:
    caller = await house.caller()
    model, tape = await baidu(house, playback, TOKEN, STALE, TOKEN, STALE)
    with pytest.raises(openai.InternalServerError) as met:
        await streamed(caller, model)
    assert "auth" in str(met.value)
    assert len(tape.calls) == 4


async def test_a_secret_that_buys_no_token_is_an_auth_error_without_its_words(house: House, playback: Playback) -> None:
    caller = await house.caller()
    unknown = Recording(b'{"error":"invalid_client","error_description":"unknown client id"}', 401)
    model, tape = await baidu(house, playback, unknown)
    with pytest.raises(openai.InternalServerError) as met:
        await streamed(caller, model)
    assert "unknown client id" not in str(met.value)
    assert len(tape.calls) == 1


async def test_a_refusal_names_what_the_client_sent(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    await house.channel(model, type="bedrock", endpoint="http://127.0.0.1:9", secret=KEYS)
    picture = {"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/x.png"}}
    asked: Any = {"contents": [{"role": "user", "parts": [{"text": "x"}, {"text": "y"}, picture]}]}
    answer = await caller.http.post(f"/v1beta/models/{model}:generateContent", json=asked)
    assert answer.status_code == 400
    assert "`contents[0].parts[2].fileData.fileUri`" in answer.json()["error"]["message"]
    counted = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"candidateCount": 3}}
    answer = await caller.http.post(f"/v1beta/models/{model}:generateContent", json=counted)
    assert "`generationConfig.candidateCount`" in answer.json()["error"]["message"]
    formed = {"model": model, "input": "x", "text": {"format": {"type": "json_object"}}}
    answer = await caller.http.post("/v1/responses", json=formed)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text.format")
    assert "`text.format`" in answer.json()["error"]["message"]


async def test_what_is_dropped_is_named_as_the_client_sent_it(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    said = (
        b'{"id":"a","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"x"}]}}'
    )
    await house.channel(model, type="cohere", endpoint=playback.tape(model, said).url)
    asked = {
        "model": model,
        "max_tokens": 5000,
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    answer = await caller.http.post("/v1/messages", json=asked)
    assert (answer.status_code, answer.headers["x-sluice-dropped"]) == (200, "thinking")
