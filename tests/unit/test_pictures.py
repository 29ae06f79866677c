"""A picture that a model made has a place in every client's format, and it is the one the page of crossings names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sluice import dialects
from sluice.buffer import Buffer
from sluice.types import Event, Finish, Inbound, Raw, Start, Usage

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
PLACES = dict(
    re.findall(r"^\| `(\w+)` \| `([^`]+)`", PAGE.split("## A picture in an answer")[1].split("\n## ")[0], re.M)
)
EVENTS: tuple[Event, ...] = (
    Start(),
    Raw({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]}),
    Finish("stop"),
)
ASKED = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
BODIES = {"responses": {"model": "m", "input": "x"}, "gemini": {"contents": [{"parts": [{"text": "x"}]}]}}


def test_every_format_is_on_the_page() -> None:
    assert PLACES.keys() == dialects.available()


@pytest.mark.parametrize("name", sorted(dialects.available()))
@pytest.mark.parametrize("streams", [False, True])
def test_the_picture_is_where_the_page_says(name: str, streams: bool) -> None:
    dialect, buffer = dialects.load(name), Buffer()
    chat = dialect.parse(Inbound(json.dumps(BODIES.get(name, ASKED)).encode(), path={"model": "m"}))
    encoder = dialect.encoder(chat, "req_" + "0" * 27, 1, "")
    for event in EVENTS:
        buffer.add(event)
    said = encoder.completion(buffer.completion(Usage(1, 1))).decode()
    if streams:
        encoder = dialect.encoder(chat, "req_" + "0" * 27, 1, "")
        said = "".join(frame.data for event in EVENTS for frame in encoder.encode(event))
    assert PLACES[name].removesuffix("data:…)") in said
    assert "QUJD" in said
