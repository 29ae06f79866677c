"""A provider that plays back recorded bytes over real HTTP, whatever its protocol.

    async with Playback() as playback:
        tape = playback.tape("first", Recording(stream_bytes), Recording(error, status=529))
        channel = ... endpoint=tape.url

Every request below `/first/` gets the tape's next recording, and its last one ever after; `tape.calls` is what was asked.
Bodies go out chunked, `piece` bytes at a time, so that a connection cut by `cut` is seen as one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import orjson

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Recording:
    """One answer. `piece` 0 sends the body at once; `cut` hangs up and `stall` waits for `release` after so many bytes."""

    body: bytes
    status: int = 200
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    piece: int = 0
    cut: int | None = None
    stall: int | None = None

    @property
    def kind(self) -> str:
        """The content type: as given, else JSON or an event stream by the first byte."""
        return self.content_type or (JSON if self.body.lstrip()[:1] in (b"{", b"[") else EVENT_STREAM)


@dataclass(slots=True)
class Heard:
    """One request as it was received. `path` is without the tape's name, `query` without its question mark."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    raw: bytes
    bytes_sent: int = 0

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


@dataclass(slots=True)
class Tape:
    url: str
    recordings: list[Recording]
    calls: list[Heard] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Lets a stalled answer go on."""
        self.released.set()

    def next(self) -> Recording:
        return self.recordings[min(len(self.calls), len(self.recordings)) - 1]


class Playback:
    """A server on a free port of loopback."""

    def __init__(self) -> None:
        self._tapes: dict[str, Tape] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tape(self, name: str, *recordings: Recording | bytes) -> Tape:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        made = [one if isinstance(one, Recording) else Recording(one) for one in recordings]
        self._tapes[name] = Tape(f"http://127.0.0.1:{port}/{name}", made)
        return self._tapes[name]

    def said(self) -> list[Any]:
        """What was asked and what was answered, as far as it is JSON."""
        tapes = self._tapes.values()
        bodies = [one.body for tape in tapes for one in tape.recordings] + [
            one.raw for tape in tapes for one in tape.calls
        ]
        values: list[Any] = []
        for piece in (piece for body in bodies for piece in (body, *body.splitlines())):
            with contextlib.suppress(orjson.JSONDecodeError):
                values.append(orjson.loads(piece.removeprefix(b"data:").strip()))
        return values

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._answered(reader, writer):
                pass
        writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers the connection's next request. False where the recording hangs up."""
        name, heard = await _heard(reader)
        tape = self._tapes[name]
        tape.calls.append(heard)
        recording = tape.next()
        writer.write(_head(recording))
        for at in range(0, len(recording.body), recording.piece or len(recording.body) or 1):
            for piece in _pieces(recording, at):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                heard.bytes_sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
                if heard.bytes_sent == recording.stall:
                    await tape.released.wait()
            if recording.cut is not None and heard.bytes_sent >= recording.cut:
                return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _pieces(recording: Recording, at: int) -> list[bytes]:
    """The piece that begins at `at`, parted where the recording stalls, ended where it is cut."""
    end = min(at + (recording.piece or len(recording.body)), len(recording.body))
    if recording.cut is not None:
        end = min(end, recording.cut)
    stops = sorted({at, end, *(stop for stop in (recording.stall,) if stop is not None and at < stop < end)})
    return [recording.body[begin:stop] for begin, stop in pairwise(stops)]


def _head(recording: Recording) -> bytes:
    fields = {"content-type": recording.kind, "transfer-encoding": "chunked", **recording.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {recording.status} Played\r\n{lines}\r\n".encode("latin-1")


async def _heard(reader: asyncio.StreamReader) -> tuple[str, Heard]:
    """The tape's name and the request, read from the wire."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    name, _, rest = path.lstrip("/").partition("/")
    return name, Heard(method, f"/{rest}", query, headers, raw)
