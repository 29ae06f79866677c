"""A canonical chat request in the words of one compatible provider, by its row.

The canonical body is OpenAI's, so that what is left is what a row says: names, limits, and which of the canonical extensions
(facts/providers.md sections 8 and 26) the provider has a place for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice.errors import ProviderError

if TYPE_CHECKING:
    from sluice.adapters._openai import OpenAICompatible
    from sluice.types import ChatRequest

EXTENSIONS = frozenset(
    {"reasoning_content", "reasoning_details", "extra_content", "cache_control", "prompt_cache_breakpoint"}
)
"""What the canonical form carries beyond what every compatible provider knows: on messages, parts, tool calls and tools."""

PRIVATE = frozenset({"user", "metadata", "safety_identifier", "store"})
"""What a client tells its own vendor about its users: nobody else's to know."""

IRREPLACEABLE = frozenset({"logit_bias", "logprobs"})
"""What no provider drops, though it has not got it: an answer without them is not the one that was asked for."""

_REASONING = frozenset({"reasoning_content", "reasoning_details"})
_UNSET: tuple[Any, ...] = (None, False, "", [], {})


@dataclass(frozen=True, slots=True)
class ModelRule:
    """What holds only for models whose name begins as `models`, a regular expression, says."""

    models: str
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    refuse: frozenset[str] = frozenset()


def outgoing(chat: ChatRequest, row: OpenAICompatible, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The provider's body, and the fields of the client's that are not in it. Raises ProviderError("unsupported")."""
    rules = [rule for rule in row.rules if re.match(rule.models, model, re.IGNORECASE)]
    _check(chat.body, row, row.refused.union(*(rule.refuse for rule in rules)))
    drop = row.drop.union(PRIVATE if chat.dialect != row.wire else row.private, *(rule.drop for rule in rules))
    rename = dict(row.rename)
    for rule in rules:
        rename.update(rule.rename)
    lost = {name: None for name, value in chat.body.items() if name in drop and value not in _UNSET}
    body = {
        rename.get(name, name): _clamped(value, row.clamp.get(name))
        for name, value in chat.body.items()
        if name not in drop and not _superseded(name, rename, chat.body)
    }
    _effort(body, row)
    for name, value in row.extra.items():
        body.setdefault(name, value)
    if body.get("messages"):
        body["messages"] = _messages(body["messages"], row, lost)
    if body.get("tools"):
        body["tools"] = [_stripped(tool, row.strip & EXTENSIONS, "tools[]", lost) for tool in body["tools"]]
    return body, tuple(lost)


def thought_of(message: Mapping[str, Any]) -> str:
    """The reasoning an assistant's message carries, whichever way its client kept it."""
    told = message.get("reasoning_content")
    if isinstance(told, str):
        return told
    details = [detail for detail in message.get("reasoning_details") or () if isinstance(detail, Mapping)]
    return "".join(str(detail.get("text") or detail.get("summary") or "") for detail in details)


def _check(body: Mapping[str, Any], row: OpenAICompatible, refuse: Iterable[str]) -> None:
    """Refuses what the provider cannot do and would not be the same without."""
    for name in refuse:
        if body.get(name) not in _UNSET:
            raise _unsupported(name, row)
    for name, most in row.most.items():
        value = body.get(name)
        size = len(value) if isinstance(value, list) else value
        if isinstance(size, int) and size > most:
            raise ProviderError("unsupported", f"`{name}` of more than {most} is not offered here.", param=name)


def _superseded(name: str, rename: Mapping[str, str], body: Mapping[str, Any]) -> bool:
    """Whether the client said the same under the provider's own name too."""
    return name in rename and rename[name] != name and body.get(rename[name]) is not None


def _clamped(value: Any, limits: tuple[float, float] | None) -> Any:
    if limits is None or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    low, high = limits
    return value if low <= value <= high else min(max(value, low), high)


def _effort(body: dict[str, Any], row: OpenAICompatible) -> None:
    said = row.efforts.get(str(body.get("reasoning_effort")))
    if said is not None:
        del body["reasoning_effort"]
        for name, value in said.items():
            body.setdefault(name, value)


def _messages(messages: Iterable[Any], row: OpenAICompatible, lost: dict[str, None]) -> list[Any]:
    told = list(messages)
    with_tools = any(message.get("tool_calls") for message in told)
    out = [_message(message, row, lost) for message in told]
    if row.replay == "always" or (row.replay == "tools" and with_tools):
        for message, sent in zip(told, out, strict=True):
            if (thought := _replayed(message, row)) is not None:
                sent[row.replay_as] = thought
    return out


def _replayed(message: Mapping[str, Any], row: OpenAICompatible) -> str | None:
    """The reasoning to send back with a message; where the provider insists on one, an empty one before a tool call."""
    if message.get("role") != "assistant" or (
        message.get("reasoning_details") and "reasoning_details" not in row.strip
    ):
        return None
    return thought_of(message) or (row.replay_blank if message.get("tool_calls") else None)


def _message(message: Mapping[str, Any], row: OpenAICompatible, lost: dict[str, None]) -> dict[str, Any]:
    silent = frozenset[str]() if row.replay == "never" else _REASONING
    out: dict[str, Any] = _stripped(message, row.strip, "messages[]", lost, silent)
    out["role"] = row.roles.get(str(message.get("role")), message.get("role"))
    for name in ("content", "tool_calls"):
        if isinstance(message.get(name), list):
            out[name] = [
                _stripped(_sendable(part, row), row.strip & EXTENSIONS, f"messages[].{name}[]", lost)
                for part in message[name]
            ]
    return out


def _sendable(part: Any, row: OpenAICompatible) -> Any:
    """A part of a message. Raises ProviderError where it is an address and the provider reads only what is sent along."""
    if row.inline_images and isinstance(part, Mapping) and part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if not str(url).startswith("data:"):
            message = "An image by its address is not offered here: send it as a data URI."
            raise ProviderError("unsupported", message, param="messages[].content[].image_url")
    return part


def _stripped(
    value: Any, names: frozenset[str], where: str, lost: dict[str, None], silent: frozenset[str] = frozenset()
) -> Any:
    """A copy without `names`; those that said something are written down in `lost`, but for the `silent` ones."""
    if not isinstance(value, Mapping):
        return value
    found = names.intersection(value)
    for name in sorted(found - silent):
        if value[name] not in _UNSET:
            lost[f"{where}.{name}"] = None
    return {name: field for name, field in value.items() if name not in found} if found else dict(value)


def _unsupported(name: str, row: OpenAICompatible) -> ProviderError:
    return ProviderError("unsupported", f"`{name}` is not offered by a provider of type `{row.name}`.", param=name)
