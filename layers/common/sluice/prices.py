"""Level 1: tokens to money and back to words. Decimals in, integers out; no float touches an amount."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

from sluice.types import NANO_PER_USD, Nano, Price, Usage

_NANO_PER_TOKEN_USD = NANO_PER_USD // 10**6
"""One USD per million tokens is this many nano-dollars per token."""


def cost(usage: Usage, price: Price) -> Nano:
    """What `usage` costs at `price`, rounded up to the next whole nano-dollar."""
    exact = (usage.input * price.input + usage.output * price.output) * _NANO_PER_TOKEN_USD
    return int(exact.to_integral_value(ROUND_CEILING))


def output_covered(amount: Nano, input_tokens: int, price: Price) -> int | None:
    """How many output tokens `amount` pays for after `input_tokens`; None where output is free."""
    if price.output <= 0:
        return None
    left = amount - cost(Usage(input=input_tokens), price)
    return max(0, int(Decimal(left) / (price.output * _NANO_PER_TOKEN_USD)))


def usd_to_nano(usd: Decimal | str | int) -> Nano:
    """USD as nano-dollars. Raises ValueError on what is no finite number or has more than nine decimals."""
    try:
        amount = Decimal(usd) * NANO_PER_USD
        nano = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{usd!r} is not an amount in USD") from None
    if nano != amount:
        raise ValueError(f"{usd!r} is finer than a nano-dollar: nine decimals at most")
    return nano


def nano_to_usd(nano: Nano) -> str:
    """Nano-dollars as a decimal string in USD, exact and without an exponent: 1500000000 -> "1.5"."""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text
