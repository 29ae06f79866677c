"""A host that ends a request at a time it tells: the answer is settled and closed before, in the client's own format."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from sluice.settings import Settings
from sluice.types import Entry
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording
from tests.e2e.test_faults import counted_cost

HEADER = "x-host-context"
TEXT = "text=one%20two%20three%20four,chunks=4,prompt=30,completion=4"
SECONDS = 0.4


def due(seconds: float = SECONDS) -> dict[str, str]:
    """What the host tells with a request that it ends in so many seconds."""
    return {HEADER: json.dumps({"request_id": "8f", "deadline": int((time.time() + seconds) * 1000)})}


async def asked(caller: Caller, model: str, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES, "stream": True, **more}
    return await caller.http.post(path, json=body, headers=due())


async def ended(house: House, caller: Caller) -> tuple[Entry, str]:
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    return entry, entry.receipt.end_reason


class TestBehindAHostWithDeadlines:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, deadline_header=HEADER, deadline_margin_seconds=0.0)

    async def test_a_stream_ends_with_an_error_event_and_is_charged_as_far_as_it_came(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
        response = await asked(caller, model)
        events = response.text.split("\n\n")
        assert response.status_code == 200
        assert [json.loads(event.removeprefix("data: "))["error"]["code"] for event in events[-2:-1]] == [
            "deadline_exceeded"
        ]
        entry, reason = await ended(house, caller)
        assert reason == "deadline"
        assert entry.receipt is not None
        assert entry.receipt.usage.source == "counted"
        assert entry.delta == -await counted_cost(model, "one two ")
        assert house.up.calls[0].hung_up

    async def test_a_messages_client_gets_its_own_error_event(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
        response = await asked(caller, model, "/v1/messages", max_tokens=50)
        assert response.text.rstrip().split("\n\n")[-1].startswith("event: error\ndata: ")
        assert (await ended(house, caller))[1] == "deadline"

    @pytest.mark.parametrize("stream", [True, False])
    async def test_nothing_came_nothing_is_charged(self, house: House, stream: bool) -> None:
        caller, model = await house.caller(), await house.model("hang", "hang")
        response = await asked(caller, model, stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-sluice-attempts"].endswith("=timeout")
        entry, reason = await ended(house, caller)
        assert (entry.kind, entry.delta, reason) == ("release", 0, "deadline")
        assert (await house.wallet(caller)).held == 0

    async def test_half_of_a_whole_answer_is_nothing(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"stall=1,{TEXT}")
        response = await asked(caller, model, stream=False)
        assert response.status_code == 504
        assert (await ended(house, caller))[0].delta == 0

    async def test_no_further_attempt_is_counted_while_the_gateway_only_waits(self, house: House) -> None:
        caller, model = await house.caller(), await house.model()
        await house.channel(model, "status=503,retry-after=9", priority=-1, retry=1)
        response = await asked(caller, model, stream=False)
        assert response.status_code == 504
        assert response.headers["x-sluice-attempts"].count("=") == 1

    async def test_an_answer_in_time_is_as_without(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(TEXT)
        headers = due(60)
        body = {"model": model, "messages": MESSAGES, "stream": True}
        response = await caller.http.post("/v1/chat/completions", json=body, headers=headers)
        assert response.text.endswith("data: [DONE]\n\n")
        assert (await ended(house, caller))[1] == "done"

    async def test_who_left_is_not_read_for_longer_than_the_host_lives(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"stall=2,{TEXT}")
        body = {"model": model, "messages": MESSAGES, "stream": True}
        async with (
            httpx.AsyncClient(base_url=house.url, headers=caller.http.headers) as http,
            http.stream("POST", "/v1/chat/completions", json=body, headers=due()) as response,
        ):
            async for line in response.aiter_lines():
                if '"content":"' in line:
                    break
        async with asyncio.timeout(house.relay.deps.settings.drain_seconds / 4):
            assert (await ended(house, caller))[1] == "client_gone"

    async def test_sound_breaks_off_and_is_charged_as_at_its_first_byte(self, house: House, playback: Playback) -> None:
        caller, model = (
            await house.caller(),
            await house.model(given_input="0", rates={"per_million_characters": Decimal(15)}),
        )
        tape = playback.tape("sound", Recording(bytes(4_000), content_type="audio/mpeg", piece=1_000, stall=2_000))
        await house.channel(model, endpoint=f"{tape.url}/v1")
        body = {"model": model, "input": "hello", "voice": "alloy"}
        with pytest.raises(httpx.RemoteProtocolError):
            await caller.http.post("/v1/audio/speech", json=body, headers=due())
        entry, reason = await ended(house, caller)
        assert (entry.delta, reason) == (-5 * 15_000, "deadline")

    @pytest.mark.parametrize(
        "told", ["", "x", "[]", "{}", '{"deadline":"soon"}', '{"deadline":null}', '{"deadline":0}']
    )
    async def test_a_host_that_tells_no_time_sets_none(self, house: House, told: str) -> None:
        caller, model = await house.caller(), await house.model(TEXT)
        body = {"model": model, "messages": MESSAGES}
        answer = await caller.http.post("/v1/chat/completions", json=body, headers={HEADER: told})
        assert answer.status_code == 200


async def test_without_such_a_host_no_client_sets_a_deadline(house: House) -> None:
    caller, model = await house.caller(), await house.model(f"pace=0.1,{TEXT}")
    names = (HEADER, "x-amzn-lambda-context")
    headers = dict.fromkeys(names, '{"deadline":1}')
    answer = await caller.http.post(
        "/v1/chat/completions", json={"model": model, "messages": MESSAGES}, headers=headers
    )
    assert answer.status_code == 200
    assert (await ended(house, caller))[1] == "done"
