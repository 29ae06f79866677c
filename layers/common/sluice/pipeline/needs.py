"""What the story needs of others: ports by name and shape, since rooms of one level do not know each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from sluice.passes import Passes
from sluice.settings import Settings
from sluice.types import Catalog, Hold, Identity, KeptAnswer, Nano, Receipt
from sluice.upstream import Upstream


class Callers(Protocol):
    async def identify(self, token: str | None) -> Identity: ...


class Routes(Protocol):
    async def current(self) -> Catalog: ...


class Purse(Protocol):
    async def hold(self, wallet_id: str, request_id: str, amount: Nano) -> Hold: ...
    async def extend(self, hold: Hold, amount: Nano) -> Hold: ...
    async def settle(self, hold: Hold, cost: Nano, receipt: Receipt) -> Nano: ...
    async def release(self, hold: Hold, receipt: Receipt | None = None) -> None: ...


class Marked(Protocol):
    def active(self, name: str) -> bool: ...
    async def mark(self, name: str, seconds: float, kind: str) -> None: ...


class Memory(Protocol):
    async def recall(self, user_id: str, answer_id: str) -> KeptAnswer: ...
    async def keep(self, user_id: str, answer: KeptAnswer) -> bool: ...
    async def forget(self, user_id: str, answer_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything a chat request is carried by. Made once per environment by `wiring`."""

    callers: Callers
    catalog: Routes
    ledger: Purse
    upstream: Upstream
    marks: Marked
    memory: Memory
    settings: Settings
    rng: random.Random
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    passes: Passes = field(default_factory=Passes)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    """Readers under way. A server that stops waits for them."""


@dataclass(slots=True)
class Reply:
    """What goes back: a body, or a stream of bytes whose `leave` tells that the client is gone."""

    headers: dict[str, str]
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    leave: Callable[[], None] = lambda: None
