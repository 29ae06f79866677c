"""Money is exact, and tokens are counted by the tables that ship."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import prices, tokens
from sluice.types import NANO_PER_USD, RATE_KINDS, Price, RateKind, Usage

RATES = st.decimals(min_value=0, max_value=1000, places=6)
COUNTS = st.integers(0, 10_000_000)


@given(COUNTS, COUNTS, RATES, RATES)
def test_cost_is_the_exact_sum_rounded_up_to_a_nano_dollar(
    given_in: int, out: int, rate_in: Decimal, rate_out: Decimal
) -> None:
    exact = (given_in * rate_in + out * rate_out) / 10**6 * NANO_PER_USD
    charged = prices.cost(Usage(given_in, out), Price("m", rate_in, rate_out))
    assert 0 <= charged - exact < 1


@given(COUNTS, st.integers(0, 10**12), RATES, RATES)
def test_output_covered_never_costs_more_than_the_amount(
    given_in: int, amount: int, rate_in: Decimal, rate_out: Decimal
) -> None:
    price = Price("m", rate_in, rate_out)
    covered = prices.output_covered(amount, given_in, price)
    if covered is None:
        assert rate_out == 0
    elif covered:
        assert prices.cost(Usage(given_in, covered), price) <= amount


PARTS = st.builds(
    Usage,
    input=COUNTS,
    output=COUNTS,
    cached=COUNTS,
    cache_write=COUNTS,
    audio_input=COUNTS,
    image_input=COUNTS,
    audio_output=COUNTS,
    units=st.dictionaries(st.sampled_from(["image", "second", "search", "character", "call"]), COUNTS),
)
PRICES = st.builds(
    Price,
    st.just("m"),
    RATES,
    RATES,
    rates=st.dictionaries(st.sampled_from(RATE_KINDS), RATES, max_size=len(RATE_KINDS)),
)


@given(PARTS, PRICES)
def test_a_hold_for_so_much_covers_it_whatever_kind_its_tokens_are(usage: Usage, price: Price) -> None:
    assert 0 <= prices.cost(usage, price) <= prices.most(usage, price)


@given(COUNTS, st.integers(0, 10**12), PRICES)
def test_output_covered_is_covered_at_the_dearest_kind(given_in: int, amount: int, price: Price) -> None:
    covered = prices.output_covered(amount, given_in, price)
    if covered:
        assert prices.most(Usage(given_in, covered), price) <= amount


@given(PARTS, RATES, RATES)
def test_kinds_of_tokens_without_a_rate_of_their_own_cost_as_text(
    usage: Usage, rate_in: Decimal, rate_out: Decimal
) -> None:
    price = Price("m", rate_in, rate_out)
    assert (
        prices.cost(usage, price) == prices.cost(Usage(usage.input, usage.output), price) == prices.most(usage, price)
    )


@pytest.mark.parametrize(
    ("kind", "usage", "nano"),
    [
        ("cached_input", Usage(10, 1, cached=4), 6 * 2_000 + 4 * 500 + 8_000),
        ("cache_write", Usage(10, 1, cache_write=10), 10 * 500 + 8_000),
        ("audio_input", Usage(10, audio_input=3), 7 * 2_000 + 3 * 500),
        ("image_input", Usage(10, image_input=3), 7 * 2_000 + 3 * 500),
        ("audio_output", Usage(0, 10, audio_output=9), 8_000 + 9 * 500),
        ("per_image", Usage(units={"image": 3}), 1_500_000_000),
        ("per_second", Usage(1, units={"second": 3}), 1_500_000_000 + 2_000),
        ("per_search", Usage(units={"search": 1}), 500_000_000),
        ("per_call", Usage(), 500_000_000),
        ("per_call", Usage(units={"call": 2}), 1_000_000_000),
        ("per_million_characters", Usage(units={"character": 1}), 500),
    ],
)
def test_each_kind_by_hand(kind: RateKind, usage: Usage, nano: int) -> None:
    assert prices.cost(usage, Price("m", Decimal(2), Decimal(8), rates={kind: Decimal("0.5")})) == nano


def test_a_token_of_two_kinds_counts_once_and_none_counts_more_than_there_are() -> None:
    price = Price("m", Decimal(2), Decimal(8), rates={"cached_input": Decimal(1), "audio_input": Decimal(20)})
    assert prices.cost(Usage(10, cached=10, audio_input=10), price) == 10 * 1_000
    assert prices.cost(Usage(10, cached=15), price) == 10 * 1_000


@given(st.integers(-(10**18), 10**18))
def test_usd_and_back(nano: int) -> None:
    assert prices.usd_to_nano(prices.nano_to_usd(nano)) == nano


@pytest.mark.parametrize("wrong", ["a", "NaN", "Infinity", "0.0000000001", ""])
def test_what_is_no_amount_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"amount|nano"):
        prices.usd_to_nano(wrong)


def test_the_tables_count_as_tiktoken_does() -> None:
    # "hello world" is two tokens in both tables; the Chinese sentence differs between them.
    assert tokens.count("hello world", "gpt-4o") == tokens.count("hello world", "gpt-4") == 2
    assert tokens.count("人工智能正在改变世界", "gpt-4o") < tokens.count("人工智能正在改变世界", "gpt-4")
    assert tokens.count("<|endoftext|>", "gpt-4o") > 1


def test_a_prompt_is_messages_tools_and_media() -> None:
    plain = {"messages": [{"role": "user", "content": "x" * 300}]}
    with_tools = {**plain, "tools": [{"type": "function", "function": {"name": "f", "description": "y" * 300}}]}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    with_image = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 300}, picture]}]}
    base = tokens.estimate_prompt(plain)
    assert 100 <= base < 120
    assert tokens.estimate_prompt(with_tools) > base + 100
    assert tokens.estimate_prompt(with_image) == base + tokens.IMAGE_TOKENS


def test_the_tokenizer_loads_only_when_counting() -> None:
    script = (
        "import sys; from sluice import tokens, buffer; tokens.estimate('x' * 100);"
        "assert 'tiktoken' not in sys.modules; tokens.count('x', 'gpt-4o'); assert 'tiktoken' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
