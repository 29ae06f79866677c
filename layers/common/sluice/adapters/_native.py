"""What the adapters of protocols of their own share: reading the canonical body, and telling what has no place in theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from sluice.adapters._outgoing import IRREPLACEABLE, thought_of
from sluice.errors import ErrorKind, ProviderError

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]*;base64,", re.ASCII)

ANYTHING: Mapping[str, Any] = {"type": "object", "properties": {}}
"""The schema of a function that says nothing of its parameters."""

_EMPTY: tuple[Any, ...] = (None, False, "", [], {})

_NEUTRAL: Mapping[str, Any] = {
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "service_tier": "auto",
}
"""Values by which a field says nothing that is not so anyway."""

REFUSED = IRREPLACEABLE | frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "modalities",
        "n",
        "response_format",
        "stop",
        "tool_choice",
        "tools",
        "web_search_options",
    }
)
"""Fields without which an answer would not be what was asked for, unless an adapter carries them."""


def unsupported(field: str, advice: str = "") -> ProviderError:
    return ProviderError("unsupported", f"`{field}` cannot be asked of this provider. {advice}".strip(), param=field)


def dropped(body: Mapping[str, Any], carried: frozenset[str], refused: frozenset[str] = REFUSED) -> tuple[str, ...]:
    """The fields of `body` that say something and are not carried. Raises ProviderError("unsupported") on a refused one."""
    names = [name for name, value in body.items() if name not in carried and _says(name, value)]
    for name in names:
        if name in refused:
            raise unsupported(name)
    return tuple(names)


def _says(name: str, value: Any) -> bool:
    """Whether a field asks for anything. Only of parallel calls is `false` a wish."""
    return value != _NEUTRAL.get(name) and (value not in _EMPTY or (name == "parallel_tool_calls" and value is False))


def said(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `body` that are there, by the provider's names for them."""
    return {theirs: body[ours] for ours, theirs in names.items() if body.get(ours) is not None}


def stops(body: Mapping[str, Any]) -> list[str]:
    """The texts an answer is to end before, of which one may be said alone."""
    told = body.get("stop") or []
    return [told] if isinstance(told, str) else told


def cap(body: Mapping[str, Any]) -> int | None:
    return body.get("max_completion_tokens") or body.get("max_tokens")


def messages(body: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Each message with its place in the body and its role, "developer" being OpenAI's newer word for "system".

    Instructions come first wherever they stand: none of these providers takes them later.
    """
    told = [
        (f"messages[{number}]", "system" if message.get("role") == "developer" else str(message.get("role")), message)
        for number, message in enumerate(body.get("messages") or ())
    ]
    return sorted(told, key=lambda one: one[1] != "system")


def joined(turns: Iterable[dict[str, Any]], role: str = "role", content: str = "content") -> list[dict[str, Any]]:
    """Turns of one role after another made one where they are nothing but text: these providers want roles to alternate."""
    out: list[dict[str, Any]] = []
    for turn in turns:
        plain = turn.keys() == {role, content} and isinstance(turn[content], str)
        if out and plain and out[-1].keys() == {role, content} and out[-1][role] == turn[role]:
            out[-1] = {role: turn[role], content: f"{out[-1][content]}\n\n{turn[content]}"}
        else:
            out.append(turn)
    return out


def parts(content: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A message's content part by part, each with its place; text that is a plain string is one part."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for number, part in enumerate(content or ()):
        place = f"{where}.content[{number}]"
        if not isinstance(part, Mapping):
            raise unsupported(place)
        yield place, part


def text_of(content: Any, where: str) -> str:
    """Content as one text. Raises ProviderError("unsupported") on a part that is none."""
    texts = [part_text(part) for _, part in parts(content, where)]
    if None in texts:
        raise unsupported(f"{where}.content", "It takes text only.")
    return "".join(text for text in texts if text)


def part_text(part: Mapping[str, Any]) -> str | None:
    """The text of a part; None of a part that is none."""
    kind = part.get("type", "text")
    return str(part.get(kind) or "") if kind in ("text", "refusal") else None


def image_url(part: Mapping[str, Any]) -> str:
    image = part.get("image_url")
    return str(image.get("url") if isinstance(image, Mapping) else image or "")


def forgotten(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The name under which earlier reasoning is dropped by a provider that takes none back; nothing where there is none."""
    return ("messages[].reasoning_content",) if any(thought_of(told) for _, _, told in messages(body)) else ()


def inline(url: str) -> tuple[str, str] | None:
    """The media type and the base64 text of a data URL; None of any other URL."""
    if found := _DATA_URL.match(url):
        return found[1] or "", url[found.end() :]
    return None


def calls(message: Mapping[str, Any], where: str) -> Iterator[tuple[str, str, str]]:
    """The id, name and arguments' JSON text of each tool call. Raises ProviderError("unsupported") on one of no function."""
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise unsupported(f"{where}.tool_calls[{number}].type")
        yield str(call.get("id") or ""), str(function.get("name") or ""), str(function.get("arguments") or "{}")


def arguments(text: str, where: str) -> Mapping[str, Any]:
    """A call's arguments as the object that they have to be."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, Mapping):
        raise unsupported(f"{where}.tool_calls", "Their arguments have to be the JSON text of an object.")
    return value


def functions(body: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each tool's function, and the tool. Raises ProviderError("unsupported") on a tool that is none."""
    for number, tool in enumerate(body.get("tools") or ()):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping):
            raise unsupported(f"tools[{number}].type")
        yield function, tool


def described(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each function by name, description and parameters, for providers that demand all three."""
    return [
        {
            "name": function.get("name"),
            "description": function.get("description") or function.get("name"),
            "parameters": function.get("parameters") or ANYTHING,
        }
        for function, _ in functions(body)
    ]


def chosen(choice: Any) -> str:
    """A `tool_choice` as "auto", "none", "required", or the name of the one function, after a colon.

    Raises ProviderError("unsupported") on any other.
    """
    if choice in (None, "auto", "none", "required"):
        return choice or "auto"
    name = (choice.get("function") or {}).get("name") if isinstance(choice, Mapping) else None
    if not name:
        raise unsupported("tool_choice")
    return f":{name}"


def matching(rules: Sequence[tuple[str, ErrorKind]], code: str) -> ErrorKind | None:
    """The kind of the first rule whose beginning the code has: providers' codes are families, "Throttling.RateQuota"."""
    return next((kind for beginning, kind in rules if code.startswith(beginning)), None)
