"""Level 2: what environments share through Valkey. Valkey down means going on without it, never an error.

Marks: a channel, or one model of it, that must not be asked for a while (its key is refused, its quota is gone, it said
Retry-After). They live in the process and in one Valkey hash, read every few seconds off the way of a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sluice.types import Channel, Mark

log = logging.getLogger(__name__)

_MARKS = "sluice:marks"
_LONGEST_MARK_SECONDS = 3600

Clock = Callable[[], float]


def mark_names(channel: Channel, model: str) -> tuple[str, str]:
    """The names a channel is marked by: whole, and for one model. A channel that was changed has other names."""
    whole = f"{channel.id}:{channel.revision}"
    return whole, f"{whole}:{model}"


class Marks:
    """Channels to leave out for now.

    `connect` gives a `valkey.asyncio` client or None; it is called on first use, since importing the client costs more than the
    rest of this room.
    """

    def __init__(self, connect: Callable[[], Any], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._client: Any = None
        self._connected = False
        self._failures: tuple[type[BaseException], ...] = (OSError,)
        self._marks: dict[str, Mark] = {}

    def active(self, name: str) -> bool:
        mark = self._marks.get(name)
        return mark is not None and mark.until > self._clock()

    def of(self, channel: Channel) -> tuple[Mark, ...]:
        """The marks of a channel as far as they are known here, the whole channel's first."""
        whole, beginning = mark_names(channel, "")
        names = (name for name in self._marks if name == whole or name.startswith(beginning))
        return tuple(
            replace(self._marks[name], model=name[len(beginning) :]) for name in sorted(names) if self.active(name)
        )

    async def mark(self, name: str, seconds: float, kind: str) -> None:
        """Leaves `name` out for `seconds` because of `kind`: here at once, elsewhere at their next refresh."""
        until = self._clock() + min(seconds, _LONGEST_MARK_SECONDS)
        if name not in self._marks or self._marks[name].until < until:
            self._marks[name] = Mark(kind, until)
        if client := self._valkey():
            try:
                async with client.pipeline(transaction=False) as pipe:
                    pipe.hset(_MARKS, name, f"{self._marks[name].until} {self._marks[name].kind}")
                    pipe.expire(_MARKS, _LONGEST_MARK_SECONDS)
                    await pipe.execute()
            except self._failures as error:
                log.warning("marks: valkey does not answer (%s); the mark stays in this process", type(error).__name__)

    async def refresh(self) -> bool:
        """Reads the others' marks. False where there is no Valkey or it does not answer."""
        if not (client := self._valkey()):
            return False
        try:
            found = await client.hgetall(_MARKS)
        except self._failures as error:
            log.warning("marks: valkey does not answer (%s)", type(error).__name__)
            return False
        self._marks |= {name.decode(): _read(value.decode()) for name, value in found.items()}
        self._marks = {name: mark for name, mark in self._marks.items() if self.active(name)}
        return True

    async def run(self, seconds: float) -> None:
        """Refreshes every `seconds` until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(seconds)

    async def ping(self) -> str:
        """For /health: "ok", "off" where none is configured, or "down"."""
        if not (client := self._valkey()):
            return "off"
        try:
            await client.ping()
        except self._failures:
            return "down"
        return "ok"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _valkey(self) -> Any:
        if not self._connected:
            self._client, self._connected = self._connect(), True
            if self._client is not None:
                from valkey.exceptions import ValkeyError

                self._failures = (OSError, ValkeyError)
        return self._client


def _read(value: str) -> Mark:
    until, _, kind = value.partition(" ")
    return Mark(kind, float(until))
