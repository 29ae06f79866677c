"""Money is exact, and tokens are counted by the tables that ship."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import prices, tokens
from sluice.types import NANO_PER_USD, Price, Usage

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
