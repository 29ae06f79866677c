"""Level 2: the tokens that some providers want in place of a channel's secret: bought with it, kept until they run out.

The buying goes through the `send` it is given, which is upstream's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol, runtime_checkable

from sluice.types import Channel, Secret, UpstreamRequest

_EARLY_SECONDS = 300
"""A token is bought anew this long before it runs out: an answer may take its time."""


@runtime_checkable
class SellsPasses(Protocol):
    """A provider whose requests carry a token of its own. Its adapters find it in place of the channel's secret."""

    def exchange(self, channel: Channel) -> UpstreamRequest:
        """The request that buys a token."""
        ...

    def exchanged(self, status: int, body: bytes) -> tuple[str, float]:
        """The token, and how many seconds it is good for. Raises ProviderError."""
        ...


class Answer(Protocol):
    status: int

    async def error_body(self) -> bytes: ...


Send = Callable[[UpstreamRequest], AbstractAsyncContextManager[Answer]]


class Passes:
    """One per process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Secret, str], tuple[Secret, float]] = {}

    async def admitted(self, provider: object, channel: Channel, send: Send, now: float) -> Channel:
        """`channel` as its provider's adapter is to see it. `now` is in epoch seconds. Raises ProviderError."""
        if not isinstance(provider, SellsPasses):
            return channel
        token, runs_out = self._kept.get(_name(channel), (Secret(""), 0.0))
        if now >= runs_out:
            async with send(provider.exchange(channel)) as answer:
                told, seconds = provider.exchanged(answer.status, await answer.error_body())
            token = Secret(told)
            self._kept[_name(channel)] = token, now + seconds - _EARLY_SECONDS
        return replace(channel, secret=token)

    def refused(self, channel: Channel) -> bool:
        """Forgets the channel's token. Whether there was one: with a new one it may be admitted again."""
        return self._kept.pop(_name(channel), None) is not None


def _name(channel: Channel) -> tuple[str, Secret, str]:
    return channel.id, channel.secret, channel.endpoint
