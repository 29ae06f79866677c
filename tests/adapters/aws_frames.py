"""AWS's binary event stream as a server writes it: for tests and the playing back of cases."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping


def message(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """One message whose headers are all strings."""
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(name: str, payload: bytes) -> bytes:
    return message(payload, {":event-type": name, ":content-type": "application/json", ":message-type": "event"})


def exception(name: str, payload: bytes) -> bytes:
    return message(
        payload, {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    )
