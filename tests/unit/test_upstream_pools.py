"""Connections to providers: few requests share one pool, many never make a large one, and a crowd leaves none behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.local.scripted_upstream import ScriptedUpstream
from sluice.errors import ProviderError
from sluice.types import UpstreamRequest
from sluice.upstream import LANE, Upstream

BODY = b'{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as up:
        yield up


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(5, 5)
    yield upstream
    await upstream.close()


async def ask(upstream: Upstream, up: ScriptedUpstream, script: str = "chunks=3") -> bytes:
    headers = {"content-type": "application/json"}
    request = UpstreamRequest(f"{up.url}/{script}/v1/chat/completions", headers, BODY)
    async with upstream.open(request) as response:
        return await response.body()


def pools(upstream: Upstream) -> list[int]:
    """How many connections each pool has."""
    return [len(lane.pool.connections) for lanes in upstream._lanes.values() for lane in lanes]


async def all_asked(up: ScriptedUpstream, number: int) -> None:
    async with asyncio.timeout(10):
        while len(up.calls) < number:
            await asyncio.sleep(0.005)


async def test_one_after_the_other_they_share_one_connection(upstream: Upstream, up: ScriptedUpstream) -> None:
    for _ in range(20):
        assert (await ask(upstream, up)).endswith(b"data: [DONE]\n\n")
    assert pools(upstream) == [1]
    assert len(up._connections) == 1


async def test_a_crowd_makes_no_large_pool_and_leaves_one(upstream: Upstream, up: ScriptedUpstream) -> None:
    crowd = [asyncio.create_task(ask(upstream, up, "stall=1,chunks=3")) for _ in range(3 * LANE + 1)]
    await all_asked(up, len(crowd))
    assert pools(upstream) == [LANE, LANE, LANE, 1]
    up.release()
    assert {answer[-8:] for answer in await asyncio.gather(*crowd)} == {b"[DONE]\n\n"}
    assert pools(upstream) == [LANE]
    await ask(upstream, up)
    assert pools(upstream) == [LANE]


async def test_whoever_hangs_up_makes_room(upstream: Upstream, up: ScriptedUpstream) -> None:
    crowd = [asyncio.create_task(ask(upstream, up, "stall=1,chunks=3")) for _ in range(LANE)]
    await all_asked(up, LANE)
    crowd[0].cancel()
    await asyncio.gather(crowd[0], return_exceptions=True)
    crowd.append(asyncio.create_task(ask(upstream, up, "stall=1,chunks=3")))
    await all_asked(up, LANE + 1)
    assert pools(upstream) == [LANE]
    up.release()
    await asyncio.gather(*crowd[1:])


async def test_beyond_the_most_connections_one_waits_and_is_told(up: ScriptedUpstream) -> None:
    upstream = Upstream(0.05, 5, max_connections=LANE)
    crowd = [asyncio.create_task(ask(upstream, up, "stall=1,chunks=3")) for _ in range(LANE)]
    await all_asked(up, LANE)
    with pytest.raises(ProviderError) as told:
        await ask(upstream, up)
    assert told.value.kind == "timeout"
    up.release()
    await asyncio.gather(*crowd)
    assert await ask(upstream, up)
    await upstream.close()
