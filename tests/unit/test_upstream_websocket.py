"""Upstream over WebSocket: what goes wrong on the way has its kind, and never its address."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from sluice.errors import ProviderError
from sluice.sse import MAX_EVENT_BYTES
from sluice.types import Frame, UpstreamRequest
from sluice.upstream import Upstream


def asking(url: str) -> UpstreamRequest:
    return UpstreamRequest(f"{url}/chat?secret=canary", {"x-own": "1"}, b'{"q":"\xc3\xa9"}', framing="websocket")


async def frames_of(handler: Callable[[ServerConnection], Awaitable[None]], read_timeout: float = 5) -> list[Frame]:
    upstream = Upstream(2, read_timeout)
    async with serve(handler, "127.0.0.1", 0, close_timeout=0.1, max_size=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with upstream.open(asking(url)) as response:
            assert (response.status, response.whole) == (200, False)
            return [frame async for frame in response.frames()]


async def kind_of(handler: Callable[[ServerConnection], Awaitable[None]], read_timeout: float = 5) -> str:
    with pytest.raises(ProviderError) as met:
        await frames_of(handler, read_timeout)
    assert "canary" not in str(met.value)
    return met.value.kind


async def test_the_body_is_the_first_message_and_each_answer_a_frame() -> None:
    heard: list[object] = []

    async def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        heard.extend([await connection.recv(), connection.request.headers["x-own"], connection.request.path])
        await connection.send('{"a":"é"}')
        await connection.send(b'{"b":')
        await connection.send("[" * 70_000)

    assert await frames_of(answer) == [Frame('{"a":"é"}'), Frame('{"b":'), Frame("[" * 70_000)]
    assert heard == ['{"q":"é"}', "1", "/chat?secret=canary"]


async def test_silence_is_a_timeout() -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    assert await kind_of(silent, read_timeout=0.05) == "timeout"


async def test_a_connection_that_breaks_is_the_networks() -> None:
    async def breaking(connection: ServerConnection) -> None:
        await connection.send("{}")
        connection.transport.abort()

    assert await kind_of(breaking) == "network"


async def test_a_message_over_the_cap_is_not_held() -> None:
    async def flooding(connection: ServerConnection) -> None:
        await connection.send("x" * (MAX_EVENT_BYTES + 1))

    assert await kind_of(flooding) == "network"


async def test_nobody_there_is_the_networks() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ProviderError) as met:
        async with Upstream(2, 2).open(asking(url)):
            pass
    assert (met.value.kind, "canary" in str(met.value)) == ("network", False)


async def test_an_address_that_is_none_is_the_networks() -> None:
    with pytest.raises(ProviderError) as met:
        async with Upstream(2, 2).open(asking("https://127.0.0.1")):
            pass
    assert met.value.kind == "network"
