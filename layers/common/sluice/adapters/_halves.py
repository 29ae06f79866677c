"""Text of providers that cut a character in two: half a surrogate pair at a delta's end, the other half in the next.

A half is no character, and nothing but JSON's escapes can write it. What leaves an adapter has none: halves that follow each other
are put together, one that stays alone is U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import orjson

from sluice.types import Event, Finish, Reasoning, Text, ToolCall

_HALF = re.compile(r"[\ud800-\udfff]")
_FIRST_HALF = re.compile(r"[\ud800-\udbff]\Z")

Spoken = Text | Reasoning | ToolCall


class Halves:
    """The events of one answer. A first half waits, in its choice, for the delta that goes on where it stands."""

    def __init__(self) -> None:
        self._waiting: dict[int, Spoken] = {}

    def joined(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if not self._waiting and _is_whole(event):
                yield event
            elif isinstance(event, Spoken):
                yield from self._spoken(event)
            else:
                yield from self._ended(event.choice) if isinstance(event, Finish) else ()
                yield mended_event(event)

    def rest(self) -> Iterator[Event]:
        """What waits for nothing any more."""
        for choice in sorted(self._waiting):
            yield from self._ended(choice)

    def _spoken(self, event: Spoken) -> Iterator[Event]:
        waiting = self._waiting.get(event.choice)
        if waiting is not None and _lane(waiting) == _lane(event):
            del self._waiting[event.choice]
            event = _saying(event, _text(waiting) + _text(event))
        elif waiting is not None:
            yield from self._ended(event.choice)
        text = mended(_text(event), last=_is_closed(event))
        if half := _FIRST_HALF.search(text):
            self._waiting[event.choice] = _half_of(event, half[0])
            text = text[:-1]
            event = _saying(event, text)
            if event == _half_of(event, ""):
                return
        yield mended_event(_saying(event, text))

    def _ended(self, choice: int) -> Iterator[Event]:
        if (waiting := self._waiting.pop(choice, None)) is not None:
            yield mended_event(waiting)


def mended(text: str, *, last: bool = True) -> str:
    """`text` with its halves put together, and those alone replaced: but for a first half at its end where it is not the `last`."""
    if text.isascii() or not _HALF.search(text):
        return text
    kept = "" if last or not _FIRST_HALF.search(text) else text[-1]
    whole = text[: len(text) - len(kept)].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole + kept


def written(value: Any) -> str:
    """An object a provider sent, as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return orjson.dumps(_mended_value(value)).decode()


def mended_event(event: Event) -> Event:
    told = {field.name: getattr(event, field.name) for field in fields(event)}
    return event if _is_whole(event) else replace(event, **_mended_value(told))


def _mended_value(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return list(map(_mended_value, value))
    if isinstance(value, Mapping):
        return {_mended_value(name): _mended_value(inner) for name, inner in value.items()}
    return value


def _is_whole(event: Event) -> bool:
    """Whether no text in it has halves."""
    if isinstance(event, Text):
        return event.text.isascii() or not _HALF.search(event.text)
    return all(map(_has_no_half, (getattr(event, field) for field in event.__slots__)))


def _has_no_half(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or not _HALF.search(value)
    if isinstance(value, list):
        return all(map(_has_no_half, value))
    if isinstance(value, Mapping):
        return all(map(_has_no_half, value)) and all(map(_has_no_half, value.values()))
    return True


def _lane(event: Spoken) -> tuple[object, ...]:
    """What has to be the same in two deltas for one to go on where the other stands."""
    if isinstance(event, ToolCall):
        return ToolCall, event.index
    return type(event), isinstance(event, Reasoning) and bool(event.data)


def _is_closed(event: Spoken) -> bool:
    """Whether nothing can go on from it: a signature closes its block."""
    return isinstance(event, Reasoning) and bool(event.signature or event.data)


def _text(event: Spoken) -> str:
    return event.arguments if isinstance(event, ToolCall) else event.text


def _saying(event: Spoken, text: str) -> Spoken:
    return replace(event, arguments=text) if isinstance(event, ToolCall) else replace(event, text=text)


def _half_of(event: Spoken, half: str) -> Spoken:
    """`half` in the place of `event`, and nothing else of it."""
    if isinstance(event, ToolCall):
        return ToolCall(event.index, arguments=half, choice=event.choice)
    return type(event)(half, choice=event.choice)
