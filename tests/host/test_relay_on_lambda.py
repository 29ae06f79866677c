"""The relay as it runs on Lambda: its run.sh behind the real Lambda Web Adapter, on a Runtime API that streams and on AWS's
emulator, with DynamoDB and KMS in MiniStack and a scripted provider behind it.

The stand-in shows what arrives when; the emulator, which keeps everything to the end, that AWS's own code accepts it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice.settings import Settings
from sluice.types import Entry
from tests.contract.conftest import Tables
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording
from tests.e2e.test_calls import wav
from tests.e2e.test_kill import swept
from tests.host import hosts
from tests.host.events import post, request
from tests.host.hosts import RELAY, Environment
from tests.host.runtime_api import Invocation

pytestmark = pytest.mark.host

Start = Callable[..., AbstractAsyncContextManager[Environment]]

TEXT = "text=one%20two%20three%20four,chunks=4,prompt=30,completion=4"
CHAT = "/v1/chat/completions"
EITHER = [pytest.param(hosts.behind_adapter, id="adapter"), pytest.param(hosts.behind_loop, id="loop")]


@pytest.fixture(params=EITHER)
def start(request: pytest.FixtureRequest, settings: Settings, ministack_endpoint: str, tmp_path: Path) -> Start:
    """Starts an environment with the relay on this session's tables. Models are made before: its catalog is polled."""

    @asynccontextmanager
    async def started(**changed: str) -> AsyncIterator[Environment]:
        environment = hosts.relay_environment(settings, ministack_endpoint, **changed)
        async with request.param(RELAY, tmp_path / "host.log", **environment) as running:
            yield running

    return started


def chat(caller: Caller, model: str, **more: Any) -> dict[str, Any]:
    return post(CHAT, caller.key, {"model": model, "messages": MESSAGES, "stream": True, "max_tokens": 50, **more})


async def charged(house: House, caller: Caller) -> Entry:
    """The entry that ended the caller's last request, with the proof of the whole wallet."""
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (await house.wallet(caller)).held == 0
    return entry


def words(invocation: Invocation) -> str:
    events = [event.removeprefix("data: ") for event in invocation.body.decode().split("\n\n")]
    chunks = [json.loads(event) for event in events if event.startswith("{")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


async def test_a_stream_arrives_piece_by_piece(house: House, start: Start) -> None:
    caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
    async with start() as environment:
        stream = environment.api.invoke(chat(caller, model))
        first = await stream.has(b"two")
        assert not stream.ended.is_set()
        assert b"three" not in stream.body
        assert (stream.status, stream.prelude["headers"]["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.prelude["headers"]["x-request-id"].startswith("req_")
        assert (await house.wallet(caller)).held > 0
        released = time.time()
        house.up.release()
        await stream.whole()
        assert first < released < stream.pieces[-1][0]
        assert stream.body.endswith(b"data: [DONE]\n\n")
        assert (words(stream), stream.trailers, stream.is_cut) == ("one two three four", {}, False)
    entry = await charged(house, caller)
    assert (entry.receipt.end_reason, entry.delta) == ("done", -(30 * 1_000 + 4 * 10_000))  # type: ignore[union-attr]


async def test_every_error_has_its_status_in_the_prelude_and_a_body(house: House, start: Start) -> None:
    caller, poor, model = await house.caller(), await house.caller(nano=0), await house.model("ok")
    broken = await house.model("status=500")
    asked = {"model": model, "messages": MESSAGES}
    cases = [
        (post(CHAT, "sk-nobody", asked), 401, "invalid_api_key"),
        (request("GET", "/v1/models"), 401, "missing_api_key"),
        (post(CHAT, caller.key, {**asked, "model": "nothing"}), 404, "model_not_found"),
        (post("/v1/nowhere", caller.key, asked), 404, "not_found"),
        (request("DELETE", CHAT), 405, "not_found"),
        (post(CHAT, caller.key, [1]), 400, None),
        (post(CHAT, poor.key, asked), 402, "insufficient_quota"),
        # In the provider's own words, since they are in the client's format.
        (post(CHAT, caller.key, {**asked, "model": broken}), 500, None),
        (post(CHAT, caller.key, {**asked, "model": broken, "stream": True}), 500, None),
    ]
    async with start() as environment:
        for event, status, code in cases:
            answer = await environment.api.invoke(event).whole()
            error = json.loads(answer.body)["error"]
            assert (answer.status, error["code"]) == (status, code or error["code"]), event["path"]
            assert answer.prelude["headers"]["content-type"] == "application/json"
        shallow = await environment.api.invoke(request("GET", "/health")).whole()
        assert json.loads(shallow.body) == {"status": "ok"}
        health = await environment.api.invoke(request("GET", "/health?deep=1")).whole()
        assert json.loads(health.body)["components"]["dynamodb"] == "ok"


async def test_sound_goes_out_and_comes_in_as_bytes(house: House, start: Start, playback: Playback) -> None:
    caller, model, spoken = await house.caller(), await house.model("ok"), await house.model()
    sound = bytes(range(256)) * 2000
    tape = playback.tape("sound", Recording(sound, content_type="audio/mpeg", piece=70_001))
    await house.channel(spoken, endpoint=f"{tape.url}/v1")
    form = b'--e\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode() + b"\r\n--e\r\n"
    form += b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    form += wav(3) + b"\r\n--e--\r\n"
    headers = [("authorization", f"Bearer {caller.key}"), ("content-type", "multipart/form-data; boundary=e")]
    async with start() as environment:
        speech = post("/v1/audio/speech", caller.key, {"model": spoken, "input": "hello", "voice": "alloy"})
        answer = await environment.api.invoke(speech).whole()
        assert (answer.status, answer.prelude["headers"]["content-type"]) == (200, "audio/mpeg")
        assert answer.body == sound
        event = request("POST", "/v1/audio/transcriptions", headers, form, base64d=True)
        heard = await environment.api.invoke(event).whole()
        assert heard.status == 200, heard.body
    assert house.up.calls[-1].body == {"model": model, "file.filename": "a.wav", "file.size": str(len(wav(3)))}


async def test_the_answer_is_settled_and_closed_before_the_deadline(house: House, start: Start) -> None:
    caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
    async with start() as environment:
        stream = await environment.api.invoke(chat(caller, model), seconds=5.0).whole()
        assert stream.pieces[-1][0] < stream.deadline
        assert not stream.is_cut
        last = json.loads(stream.body.split(b"\n\n")[-2].removeprefix(b"data: "))
        assert last["error"]["code"] == "deadline_exceeded"
        whole = await environment.api.invoke(chat(caller, model, stream=False), seconds=5.0).whole()
        assert (whole.status, json.loads(whole.body)["error"]["code"]) == (504, "deadline_exceeded")
    await house.proof(caller)
    entries = [entry for entry in await house.entries(caller) if entry.receipt]
    assert [entry.receipt.end_reason for entry in entries if entry.receipt] == ["deadline", "deadline"]
    assert [entry.kind for entry in entries] == ["settle", "release"]


async def test_at_sigterm_what_is_under_way_comes_to_its_end(house: House, start: Start) -> None:
    caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
    async with start() as environment:
        stream = environment.api.invoke(chat(caller, model))
        await stream.has(b"two")
        environment.app.terminate()
        house.up.release()
        await stream.whole()
        assert stream.body.endswith(b"data: [DONE]\n\n")
        assert await environment.app_ended() in (0, -15)
    assert (await charged(house, caller)).receipt.end_reason == "done"  # type: ignore[union-attr]


async def test_at_sigterm_an_idle_environment_ends(house: House, start: Start) -> None:
    """How soon, `make bench-host` says: Lambda waits for 2 s where there is an extension, and the adapter is one."""
    async with start() as environment:
        await environment.api.invoke(request("GET", "/health")).whole()
        environment.app.terminate()
        assert await environment.app_ended(5) in (0, -15)


async def test_an_environment_killed_in_mid_stream_is_swept(
    house: House, start: Start, settings: Settings, tables: Tables
) -> None:
    caller, model = await house.caller(nano=10**9), await house.model(f"stall=2,{TEXT}")
    async with start() as environment:
        stream = environment.api.invoke(chat(caller, model))
        await stream.has(b"two")
        environment.kill()
        await stream.whole()
        assert stream.is_cut
    left = await house.wallet(caller)
    assert (left.balance, left.held > 0) == (10**9, True)
    assert (await swept(tables, time.time() + settings.hold_seconds + 1)).holds == 1
    wallet = await house.wallet(caller)
    assert (wallet.balance, wallet.available, wallet.held) == (10**9, 10**9, 0)
    assert (await house.proof(caller)).balance == 10**9


# --- AWS's own emulator ---


async def test_the_emulator_takes_it_all(
    house: House, settings: Settings, ministack_endpoint: str, tmp_path: Path
) -> None:
    caller, model = await house.caller(), await house.model(TEXT)
    stalled = await house.model(f"stall=2,{TEXT}")
    environment = hosts.lambda_environment(
        RELAY, hosts.free_port(), **hosts.relay_environment(settings, ministack_endpoint)
    )
    command = hosts.adapter_and_app(tmp_path)
    with hosts.emulated(command, tmp_path / "host.log", environment, timeout=6) as emulator:
        prelude, body = await emulator.answer(chat(caller, model))
        assert (prelude["statusCode"], body.endswith(b"data: [DONE]\n\n")) == (200, True)
        prelude, body = await emulator.answer(post(CHAT, "sk-nobody", {}))
        assert (prelude["statusCode"], json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
        prelude, body = await emulator.answer(chat(caller, stalled))
        assert (prelude["statusCode"], b"deadline_exceeded" in body) == (200, True)
    await house.proof(caller)
    ended = [entry.receipt.end_reason for entry in await house.entries(caller) if entry.receipt]
    assert ended == ["done", "deadline"]


async def test_the_adapter_serves_many_streams_at_a_time(house: House, start: Start) -> None:
    """On Managed Instances an environment has many invocations under way."""
    caller, model = await house.caller(10**12), await house.model(f"stall=2,{TEXT}")
    async with start(AWS_LAMBDA_MAX_CONCURRENCY="8") as environment:
        streams = [environment.api.invoke(chat(caller, model)) for _ in range(8)]
        await asyncio.gather(*(stream.has(b"two") for stream in streams))
        house.up.release()
        await asyncio.gather(*(stream.whole() for stream in streams))
        assert {words(stream) for stream in streams} == {"one two three four"}
    await house.proof(caller)
