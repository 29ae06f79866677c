"""Level 2: what environments share through Valkey. Valkey down means going on without it, never an error.

Marks: a channel that must not be asked for a while (its key is refused, its quota is gone, it said Retry-After). They live in the
process and in one Valkey hash, read every few seconds off the way of a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_MARKS = "sluice:marks"
_LONGEST_MARK_SECONDS = 3600

Clock = Callable[[], float]


class Marks:
    """Channels to leave out for now. A mark's name is the caller's: a channel, or a channel and a model.

    `connect` gives a `valkey.asyncio` client or None; it is called on first use, since importing the client costs more than the
    rest of this room.
    """

    def __init__(self, connect: Callable[[], Any], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._client: Any = None
        self._connected = False
        self._failures: tuple[type[BaseException], ...] = (OSError,)
        self._until: dict[str, float] = {}

    def active(self, name: str) -> bool:
        return self._until.get(name, 0.0) > self._clock()

    async def mark(self, name: str, seconds: float) -> None:
        """Leaves `name` out for `seconds` here at once, elsewhere at their next refresh."""
        until = self._clock() + min(seconds, _LONGEST_MARK_SECONDS)
        self._until[name] = max(until, self._until.get(name, 0.0))
        if client := self._valkey():
            try:
                async with client.pipeline(transaction=False) as pipe:
                    pipe.hset(_MARKS, name, str(self._until[name]))
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
        now = self._clock()
        self._until = {name: until for name, until in self._until.items() if until > now}
        for name, until in found.items():
            if float(until) > now:
                self._until[name.decode()] = float(until)
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
