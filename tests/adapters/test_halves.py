"""Characters that providers cut in two: whatever the cut, every client's format gets the same text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import adapters, dialects
from sluice.adapters._halves import Halves, mended, written
from sluice.buffer import Buffer
from sluice.types import ChatRequest, Event, Finish, Frame, Raw, Reasoning, Start, Text, ToolCall, Usage

TEXTS = st.text('ab漢\n"😀👋', min_size=1, max_size=12)
DIALECTS = sorted(dialects.available())


def units(text: str) -> list[str]:
    """Its UTF-16 units, each a character: what is beyond the first plane is two halves."""
    raw = text.encode("utf-16-le")
    return [raw[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(raw), 2)]


def cut(text: str, places: Iterable[int]) -> list[str]:
    told = units(text)
    ends = sorted({place % (len(told) + 1) for place in places} | {0, len(told)})
    return ["".join(told[start:end]) for start, end in pairwise(ends)]


def chunk(delta: object, reason: str | None = None) -> Frame:
    return Frame(json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))


def heard(provider: str, frames: Sequence[Frame]) -> list[Event]:
    adapter = adapters.load(provider).adapter(0)
    return [*(event for frame in frames for event in adapter.feed(frame)), *adapter.finish()]


def told_by(dialect: str, events: Sequence[Event]) -> tuple[str, str]:
    """The frames of a client's stream and its whole body, as text."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    chat = ChatRequest("m", body, dialect=dialect, stream=True)
    encoder = dialects.load(dialect).encoder(chat, "req_1", 1, "")
    buffer = Buffer()
    frames: list[Frame] = []
    for event in events:
        buffer.add(event)
        frames += encoder.encode(event)
    whole = dialects.load(dialect).encoder(chat, "req_1", 1, "")
    for event in events:
        list(whole.encode(event))
    frames += encoder.end(Usage(1, 1))
    return "".join(frame.data for frame in frames), whole.completion(buffer.completion(Usage(1, 1))).decode()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=TEXTS, thought=TEXTS, sent=TEXTS, places=st.lists(st.integers(0, 40), max_size=6))
def test_any_cut_of_a_text_is_the_same_text_in_every_dialect(
    dialect: str, text: str, thought: str, sent: str, places: list[int]
) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
    arguments = json.dumps({"a": sent}, ensure_ascii=False)
    frames = [chunk({"reasoning_content": piece}) for piece in cut(thought, places)]
    frames += [chunk({"content": piece}) for piece in cut(text, places)]
    frames += [chunk({"tool_calls": [call]})]
    frames += [
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in cut(arguments, places)
    ]
    events = heard("deepseek", [*frames, chunk({}, "tool_calls"), Frame("[DONE]")])
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    assert (buffer.text, buffer.choices[0].reasoning, buffer.tool_calls[0].arguments) == (text, thought, arguments)
    streamed, whole = told_by(dialect, events)
    assert json.dumps(text, ensure_ascii=False)[1:-1] in whole
    assert "\ufffd" not in streamed + whole


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_half_that_stays_alone_is_a_mark_in_every_dialect(dialect: str) -> None:
    frames = [chunk({"content": "good \ud83d"}), chunk({"content": "words\ude00"}), chunk({"content": "\ud83d"})]
    streamed, whole = told_by(dialect, heard("openai", [*frames, chunk({}, "stop"), Frame("[DONE]")]))
    assert "good \ufffdwords\ufffd\ufffd" in whole
    assert streamed.count("\ufffd") >= 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_answer_of_anthropics_with_halves_is_told(dialect: str) -> None:
    content = [
        {"type": "text", "text": "good \ud83d"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a\ud83d": ["\ude00"]}},
    ]
    body = {"type": "message", "id": "m", "model": "m", "content": content, "stop_reason": "tool_use"}
    _, whole = told_by(dialect, heard("anthropic", [Frame(json.dumps(body))]))
    assert "good \ufffd" in whole


def test_halves_are_joined_only_where_they_follow_each_other() -> None:
    halves = Halves()
    events = [
        Text("a\ud83d"),
        Text("\ud83d", 1),
        Usage(1, 1),
        Raw({"logprobs": {"x\ud83d": ["\ude00"]}}),
        Text("\ude00"),
        Text("\ud83d"),
        ToolCall(0, "id", "f", "\ud83d"),
        ToolCall(1, "id2", "g", "\ude00"),
        Reasoning("\ud83d"),
        Reasoning("", "SIG"),
        Text("\ude00", 1),
        Finish("stop"),
        Text("\ud83d"),
    ]
    assert [*halves.joined(events), *halves.rest()] == [
        Text("a"),
        Usage(1, 1),
        Raw({"logprobs": {"x\ufffd": ["\ufffd"]}}),
        Text("😀"),
        Text("\ufffd"),
        ToolCall(0, "id", "f", ""),
        ToolCall(0, arguments="\ufffd"),
        ToolCall(1, "id2", "g", "\ufffd"),
        Reasoning("\ufffd", "SIG"),
        Text("😀", 1),
        Finish("stop"),
        Text("\ufffd"),
    ]


def test_what_has_no_halves_is_left_as_it_is() -> None:
    events: list[Event] = [Start("a", "m", 1), Text(""), Text("漢😀\n"), Reasoning("", data="x"), Finish("stop")]
    assert [one is other for one, other in zip(Halves().joined(events), events, strict=True)] == [True] * 5
    assert mended("a\ud83d\n") == "a\ufffd\n"
    assert written({"a": "漢"}) == '{"a":"漢"}'
