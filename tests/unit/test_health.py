"""Deep health: one look at the components serves all who ask meanwhile and for some seconds after, and has its time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from sluice import wiring
from sluice.errors import Unavailable
from sluice.wiring import Relay


class Parts:
    """A catalog and marks that count how often they are asked, and answer as they are told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1000.0
        self.down = False
        self.hanging = asyncio.Event()
        self.hanging.set()
        self.relay = Relay(SimpleNamespace(clock=lambda: self.now), self, self)  # type: ignore[arg-type]

    async def poll(self) -> Any:
        self.asked += 1
        await self.hanging.wait()
        if self.down:
            raise Unavailable("no answer")

    async def ping(self) -> str:
        await self.hanging.wait()
        return "ok"


async def test_who_asks_soon_is_told_what_was_found() -> None:
    parts = Parts()
    found = [await parts.relay.health() for _ in range(3)]
    assert found == [{"relay": "ok", "dynamodb": "ok", "valkey": "ok"}] * 3
    assert parts.asked == 1
    parts.down = True
    parts.now += wiring._HEALTH_FRESH_SECONDS - 0.1
    assert (await parts.relay.health())["dynamodb"] == "ok"
    parts.now += 0.2
    assert (await parts.relay.health())["dynamodb"] == "down"
    assert parts.asked == 2


async def test_who_asks_meanwhile_waits_for_the_same_look() -> None:
    parts = Parts()
    parts.hanging.clear()
    waiting = [asyncio.create_task(parts.relay.health()) for _ in range(5)]
    await asyncio.sleep(0)
    parts.now += 100
    waiting.append(asyncio.create_task(parts.relay.health()))
    await asyncio.sleep(0)
    waiting[0].cancel()
    parts.hanging.set()
    found = await asyncio.gather(*waiting[1:])
    assert [one["dynamodb"] for one in found] == ["ok"] * 5
    assert parts.asked == 1


async def test_what_does_not_answer_in_time_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_HEALTH_SECONDS", 0.01)
    parts = Parts()
    parts.hanging.clear()
    assert await parts.relay.health() == {"relay": "ok", "dynamodb": "down", "valkey": "down"}
