"""What the buffer knows at any event."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import prices, tokens
from sluice.buffer import Buffer
from sluice.types import Call, Event, Finish, Price, Raw, Reasoning, Start, Text, ToolCall, Usage

PRICE = Price("m", Decimal("2"), Decimal("8"))
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
CONTENT = st.one_of(
    st.builds(Text, TEXT, st.integers(0, 2)),
    st.builds(Reasoning, TEXT, st.just(""), st.integers(0, 2)),
    st.builds(lambda index, arguments: ToolCall(index, f"call_{index}", "f", arguments), st.integers(0, 3), TEXT),
)


def filled(events: list[Event], prompt_tokens: int = 0) -> Buffer:
    buffer = Buffer(prompt_tokens)
    for event in events:
        buffer.add(event)
    return buffer


def cost(buffer: Buffer) -> int:
    return buffer.cost(lambda usage: prices.cost(usage, PRICE))


def test_it_assembles_text_reasoning_tools_and_the_end() -> None:
    buffer = filled(
        [
            Start("id", "m", 7),
            Reasoning("let me "),
            Reasoning("see", "sig"),
            Text("Hel"),
            Text("lo"),
            Text("other", 1),
            ToolCall(1, "call_b", "time"),
            ToolCall(0, "call_a", "weather", '{"city":'),
            ToolCall(0, "", "", '"Oslo"}'),
            Raw({"audio": {"id": "a"}}),
            Finish("tool_calls"),
            Usage(10, 5),
        ]
    )
    assert (buffer.text, buffer.finish_reason, buffer.start.model) == ("Hello", "tool_calls", "m")
    assert buffer.choices[1].text == "other"
    assert buffer.choices[0].reasoning == "let me see"
    assert buffer.choices[0].details == [{"type": "reasoning.text", "text": "let me see", "signature": "sig"}]
    assert buffer.tool_calls == [Call("call_a", "weather", '{"city":"Oslo"}'), Call("call_b", "time", "")]
    assert buffer.usage == Usage(10, 5)


@given(st.lists(CONTENT, max_size=20))
def test_the_cost_so_far_never_falls_while_content_comes(events: list[Event]) -> None:
    buffer, last = Buffer(10), 0
    for event in events:
        buffer.add(event)
        assert cost(buffer) >= last
        last = cost(buffer)


@given(st.lists(CONTENT, max_size=20), st.integers(1, 500), st.integers(1, 500))
def test_what_the_provider_says_at_the_end_is_what_counts(events: list[Event], given_in: int, given_out: int) -> None:
    buffer = filled([*events, Usage(given_in, given_out)])
    assert cost(buffer) == prices.cost(Usage(given_in, given_out), PRICE)


def test_usage_that_more_content_follows_is_not_the_last_word() -> None:
    buffer = filled([Text("abc"), Usage(5, 1), Text("def" * 30)])
    assert buffer.usage is None
    buffer.add(Usage(5, 31))
    assert buffer.usage == Usage(5, 31)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([Text("abc"), Usage(5, 0)], Usage(5)),
        ([Reasoning("abc"), Usage(5, 0, units={"search": 1})], Usage(5, units={"search": 1})),
        ([ToolCall(0, "a", "f"), Usage(5, 0, reasoning=4, audio_output=4)], Usage(5)),
        ([Text("abc"), Usage(0, 2)], Usage(0, 2)),
        ([Usage(0, 0, cached=3, cache_write=3, audio_input=3, image_input=3)], Usage()),
        ([Usage(5, 2, cached=3, reasoning=1), Text("abc")], Usage(5, cached=3)),
        ([Text("abc")], Usage()),
    ],
)
def test_a_half_of_nothing_is_as_good_as_never_said(events: list[Event], told: Usage) -> None:
    buffer = filled(events, prompt_tokens=9)
    assert (buffer.usage, buffer.told) == (None, told)


def test_output_that_was_not_told_is_estimated() -> None:
    assert filled([Text("abcdef"), Usage(5, 0)]).output_tokens == 2


def test_nothing_of_nothing_is_told() -> None:
    assert filled([Finish("content_filter"), Usage(5, 0)], prompt_tokens=9).usage == Usage(5, 0)


def test_halves_that_are_told_apart_are_a_whole() -> None:
    first = Usage(5, 0, cached=1, cache_write=2, audio_input=3, image_input=4)
    buffer = filled([first, Text("abc"), Usage(0, 2)], prompt_tokens=9)
    assert buffer.usage == Usage(5, 2, cached=1, cache_write=2, audio_input=3, image_input=4)


@given(st.lists(CONTENT, max_size=12))
def test_a_recount_is_the_new_base_of_the_estimate(events: list[Event]) -> None:
    buffer = filled(events)
    exact = buffer.recount(len)
    assert buffer.output_tokens == exact
    buffer.add(Text("abcdef"))
    assert buffer.output_tokens == exact + 2


def test_the_estimate_is_high_for_english_chinese_and_code() -> None:
    for text in (
        "The quick brown fox jumps over the lazy dog, and then it does so again. " * 20,
        "今天天气很好，我们一起去公园散步，然后回家吃饭。" * 20,
        "def main() -> None:\n    for index in range(10):\n        print(index)\n" * 20,
    ):
        assert tokens.estimate(text) >= tokens.count(text, "gpt-4o") > 0
