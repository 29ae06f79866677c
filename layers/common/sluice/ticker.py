"""Level 1: in which order channels are tried."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator

from sluice.types import Channel


class Ticker:
    """An iterator over channels: smaller `priority` first; inside one priority a weighted draw without replacement.

    Every sibling comes before the next tier and none comes twice. Weight 0 means drained and never comes. The first of a tier is
    `c` with probability weight(c) / sum of weights; so is each next among those left (Efraimidis and Spirakis, 2006).
    """

    def __init__(self, channels: Iterable[Channel], rng: random.Random) -> None:
        self._rng = rng
        drawn = ((c.priority, self._key(c), c.id, c) for c in channels if c.weight > 0)
        self._order = iter([c for _, _, _, c in sorted(drawn, key=lambda row: row[:3])])

    def _key(self, channel: Channel) -> float:
        return -math.log(1.0 - self._rng.random()) / channel.weight

    def __iter__(self) -> Iterator[Channel]:
        return self

    def __next__(self) -> Channel:
        return next(self._order)
