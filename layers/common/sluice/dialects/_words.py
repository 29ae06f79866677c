"""A field of the canonical request by the name its client knows: for what is refused, and for what is dropped.

A dialect's `says` is the table: the canonical name, with `[]` for every index, and the client's own names for it; of several the
client may have sent any. A dialect whose body is the canonical one does without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sluice.dialects._base import Dialect
from sluice.types import ChatRequest

Says = Mapping[str, tuple[str, ...]]

_INDEX = re.compile(r"\[\d+\]")
_PART = re.compile(r"messages\[(\d+)\]\.content\[(\d+)\]")


def own_name(dialect: Dialect, chat: ChatRequest, field: str) -> str:
    """`field` as this client would say it; a part of a message by its very place where that can be told."""
    says: Says = getattr(dialect, "says", {})
    if not says:
        return field
    if place := _place(chat, field):
        return place
    names = next((says[name] for name in _ancestors(_INDEX.sub("[]", field)) if name in says), (field,))
    return next((name for name in names if _is_in(chat.raw, name)), names[0])


def in_own_words(message: str, field: str, own: str) -> str:
    """A sentence that names `field`, with its own name there."""
    return message.replace(f"`{field}`", f"`{own}`")


def _ancestors(field: str) -> Iterator[str]:
    """A field, what it is in, and so on."""
    while field:
        yield field
        field = field.removesuffix("[]") if field.endswith("[]") else field.rpartition(".")[0]


def _is_in(body: Any, name: str) -> bool:
    """Whether a body has a field, its name in camelCase or in snake_case."""
    for step in name.split("."):
        if not isinstance(body, Mapping):
            return False
        snake = re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", step)
        body = body.get(step, body.get(snake))
    return body is not None


def _place(chat: ChatRequest, field: str) -> str:
    """Where the client's body has what became this part of a message: its data or address stands there as it was sent."""
    found = _PART.match(field)
    part = _part(chat.body["messages"], int(found[1]), int(found[2])) if found else {}
    texts = [text for name, value in part.items() if name != "type" for _, text in _texts(value, "")]
    whole = max(texts, key=len, default="")
    sought = {whole, whole.partition(";base64,")[2]} - {""}
    return next((place for place, text in _texts(chat.raw, "") if text in sought), "")


def _part(messages: list[Any], number: int, position: int) -> Mapping[str, Any]:
    """A part of a message; empty where there is none: a provider's own message may name any place."""
    content = messages[number].get("content") if number < len(messages) else None
    part = content[position] if isinstance(content, list) and position < len(content) else None
    return part if isinstance(part, Mapping) else {}


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text in a body, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, f"{place}[{index}]")
