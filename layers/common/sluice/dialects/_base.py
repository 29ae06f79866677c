"""What a client format's file has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from sluice.errors import SluiceError
from sluice.types import ChatRequest, Completion, Event, Frame, Inbound, KeptAnswer, Model, Usage


class Encoder(Protocol):
    """One answer on its way to one client: made fresh for each attempt, holds its state, does no I/O."""

    def relay(self, frame: Frame) -> Iterable[Frame]:
        """A provider's frame in this very dialect, passed on with as little changed as the client's request allows."""
        ...

    def encode(self, event: Event) -> Iterable[Frame]:
        """A canonical event as frames of this dialect."""
        ...

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        """What closes a stream that ended well, terminator included. `usage` is what was charged."""
        ...

    def whole(self, frame: Frame) -> bytes:
        """A provider's whole body in this very dialect."""
        ...

    def completion(self, completion: Completion) -> bytes:
        """A whole answer as a body of this dialect."""
        ...


@runtime_checkable
class Recorder(Encoder, Protocol):
    """An encoder that knows its answer as a whole: it ends one that broke with what it was so far, and has it kept."""

    def broken(self, error: SluiceError, usage: Usage | None) -> Iterable[Frame]:
        """What closes a stream that broke, in place of the dialect's `error_frame`."""
        ...

    def record(self, usage: Usage) -> KeptAnswer | None:
        """What is to be kept of the answer; None where nothing is. Asked for before `end`."""
        ...

    def unkept(self) -> None:
        """The answer could not be kept: what is still to be said of it says so."""
        ...


Verb = Literal["chat", "count", "models", "model", "answer", "asked", "forget", "cancel"]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path of a dialect, in Starlette's form, and what is asked there. Path parameters reach `Inbound.path`."""

    method: str
    path: str
    verb: Verb


class Dialect(Protocol):
    """A file's `DIALECT`."""

    @property
    def name(self) -> str: ...

    @property
    def routes(self) -> Sequence[Route]: ...

    def claims(self, headers: Mapping[str, str]) -> bool:
        """Whether a request to a path that several dialects share is this one's, by its headers. OpenAI takes the rest."""
        ...

    def parse(self, inbound: Inbound) -> ChatRequest:
        """A client's request as the canonical one. Raises BadRequest naming the field."""
        ...

    def encoder(self, chat: ChatRequest, request_id: str, created: int, alias: str) -> Encoder:
        """`alias` is the client's name for a model the channel maps to another, else empty."""
        ...

    def error(self, error: SluiceError, request_id: str) -> bytes:
        """The body of an answer that is an error."""
        ...

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        """The event that ends a stream which broke after it began."""
        ...

    def models(self, models: Sequence[Model]) -> bytes: ...

    def model(self, model: Model) -> bytes: ...

    def counted(self, tokens: int) -> bytes:
        """The answer to a request to count the input's tokens."""
        ...


def shown_by(dialect: Dialect) -> Sequence[str]:
    """The headers of a provider of this very format that its clients may see, by name or as "beginning-*".

    A dialect that has none does without `shows`.
    """
    names: Sequence[str] = getattr(dialect, "shows", ())
    return names


@runtime_checkable
class Remembering(Dialect, Protocol):
    """A dialect whose clients ask again for answers that were kept, and go on from them. `query` is what an URL asks for.

    All but `resumed` raise BadRequest naming the parameter.
    """

    def resumed(self, chat: ChatRequest, kept: Sequence[KeptAnswer]) -> ChatRequest:
        """A request that `recalls` answers, made whole with them. Raises NotFound on what is not in them."""
        ...

    def answer(self, kept: KeptAnswer, query: Mapping[str, str]) -> bytes: ...

    def replay(self, kept: KeptAnswer, query: Mapping[str, str]) -> Iterable[Frame]:
        """The answer as the stream it was, or what is left of it after the point the client has reached."""
        ...

    def asked(self, kept: KeptAnswer, query: Mapping[str, str]) -> bytes:
        """What the answer was asked with."""
        ...

    def cancelled(self, kept: KeptAnswer) -> bytes: ...

    def forgotten(self, answer_id: str) -> bytes: ...
