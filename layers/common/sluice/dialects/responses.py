"""OpenAI Responses as clients speak it. Wire: openai-python 3.52 `types/responses/*`, `lib/streaming/responses`; recorded streams.

The conversation is a list of items. It becomes the canonical messages on the way in, and the canonical events become items on the way
out. What was said before is ours to keep (`previous_response_id`): it is kept as items, and goes through the same translation again,
so that any provider can go on from what any other has answered. docs/crossings.md has what is dropped and what is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from sluice.dialects._base import Route
from sluice.dialects._checks import boolean, integer, json_object, model_name
from sluice.dialects.openai import DIALECT as OPENAI
from sluice.errors import BadRequest, NotFound, SluiceError
from sluice.types import (
    ChatRequest,
    Choice,
    Completion,
    Event,
    Finish,
    Frame,
    Inbound,
    KeptAnswer,
    Model,
    Raw,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

_ENCRYPTED = "reasoning.encrypted_content"
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
        *(
            "reasoning",
            "include",
            "top_logprobs",
            "store",
            "metadata",
            "truncation",
            "stream_options",
            "max_tool_calls",
        ),
        *("context_management", *_REFUSED),
    }
)
"""Fields that have a place of their own. Every other one goes on under its name, known today or not."""

_ROLES = frozenset({"user", "assistant", "system", "developer"})
_RESPONSE = re.compile(r"resp_[0-9a-f]{27}")
_ITEM = re.compile(r"[a-z]+_([0-9a-f]{27})[oi]\d+")
_SEAL = "sluice1."
_PAGE, _LONGEST_PAGE = 20, 100


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
        return ResponsesEncoder(_skeleton(chat, f"resp_{key}", created), key, chat)

    def error(self, error: SluiceError, request_id: str) -> bytes:
        return OPENAI.error(error, request_id)

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        told = {"type": "error", "sequence_number": 0, "error": _error(error)}
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
        frames = _Replay(kept.body, sealed=_asks_sealed(query)).frames(kept.cuts)
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
    if kind not in _REQUIRED:
        message = f"`{where}.type` is {kind!r}: it may be one of {', '.join(sorted(_REQUIRED))}."
        raise BadRequest(message, param=f"{where}.type", code="unsupported_item")
    for name in _REQUIRED[kind]:
        if not isinstance(item.get(name), str):
            raise BadRequest(f"`{where}.{name}` must be a text.", param=f"{where}.{name}")
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
    thread.close()
    return thread.messages


class _Thread:
    """Puts together what stands in several items of one turn of the assistant: its thoughts, its words and its calls."""

    def __init__(self, lost: dict[str, None]) -> None:
        self.messages: list[dict[str, Any]] = []
        self._lost = lost
        self._turn: dict[str, Any] = {}

    def add(self, item: Mapping[str, Any], where: str) -> None:
        match item["type"]:
            case "message" if item["role"] == "assistant":
                self._say(_parts(item["content"], f"{where}.content"))
            case "message":
                self._put({"role": item["role"], "content": _content(item["content"], f"{where}.content")})
            case "reasoning":
                self._think(item)
            case "function_call":
                self._call(item, {"name": item["name"], "arguments": item["arguments"]}, "function")
            case "custom_tool_call":
                self._call(item, {"name": item["name"], "input": item["input"]}, "custom")
            case "function_call_output" | "custom_tool_call_output":
                content = _content(item["output"], f"{where}.output")
                self._put({"role": "tool", "tool_call_id": item["call_id"], "content": content})

    def close(self) -> None:
        if self._turn:
            parts = self._turn.pop("content", [])
            self.messages.append({"role": "assistant", "content": _flat(parts) if parts else None, **self._turn})
            self._turn = {}

    def _put(self, message: dict[str, Any]) -> None:
        self.close()
        self.messages.append(message)

    def _say(self, parts: list[dict[str, Any]]) -> None:
        if "content" in self._turn and "tool_calls" not in self._turn:
            self.close()
        self._turn["content"] = [*self._turn.get("content", ()), *parts]

    def _think(self, item: Mapping[str, Any]) -> None:
        details, sealed = _opened(item.get("encrypted_content")), item.get("encrypted_content")
        if sealed and not details:
            self._lost["input[].encrypted_content"] = None
        told: list[Any] = details or [*(item.get("summary") or ()), *(item.get("content") or ())]
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
            made = {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}
        case "input_audio":
            made = {"type": "input_audio", "input_audio": part.get("input_audio")}
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


# --- canonical events -> items ---------------------------------------------------------------------------------------

_Kind = Literal["message", "reasoning", "function_call", "custom_tool_call"]


@dataclass(frozen=True, slots=True)
class _Form:
    """What a kind of item is called on the wire: the prefix of its id, the stem of its events, the field of its text."""

    prefix: str
    stem: str
    name: str
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where in the item its text stands."""
    part: str = ""
    """The stem of the events of the part around its text, where there is one."""


_FORMS: Mapping[str, _Form] = {
    "message": _Form("msg", "response.output_text", "text", {"content_index": 0}, "response.content_part"),
    "reasoning": _Form(
        "rs", "response.reasoning_summary_text", "text", {"summary_index": 0}, "response.reasoning_summary_part"
    ),
    "function_call": _Form("fc", "response.function_call_arguments", "arguments"),
    "custom_tool_call": _Form("ctc", "response.custom_tool_call_input", "input"),
}


@dataclass(slots=True)
class _Item:
    """One item of the output as far as it has come. `text` is what was said, thought, or given to a tool."""

    kind: _Kind
    id: str
    index: int
    call_id: str = ""
    name: str = ""
    signature: str = ""
    text: str = ""
    details: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    in_part: bool = False
    status: str = "in_progress"

    def told(self, *, sealed: bool = False) -> dict[str, Any]:
        """The item as the wire has it; `sealed` puts in what a provider must be sent back of its reasoning."""
        head = {"id": self.id, "type": self.kind, "status": self.status}
        match self.kind:
            case "message":
                return {**head, "role": "assistant", "content": [self.part()] if self.in_part else []}
            case "reasoning":
                encrypted = {"encrypted_content": _seal(self.details)} if sealed else {}
                return {**head, "summary": [self.part()] if self.in_part else [], **encrypted}
        signed = {"extra_content": {"google": {"thought_signature": self.signature}}} if self.signature else {}
        return {**head, "call_id": self.call_id, "name": self.name, _FORMS[self.kind].name: self.text, **signed}

    def part(self, *, empty: bool = False) -> dict[str, Any]:
        text = "" if empty else self.text
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": text}
        more: dict[str, Any] = {"annotations": [] if empty else self.annotations}
        return {"type": "output_text", "text": text, **more, "logprobs": [] if empty else self.logprobs}


class ResponsesEncoder:
    """Events or a response for one client, and what is to be kept of it.

    `skeleton` is the response before anything was said; `chat` is None where a kept answer is told again.
    """

    def __init__(self, skeleton: dict[str, Any], key: str, chat: ChatRequest | None = None) -> None:
        self._response = skeleton
        self._key = key
        self._chat = chat
        self._custom = {tool["name"] for tool in skeleton["tools"] if tool.get("type") == "custom"}
        self._sealed = chat is not None and _ENCRYPTED in (chat.raw.get("include") or ())
        self._sequence = 0
        self._items: list[_Item] = []
        self._speaking: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._cuts: list[tuple[int, int]] = []
        self._reason = ""
        self._last: Frame | None = None

    def relay(self, frame: Frame) -> Iterable[Frame]:
        """No provider speaks this wire yet. Its last event waits for the settlement; a `[DONE]` some add is not of this wire."""
        if frame.data.startswith("[DONE]"):
            return ()
        if frame.event in ("response.completed", "response.incomplete", "response.failed"):
            self._last = frame
            return ()
        return (frame,)

    def whole(self, frame: Frame) -> bytes:
        return frame.data.encode()

    def encode(self, event: Event) -> Iterable[Frame]:
        yield from self._begin()
        match event:
            case Text(text, 0) if text:
                yield from self._say(self._speaker("message"), text)
            case Reasoning(choice=0):
                yield from self._think(event)
            case ToolCall(choice=0):
                yield from self._call(event)
            case Raw(data, 0):
                yield from self._add(data)
            case Finish(reason, 0):
                self._reason = reason
                yield from self._close_all()

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        if self._last:
            yield self._last
            return
        yield from self._begin()
        yield from self._close_all()
        response = self._finished(usage)
        yield self._frame(f"response.{response['status']}", response=response)

    def completion(self, completion: Completion) -> bytes:
        if not self._items:
            for event in _events(completion.choices.get(0, Choice())):
                list(self.encode(event))
        return orjson.dumps(self._finished(completion.usage))

    # For the pipeline: an answer that broke, and an answer that is to be kept.

    def broken(self, error: SluiceError, usage: Usage | None) -> Iterable[Frame]:
        """Both ends a client may look for, in the order OpenAI was recorded to send them."""
        yield from self._begin()
        yield self._frame("error", error=_error(error))
        for item in self._items:
            item.status = "completed" if item.status == "completed" else "incomplete"
        told = {"status": "failed", "error": {"code": error.code, "message": error.message}}
        yield self._frame("response.failed", response={**self._finished(usage), **told, "incomplete_details": None})

    def record(self, usage: Usage) -> KeptAnswer | None:
        """What is to be kept of a whole answer; None where the client wants nothing kept, or there is no whole answer."""
        if self._chat is None or not self._response["store"] or not self._reason:
            return None
        body = {**self._finished(usage), "output": [item.told(sealed=True) for item in self._items]}
        asked = tuple(_named(item, f"{self._key}i{place}") for place, item in enumerate(self._chat.raw["input"]))
        return KeptAnswer(self._response["id"], body, asked, self._chat.said, tuple(self._cuts))

    def unkept(self) -> None:
        """It could not be kept: the answer says so."""
        self._response["store"] = False

    # One frame after the other.

    def _frame(self, kind: str, **fields: Any) -> Frame:
        told = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return Frame(orjson.dumps(told).decode(), kind)

    def _begin(self) -> Iterator[Frame]:
        if not self._sequence:
            yield self._frame("response.created", response=self._response)
            yield self._frame("response.in_progress", response=self._response)

    def _open(self, item: _Item) -> Iterator[Frame]:
        """Puts a fresh item into the output; does nothing to one that is there."""
        if item.index < len(self._items):
            return
        if self._speaking:
            yield from self._close(self._speaking)
        self._speaking = item if item.kind in ("message", "reasoning") else None
        self._items.append(item)
        self._cuts.append((item.index, 0))
        yield self._frame("response.output_item.added", output_index=item.index, item=item.told())

    def _say(self, item: _Item, text: str) -> Iterator[Frame]:
        yield from self._open(item)
        yield from self._open_part(item)
        if text:
            item.text += text
            self._cuts.append((item.index, len(text)))
            logprobs: dict[str, Any] = {"logprobs": []} if item.kind == "message" else {}
            yield self._frame(f"{_FORMS[item.kind].stem}.delta", **self._where(item), delta=text, **logprobs)

    def _open_part(self, item: _Item) -> Iterator[Frame]:
        form = _FORMS[item.kind]
        if form.part and not item.in_part:
            item.in_part = True
            yield self._frame(f"{form.part}.added", **self._where(item), part=item.part(empty=True))

    def _close(self, item: _Item) -> Iterator[Frame]:
        form = _FORMS[item.kind]
        if item.in_part or not form.part:
            more: dict[str, Any] = {"logprobs": item.logprobs} if item.kind == "message" else {}
            more |= {"name": item.name} if item.kind == "function_call" else {}
            yield self._frame(f"{form.stem}.done", **self._where(item), **{form.name: item.text}, **more)
        if item.in_part:
            yield self._frame(f"{form.part}.done", **self._where(item), part=item.part())
        item.status = "incomplete" if _INCOMPLETE.get(self._reason) else "completed"
        yield self._frame("response.output_item.done", output_index=item.index, item=item.told(sealed=self._sealed))

    def _close_all(self) -> Iterator[Frame]:
        for item in self._items:
            if item.status == "in_progress":
                yield from self._close(item)
        self._speaking = None

    def _where(self, item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index, **_FORMS[item.kind].place}

    # What an event does to the items.

    def _speaker(self, kind: _Kind) -> _Item:
        """The item that is being said or thought, or a new one."""
        return self._speaking if self._speaking and self._speaking.kind == kind else self._fresh(kind)

    def _fresh(self, kind: _Kind) -> _Item:
        index = len(self._items)
        return _Item(kind, f"{_FORMS[kind].prefix}_{self._key}o{index}", index)

    def _think(self, event: Reasoning) -> Iterator[Frame]:
        item = self._speaker("reasoning")
        yield from self._say(item, event.text) if event.text else self._open(item)
        _remember(item.details, event)

    def _call(self, event: ToolCall) -> Iterator[Frame]:
        item = self._calls.get(event.index)
        if item is None:
            item = self._fresh("custom_tool_call" if event.name in self._custom else "function_call")
            item.call_id, item.name = event.id or f"call_{self._key}{item.index}", event.name
            self._calls[event.index] = item
        yield from self._open(item)
        item.name = item.name or event.name
        item.signature = item.signature or event.signature
        yield from self._say(item, event.arguments)

    def _add(self, data: Mapping[str, Any]) -> Iterator[Frame]:
        """What stands beside the words: a refusal, sources, probabilities. Media have no place here."""
        if isinstance(refusal := data.get("refusal"), str) and refusal:
            yield from self._say(self._speaker("message"), refusal)
        for annotation in data.get("annotations") or ():
            yield from self._annotate(_flat_annotation(annotation))
        if told := (data.get("logprobs") or {}).get("content"):
            item = self._speaker("message")
            yield from self._open(item)
            item.logprobs.extend(told)

    def _annotate(self, annotation: Any) -> Iterator[Frame]:
        item = self._speaker("message")
        yield from self._say(item, "")
        self._cuts.append((item.index, 0))
        place = {"annotation_index": len(item.annotations), "annotation": annotation}
        item.annotations.append(annotation)
        yield self._frame("response.output_text.annotation.added", **self._where(item), **place)

    def _finished(self, usage: Usage | None) -> dict[str, Any]:
        why = _INCOMPLETE.get(self._reason)
        return {
            **self._response,
            "status": "incomplete" if why else "completed",
            "incomplete_details": {"reason": why} if why else None,
            "output": [item.told(sealed=self._sealed) for item in self._items],
            "usage": _usage(usage) if usage else None,
        }


_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and what is told of it."""


def _events(choice: Choice) -> Iterator[Event]:
    """A whole answer as the events it might have come in."""
    for detail in choice.details:
        yield Reasoning(detail.get("text", ""), detail.get("signature", ""), data=detail.get("data", ""))
    if choice.text:
        yield Text(choice.text)
    yield from choice.extras
    for index, call in enumerate(choice.tool_calls):
        yield ToolCall(index, call.id, call.name, call.arguments, signature=call.signature)
    yield Finish(choice.finish_reason or "stop")


def _remember(details: list[dict[str, Any]], event: Reasoning) -> None:
    """As a buffer does: a block is open until its signature comes, one shown encrypted is whole at once."""
    if event.data:
        details.append({"type": "reasoning.encrypted", "data": event.data})
        return
    if not details or details[-1].get("type") != "reasoning.text" or details[-1]["signature"]:
        details.append({"type": "reasoning.text", "text": "", "signature": ""})
    details[-1]["text"] += event.text
    details[-1]["signature"] += event.signature


# --- a kept answer, told again ---------------------------------------------------------------------------------------


class _Replay(ResponsesEncoder):
    """Says again what the items of a response say, instead of what events bring."""

    def __init__(self, body: Mapping[str, Any], *, sealed: bool) -> None:
        nothing_yet: dict[str, Any] = {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        super().__init__({**body, **nothing_yet}, body["id"].removeprefix("resp_"))
        self._body = body
        self._sealed = sealed

    def frames(self, cuts: Iterable[tuple[int, int]]) -> Iterator[Frame]:
        """Every event, cut as it came."""
        yield from self._begin()
        for index, length in cuts:
            yield from self._piece(self._body["output"][index], index, length)
        why = self._body["incomplete_details"]
        self._reason = _REASONS[why["reason"]] if why else "stop"
        yield from self._close_all()
        response = {**self._finished(None), "usage": self._body["usage"]}
        yield self._frame(f"response.{response['status']}", response=response)

    def _piece(self, stored: Mapping[str, Any], index: int, length: int) -> Iterator[Frame]:
        if index == len(self._items):
            yield from self._again(stored)
            return
        item = self._items[index]
        if length:
            at = len(item.text)
            yield from self._say(item, _text_of(stored)[at : at + length])
        else:
            yield from self._annotate(stored["content"][0]["annotations"][len(item.annotations)])

    def _again(self, stored: Mapping[str, Any]) -> Iterator[Frame]:
        item = self._fresh(stored["type"])
        item.call_id, item.name = stored.get("call_id", ""), stored.get("name", "")
        yield from self._open(item)
        item.signature = str(_signature(stored))
        item.details = _opened(stored.get("encrypted_content"))
        if item.kind == "message" and stored["content"]:
            item.logprobs = stored["content"][0]["logprobs"]


_REASONS = {told: reason for reason, told in _INCOMPLETE.items()}


def _text_of(stored: Mapping[str, Any]) -> str:
    parts = stored.get("content") or stored.get("summary")
    return str(parts[0]["text"] if parts else stored.get("arguments") or stored.get("input") or "")


def _signature(stored: Mapping[str, Any]) -> Any:
    return ((stored.get("extra_content") or {}).get("google") or {}).get("thought_signature", "")


# --- small shapes ----------------------------------------------------------------------------------------------------


def _skeleton(chat: ChatRequest, response_id: str, created: int) -> dict[str, Any]:
    """The response before anything was said: what was asked for, and what stands where nothing was."""
    asked = {name: chat.raw.get(name) for name in _ECHOED}
    chosen = {name: default if chat.raw.get(name) is None else chat.raw[name] for name, default in _DEFAULTS.items()}
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": chat.model,
        "output": [],
        "usage": None,
        **asked,
        **chosen,
        "reasoning": {"effort": None, "summary": None, **(chat.raw.get("reasoning") or {})},
        "text": {"format": {"type": "text"}, **(chat.raw.get("text") or {})},
    }


_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key"),
    *("safety_identifier", "user"),
)
_DEFAULTS: Mapping[str, Any] = {
    "metadata": {},
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _error(error: SluiceError) -> dict[str, Any]:
    return {"type": error.type, "code": error.code, "message": error.message, "param": error.param}


def _flat_annotation(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """A source of chat.completions, whose fields stand one level deeper there."""
    kind = str(annotation.get("type") or "")
    inner = annotation.get(kind)
    return {"type": kind, **inner} if isinstance(inner, Mapping) else dict(annotation)


def _seal(details: Sequence[Mapping[str, Any]]) -> str | None:
    """What a provider must be sent back of its reasoning, for a client that keeps its own conversation: opaque, not secret."""
    if not any(detail.get("signature") or detail.get("data") for detail in details):
        return None
    return _SEAL + b64encode(orjson.dumps(details)).decode()


def _opened(sealed: Any) -> list[dict[str, Any]]:
    """What `_seal` closed; nothing where somebody else did."""
    if not isinstance(sealed, str) or not sealed.startswith(_SEAL):
        return []
    try:
        details = orjson.loads(b64decode(sealed.removeprefix(_SEAL)))
    except ValueError:
        return []
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _named(item: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """An item of the input with an id of its own, and in the state an item has that is there."""
    prefix = _FORMS[item["type"]].prefix if item["type"] in _FORMS else "fco"
    return {**item, "id": item.get("id") or f"{prefix}_{suffix}", "status": item.get("status") or "completed"}


def _unsealed_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def _asks_sealed(query: Mapping[str, str]) -> bool:
    return _ENCRYPTED in query.get("include[]", query.get("include", ""))


def _page(items: Sequence[Mapping[str, Any]], after: str, limit: int) -> bytes:
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise BadRequest(f"`after` is {after!r}: there is no such item.", param="after")
    start = ids.index(after) + 1 if after else 0
    page, more = items[start : start + limit], len(items) > start + limit
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return orjson.dumps({"object": "list", "data": page, **ends, "has_more": more})
