"""AWS's binary event stream: any cut, any damage, and AWS's own reader as the judge."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from sluice.eventstream import BadMessage, EventStreamDecoder
from sluice.types import Frame
from tests.adapters.aws_frames import event, exception, message

NAMES = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20)
MESSAGES = st.lists(st.tuples(NAMES, st.text(max_size=200)), max_size=6)


def read(pieces: list[bytes]) -> list[Frame]:
    decoder = EventStreamDecoder()
    return [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.finish()


@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=8))
def test_any_cut_gives_the_same_frames_as_awss_own_reader(sent: list[tuple[str, str]], cuts: list[int]) -> None:
    raw = b"".join(event(name, text.encode()) for name, text in sent)
    judge = EventStreamBuffer()
    judge.add_data(raw)
    judged = [Frame(one.payload.decode(), one.headers[":event-type"]) for one in judge]
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(edges)]
    assert read(pieces) == judged == [Frame(text, name) for name, text in sent]


def test_an_exception_and_an_error_are_frames_named_after_them() -> None:
    raw = exception("throttlingException", b'{"message":"slow"}')
    raw += message(b"", {":message-type": "error", ":error-code": "InternalError", ":error-message": 'a "word"'})
    assert read([raw]) == [
        Frame('{"message":"slow"}', "throttlingException"),
        Frame('{"message": "a \\"word\\""}', "InternalError"),
    ]


def test_headers_of_every_other_type_are_stepped_over() -> None:
    values = [
        b"\0",
        b"\1",
        b"\2x",
        b"\3xx",
        b"\4xxxx",
        b"\5" + bytes(8),
        b"\6\0\2ab",
        b"\x08" + bytes(8),
        b"\x09" + bytes(16),
    ]
    head = b"".join(b"\1h" + value for value in values) + b"\x0b:event-type\7\0\4ping"
    prelude = struct.pack(">II", 16 + len(head), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head
    assert read([body + struct.pack(">I", zlib.crc32(body))]) == [Frame("", "ping")]


def test_a_damaged_byte_anywhere_is_never_read_as_a_message() -> None:
    raw = event("ping", b'{"a":1}')
    for at in range(len(raw)):
        damaged = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(BadMessage):
            read([damaged])


def test_what_is_no_event_stream_is_told_at_its_first_bytes() -> None:
    with pytest.raises(BadMessage, match="checksum"):
        read([b"data: {}\n\ndata"])


def test_a_message_over_the_cap_is_refused_before_it_is_held() -> None:
    head = struct.pack(">II", 4096, 0)
    with pytest.raises(BadMessage, match="larger than 1024"):
        EventStreamDecoder(1024).feed(head + struct.pack(">I", zlib.crc32(head)))


@pytest.mark.parametrize("head", [b"\x05ab", b"\1h\7\0\5ab", b"\1h\x63", b"\1h\4\0"])
def test_headers_that_cannot_be_read_are_refused(head: bytes) -> None:
    prelude = struct.pack(">II", 16 + len(head), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head
    with pytest.raises(BadMessage):
        read([body + struct.pack(">I", zlib.crc32(body))])


def test_headers_longer_than_their_message_are_refused() -> None:
    prelude = struct.pack(">II", 16, 1)
    with pytest.raises(BadMessage, match="shorter than its headers"):
        read([prelude + struct.pack(">I", zlib.crc32(prelude)) + bytes(4)])


def test_an_unfinished_message_gives_nothing() -> None:
    raw = event("ping", b"{}")
    assert read([raw, raw[:-1]]) == [Frame("{}", "ping")]
