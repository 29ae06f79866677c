"""What a request asks of a model beyond text, and which channels' models are known to lack it.

Only what is certain refuses: a capability nobody has said anything of is the provider's to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sluice import models
from sluice.dialects import in_own_words, load, own_name
from sluice.errors import BadRequest
from sluice.types import Catalog, Channel, ChatRequest, Model

_PARTS = {
    "image_url": ("image", "images"),
    "input_audio": ("audio", "audio"),
    "video_url": ("video", "video"),
    "file": ("file", "documents"),
}
"""A content part's type -> the modality it needs, and a word for it."""


@dataclass(frozen=True, slots=True)
class _Need:
    what: str
    param: str
    met: Callable[[Model], bool]


def able(catalog: Catalog, request: ChatRequest, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """The channels whose model is not known to lack what the request asks for. Raises BadRequest naming the field."""
    for need in _needs(request):
        channels = tuple(channel for channel in channels if need.met(_served(catalog, request.model, channel)))
        if not channels:
            own = own_name(load(request.dialect), request, need.param)
            message = in_own_words(f"The model `{request.model}` takes no {need.what}.", need.param, own)
            raise BadRequest(message, param=own, code="unsupported_by_model")
    return channels


def most_output(catalog: Catalog, request: ChatRequest, channels: tuple[Channel, ...]) -> int:
    """The most tokens any of the channels' models is known to give in one answer, 0 where one is not known."""
    return _largest(_served(catalog, request.model, channel).max_output for channel in channels)


def widest(catalog: Catalog, request: ChatRequest, channels: tuple[Channel, ...]) -> int:
    """The widest window of the channels' models in tokens, 0 where one is not known."""
    return _largest(_served(catalog, request.model, channel).context for channel in channels)


def _largest(known: Iterable[int]) -> int:
    values = list(known)
    return max(values) if all(values) else 0


def _served(catalog: Catalog, name: str, channel: Channel) -> Model:
    return models.described(name, (channel,), catalog.described.get(name))


def _needs(request: ChatRequest) -> Iterator[_Need]:
    if request.body.get("tools"):
        yield _Need("tools", "tools", lambda model: model.tools is not False)
    if _kind(request.body.get("response_format")) == "json_schema":
        yield _Need("`response_format` of type json_schema", "response_format", lambda one: one.structured is not False)
    for place, part in _parts(request.body.get("messages")):
        if kind := _PARTS.get(_kind(part)):
            yield _media(*kind, place)


def _media(modality: str, word: str, param: str) -> _Need:
    return _Need(word, param, lambda model: not model.input or modality in model.input)


def _parts(messages: Any) -> Iterator[tuple[str, Any]]:
    for number, message in enumerate(messages or ()):
        content = message.get("content")
        for position, part in enumerate(content if isinstance(content, list) else ()):
            yield f"messages[{number}].content[{position}]", part


def _kind(value: Any) -> str:
    return str(value.get("type", "")) if isinstance(value, Mapping) else ""
