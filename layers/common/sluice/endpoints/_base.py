"""What an endpoint's file has to offer, and the answer that passes everything on, for those to build on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson

from sluice.errors import ProviderError
from sluice.types import CallRequest, Frame, Inbound, Usage


class Answer:
    """One attempt's answer on its way to one client, in canonical form when it comes in. Does no I/O.

    `alias` is the client's name for a model the channel maps to another, else empty. `usage` is what the provider said it
    counted, None until it has; `done` whether nothing can follow any more.
    """

    def __init__(self, call: CallRequest, alias: str) -> None:
        self.call = call
        self.alias = alias
        self.usage: Usage | None = None
        self.done = False

    def whole(self, body: bytes) -> bytes:
        """A whole answer, as the client gets it. Raises ProviderError("server") on what is no answer."""
        return body

    def frame(self, frame: Frame) -> Iterable[Frame]:
        """A piece of a stream of events."""
        return (frame,)

    def streamed(self, body: bytes) -> Iterable[Frame]:
        """A whole answer where a stream was asked for: some providers ignore that."""
        raise ProviderError("server", "the provider answered with a body where a stream was asked for")

    def finish(self) -> None:
        """The end of input. Raises ProviderError("network") where a stream was not complete."""

    def end(self, usage: Usage) -> Iterable[Frame]:
        """What closes a stream, after the settlement. `usage` is what was charged."""
        return ()

    def counted(self) -> Usage:
        """Our own count, where the provider never said. May take its time: the tokenizer loads here."""
        return Usage(source="counted")


class Endpoint(Protocol):
    """A file's `ENDPOINT`: a kind of call as clients make it. Several may be doors to one kind, in several formats."""

    @property
    def kind(self) -> str:
        """What providers offer it by."""
        ...

    @property
    def dialect(self) -> str:
        """Whose errors are spoken here."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """Where it is POSTed to, in Starlette's form. Path parameters reach `Inbound.path`."""
        ...

    def parse(self, inbound: Inbound) -> CallRequest:
        """A client's request in canonical form. Raises BadRequest naming the field."""
        ...

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        """The most it can use, high rather than low. `output_cap` is the model's, in tokens."""
        ...

    def answer(self, call: CallRequest, alias: str) -> Answer: ...


def json_answer(body: bytes | str) -> dict[str, Any]:
    """Raises ProviderError("server") on what is no JSON object."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise ProviderError("server", "the provider's answer is no JSON object")
    return told


def objects(rows: Any, what: str, count: int | None = None) -> list[dict[str, Any]]:
    """A list of objects, at least one, or just so many. Raises ProviderError("server") on any other."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ProviderError("server", f"the provider's answer has no {what}")
    if count is not None and len(rows) != count:
        raise ProviderError("server", f"the provider's answer has {len(rows)} {what} where {count} were asked for")
    return rows


def tokens_told(told: Mapping[str, Any]) -> Usage | None:
    """The tokens in an answer's `usage`, by any of OpenAI's names for them; None where there are none."""
    usage = told.get("usage")
    if not isinstance(usage, Mapping):
        return None
    inner, outer = _details(usage, "input", "prompt"), _details(usage, "output", "completion")
    output = _number(usage, "output_tokens", "completion_tokens")
    found = Usage(
        input=_number(usage, "input_tokens", "prompt_tokens") or max(0, _number(usage, "total_tokens") - output),
        output=output,
        cached=_number(inner, "cached_tokens"),
        reasoning=_number(outer, "reasoning_tokens"),
        audio_input=_number(inner, "audio_tokens"),
        image_input=_number(inner, "image_tokens"),
        audio_output=_number(outer, "audio_tokens"),
    )
    return found if found.input or found.output else None


def with_units(usage: Usage | None, **units: int) -> Usage:
    """`usage` and what is no token. What the provider shows by its answer, it has said."""
    return replace(usage or Usage(), units={kind: count for kind, count in units.items() if count})


def _details(usage: Mapping[str, Any], *sides: str) -> Mapping[str, Any]:
    names = (f"{side}_token{plural}_details" for side in sides for plural in ("s", ""))
    return next((usage[name] for name in names if isinstance(usage.get(name), Mapping)), {})


def _number(values: Mapping[str, Any], *names: str) -> int:
    found = (values.get(name) for name in names)
    return next((int(value) for value in found if isinstance(value, int | float) and value > 0), 0)
