"""The byte-level parser: the same frames whatever the cut, whatever the line end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import sse
from sluice.types import Frame

# Nothing a data line may not hold: line ends are framing. U+2028 and U+0085 are text, and must stay so.
LINES = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=40)
FRAMES = st.lists(
    st.builds(
        lambda lines, event: Frame("\n".join(lines), event),
        st.lists(LINES, min_size=1, max_size=3),
        st.sampled_from(["", "message_start", "ping"]),
    ),
    max_size=6,
)


def written(frames: list[Frame], end: str, *, space: str = " ", noise: str = "") -> bytes:
    out = ""
    for frame in frames:
        out += noise + (f"event:{space}{frame.event}{end}" if frame.event else "")
        out += "".join(f"data:{space}{line}{end}" for line in frame.data.split("\n")) + end
    return out.encode()


def fed(decoder: sse.SSEDecoder, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def read(pieces: list[bytes]) -> list[Frame]:
    decoder = sse.SSEDecoder()
    return fed(decoder, pieces) + decoder.finish()


def cut(raw: bytes, at: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(place % (len(raw) + 1) for place in at)})
    return [raw[a:b] for a, b in pairwise(marks)]


@given(FRAMES, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_cut_and_any_line_end_give_the_same_frames(frames: list[Frame], end: str, at: list[int]) -> None:
    assert read(cut(written(frames, end), at)) == frames


@given(FRAMES, st.sampled_from(["\n", "\r\n", "\r"]))
def test_byte_by_byte_with_comments_and_unknown_fields(frames: list[Frame], end: str) -> None:
    raw = written(frames, end, noise=f": keep-alive{end}retry: 10{end}unknown{end}")
    assert read([raw[at : at + 1] for at in range(len(raw))]) == frames


@given(st.lists(LINES.filter(lambda line: not line.startswith(" ")), min_size=1, max_size=3))
def test_the_space_after_the_colon_is_optional(lines: list[str]) -> None:
    frame = Frame("\n".join(lines))
    assert read([written([frame], "\n", space="")]) == [frame]


@given(FRAMES)
def test_what_is_encoded_is_read_back(frames: list[Frame]) -> None:
    assert read([sse.encode(frame.data, frame.event) for frame in frames]) == frames


def test_line_separator_inside_json_is_no_line_end() -> None:
    text = '{"content":"a\u2028b\u2029c\u0085d"}'
    assert read([f"data: {text}\n\n".encode()]) == [Frame(text)]


def test_a_bom_opens_the_stream() -> None:
    assert read([b"\xef\xbb\xbfdata: one\n\n", b"data: two\n\n"]) == [Frame("one"), Frame("two")]


def test_a_split_crlf_does_not_end_the_event_twice() -> None:
    assert read([b"data: one\r", b"\ndata: two\r", b"\n\r", b"\n"]) == [Frame("one\ntwo")]


def test_a_comment_between_two_events_is_nobody() -> None:
    assert read([b": ping\n\ndata: one\n\n: ping\n\n"]) == [Frame("one")]


def test_an_event_without_its_closing_blank_line_is_given_at_the_end() -> None:
    decoder = sse.SSEDecoder()
    assert decoder.feed(b"data: [DONE]") == []
    assert decoder.finish() == [Frame("[DONE]")]
    assert decoder.finish() == []


def test_megabyte_lines_pass_and_the_cap_holds() -> None:
    big = "x" * 5_000_000
    raw = f"data: {big}\n\n".encode()
    pieces = [raw[at : at + 65_536] for at in range(0, len(raw), 65_536)]
    assert read(pieces) == [Frame(big)]
    decoder = sse.SSEDecoder(max_event_bytes=1_000_000)
    with pytest.raises(sse.EventTooLarge):
        fed(decoder, pieces)


def test_the_cap_counts_many_short_lines_of_one_event_too() -> None:
    decoder = sse.SSEDecoder(max_event_bytes=1_000)
    with pytest.raises(sse.EventTooLarge):
        fed(decoder, [b"data: " + b"x" * 50 + b"\n"] * 100)


def test_the_cap_is_per_event_not_per_stream() -> None:
    decoder = sse.SSEDecoder(max_event_bytes=1_000)
    for _ in range(100):
        assert decoder.feed(b"data: " + b"x" * 500 + b"\n\n") == [Frame("x" * 500)]
