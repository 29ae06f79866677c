"""What every attempt at a provider has in common, whatever its protocol.

What trips over an answer of no known shape is the provider's error, and what trips over a request's body the client's: both are
said here, once, so that an adapter can read and write as if everybody kept to the protocol.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from sluice.adapters._halves import Halves
from sluice.errors import ErrorKind, ProviderError, Unreadable
from sluice.types import Channel, ChatRequest, Event, Frame, UpstreamRequest

MISREAD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading raises where a value has another type than the protocol says."""

BY_STATUS: Mapping[int, ErrorKind] = {
    401: "auth",
    402: "quota",
    403: "permission",
    404: "model_not_found",
    408: "timeout",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


class Attempt(ABC):
    """One attempt. `done`: nothing can follow any more. A subclass has the protocol: `request`, `events` and `fault`."""

    def __init__(self) -> None:
        self.done = False
        self._halves = Halves()

    @abstractmethod
    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest: ...

    @abstractmethod
    def events(self, frame: Frame) -> Iterable[Event]:
        """What `feed` gives, from a frame that keeps to the protocol."""

    @abstractmethod
    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The kind and words of `error`, from a body that keeps to the protocol."""

    @property
    def complete(self) -> bool:
        """Whether what has come is an answer's whole."""
        return self.done

    def feed(self, frame: Frame) -> Iterable[Event]:
        """Raises Unreadable, a ProviderError of kind "server", on a frame whose values have other types than they should."""
        try:
            yield from self._halves.joined(self.events(frame))
        except MISREAD as error:
            raise Unreadable from error

    def finish(self) -> Iterable[Event]:
        return [*self._halves.joined(self.ending()), *self._halves.rest()]

    def ending(self) -> Iterable[Event]:
        """What `finish` gives."""
        if not self.complete:
            raise ProviderError("network", "the stream ended before the answer did")
        return ()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        try:
            error = self.fault(status, headers, body)
        except MISREAD:
            error = ProviderError(by_status(status), status=status)
        if error.retry_after is None:
            error.retry_after = retry_after(headers)
        error.body = body
        return error


@contextmanager
def readable() -> Iterator[None]:
    """Around what reads an answer that is fed in no frames. Raises Unreadable."""
    try:
        yield
    except MISREAD as error:
        raise Unreadable from error


@contextmanager
def shaped() -> Iterator[None]:
    """Around what writes a client's body in a provider's words. Raises ProviderError("invalid_request")."""
    try:
        yield
    except MISREAD as error:
        raise ProviderError("invalid_request", "A field of the request has not the shape it should have.") from error


def by_status(status: int) -> ErrorKind:
    return BY_STATUS.get(status) or ("invalid_request" if 400 <= status < 500 else "server")


def parse(data: str) -> Mapping[str, Any]:
    """A frame's JSON object. Raises ProviderError("server") on anything else."""
    value = parsed(data)
    if not isinstance(value, Mapping):
        raise ProviderError("server", "the provider sent a frame that is no JSON object")
    return value


def parsed(data: str) -> Any:
    """A frame's JSON. Raises ProviderError("server") on what is none.

    Where orjson refuses, the standard library is asked: half a surrogate pair in a delta is wrong, and common.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except ValueError:
            raise ProviderError("server", "the provider sent a frame that is no JSON") from None


def loads(body: bytes) -> Mapping[str, Any]:
    """An error's body as an object: an empty one of anything else, since a status alone can say enough."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, Mapping) else {}


def named(rows: Any, field: str) -> list[str]:
    """The names in a list of models. Raises ProviderError("server") where it is none."""
    if not isinstance(rows, list):
        raise ProviderError("server", "the provider's answer is no list of models")
    return [row[field] for row in rows if isinstance(row, Mapping) and isinstance(row.get(field), str)]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds told by `retry-after-ms` or `retry-after`; an HTTP date counts from the answer's own `date`."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        told = headers.get("retry-after", "")
        if not told or told.replace(".", "", 1).isdigit():
            return float(told) if told else None
        gap = parsedate_to_datetime(told) - parsedate_to_datetime(headers["date"])
        return max(0.0, gap.total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
