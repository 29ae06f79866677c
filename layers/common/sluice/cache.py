"""Level 2: what environments share through Valkey. Valkey down means going on without it, never an error.

Marks: a channel, or one model of it, that must not be asked for a while (its key is refused, its quota is gone, it said
Retry-After). They live in the process and in one Valkey hash, whose fields Valkey itself drops at their time. Reading and writing
it is off the way of a request. docs/cache.md.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sluice.types import Channel, Mark

log = logging.getLogger(__name__)

MARKS = "sluice:marks"
"""One key, and so one slot: no command here names two."""
_LONGEST_MARK_SECONDS = 3600
_LONGEST_PAUSE_SECONDS = 30.0
"""How long a Valkey that does not answer is left alone: each try costs it a handshake, from every environment there is."""

Clock = Callable[[], float]


def mark_names(channel: Channel, model: str) -> tuple[str, str]:
    """The names a channel is marked by: whole, and for one model. A channel that was changed has other names."""
    whole = f"{channel.id}:{channel.revision}"
    return whole, f"{whole}:{model}"


class Marks:
    """Channels to leave out for now.

    `connect` gives a `valkey.asyncio` client or None. It is called in a thread, on first use: loading the client takes a while.
    """

    def __init__(self, connect: Callable[[], Any], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._client: Any = None
        self._connected = False
        self._connecting = asyncio.Lock()
        self._failures: tuple[type[BaseException], ...] = (OSError, ValueError)
        self._marks: dict[str, Mark] = {}
        self._untold: dict[str, Mark] = {}
        self._telling: asyncio.Task[None] | None = None
        self._answers = True

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
        """Leaves `name` out for `seconds` because of `kind`: here at once, elsewhere at their next refresh after it was told.

        Waits for nothing: a request is on its way to the next channel.
        """
        until = self._clock() + min(seconds, _LONGEST_MARK_SECONDS)
        self._marks, self._untold = self._alive(self._marks), self._alive(self._untold)
        if name not in self._marks or self._marks[name].until < until:
            self._marks[name] = Mark(kind, until)
        self._untold[name] = self._marks[name]
        if self._answers and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell())

    async def refresh(self) -> bool:
        """Tells the others what they do not know yet, and reads their marks. False where there is no Valkey or it fails."""
        try:
            if not (client := await self._valkey()):
                return False
            await self._write(client)
            found = await client.hgetall(MARKS)
        except self._failures as error:
            self._failed(error)
            return False
        if not self._answers:
            log.info("marks: valkey answers again")
        self._answers = True
        for name, mark in self._read(found).items():
            if name not in self._marks or self._marks[name].until < mark.until:
                self._marks[name] = mark
        self._marks = self._alive(self._marks)
        return True

    async def run(self, seconds: float) -> None:
        """Refreshes every `seconds` until cancelled, and more rarely while Valkey does not answer. Ends where there is none."""
        pause = seconds
        while True:
            pause = seconds if await self.refresh() else max(seconds, min(2 * pause, _LONGEST_PAUSE_SECONDS))
            if self._connected and self._client is None:
                return
            await asyncio.sleep(pause)

    async def ping(self) -> str:
        """For /health: "ok", "off" where none is configured, or "down"."""
        try:
            if not (client := await self._valkey()):
                return "off"
            await client.ping()
        except self._failures:
            return "down"
        return "ok"

    async def close(self) -> None:
        """Lets what is being told be told, which takes no longer than the client waits for an answer."""
        if self._telling is not None:
            await asyncio.wait([self._telling])
        if self._client is not None:
            await self._client.aclose()

    async def _tell(self) -> None:
        try:
            if client := await self._valkey():
                await self._write(client)
            else:
                self._untold.clear()
        except self._failures as error:
            self._failed(error)

    async def _write(self, client: Any) -> None:
        """One field a mark, which ends by Valkey's own clock. What was not written stays for the next refresh."""
        while self._untold:
            name, mark = next(iter(self._untold.items()))
            seconds = math.ceil(mark.until - self._clock())
            if seconds > 0:
                value = f"{mark.until} {mark.kind}"
                await client.execute_command("HSETEX", MARKS, "EX", seconds, "FIELDS", 1, name, value)
            if self._untold.get(name) is mark:
                del self._untold[name]

    def _alive(self, marks: dict[str, Mark]) -> dict[str, Mark]:
        now = self._clock()
        return {name: mark for name, mark in marks.items() if mark.until > now}

    def _read(self, found: dict[bytes, bytes]) -> dict[str, Mark]:
        """The marks of a hash. One that nobody here can read is none, and a clock that is ahead does not make one longer."""
        longest = self._clock() + _LONGEST_MARK_SECONDS
        marks = {}
        for name, value in found.items():
            until, _, kind = value.partition(b" ")
            try:
                marks[name.decode()] = Mark(kind.decode(), min(float(until), longest))
            except ValueError:
                log.warning("marks: a field of %s has another form", MARKS)
        return marks

    def _failed(self, error: BaseException) -> None:
        """Said once for each time that it goes: every few seconds would be a flood."""
        if self._answers:
            log.warning("marks: valkey does not answer (%s); marks stay in this process", type(error).__name__)
        self._answers = False

    async def _valkey(self) -> Any:
        async with self._connecting:
            if not self._connected:
                self._client = await asyncio.to_thread(self._connect)
                self._connected = True
                if self._client is not None:
                    from valkey.exceptions import ValkeyError

                    self._failures = (OSError, ValueError, ValkeyError)
        return self._client
