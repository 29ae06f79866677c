"""OpenAI Responses as clients speak it. Wire: openai-python 3.52 `types/responses/*`, `lib/streaming/responses`; recorded streams.

The conversation is a list of items. It becomes the canonical messages on the way in, and the canonical events become items on the way
out. What was said before is ours to keep (`previous_response_id`): it is kept as items, and goes through the same translation again,
so that any provider can go on from what any other has answered. docs/crossings.md has what is dropped and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from sluice.dialects._base import Route
from sluice.dialects._checks import NUMBER, STRING, WHOLE, Shape, boolean, integer, json_object, model_name, shaped
from sluice.dialects._responses import ENCRYPTED, Replay, ResponsesEncoder, error_of, opened, skeleton
from sluice.dialects._words import Says
from sluice.dialects.openai import DIALECT as OPENAI
from sluice.errors import BadRequest, NotFound, SluiceError
from sluice.types import (
    ChatRequest,
    Frame,
    Inbound,
    KeptAnswer,
    Model,
)

_LOGPROBS = "message.output_text.logprobs"

_CHAT_ONLY = {
    "messages": "`input`",
    "max_tokens": "`max_output_tokens`",
    "max_completion_tokens": "`max_output_tokens`",
    "response_format": "`text.format`",
    "reasoning_effort": "`reasoning.effort`",
    "functions": "`tools`",
    "function_call": "`tool_choice`",
    "logprobs": f"`include` with `{_LOGPROBS}`",
    "n": "several requests",
    "modalities": "a model that answers in text",
    "audio": "a model that answers in text",
}
"""Fields of chat.completions, and what a Responses client says instead. Taken as they are they would get around the hold."""

_REFUSED = {
    "background": "Answers are made while you wait: leave `background` out and stream.",
    "conversation": "Conversations are not kept as objects: go on with `previous_response_id`.",
    "prompt": "Prompt templates are kept by one provider: send `instructions` and `input`.",
}

_TRANSLATED = frozenset(
    {
        *("input", "instructions", "previous_response_id", "max_output_tokens", "tools", "tool_choice", "text"),
        *("reasoning", "include", "top_logprobs", "store", "metadata", "truncation", "stream_options"),
        *("max_tool_calls", "context_management", *_REFUSED),
    }
)
"""Fields that have a place of their own. Every other one goes on under its name, known today or not."""

_ROLES = frozenset({"user", "assistant", "system", "developer"})
_RESPONSE = re.compile(r"resp_[0-9a-f]{27}")
_ITEM = re.compile(r"[a-z]+_([0-9a-f]{27})[oi]\d+")
_PAGE, _LONGEST_PAGE = 20, 100


_SHAPE: Shape = {
    **dict.fromkeys(("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"), NUMBER),
    **dict.fromkeys(("top_logprobs", "seed"), WHOLE),
    **dict.fromkeys(("service_tier", "truncation"), STRING),
    "stop": (STRING, [STRING]),
    "include": [STRING],
    "text": {"verbosity": STRING, "format": (STRING, {"type": STRING, "name": STRING, "schema": {}})},
    "reasoning": {"effort": STRING},
    "tools": [{"type": STRING, "name": STRING, "description": STRING, "parameters": {}, "format": {}}],
    "tool_choice": (STRING, {"type": STRING, "name": STRING, "mode": STRING, "tools": [(STRING, {})]}),
}
"""The types of the fields that are read here; those of items are checked where they are read. Every other field goes on as it is."""

_SAYS: Says = {
    "max_completion_tokens": ("max_output_tokens",),
    "response_format": ("text.format",),
    "verbosity": ("text.verbosity",),
    "reasoning_effort": ("reasoning.effort",),
    "logprobs": ("include",),
    "messages": ("input",),
    "messages[].reasoning_content": ("input[].summary",),
    "messages[].reasoning_details": ("input[].encrypted_content",),
    "messages[].tool_calls[].extra_content": ("input[].extra_content",),
    "messages[].extra_content": ("input[].extra_content",),
    "messages[].cache_control": ("input[].content[].cache_control",),
}


@dataclass(frozen=True, slots=True)
class ResponsesDialect:
    name: str = "responses"
    routes: tuple[Route, ...] = (
        Route("POST", "/v1/responses", "chat"),
        Route("POST", "/v1/responses/input_tokens", "count"),
        Route("GET", "/v1/responses/{answer_id}", "answer"),
        Route("DELETE", "/v1/responses/{answer_id}", "forget"),
        Route("POST", "/v1/responses/{answer_id}/cancel", "cancel"),
        Route("GET", "/v1/responses/{answer_id}/input_items", "asked"),
    )

    says: Says = field(default_factory=lambda: _SAYS)

    def claims(self, headers: Mapping[str, str]) -> bool:
        return False

    def parse(self, inbound: Inbound) -> ChatRequest:
        fields = json_object(inbound.body)
        model_name(fields)
        _refuse(fields)
        items = _items(fields.get("input"))
        recalls = _recalls(fields, items)
        if not (recalls or items):
            raise BadRequest("`input` must be a text or a list of at least one item.", param="input")
        return replace(_request(fields, items), recalls=recalls)

    def resumed(self, chat: ChatRequest, kept: Sequence[KeptAnswer]) -> ChatRequest:
        """The request with what was said before, and with the items it only names. Raises NotFound."""
        known = {item.get("id"): item for one in kept for item in _all_said(one)}
        items = [_resolved(item, known, place) for place, item in enumerate(chat.raw["input"])]
        previous = chat.raw.get("previous_response_id")
        said = next((_all_said(one) for one in kept if one.id == previous), ())
        return _request(chat.raw, items, said)

    def encoder(self, chat: ChatRequest, request_id: str, created: int, alias: str) -> ResponsesEncoder:
        key = request_id.removeprefix("req_")
        return ResponsesEncoder(skeleton(chat, f"resp_{key}", created), key, chat)

    def error(self, error: SluiceError, request_id: str) -> bytes:
        return OPENAI.error(error, request_id)

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        told = {"type": "error", "sequence_number": 0, "error": error_of(error)}
        return Frame(orjson.dumps(told).decode(), "error")

    def models(self, models: Sequence[Model]) -> bytes:
        return OPENAI.models(models)

    def model(self, model: Model) -> bytes:
        return OPENAI.model(model)

    def counted(self, tokens: int) -> bytes:
        return OPENAI.counted(tokens)

    # What a client may do with a kept answer.

    def answer(self, kept: KeptAnswer, query: Mapping[str, str]) -> bytes:
        output = kept.body["output"] if _asks_sealed(query) else [*map(_unsealed_item, kept.body["output"])]
        return orjson.dumps({**kept.body, "output": output})

    def replay(self, kept: KeptAnswer, query: Mapping[str, str]) -> Iterable[Frame]:
        """The very events the answer came in, after the one numbered `starting_after`."""
        told = query.get("starting_after", "-1")
        if not re.fullmatch(r"-?\d{1,9}", told):
            raise BadRequest("`starting_after` must be a whole number.", param="starting_after")
        frames = Replay(kept.body, sealed=_asks_sealed(query)).frames(kept.cuts)
        return [frame for number, frame in enumerate(frames) if number > int(told)]

    def asked(self, kept: KeptAnswer, query: Mapping[str, str]) -> bytes:
        """One page of what this turn was asked, the newest item first unless `order` is "asc"."""
        limit = query.get("limit", str(_PAGE))
        if not (limit.isdigit() and 1 <= int(limit) <= _LONGEST_PAGE):
            raise BadRequest(f"`limit` must be a whole number between 1 and {_LONGEST_PAGE}.", param="limit")
        if query.get("order", "desc") not in ("asc", "desc"):
            raise BadRequest("`order` must be `asc` or `desc`.", param="order")
        items = [*kept.input] if _asks_sealed(query) else [*map(_unsealed_item, kept.input)]
        if query.get("order", "desc") == "desc":
            items.reverse()
        return _page(items, query.get("after", ""), int(limit))

    def forgotten(self, answer_id: str) -> bytes:
        return orjson.dumps({"id": answer_id, "object": "response", "deleted": True})

    def cancelled(self, kept: KeptAnswer) -> bytes:
        """Nothing of ours runs in the background, so that there is nothing to cancel. Raises BadRequest."""
        raise BadRequest("Cannot cancel a synchronous response: it has ended.", code="not_cancellable")


DIALECT = ResponsesDialect()


# --- what a client asks ----------------------------------------------------------------------------------------------


def _refuse(fields: Mapping[str, Any]) -> None:
    for name, instead in _CHAT_ONLY.items():
        if fields.get(name) is not None:
            message = f"`{name}` belongs to chat.completions: here it takes {instead}."
            raise BadRequest(message, param=name, code="unsupported_parameter")
    for name, message in _REFUSED.items():
        if fields.get(name):
            raise BadRequest(message, param=name, code="unsupported_parameter")
    for name in ("stream", "store", "parallel_tool_calls"):
        boolean(fields, name)
    for name in ("text", "reasoning", "metadata", "stream_options"):
        if fields.get(name) is not None and not isinstance(fields[name], Mapping):
            raise BadRequest(f"`{name}` must be an object.", param=name)
    for name in ("tools", "include"):
        if fields.get(name) is not None and not isinstance(fields[name], list):
            raise BadRequest(f"`{name}` must be a list.", param=name)
    shaped(fields, _SHAPE)
    for name in ("instructions", "previous_response_id"):
        if fields.get(name) is not None and not isinstance(fields[name], str):
            raise BadRequest(f"`{name}` must be a text.", param=name)


def _request(
    fields: Mapping[str, Any], items: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]] = ()
) -> ChatRequest:
    lost: dict[str, None] = {}
    body = {name: value for name, value in fields.items() if name not in _TRANSLATED and value is not None}
    cap = integer(fields, "max_output_tokens", 1)
    if cap:
        body["max_completion_tokens"] = cap
    body["messages"] = _messages(fields.get("instructions"), [*said, *items], lost)
    body.update(_tools(fields, lost))
    body.update(_form(fields, lost))
    return ChatRequest(
        model=fields["model"],
        body=body,
        stream=bool(fields.get("stream")),
        max_tokens=cap,
        dialect="responses",
        raw={**fields, "input": items},
        said=tuple(said),
        dropped=tuple(lost),
    )


def _form(fields: Mapping[str, Any], lost: dict[str, None]) -> Iterator[tuple[str, Any]]:
    """How the answer is to look and to be thought out."""
    text, reasoning = fields.get("text") or {}, fields.get("reasoning") or {}
    if form := _format(text.get("format")):
        yield "response_format", form
    if text.get("verbosity"):
        yield "verbosity", text["verbosity"]
    if reasoning.get("effort"):
        yield "reasoning_effort", reasoning["effort"]
    if _LOGPROBS in (fields.get("include") or ()):
        yield "logprobs", True
        if fields.get("top_logprobs"):
            yield "top_logprobs", fields["top_logprobs"]
    lost.update({f"reasoning.{name}": None for name in ("mode", "context") if reasoning.get(name)})
    lost.update({name: None for name in ("context_management",) if fields.get(name)})
    if fields.get("truncation") == "auto":
        lost["truncation"] = None


def _format(told: Any) -> dict[str, Any] | None:
    kind = told.get("type") if isinstance(told, Mapping) else told
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind == "json_schema":
        schema = {name: value for name, value in told.items() if name != "type" and value is not None}
        return {"type": kind, "json_schema": schema}
    raise BadRequest("`text.format.type` must be one of text, json_object, json_schema.", param="text.format.type")


_FUNCTION = ("name", "description", "parameters", "strict")
_CUSTOM = ("name", "description", "format")


def _tools(fields: Mapping[str, Any], lost: dict[str, None]) -> Iterator[tuple[str, Any]]:
    tools = [_tool(tool, f"tools[{place}]", lost) for place, tool in enumerate(fields.get("tools") or ())]
    if tools:
        yield "tools", tools
    if fields.get("tool_choice") is not None:
        yield "tool_choice", _tool_choice(fields["tool_choice"])


def _tool(tool: Any, where: str, lost: dict[str, None]) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if kind not in ("function", "custom"):
        message = (
            f"`{where}.type` is {kind!r}: only `function` and `custom` tools are run by you; hosted tools are not here."
        )
        raise BadRequest(message, param=f"{where}.type", code="unsupported_tool")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise BadRequest(f"`{where}.name` must name the tool.", param=f"{where}.name")
    names = _FUNCTION if kind == "function" else _CUSTOM
    inner = {name: tool[name] for name in names if tool.get(name) is not None}
    if kind == "custom" and (tool.get("format") or {}).get("type") == "grammar":
        grammar = {name: value for name, value in tool["format"].items() if name != "type"}
        inner["format"] = {"type": "grammar", "grammar": grammar}
    lost.update(
        {f"tools[].{name}": None for name in tool if tool[name] and name not in ("type", "cache_control", *names)}
    )
    return {
        "type": kind,
        kind: inner,
        **({"cache_control": tool["cache_control"]} if tool.get("cache_control") else {}),
    }


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": choice.get("name")}}
    if kind == "allowed_tools":
        tools = [_tool_choice(tool) for tool in choice.get("tools") or ()]
        return {"type": kind, kind: {"mode": choice.get("mode", "auto"), "tools": tools}}
    message = f"`tool_choice.type` is {kind!r}: hosted tools are not here."
    raise BadRequest(message, param="tool_choice.type", code="unsupported_tool")


# --- items, as they come ---------------------------------------------------------------------------------------------


def _items(told: Any) -> list[dict[str, Any]]:
    """The input in the one form it is kept in: a list of items with their type, and content as a list of parts."""
    if told is None:
        return []
    if isinstance(told, str):
        return [_message("user", told)] if told else []
    if not isinstance(told, list):
        raise BadRequest("`input` must be a text or a list of items.", param="input")
    return [_item(item, f"input[{place}]") for place, item in enumerate(told)]


def _item(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise BadRequest(f"`{where}` must be an object.", param=where)
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    if not isinstance(kind, str) or kind not in _REQUIRED:
        message = f"`{where}.type` is {kind!r}: it may be one of {', '.join(sorted(_REQUIRED))}."
        raise BadRequest(message, param=f"{where}.type", code="unsupported_item")
    for name in _REQUIRED[kind]:
        if not isinstance(item.get(name), str):
            raise BadRequest(f"`{where}.{name}` must be a text.", param=f"{where}.{name}")
    if not isinstance(item.get("id"), str | None):
        raise BadRequest(f"`{where}.id` must be a text.", param=f"{where}.id")
    if kind == "message":
        return _checked_message(item, where)
    if kind.endswith("_output") and not isinstance(item.get("output"), str | list):
        raise BadRequest(f"`{where}.output` must be a text or a list of parts.", param=f"{where}.output")
    return {**item, "type": kind}


_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "message": ("role",),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id",),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id",),
    "reasoning": (),
    "image_generation_call": (),
    "item_reference": ("id",),
}


def _checked_message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    role, content = item["role"], item.get("content")
    if role not in _ROLES:
        raise BadRequest(f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}.", param=f"{where}.role")
    if isinstance(content, str):
        return {**item, **_message(role, content)}
    if not isinstance(content, list):
        raise BadRequest(f"`{where}.content` must be a text or a list of parts.", param=f"{where}.content")
    return {**item, "type": "message"}


def _message(role: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []} if role == "assistant" else _input_text(text)
    return {"type": "message", "role": role, "content": [part]}


def _input_text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _recalls(fields: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kept answers that hold what was said before: the previous one, and the newest of which an item is named.

    What an earlier answer said is known to every later one of the same conversation, and ids are in order of time.
    """
    previous = fields.get("previous_response_id")
    if previous and not _RESPONSE.fullmatch(previous):
        raise NotFound(f"Previous response with id '{previous}' not found.", param="previous_response_id")
    named = [item["id"] for item in items if item["type"] == "item_reference"]
    owners = [_ITEM.fullmatch(name) for name in named]
    if None in owners:
        raise _no_item(named[owners.index(None)])
    newest = max((f"resp_{owner.group(1)}" for owner in owners if owner), default=None)
    return tuple(dict.fromkeys(one for one in (previous, newest) if one))


def _resolved(item: Mapping[str, Any], known: Mapping[Any, Mapping[str, Any]], place: int) -> Mapping[str, Any]:
    if item["type"] != "item_reference":
        return item
    if item["id"] not in known:
        raise _no_item(item["id"], f"input[{place}].id")
    return known[item["id"]]


def _no_item(item_id: str, param: str = "input") -> NotFound:
    return NotFound(f"Item with id '{item_id}' not found: send the item itself.", param=param)


def _all_said(kept: KeptAnswer) -> tuple[Mapping[str, Any], ...]:
    return (*kept.said, *kept.input, *kept.body["output"])


# --- items -> canonical messages -------------------------------------------------------------------------------------


def _messages(
    instructions: str | None, items: Iterable[Mapping[str, Any]], lost: dict[str, None]
) -> list[dict[str, Any]]:
    thread = _Thread(lost)
    if instructions:
        thread.messages.append({"role": "system", "content": instructions})
    for place, item in enumerate(items):
        thread.add(item, f"input[{place}]")
    thread.end()
    return thread.messages


_SHOWN: Mapping[str, Any] = {"type": "text", "text": "The pictures of the answer above:"}


class _Thread:
    """Puts together what stands in several items of one turn of the assistant: its thoughts, its words and its calls."""

    def __init__(self, lost: dict[str, None]) -> None:
        self.messages: list[dict[str, Any]] = []
        self._lost = lost
        self._turn: dict[str, Any] = {}
        self._shown: list[dict[str, Any]] = []

    def add(self, item: Mapping[str, Any], where: str) -> None:
        match item["type"]:
            case "message" if item["role"] == "assistant":
                self._say(_parts(item["content"], f"{where}.content"))
            case "message":
                self._put({"role": item["role"], "content": self._with_shown(item, f"{where}.content")})
            case "reasoning":
                self._think(item)
            case "image_generation_call" if item.get("result"):
                self._show(item)
            case "function_call":
                self._call(item, {"name": item["name"], "arguments": item["arguments"]}, "function")
            case "custom_tool_call":
                self._call(item, {"name": item["name"], "input": item["input"]}, "custom")
            case "function_call_output" | "custom_tool_call_output":
                content = _content(item["output"], f"{where}.output")
                self._put({"role": "tool", "tool_call_id": item["call_id"], "content": content})

    def end(self) -> None:
        """Says what waits for a message after it."""
        self.close()
        if self._shown:
            self.messages.append({"role": "user", "content": [_SHOWN, *self._shown]})

    def close(self) -> None:
        if self._turn:
            parts = self._turn.pop("content", [])
            self.messages.append({"role": "assistant", "content": _flat(parts) if parts else None, **self._turn})
            self._turn = {}

    def _show(self, item: Mapping[str, Any]) -> None:
        """A picture of the assistant's. Providers take pictures only from the user, who so says it in the next message."""
        kind, data = item.get("output_format") or "png", _text(item, "result", "input[]")
        self._shown.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}})
        self._turn.setdefault("content", []).append({"type": "text", "text": "[picture]"})

    def _with_shown(self, item: Mapping[str, Any], where: str) -> Any:
        if item["role"] != "user" or not self._shown:
            return _content(item["content"], where)
        shown, self._shown = self._shown, []
        return [*_parts(item["content"], where), _SHOWN, *shown]

    def _put(self, message: dict[str, Any]) -> None:
        self.close()
        self.messages.append(message)

    def _say(self, parts: list[dict[str, Any]]) -> None:
        if "content" in self._turn and "tool_calls" not in self._turn:
            self.close()
        self._turn["content"] = [*self._turn.get("content", ()), *parts]

    def _think(self, item: Mapping[str, Any]) -> None:
        details, sealed = opened(item.get("encrypted_content")), item.get("encrypted_content")
        if sealed and not details:
            self._lost["input[].encrypted_content"] = None
        told: list[Any] = details or [part for name in ("summary", "content") for part in _list(item.get(name))]
        text = "".join(str(part.get("text") or "") for part in told if isinstance(part, Mapping))
        if text:
            self._turn["reasoning_content"] = self._turn.get("reasoning_content", "") + text
        if details:
            self._turn["reasoning_details"] = [*self._turn.get("reasoning_details", ()), *details]

    def _call(self, item: Mapping[str, Any], inner: dict[str, Any], kind: str) -> None:
        call = {"id": item["call_id"], "type": kind, kind: inner}
        if item.get("extra_content"):
            call["extra_content"] = item["extra_content"]
        self._turn.setdefault("tool_calls", []).append(call)


def _list(told: Any) -> list[Any]:
    return told if isinstance(told, list) else []


def _content(told: Any, where: str) -> Any:
    return told if isinstance(told, str) else _flat(_parts(told, where))


def _flat(parts: list[dict[str, Any]]) -> Any:
    """One bare text as a text: not every server of OpenAI's format reads lists."""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def _parts(told: Any, where: str) -> list[dict[str, Any]]:
    return [_part(part, f"{where}[{place}]") for place, part in enumerate(told)]


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    made: dict[str, Any]
    match kind:
        case "input_text" | "output_text" | "text":
            made = {"type": "text", "text": _text(part, "text", where)}
        case "refusal":
            made = {"type": "text", "text": _text(part, "refusal", where)}
        case "input_image":
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            made = {"type": "image_url", "image_url": {"url": _text(part, "image_url", where), **detail}}
        case "input_file":
            names = ("file_data", "file_url", "file_id", "filename")
            made = {"type": "file", "file": {name: _text(part, name, where) for name in names if part.get(name)}}
        case "input_audio":
            shaped(part, {"input_audio": {"data": STRING, "format": STRING}}, where)
            made = {"type": "input_audio", "input_audio": part.get("input_audio") or {}}
        case _:
            message = (
                f"`{where}.type` must be one of input_text, input_image, input_file, input_audio, output_text, refusal."
            )
            raise BadRequest(message, param=f"{where}.type")
    return made | {name: part[name] for name in ("cache_control", "prompt_cache_breakpoint") if part.get(name)}


def _text(part: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(part.get(name), str):
        raise BadRequest(f"`{where}.{name}` must be a text.", param=f"{where}.{name}")
    return str(part[name])


# --- what is told of a kept answer ------------------------------------------------------------------------------------


def _unsealed_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def _asks_sealed(query: Mapping[str, str]) -> bool:
    return ENCRYPTED in query.get("include[]", query.get("include", ""))


def _page(items: Sequence[Mapping[str, Any]], after: str, limit: int) -> bytes:
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise BadRequest(f"`after` is {after!r}: there is no such item.", param="after")
    start = ids.index(after) + 1 if after else 0
    page, more = items[start : start + limit], len(items) > start + limit
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return orjson.dumps({"object": "list", "data": page, **ends, "has_more": more})
