"""What a provider's file has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from sluice.errors import ProviderError
from sluice.types import CallRequest, Channel, ChatRequest, Event, Frame, UpstreamRequest


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


class CallAdapter(Protocol):
    """One attempt at one provider at a call that is no chat. What it gives is in canonical form."""

    def request(self, call: CallRequest, channel: Channel) -> UpstreamRequest:
        """The provider's HTTP request. Raises ProviderError("unsupported", param=...) on what it cannot express."""
        ...

    def feed(self, frame: Frame) -> Iterable[Frame]:
        """A piece of a stream of events. Raises ProviderError on an error told inside it."""
        ...

    def whole(self, body: bytes) -> bytes:
        """A whole answer. Raises ProviderError on an error told as one."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """What an answer of 400 and above means."""
        ...


@runtime_checkable
class ListsModels(Adapter, Protocol):
    """An adapter whose provider can be asked for its models."""

    def list_models(self, channel: Channel) -> UpstreamRequest: ...

    def models_of(self, data: str) -> list[str]:
        """The names in that list's body, as requests have to give them. Raises ProviderError on another body."""
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


@runtime_checkable
class Offers(Protocol):
    """A provider that has more than chat."""

    def endpoint(self, kind: str, now: float) -> CallAdapter | None:
        """A fresh adapter for one attempt at a call of this kind (a name of `sluice.endpoints`); None where it has none."""
        ...
