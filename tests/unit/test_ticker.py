"""The order channels are tried in."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sluice.ticker import Ticker
from sluice.types import Channel

CHI_SQUARED_999 = {1: 10.83, 2: 13.82, 3: 16.27}
"""The value chi-squared stays under in 999 of 1,000 fair runs, by degrees of freedom."""


def channel(name: str, priority: int = 0, weight: int = 1) -> Channel:
    return Channel(id=name, type="openai", name=name, models=("m",), priority=priority, weight=weight)


CHANNELS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), max_size=12).map(
    lambda rows: [channel(f"c{n}", priority, weight) for n, (priority, weight) in enumerate(rows)]
)


def chi_squared(seen: Counter[str], expected: dict[str, float]) -> float:
    return sum((seen[name] - count) ** 2 / count for name, count in expected.items())


@given(CHANNELS, st.integers())
def test_each_undrained_channel_comes_once_and_no_tier_is_jumped(channels: list[Channel], seed: int) -> None:
    order = list(Ticker(channels, random.Random(seed)))
    assert sorted(c.id for c in order) == sorted(c.id for c in channels if c.weight > 0)
    assert all(first.priority <= then.priority for first, then in pairwise(order))


def test_the_first_draw_follows_the_weights() -> None:
    rng = random.Random(7)
    siblings = [channel("a", weight=1), channel("b", weight=3), channel("c", weight=6), channel("later", priority=1)]
    firsts = Counter(next(Ticker(siblings, rng)).id for _ in range(2_000))
    assert firsts["later"] == 0
    assert chi_squared(firsts, {"a": 200, "b": 600, "c": 1_200}) < CHI_SQUARED_999[2]


def test_the_second_draw_follows_the_weights_of_those_left() -> None:
    rng = random.Random(11)
    siblings = [channel("a", weight=1), channel("b", weight=3), channel("c", weight=6)]
    draws = [[c.id for c in Ticker(siblings, rng)] for _ in range(4_000)]
    after_c = Counter(order[1] for order in draws if order[0] == "c")
    total = sum(after_c.values())
    assert chi_squared(after_c, {"a": total / 4, "b": total * 3 / 4}) < CHI_SQUARED_999[1]


def test_equal_weights_share_equally() -> None:
    rng = random.Random(3)
    firsts = Counter(next(Ticker([channel("a"), channel("b")], rng)).id for _ in range(2_000))
    assert chi_squared(firsts, {"a": 1_000, "b": 1_000}) < CHI_SQUARED_999[1]
