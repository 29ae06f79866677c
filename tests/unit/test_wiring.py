"""What an environment builds once."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import pytest

from sluice import wiring
from sluice.settings import AwsEnvironment, Settings
from sluice.types import Secret


def test_the_trust_store_is_loaded_once_for_aws_and_for_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        loaded.append(load())
        return loaded[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    clients = wiring.Clients(Settings(), AwsEnvironment("eu-west-1", "AKIA", Secret("s")))
    relay = wiring.build_relay(Settings(), clients)
    assert clients.kms() is not clients.dynamodb
    for proxy in ("", "http://127.0.0.1:1"):
        assert relay.deps.upstream._pool(proxy)._ssl_context is loaded[0]
    assert len(loaded) == 1
    assert clients.trust().verify_mode is ssl.CERT_REQUIRED
    clients.close()


def test_where_the_system_has_no_trust_store_certifi_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert wiring.Clients(Settings(), AwsEnvironment("eu-west-1")).trust().cert_store_stats()["x509_ca"] > 50


class Deaf:
    """A background loop that loses one cancellation, as `wait_for` of Python 3.11 can."""

    async def run(self, *_: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_background_loop_that_does_not_hear_keeps_nobody_from_stopping() -> None:
    clients = wiring.Clients(
        Settings(), AwsEnvironment("eu-west-1", "AKIA", Secret("s"), endpoint="http://127.0.0.1:1")
    )
    deps = wiring.build_relay(Settings(), clients).deps
    relay = wiring.Relay(deps, cast(Any, Deaf()), cast(Any, Deaf()))
    settled = asyncio.Event()

    async def under_way() -> None:
        await asyncio.sleep(0)
        settled.set()

    await relay.start()
    deps.running.add(asyncio.create_task(under_way()))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await relay.stop()
    assert settled.is_set()
    left = [loop for loop in relay._loops if not loop.done()]
    assert len(left) == 2
    for loop in left:
        loop.cancel()
    await asyncio.gather(*left, return_exceptions=True)
