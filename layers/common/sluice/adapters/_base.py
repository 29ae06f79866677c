"""What a provider's file has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Event, Frame, UpstreamRequest


class Adapter(Protocol):
    """One attempt at one provider: made fresh for each, holds its state, does no I/O.

    Headers are given with lower-case names.
    """

    @property
    def done(self) -> bool:
        """Whether nothing can follow any more: a provider that then keeps the connection open is not waited for."""
        ...

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        """The provider's HTTP request. Raises ProviderError("unsupported", param=...) on what it cannot express."""
        ...

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The events of one frame. An answer that is no stream is one frame holding the whole body.

        Raises ProviderError on an error told inside the answer.
        """
        ...

    def finish(self) -> Iterable[Event]:
        """What the end of input adds. Raises ProviderError("network") if the answer was not complete."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """What an answer of 400 and above means."""
        ...


class Provider(Protocol):
    """A file's `ADAPTER`. `wire` names the dialect whose bytes this provider speaks ("" where it is nobody's)."""

    @property
    def name(self) -> str: ...

    @property
    def wire(self) -> str: ...

    def adapter(self, now: float) -> Adapter:
        """A fresh adapter for one attempt. `now` (epoch seconds) is for signatures."""
        ...
