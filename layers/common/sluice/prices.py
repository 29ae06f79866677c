"""Level 1: tokens to money and back to words. Decimals in, integers out; no float touches an amount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from sluice.types import NANO_PER_USD, Nano, Price, RateKind, Usage

_NANO_PER_TOKEN_USD = NANO_PER_USD // 10**6
"""One USD per million tokens is this many nano-dollars per token."""

_UNITS: Mapping[str, tuple[RateKind, int]] = {
    "image": ("per_image", 1),
    "second": ("per_second", 1),
    "search": ("per_search", 1),
    "call": ("per_call", 1),
    "character": ("per_million_characters", 10**6),
}
"""What each kind of unit is priced by, and for how many of them that price is."""

_KINDS_OF_INPUT: tuple[RateKind, ...] = ("cached_input", "cache_write", "audio_input", "image_input")


def cost(usage: Usage, price: Price) -> Nano:
    """What `usage` costs at `price`, rounded up to the next whole nano-dollar.

    A token counts once: where a provider's kinds overlap (cached audio), the first of cached, cache write, audio, image.
    """
    counts = (usage.cached, usage.cache_write, usage.audio_input, usage.image_input)
    parts = zip(counts, (price.rates.get(kind) for kind in _KINDS_OF_INPUT), strict=True)
    spoken = [(usage.audio_output, price.rates.get("audio_output"))]
    tokens = _tokens(usage.input, price.input, parts) + _tokens(usage.output, price.output, spoken)
    return _ceiling(tokens * _NANO_PER_TOKEN_USD + _units(usage, price))


def most(usage: Usage, price: Price) -> Nano:
    """The most that so many tokens and units can cost, whatever kind of tokens they turn out to be: what a hold has to cover."""
    tokens = usage.input * _dearest_input(price) + usage.output * _dearest_output(price)
    return _ceiling(tokens * _NANO_PER_TOKEN_USD + _units(usage, price))


def output_covered(amount: Nano, input_tokens: int, price: Price) -> int | None:
    """How many output tokens `amount` pays for after `input_tokens`, whatever their kind; None where output is free."""
    rate = _dearest_output(price)
    if rate <= 0:
        return None
    left = amount - most(Usage(input=input_tokens), price)
    return max(0, int(Decimal(left) / (rate * _NANO_PER_TOKEN_USD)))


def _tokens(total: int, rate: Decimal, parts: Iterable[tuple[int, Decimal | None]]) -> Decimal:
    """USD per million times tokens: each part at its own rate where it has one, the rest at `rate`."""
    exact, left = Decimal(0), total
    for count, own in parts:
        taken = min(count, left)
        left -= taken
        exact += taken * (rate if own is None else own)
    return exact + left * rate


def _units(usage: Usage, price: Price) -> Decimal:
    """Nano-dollars of what is no token. A call is one where nobody counted."""
    if not price.rates:
        return Decimal(0)
    counted = {"call": 1, **usage.units}
    priced = ((counted.get(unit, 0) * price.rates.get(kind, 0), per) for unit, (kind, per) in _UNITS.items())
    return sum((Decimal(usd) * NANO_PER_USD / per for usd, per in priced), Decimal(0))


def _dearest_input(price: Price) -> Decimal:
    return max(price.input, *(price.rates.get(kind, price.input) for kind in _KINDS_OF_INPUT))


def _dearest_output(price: Price) -> Decimal:
    return max(price.output, price.rates.get("audio_output", price.output))


def _ceiling(nano: Decimal) -> Nano:
    return int(nano.to_integral_value(ROUND_CEILING))


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
