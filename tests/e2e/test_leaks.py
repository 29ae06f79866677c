"""Fifty streams that end in every way there is leave nothing behind: no task, no exchange, no hold, no call under way."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from infra.local import vitals
from sluice.pipeline.exchange import Exchange
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.test_faults import leave_after

TIMES = 10
ENDINGS = {
    "read to the end": "chunks=4,prompt=30,completion=4",
    "left by its client": "pace=0.3,chunks=4,prompt=30,completion=4",
    "cut in the middle": "cut=2,chunks=4,prompt=30,completion=4",
    "refused": "status=500",
    "left before it began": "slowheaders=2,chunks=4,prompt=30,completion=4",
}


@dataclass(frozen=True)
class Left:
    """What there is of each kind of thing that one request makes."""

    tasks: int
    exchanges: int


def left() -> Left:
    gc.collect()
    exchanges = sum(issubclass(type(one), Exchange) for one in gc.get_objects())
    return Left(len(asyncio.all_tasks()), exchanges)


async def read(caller: Caller, model: str) -> None:
    """A stream read to whatever end it has, over a connection of its own."""
    body = {"model": model, "messages": MESSAGES, "stream": True}
    async with httpx.AsyncClient(base_url=caller.http.base_url, headers=caller.http.headers, timeout=30) as http:
        await http.post("/v1/chat/completions", json=body)


async def give_up(caller: Caller, model: str) -> None:
    """A client that has lost its patience before anything came."""
    with pytest.raises(httpx.ReadTimeout):
        async with httpx.AsyncClient(base_url=caller.http.base_url, headers=caller.http.headers) as http:
            body = {"model": model, "messages": MESSAGES, "stream": True}
            await http.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(30, read=0.2))


async def all_endings(house: House, caller: Caller, models: dict[str, str], times: int) -> None:
    asked = {
        "read to the end": read,
        "cut in the middle": read,
        "refused": read,
        "left by its client": lambda caller, model: leave_after(caller, model, 1),
        "left before it began": give_up,
    }
    before = len(house.up.calls)
    await asyncio.gather(*(ask(caller, models[name]) for name, ask in asked.items() for _ in range(times)))
    assert len(house.up.calls) == before + times * len(ENDINGS)


async def test_fifty_streams_leave_nothing_behind(house: House) -> None:
    models = {name: await house.model(script) for name, script in ENDINGS.items()}
    caller = await house.caller()
    # Pools and what is made on first use are no leak: one of each first.
    await all_endings(house, caller, models, 1)
    await house.settled()
    before = await until_it_is(Left(len(asyncio.all_tasks()), 0))
    await all_endings(house, caller, models, TIMES)
    await house.settled()
    assert await until_it_is(before) == before
    assert not house.relay.deps.running
    assert all(call.ended.is_set() for call in house.up.calls)
    proof = await house.proof(caller)
    assert proof.held == 0
    ends = Counter(entry.receipt.end_reason for entry in await house.entries(caller) if entry.receipt)
    each = TIMES + 1
    assert (ends["upstream_cut"], ends["failed"]) == (each, each), ends
    # A client that leaves is noticed once its answer has begun, which may be its end.
    assert each <= ends["done"] + ends["client_gone"] == 3 * each


async def until_it_is(expected: Left) -> Left:
    """What is left once that is no more than expected, or after five seconds: a server's last steps take a few turns."""
    async with asyncio.timeout(60):
        for _ in range(100):
            now = left()
            if now.tasks <= expected.tasks and now.exchanges <= expected.exchanges:
                return now
            await asyncio.sleep(0.05)
    return now


async def test_a_stream_under_way_is_seen(house: House) -> None:
    """The test above could not fail if nothing were ever there to be counted."""
    caller, model = await house.caller(), await house.model("stall=1,chunks=4")
    idle = left()
    asking = asyncio.create_task(read(caller, model))
    async with asyncio.timeout(10):
        while not house.relay.deps.running:
            await asyncio.sleep(0.01)
    assert left().exchanges == idle.exchanges + 1
    assert left().tasks > idle.tasks + 1
    house.up.release()
    await asking


async def test_vitals_say_what_the_process_holds() -> None:
    running = [object(), object()]
    app: Starlette = vitals.create_app(lambda: running)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        first = (await http.get(vitals.PATH)).raise_for_status().json()
        with Path(os.devnull).open():
            running.pop()
            second = (await http.get(vitals.PATH)).json()
    assert (first["readers"], second["readers"]) == (2, 1)
    assert second["files"] == first["files"] + 1
    assert first["tasks"] >= 1
    assert first["threads"] >= 1
    assert 10**7 < first["resident"] < 10**10
    assert 0 < first["processor_seconds"] <= second["processor_seconds"]
