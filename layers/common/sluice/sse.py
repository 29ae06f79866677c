"""Level 1: server-sent events at byte level, both ways.

The rules are WHATWG's event-stream interpretation: lines end in LF, CRLF or CR; one space after the colon is dropped; comment
lines and unknown fields are ignored; several data lines are joined by LF; a BOM may open the stream. Lines are cut from bytes,
never from text: U+2028 inside JSON is not a line end, and a UTF-8 sequence split between two reads stays whole.
Where WHATWG discards an event without its closing blank line at the end of input, `finish` gives it: some providers end so.
"""

from __future__ import annotations

import re

from sluice.types import Frame

MAX_EVENT_BYTES = 32 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event is larger than the cap. The stream cannot go on."""


class SSEDecoder:
    """Bytes in any cut, frames out. `max_event_bytes` bounds what one event may hold in memory."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._event = b""
        self._id = b""
        self._tail_size = 0
        self._data_size = 0
        self._after_cr = False
        self._opening = True

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that `chunk` completes. Raises EventTooLarge."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        *lines, rest = _LINE_END.split(chunk)
        if lines:
            lines[0] = b"".join((*self._tail, lines[0]))
            self._tail, self._tail_size = [], 0
            self._after_cr = chunk.endswith(b"\r")
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        frames = [frame for line in lines if (frame := self._line(line))]
        if self._tail_size + self._data_size > self._max:
            raise EventTooLarge(f"one event is larger than {self._max} bytes")
        return frames

    def finish(self) -> list[Frame]:
        """The event that the end of input leaves open, if any."""
        line = b"".join(self._tail)
        self._tail.clear()
        frames = [self._line(line)] if line else []
        return [frame for frame in (*frames, self._dispatch()) if frame]

    def _line(self, line: bytes) -> Frame | None:
        if self._opening:
            self._opening = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value)
        elif name == b"event":
            self._event = value
        elif name == b"id":
            self._id = value
        return None

    def _dispatch(self) -> Frame | None:
        data, event = self._data, self._event
        self._data, self._data_size, self._event = [], 0, b""
        if not data:
            return None
        return Frame(_text(b"\n".join(data)), _text(event), _text(self._id))


def encode(data: str | bytes, event: str = "") -> bytes:
    """One event: `data` may have several lines; `event` is left out where it is the default."""
    payload = data.encode() if isinstance(data, str) else data
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(_LINE_END.split(payload))
    return head + b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    """A comment every client ignores: what keeps a silent connection open."""
    return f": {text}\n\n".encode()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
