"""Tokens bought with a channel's secret: once, for as long as they are good, and again when they are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.passes import Passes, SellsPasses
from sluice.types import Channel, Secret, UpstreamRequest

CHANNEL = Channel("c", "shop", "c", ("m",), secret=Secret("key:secret"))


class Shop:
    """A provider whose tokens are numbered and good for an hour."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.sold = 0

    def exchange(self, channel: Channel) -> UpstreamRequest:
        return UpstreamRequest(f"https://shop.test/?with={channel.secret.reveal()}", {}, b"")

    def exchanged(self, status: int, body: bytes) -> tuple[str, float]:
        if status != 200:
            raise ProviderError("auth", "no", status=status)
        return body.decode(), 3600.0

    @asynccontextmanager
    async def send(self, request: UpstreamRequest) -> AsyncIterator[Shop]:
        assert request.url == "https://shop.test/?with=key:secret"
        self.sold += 1
        yield self

    async def error_body(self) -> bytes:
        return b"token-%d" % self.sold


async def token(passes: Passes, shop: Shop, now: float, channel: Channel = CHANNEL) -> str:
    return (await passes.admitted(shop, channel, shop.send, now)).secret.reveal()


async def test_a_token_is_kept_until_shortly_before_it_runs_out() -> None:
    passes, shop = Passes(), Shop()
    assert [await token(passes, shop, now) for now in (0, 1000, 3299, 3300)] == ["token-1"] * 3 + ["token-2"]


async def test_a_refused_token_is_forgotten_once() -> None:
    passes, shop = Passes(), Shop()
    assert not passes.refused(CHANNEL)
    await token(passes, shop, 0)
    assert passes.refused(CHANNEL)
    assert not passes.refused(CHANNEL)
    assert await token(passes, shop, 1) == "token-2"


async def test_another_endpoint_has_a_token_of_its_own() -> None:
    passes, shop = Passes(), Shop()
    await token(passes, shop, 0)
    assert await token(passes, shop, 0, replace(CHANNEL, endpoint="https://other.test")) == "token-2"
    assert await token(passes, shop, 0) == "token-1"


async def test_a_secret_that_buys_nothing_is_told_and_nothing_is_kept() -> None:
    passes, shop = Passes(), Shop(401)
    with pytest.raises(ProviderError):
        await token(passes, shop, 0)
    assert not passes.refused(CHANNEL)


async def test_any_other_provider_gets_the_channel_as_it_is() -> None:
    shop = Shop()
    for name in ("openai", "bedrock"):
        assert await Passes().admitted(adapters.load(name), CHANNEL, shop.send, 0) is CHANNEL
    assert shop.sold == 0
    assert isinstance(adapters.load("baidu_v1"), SellsPasses)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(401, b'{"error":"invalid_client"}', "auth"), (503, b"", "overloaded"), (200, b"{}", "server")],
)
def test_what_buying_meets_has_its_kind(status: int, body: bytes, kind: str) -> None:
    shop = adapters.load("baidu_v1")
    assert isinstance(shop, SellsPasses)
    with pytest.raises(ProviderError) as met:
        shop.exchanged(status, body)
    assert met.value.kind == kind
