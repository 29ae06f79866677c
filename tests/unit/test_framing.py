"""How frames become a client's stream: as events, and as one JSON array that grows."""

from __future__ import annotations

import json

import pytest

from sluice.pipeline.framing import framing
from sluice.sse import SSEDecoder
from sluice.types import ChatRequest, Frame

ARRAY = ChatRequest("m", {}, stream=True, framing="array")


def test_events_are_server_sent_events_and_need_no_end() -> None:
    events = framing(ChatRequest("m", {}, stream=True))
    assert events.pieces([Frame("{}", "kind"), Frame("[]")]) == b"event: kind\ndata: {}\n\ndata: []\n\n"
    assert (events.end(), dict(events.headers)) == (b"", {})
    assert events.heartbeat.startswith(b":")


def test_bare_events_are_kept_alive_without_a_comment() -> None:
    bare = framing(ChatRequest("m", {}, stream=True, framing="bare"))
    written = bare.heartbeat + bare.pieces([Frame("{}")]) + bare.heartbeat + bare.pieces([Frame("[]")])
    assert written.replace(b"\n", b"") == b"data: {}data: []"
    decoder = SSEDecoder()
    assert [frame.data for frame in decoder.feed(written)] == ["{}", "[]"]


@pytest.mark.parametrize("given", [[], [1], [1, 2], [1, 2, 3]])
def test_an_array_is_whole_json_however_it_was_cut_and_wherever_a_heartbeat_falls(given: list[int]) -> None:
    array = framing(ARRAY)
    written = array.heartbeat
    for number in given:
        written += array.pieces([]) + array.pieces([Frame(json.dumps({"n": number}, indent=1))]) + array.heartbeat
    assert json.loads(written + array.end()) == [{"n": number} for number in given]
    assert array.headers["content-type"] == "application/json"
