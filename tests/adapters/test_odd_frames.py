"""Whatever a provider writes where its protocol wants something else is its own error, told by every adapter in one way.

The frames are the recorded ones of `cases/`, with values of other types put in the places of what was there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import adapters, endpoints
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.types import Frame
from tests.adapters.test_every_adapter import ERRORS, STREAMS, WHOLES, frames_of

ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        2**63,
        1e999,
        "",
        "x",
        "\ud800",
        [],
        [None],
        [[]],
        ["x"],
        [1],
        {},
        {"a": 1},
        {"text": 5},
        [{"x": {}}],
    ]
)


@cache
def recorded(name: str) -> list[tuple[str, Any]]:
    """An adapter's recorded frames, each with its event's type."""
    frames = [frame for path in STREAMS if path.parent.name == name for frame in frames_of(path)]
    frames += [Frame(path.read_text()) for path in WHOLES if path.parent.name == name]
    return [(frame.event, json.loads(frame.data)) for frame in frames if not frame.data.startswith("[DONE]")]


def places(value: Any) -> list[tuple[Any, ...]]:
    """The way to every value in `value`, its own included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, one in inner for rest in places(one))]


def put(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """A copy of `value` with `odd` at a place."""
    if not place:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(value[place[0]], place[1:], odd)
    return copy


@st.composite
def changed(draw: st.DrawFn, told: Any) -> Any:
    for _ in range(draw(st.integers(1, 2))):
        told = put(told, draw(st.sampled_from(places(told))), draw(ODD))
    return told


@st.composite
def frames(draw: st.DrawFn, name: str) -> list[Frame]:
    """A stretch of what was recorded, one frame of it with odd values."""
    known = recorded(name)
    last = draw(st.integers(0, len(known) - 1))
    event, told = known[last]
    before = [Frame(json.dumps(one), kind) for kind, one in islice(known, max(0, last - 3), last)]
    return [*before, Frame(json.dumps(draw(changed(told))), event)]


@pytest.mark.parametrize("name", sorted(adapters.available()))
@settings(max_examples=60)
@given(data=st.data())
def test_a_frame_of_other_types_ends_in_the_providers_error(name: str, data: st.DataObject) -> None:
    adapter, buffer = adapters.load(name).adapter(0), Buffer()
    try:
        for frame in data.draw(frames(name)):
            for event in adapter.feed(frame):
                buffer.add(event)
        list(adapter.finish())
    except ProviderError:
        pass


@pytest.mark.parametrize("name", sorted(adapters.available()))
def test_every_value_of_every_recorded_frame_may_have_another_type(name: str) -> None:
    for event, told in recorded(name):
        for place in places(told):
            for odd in (5, "x", [3], {"a": "b"}, None):
                with suppress(ProviderError):
                    list(adapters.load(name).adapter(0).feed(Frame(json.dumps(put(told, place, odd)), event)))


@pytest.mark.parametrize("name", sorted(adapters.available()))
@settings(max_examples=40)
@given(data=st.data())
def test_an_error_of_other_types_has_a_kind_nevertheless(name: str, data: st.DataObject) -> None:
    rows = [row for adapter, row in ERRORS if adapter == name]
    row = data.draw(st.sampled_from(rows))
    body = row["body"] if isinstance(row["body"], dict | list) else {"error": {"message": row["body"]}}
    told = json.dumps(data.draw(changed(body))).encode()
    status = max(400, row["status"])
    error = adapters.load(name).adapter(0).error(status, {}, told)
    assert (error.status, error.body) == (status, told)


CALLS = [
    (name, kind)
    for name in sorted(adapters.available())
    for kind in sorted({endpoints.load(one).kind for one in endpoints.available()})
    if adapters.endpoint(name, kind, 0) is not None
]
ANSWERS: Any = {
    "data": [{"index": 0, "embedding": [0.5]}],
    "embeddings": [{"values": [0.5]}],
    "results": [{"index": 0, "relevance_score": 0.5}],
    "usageMetadata": {"promptTokenCount": 5},
    "meta": {"billed_units": {"search_units": 1}},
    "error": {"message": "x", "code": 5, "status": "INTERNAL", "details": [{"violations": [{"quotaId": "a"}]}]},
}


@pytest.mark.parametrize(("name", "kind"), CALLS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_calls_answer_of_other_types_ends_in_the_providers_error(name: str, kind: str, data: st.DataObject) -> None:
    adapter = adapters.endpoint(name, kind, 0)
    assert adapter is not None
    told = json.dumps(data.draw(changed(ANSWERS))).encode()
    try:
        adapter.whole(told)
        list(adapter.feed(Frame(told.decode())))
    except ProviderError:
        pass
    assert adapter.error(500, {}, told).status == 500
