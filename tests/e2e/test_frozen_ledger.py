"""A database that hangs: every answer is a clear 503 and comes soon, and what was set aside unheard is given back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.local.ministack import MiniStack
from sluice import ledger
from tests.e2e.conftest import MESSAGES, House


@contextmanager
def stopped(running: MiniStack) -> Iterator[None]:
    """Nobody reads and nobody refuses: the process stands still with all its connections open."""
    os.killpg(running.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(running.process.pid, signal.SIGCONT)


async def test_a_database_that_hangs_is_said_within_seconds_and_leaves_nothing_held(
    house: House, running_ministack: MiniStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOOK_AGAIN_AFTER", 1.0)
    house.relay.health_fresh_seconds = 0.0
    caller = await house.caller()
    body = {"model": await house.model("ok"), "messages": MESSAGES}
    assert (await caller.http.post("/v1/chat/completions", json=body)).status_code == 200
    await house.settled()
    before = await house.wallet(caller)

    with stopped(running_ministack):
        began = time.monotonic()
        health = asyncio.create_task(caller.http.get("/health?deep=1"))
        chats = [asyncio.create_task(caller.http.post("/v1/chat/completions", json=body)) for _ in range(3)]
        assert (await caller.http.get("/health")).json() == {"status": "ok"}
        answer = await health
        assert time.monotonic() - began < 3
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        assert answer.json()["components"]["dynamodb"] == "down"
        for chat in chats:
            refused = await chat
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
        assert time.monotonic() - began < 7

    deadline = time.monotonic() + 20
    while house.relay.deps.ledger._unsure and time.monotonic() < deadline:  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
    after = await house.wallet(caller)
    assert (after.balance, after.available, after.holds) == (before.balance, before.available, {})
    assert (await caller.http.get("/health?deep=1")).json()["status"] == "ok"
    assert (await caller.http.post("/v1/chat/completions", json=body)).status_code == 200
    await house.proof(caller)
