"""Level 1: AWS's binary event stream (`application/vnd.amazon.eventstream`), read at byte level.

A message is: total length and headers length (4 bytes each, big-endian), the CRC-32 of those eight, headers, payload, and the
CRC-32 of everything before it. A header is name length, name, value type, value; the names that matter here are
`:message-type` (event, exception, error), `:event-type`, `:exception-type`, `:error-code` and `:error-message`, all strings.
Source: the AWS SDKs' event stream specification, read in botocore 1.44 `eventstream.py`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping

from sluice.types import Frame

MAX_MESSAGE_BYTES = 24 * 1024 * 1024
"""What AWS's own readers take: 24 MB of payload and 128 KB of headers are the protocol's bounds."""

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + _CRC.size
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7


class BadMessage(ValueError):
    """The bytes are no event stream, were damaged on the way, or hold a message over the cap. The stream cannot go on."""


class EventStreamDecoder:
    """Bytes in any cut, frames out: `event` is the event's or the exception's type, `data` the payload as text."""

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max = max_message_bytes
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        """The messages that `chunk` completes. Raises BadMessage."""
        self._buffer += chunk
        frames: list[Frame] = []
        while len(self._buffer) >= _PRELUDE.size:
            total, headers = self._prelude()
            if len(self._buffer) < total:
                break
            frames.append(_message(bytes(self._buffer[:total]), headers))
            del self._buffer[:total]
        return frames

    def finish(self) -> list[Frame]:
        """Nothing: a message that the end of input leaves open cannot be trusted, and none can be made of it."""
        return []

    def _prelude(self) -> tuple[int, int]:
        """The total length and the headers' of the message that begins the buffer."""
        total, headers, crc = _PRELUDE.unpack_from(self._buffer)
        if zlib.crc32(self._buffer[: _PRELUDE.size - _CRC.size]) != crc:
            raise BadMessage("the prelude of an event stream message does not match its checksum")
        if total > self._max:
            raise BadMessage(f"an event stream message is larger than {self._max} bytes")
        if headers + _OVERHEAD > total:
            raise BadMessage("an event stream message is shorter than its headers")
        return total, headers


def _message(raw: bytes, headers_size: int) -> Frame:
    if zlib.crc32(raw[: -_CRC.size]) != _CRC.unpack_from(raw, len(raw) - _CRC.size)[0]:
        raise BadMessage("an event stream message does not match its checksum")
    body_at = _PRELUDE.size + headers_size
    headers = _headers(raw[_PRELUDE.size : body_at])
    payload = raw[body_at : -_CRC.size].decode("utf-8", "replace")
    if headers.get(":message-type") == "error":
        return Frame(json.dumps({"message": headers.get(":error-message", "")}), headers.get(":error-code", "error"))
    return Frame(payload, headers.get(":exception-type") or headers.get(":event-type", ""))


def _headers(raw: bytes) -> Mapping[str, str]:
    """The headers that are strings; the others are stepped over."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            name_end = at + 1 + raw[at]
            name, kind = raw[at + 1 : name_end].decode("ascii", "replace"), raw[name_end]
            at = name_end + 1
            if kind in (_BYTES, _STRING):
                (size,) = struct.unpack_from(">H", raw, at)
                at += 2 + size
                if kind == _STRING:
                    headers[name] = raw[at - size : at].decode("utf-8", "replace")
            else:
                at += _FIXED_SIZES[kind]
    except (IndexError, KeyError, struct.error):
        raise BadMessage("the headers of an event stream message cannot be read") from None
    if at != len(raw):
        raise BadMessage("the headers of an event stream message are cut short")
    return headers
