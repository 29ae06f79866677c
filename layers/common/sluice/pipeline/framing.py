"""How frames become the bytes of a client's stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from sluice import sse
from sluice.types import ChatRequest, Frame


class Framing(Protocol):
    """One stream to one client. `heartbeat` changes nothing for it, `headers` are those of its answer."""

    heartbeat: bytes
    headers: Mapping[str, str]

    def pieces(self, frames: Iterable[Frame]) -> bytes: ...

    def end(self) -> bytes:
        """What comes after the last frame."""
        ...


class Events:
    """Server-sent events, whose headers are what the door gives a stream anyway."""

    heartbeat = sse.comment("keep-alive")
    headers: Mapping[str, str] = {}

    def pieces(self, frames: Iterable[Frame]) -> bytes:
        return b"".join(sse.encode(frame.data, frame.event) for frame in frames)

    def end(self) -> bytes:
        return b""


class BareEvents(Events):
    """Events for clients that take a comment for an answer: a blank line is nothing to anybody."""

    heartbeat = b"\n"


class JsonArray:
    """One JSON array that grows by an element a frame, for a client that asked for a stream and not for events."""

    heartbeat = b"\n"
    headers: Mapping[str, str] = {"content-type": "application/json"}

    def __init__(self) -> None:
        self._before = b"["

    def pieces(self, frames: Iterable[Frame]) -> bytes:
        written = bytearray()
        for frame in frames:
            written += self._before + frame.data.encode()
            self._before = b",\n"
        return bytes(written)

    def end(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"


def framing(request: ChatRequest) -> Framing:
    kinds: Mapping[str, type[Framing]] = {"events": Events, "bare": BareEvents, "array": JsonArray}
    return kinds[request.framing]()
