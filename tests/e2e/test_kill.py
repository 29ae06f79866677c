"""A relay killed in mid-stream: a process of its own, `kill -9`, a sweep by a clock that is passed in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from sluice.errors import Conflict
from sluice.jobs import Jobs, Swept
from sluice.settings import Settings
from sluice.stores.entries import Entries
from sluice.stores.wallets import Wallets
from sluice.types import Receipt, Usage
from tests.canary import CANARY
from tests.contract.conftest import Tables
from tests.e2e.conftest import MESSAGES, House

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def relay_process(settings: Settings, endpoint: str) -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    """The relay as it is started on Lambda, by its own web server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {f"SLUICE_{field.name.upper()}": str(getattr(settings, field.name)) for field in fields(settings)}
    paths = [ROOT / "layers" / "common", ROOT / "functions" / "relay"]
    command = [sys.executable, "-m", "uvicorn", "--factory", "relay_lambda:create_app", "--port", str(port)]
    with tempfile.NamedTemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "--log-level", "warning"],
            env={
                **os.environ,
                **environment,
                "AWS_ENDPOINT_URL": endpoint,
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
            },
            stdout=said,
            stderr=said,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            await _answers(url, process)
            yield url, process
        finally:
            process.kill()
            process.wait()
            CANARY.hear_file(Path(said.name))


async def _answers(url: str, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient() as http:
        while True:
            assert process.poll() is None, "the relay ended at its start"
            try:
                if (await http.get(f"{url}/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def test_killed_in_mid_stream_nothing_stays_held_and_nothing_is_lost(
    house: House, settings: Settings, tables: Tables, ministack_endpoint: str
) -> None:
    caller, model = await house.caller(nano=10**9), await house.model("stall=2,chunks=9,prompt=30,completion=9")
    body = {"model": model, "messages": MESSAGES, "stream": True, "max_tokens": 50}
    headers = {"authorization": f"Bearer {caller.key}"}
    async with relay_process(settings, ministack_endpoint) as (url, process), httpx.AsyncClient() as http:
        with pytest.raises(httpx.TransportError):
            await killed_in_mid_stream(
                process, http.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers)
            )
    left = await house.wallet(caller)
    assert left.balance == 10**9
    assert left.held > 0
    house.up.release()

    async with relay_process(settings, ministack_endpoint) as (url, _), httpx.AsyncClient() as http:
        whole = await http.post(f"{url}/v1/chat/completions", json={**body, "stream": False}, headers=headers)
        assert whole.status_code == 200
    assert (await swept(tables, time.time())).holds == 0
    assert (await swept(tables, time.time() + settings.hold_seconds + 1)).holds == 1
    wallet = await house.wallet(caller)
    assert (wallet.held, wallet.available) == (0, wallet.balance)
    assert wallet.balance == 10**9 - (30 * 1_000 + 9 * 10_000)
    proof = await house.proof(caller)
    assert proof.balance == wallet.balance


async def killed_in_mid_stream(
    process: subprocess.Popen[bytes], stream: AbstractAsyncContextManager[httpx.Response]
) -> None:
    async with stream as response:
        async for line in response.aiter_lines():
            if '"content":"word' in line and process.poll() is None:
                process.send_signal(signal.SIGKILL)


async def swept(tables: Tables, now: float) -> Swept:
    return await Jobs(Wallets(tables.client, tables.ledger), Entries(tables.client, tables.ledger), lambda: now).sweep()


async def test_a_retried_settle_and_a_replayed_hold_change_nothing(house: House) -> None:
    caller = await house.caller(nano=1_000)
    ledger = house.relay.deps.ledger
    receipt = Receipt("m", "c", "k", Usage(1, 1), "done", "v")
    hold = await ledger.hold(caller.user.id, "req_1", 600)
    assert await ledger.hold(caller.user.id, "req_1", 600) == hold
    assert (await house.wallet(caller)).available == 400
    assert [await ledger.settle(hold, 250, receipt) for _ in range(3)] == [250, 250, 250]
    with pytest.raises(Conflict):
        await ledger.hold(caller.user.id, "req_1", 600)
    wallet = await house.wallet(caller)
    assert (wallet.balance, wallet.available, wallet.held) == (750, 750, 0)
    assert (await house.proof(caller)).balance == 750
