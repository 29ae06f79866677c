"""The traps of facts/providers.md section 27 that lie on the way through the gateway. The others: tests/adapters/test_traps.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sluice.settings import Settings
from tests.e2e.conftest import MESSAGES, House
from tests.e2e.playback import Playback, Recording


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, first_content_seconds=0.5, drain_seconds=0.3)


def chunk(text: str, finish: str | None = None) -> bytes:
    delta = {"content": text} if text else {}
    told = {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(told).encode() + b"\n\n"


GOOD = chunk("good") + chunk("", "stop") + b"data: [DONE]\n\n"


async def test_trap_02_one_path_for_models_and_three_shapes_of_its_answer(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")

    async def listed(**headers: str) -> Any:
        return (await caller.http.get("/v1/models", headers=headers)).json()

    assert model in [one["id"] for one in (await listed())["data"]]
    assert model in [one["id"] for one in (await listed(**{"anthropic-version": "2026-10-21"}))["data"]]
    assert "has_more" in await listed(**{"anthropic-version": "2026-10-21"})
    assert f"models/{model}" in [one["name"] for one in (await listed(**{"x-goog-api-key": caller.key}))["models"]]


async def test_trap_13_after_the_first_piece_nobody_else_is_asked(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    first = playback.tape("first", Recording(chunk("half ") + chunk("a word"), cut=len(chunk("half "))))
    second = playback.tape("second", Recording(GOOD))
    await house.channel(model, endpoint=f"{first.url}/v1", priority=1, retry=2)
    await house.channel(model, endpoint=f"{second.url}/v1", priority=2)
    body = {"model": model, "messages": MESSAGES, "stream": True}
    told = (await caller.http.post("/v1/chat/completions", json=body)).text
    assert (len(first.calls), len(second.calls)) == (1, 0)
    assert told.count("half ") == 1
    assert "good" not in told
    assert "error" in json.loads(told.rstrip().splitlines()[-1].removeprefix("data: "))


async def test_trap_13_before_it_everybody_may_be(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    role = (
        b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    )
    first = playback.tape("first", Recording(role + chunk("x"), cut=len(role)))
    second = playback.tape("second", Recording(GOOD))
    await house.channel(model, endpoint=f"{first.url}/v1", priority=1)
    await house.channel(model, endpoint=f"{second.url}/v1", priority=2)
    body = {"model": model, "messages": MESSAGES, "stream": True}
    told = (await caller.http.post("/v1/chat/completions", json=body)).text
    assert (len(first.calls), len(second.calls)) == (1, 1)
    assert told.count('"good"') == 1
    assert "error" not in told


@asynccontextmanager
async def chatty_but_silent() -> AsyncIterator[str]:
    """An upstream that keeps its stream alive with comments, never says anything, and has to be hung up on."""

    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            while not writer.is_closing():
                writer.write(b": keep-alive\n\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        server.close()


async def test_trap_15_comments_of_the_upstream_are_no_first_token(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    second = playback.tape("second", Recording(GOOD))
    async with chatty_but_silent() as silent:
        await house.channel(model, endpoint=silent, priority=1)
        await house.channel(model, endpoint=f"{second.url}/v1", priority=2)
        body = {"model": model, "messages": MESSAGES, "stream": True}
        reply = await caller.http.post("/v1/chat/completions", json=body)
    assert '"good"' in reply.text
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert [one.partition("=")[2] for one in entry.receipt.attempts] == ["timeout", "ok"]
    assert entry.receipt.ttft_ms >= 500


async def test_trap_15_when_the_client_is_gone_the_upstream_is_hung_up_on(house: House) -> None:
    caller, model = await house.caller(), await house.model("stall=2,chunks=9")
    body = {"model": model, "messages": MESSAGES, "stream": True}
    async with caller.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        await anext(reply.aiter_bytes())
    await house.settled()
    (call,) = house.up.calls
    await asyncio.wait_for(call.ended.wait(), 10)
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert entry.receipt.end_reason == "client_gone"
    assert entry.delta < 0


async def test_trap_18_a_clients_own_headers_and_key_stay_here(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    tape = playback.tape("only", Recording(GOOD))
    await house.channel(model, endpoint=f"{tape.url}/v1")
    headers = {"anthropic-beta": "b", "cookie": "c=1", "x-forwarded-for": "192.0.2.1", "user-agent": "claude-cli/2.0"}
    body = {"model": model, "messages": MESSAGES, "stream": True}
    await caller.http.post("/v1/chat/completions", json=body, headers=headers)
    sent = tape.calls[0].headers
    assert not {"anthropic-beta", "cookie", "x-forwarded-for"} & set(sent)
    assert caller.key not in json.dumps(dict(sent))
    assert "claude" not in sent["user-agent"]


async def test_trap_19_an_upstreams_headers_describe_its_body_not_ours(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    told = {
        "content-encoding": "x-none",
        "keep-alive": "timeout=5",
        "set-cookie": "s=1",
        "openai-organization": "the-operator",
    }
    whole = json.dumps(
        {"id": "c", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
    ).encode()
    tape = playback.tape("only", Recording(whole, headers=told), Recording(GOOD, headers=told))
    await house.channel(model, endpoint=f"{tape.url}/v1")
    for stream in (False, True):
        body = {"model": model, "messages": MESSAGES, "stream": stream}
        reply = await caller.http.post("/v1/chat/completions", json=body, headers={"accept-encoding": "gzip, br"})
        assert reply.status_code == 200
        assert not set(told) & set(reply.headers)
        assert reply.headers.get("content-length", str(len(reply.content))) == str(len(reply.content))
        assert tape.calls[-1].headers["accept-encoding"] == "identity"
        assert "transfer-encoding" not in tape.calls[-1].headers


@pytest.mark.parametrize("stream", [False, True])
async def test_trap_20_anthropics_words_reach_its_client_to_the_byte(
    house: House, playback: Playback, stream: bool
) -> None:
    caller, model = await house.caller(), await house.model()
    words = b'{"type":"error", "error":{"type":"invalid_request_error","message":"messages.1: thinking blocks cannot be modified"},"request_id":"req_up"}'
    tape = playback.tape("only", Recording(words, status=400))
    await house.channel(model, type="anthropic", endpoint=tape.url)
    body = {"model": model, "max_tokens": 9, "messages": MESSAGES, "stream": stream}
    reply = await caller.http.post("/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"})
    assert (reply.status_code, reply.content) == (400, words)
