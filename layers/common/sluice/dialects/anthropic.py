"""Anthropic's Messages API as clients speak it: anthropic-python 2.11, Claude Code.

On an Anthropic channel the client's own body goes on, and the provider's frames come back, as they are. For any other the
request is translated here; what is lost or refused on the way is written in docs/crossings.md.

Reasoning that came from another provider goes out in blocks whose signature or data begins with a mark of ours. A client sends
such blocks back as it has to; they are then unwrapped for who understands them, and never reach Anthropic, who would refuse them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from sluice.dialects._base import Route
from sluice.dialects._bodies import read, written
from sluice.dialects._checks import NUMBER, STRING, Shape, boolean, integer, json_object, mapping, model_name, shaped
from sluice.dialects._pictures import addresses, as_text, from_text, inline
from sluice.dialects._words import Says
from sluice.errors import BadRequest, SluiceError
from sluice.types import (
    Call,
    ChatRequest,
    Choice,
    Completion,
    Event,
    Finish,
    Frame,
    Inbound,
    Model,
    Raw,
    Reasoning,
    Start,
    Text,
    ToolCall,
    Usage,
)

_FORWARDED = ("anthropic-version", "anthropic-beta")
_MARK = "sluice."
_CALL_MARK = "sluice-call."

_ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


_BLOCK: Shape = {
    **dict.fromkeys(("type", "text", "id", "name", "tool_use_id", "thinking", "signature"), STRING),
    "source": (STRING, dict.fromkeys(("type", "url", "media_type"), STRING)),
}
_SHAPE: Shape = {
    **dict.fromkeys(("temperature", "top_p", "top_k"), NUMBER),
    "stop_sequences": [STRING],
    "system": (STRING, [_BLOCK]),
    "messages": [{"content": (STRING, [_BLOCK])}],
    "output_config": {"effort": STRING, "format": {"type": STRING, "schema": {}}},
    "thinking": {"type": STRING},
    "tools": [{"name": STRING, "description": STRING, "input_schema": {}}],
    "tool_choice": {"type": STRING, "name": STRING},
}
"""The types of the fields that are read here. Every other field goes on as it is."""

_SAYS: Says = {
    "max_completion_tokens": ("max_tokens",),
    "stop": ("stop_sequences",),
    "reasoning_effort": ("output_config.effort", "thinking"),
    "response_format": ("output_config.format",),
    "parallel_tool_calls": ("tool_choice.disable_parallel_tool_use",),
    "messages": ("messages",),
    "messages[].reasoning_content": ("messages[].content[].thinking",),
    "messages[].reasoning_details": ("messages[].content[].signature",),
    "messages[].tool_calls[].extra_content": ("messages[].content[].data",),
    "messages[].extra_content": ("messages[].content[].data",),
    "messages[].cache_control": ("messages[].content[].cache_control",),
}


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    name: str = "anthropic"
    routes: tuple[Route, ...] = (
        Route("POST", "/v1/messages", "chat"),
        Route("POST", "/v1/messages/count_tokens", "count"),
        Route("GET", "/v1/models", "models"),
        Route("GET", "/v1/models/{model:path}", "model"),
    )

    says: Says = field(default_factory=lambda: _SAYS)
    shows: tuple[str, ...] = ("request-id", "anthropic-ratelimit-*", "anthropic-fast-*", "anthropic-priority-*")

    def claims(self, headers: Mapping[str, str]) -> bool:
        return "anthropic-version" in headers or "x-api-key" in headers

    def parse(self, inbound: Inbound) -> ChatRequest:
        fields = json_object(inbound.body)
        reading = _Reading(fields)
        body = reading.body()
        return ChatRequest(
            model=body["model"],
            body=body,
            stream=bool(body.get("stream")),
            max_tokens=body.get("max_completion_tokens"),
            dialect=self.name,
            raw=reading.raw(),
            headers={name: inbound.headers[name] for name in _FORWARDED if name in inbound.headers},
            native=tuple(reading.native),
            dropped=tuple(dict.fromkeys(reading.dropped)),
        )

    def encoder(self, chat: ChatRequest, request_id: str, created: int, alias: str) -> AnthropicEncoder:
        return AnthropicEncoder(chat, f"msg_{request_id}", alias)

    def error(self, error: SluiceError, request_id: str) -> bytes:
        return orjson.dumps(_error(error, request_id))

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        if error.native:
            return Frame(error.native[1].decode("utf-8", "replace"), "error")
        return _frame(_error(error, request_id))

    def models(self, models: Sequence[Model]) -> bytes:
        ends = {"first_id": models[0].id, "last_id": models[-1].id} if models else {"first_id": None, "last_id": None}
        return orjson.dumps({"data": [_model(model) for model in models], "has_more": False, **ends})

    def model(self, model: Model) -> bytes:
        return orjson.dumps(_model(model))

    def counted(self, tokens: int) -> bytes:
        return orjson.dumps({"input_tokens": tokens})


DIALECT = AnthropicDialect()


# --- a client's request -> canonical ---------------------------------------------------------------------------------

_CARRIED = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k"),
        *("tools", "tool_choice", "thinking", "output_config"),
    }
)
_NATIVE = ("mcp_servers", "container", "inference_geo")
"""What makes the request another one: tools that run elsewhere, files that lie there, where the data may go."""
_TOOL_EXTRAS = ("defer_loading", "eager_input_streaming", "input_examples", "allowed_callers")
_ROLES = ("assistant", "system", "user")
_SOURCED = ("image", "document")


class _Reading:
    """One body being read. `native` names what only Anthropic understands, `dropped` what other providers do without."""

    def __init__(self, fields: dict[str, Any]) -> None:
        if isinstance(fields.get("messages"), list) and (moved := _moved(fields["messages"])):
            fields = {**fields, "messages": moved}
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._given = fields
        self._foreign = False
        self.native: list[str] = [name for name in _NATIVE if fields.get(name)]
        self.dropped: list[str] = []

    def body(self) -> dict[str, Any]:
        """The canonical body. Raises BadRequest."""
        fields = self._fields
        made: dict[str, Any] = {"model": model_name(fields), "messages": self._messages()}
        if boolean(fields, "stream"):
            made["stream"] = True
        if cap := integer(fields, "max_tokens", 1):
            made["max_completion_tokens"] = cap
        if fields.get("stop_sequences"):
            made["stop"] = fields["stop_sequences"]
        shaped(fields, _SHAPE)
        made |= {name: fields[name] for name in ("temperature", "top_p", "top_k") if name in fields}
        made |= self._tools() | self._reasoning() | self._format()
        self.dropped += sorted(fields.keys() - _CARRIED - set(_NATIVE))
        return made

    def raw(self) -> Mapping[str, Any]:
        """The client's own body, without the blocks of ours that Anthropic would refuse."""
        if not self._foreign:
            return self._given
        return {**self._given, "messages": [_without_ours(message) for message in self._given["messages"]]}

    def _messages(self) -> list[dict[str, Any]]:
        messages = self._fields.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequest("`messages` must be a list of at least one message.", param="messages")
        made: list[dict[str, Any]] = []
        if opening := self._parts(_blocks(self._fields.get("system"), "system"), "system"):
            made.append({"role": "system", "content": _plain(opening)})
        for position, message in enumerate(messages):
            made += self._message(message, f"messages[{position}]")
        return made

    def _message(self, message: Any, where: str) -> Iterator[dict[str, Any]]:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            raise BadRequest(f"`{where}.role` must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
        blocks = _blocks(message.get("content"), f"{where}.content")
        if message["role"] == "assistant":
            yield self._spoken(blocks, f"{where}.content")
            return
        results = [block for block in blocks if block.get("type") == "tool_result"]
        parts = []
        for at, block in enumerate(blocks):
            if block.get("type") == "tool_result":
                text, media = self._result(block, f"{where}.content[{at}]")
                parts += media
                content = _plain([{"type": "text", "text": text, **_marked(block)}])
                yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id") or ""), "content": content}
        parts += self._parts(blocks, f"{where}.content")
        if parts or not results:
            yield {"role": message["role"], "content": _plain(parts)}

    def _result(self, block: Mapping[str, Any], where: str) -> tuple[str, list[dict[str, Any]]]:
        """A tool's result as text, and what of it is no text: that has a place only in the user's message after it."""
        parts = self._parts(_blocks(block.get("content"), f"{where}.content"), f"{where}.content")
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        media = [part for part in parts if part["type"] != "text"]
        if media:
            media.insert(0, {"type": "text", "text": f"What the tool call {block.get('tool_use_id')} gave:"})
            text = text or "See the next message."
        if block.get("is_error") and not text.lower().startswith("error"):
            text = f"Error: {text}"
        return text, media

    def _spoken(self, blocks: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
        """An assistant's turn."""
        made: dict[str, Any] = {"role": "assistant"}
        kept = [block for block in blocks if block.get("type") not in ("thinking", "redacted_thinking", "tool_use")]
        parts = self._parts(kept, where)
        made["content"] = _plain(parts) if parts else None
        thoughts = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
        signatures: dict[str, str] = {}
        details = [detail for block in thoughts if (detail := self._thought(block, signatures))]
        if details:
            made["reasoning_content"] = "".join(detail.get("text", "") for detail in details)
            made["reasoning_details"] = details
        if calls := [_tool_call(block, signatures) for block in blocks if block.get("type") == "tool_use"]:
            made["tool_calls"] = calls
        return made

    def _thought(self, block: Mapping[str, Any], signatures: dict[str, str]) -> dict[str, Any]:
        """A block of reasoning, unwrapped where we wrapped it. A tool call's signature goes to `signatures`."""
        sealed = str(block.get("signature") or block.get("data") or "")
        if sealed.startswith(_CALL_MARK):
            self._foreign = True
            signatures.update(_unwrapped_call(sealed))
            return {}
        if sealed.startswith(_MARK):
            self._foreign = True
            sealed = sealed.removeprefix(_MARK)
        if block["type"] == "redacted_thinking":
            return {"type": "reasoning.encrypted", "data": sealed}
        return {"type": "reasoning.text", "text": str(block.get("thinking") or ""), "signature": sealed}

    def _parts(self, blocks: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
        parts = (self._part(block, f"{where}[{at}]") for at, block in enumerate(blocks))
        return [part for part in parts if part]

    def _part(self, block: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A block as a canonical part; empty where it has another place or none."""
        source = mapping(block, "source", f"{where}.") if block.get("type") in _SOURCED else {}
        if block.get("citations"):
            self.dropped.append("citations")
        match block.get("type"), source.get("type"):
            case "text", _:
                return {"type": "text", "text": str(block.get("text") or ""), **_marked(block)}
            case "image", "base64" | "url":
                return {"type": "image_url", "image_url": {"url": _url(source)}, **_marked(block)}
            case "document", "base64":
                data = {"filename": str(block.get("title") or "document.pdf"), "file_data": _url(source)}
                return {"type": "file", "file": data, **_marked(block)}
            case "document", "text":
                return _titled(block, str(source.get("data") or ""))
            case "document", "content":
                return _titled(block, _texts(source.get("content")))
            case "search_result", _:
                return _titled(block, _texts(block.get("content")))
            case "tool_result", _:
                return {}
        self.native.append(where)
        return {}

    def _tools(self) -> dict[str, Any]:
        tools = self._fields.get("tools") or []
        if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
            raise BadRequest("`tools` must be a list of objects.", param="tools")
        made = [tool for at, one in enumerate(tools) if (tool := self._tool(one, f"tools[{at}]"))]
        return {"tools": made, **self._tool_choice()} if made else {}

    def _tool(self, tool: Mapping[str, Any], where: str) -> dict[str, Any]:
        if tool.get("type", "custom") != "custom":
            self.native.append(f"{where}.type")
            return {}
        self.dropped += [f"tools.{name}" for name in _TOOL_EXTRAS if tool.get(name)]
        function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
        function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
        return {"type": "function", "function": function, **_marked(tool)}

    def _tool_choice(self) -> dict[str, Any]:
        choice = mapping(self._fields, "tool_choice")
        made: dict[str, Any] = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
        match choice.get("type"):
            case "any":
                made["tool_choice"] = "required"
            case "auto" | "none" as same:
                made["tool_choice"] = same
            case "tool":
                made["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        return made

    def _reasoning(self) -> dict[str, Any]:
        """How hard to think, in the one word other providers have for it."""
        thinking = mapping(self._fields, "thinking")
        effort = mapping(self._fields, "output_config").get("effort")
        match thinking.get("type"):
            case "disabled":
                return {"reasoning_effort": "none"}
            case "enabled" if not effort:
                budget = integer(thinking, "budget_tokens", 1) or 0
                effort = "low" if budget < 4096 else "medium" if budget < 16384 else "high"
            case "adaptive" if not effort:
                effort = "high"
        return {"reasoning_effort": "xhigh" if effort == "max" else effort} if effort else {}

    def _format(self) -> dict[str, Any]:
        config = mapping(self._fields, "output_config")
        self.dropped += [f"output_config.{name}" for name in sorted(config.keys() - {"effort", "format"})]
        asked = mapping(config, "format", "output_config.")
        if asked.get("type") != "json_schema":
            return {}
        schema = {"name": "answer", "schema": asked.get("schema"), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}


_MOVED: Mapping[str, Any] = {"type": "text", "text": "[picture]"}
_MOVED_HEAD: Mapping[str, Any] = {"type": "text", "text": "The pictures of the answer above:"}


def _moved(messages: Sequence[Any]) -> list[Any]:
    """The messages with pictures of an answer, which it had as text, as images of the user's next; empty where there are none."""
    made, shown, found = [], [], False
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, list) and message.get("role") == "assistant" and message is not messages[-1]:
            urls = [from_text(block.get("text")) if isinstance(block, Mapping) else "" for block in content]
            if any(urls):
                content = [_MOVED if url else block for url, block in zip(urls, content, strict=True)]
                message, found = {**message, "content": content}, True
                shown += [_image(url) for url in urls if url]
        elif shown and isinstance(content, str | list) and message.get("role") == "user":
            said = [{"type": "text", "text": content}] if isinstance(content, str) else content
            message, shown = {**message, "content": [*said, _MOVED_HEAD, *shown]}, []
        made.append(message)
    return made if found and not shown else []


def _image(url: str) -> dict[str, Any]:
    kind, data = inline(url)
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _blocks(content: Any, where: str) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list) or not all(isinstance(block, Mapping) for block in content):
        raise BadRequest(f"`{where}` must be a string or a list of blocks.", param=where)
    return content


def _plain(parts: list[dict[str, Any]]) -> Any:
    """One text alone is said as a string, which every provider takes."""
    if not parts:
        return ""
    only = parts[0]
    return only["text"] if len(parts) == 1 and only.keys() == {"type", "text"} else parts


def _tool_call(block: Mapping[str, Any], signatures: Mapping[str, str]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}
    call_id = str(block.get("id") or "")
    signature = signatures.get(call_id)
    signed = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
    return {"id": call_id, "type": "function", "function": function, **signed, **_marked(block)}


def _marked(block: Mapping[str, Any]) -> dict[str, Any]:
    return {"cache_control": block["cache_control"]} if block.get("cache_control") else {}


def _url(source: Mapping[str, Any]) -> str:
    if source["type"] == "url":
        return str(source.get("url") or "")
    return f"data:{source.get('media_type') or ''};base64,{source.get('data') or ''}"


def _titled(block: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A document that is text, as text: every provider can read it so."""
    head = [str(block[name]) for name in ("title", "source", "context") if isinstance(block.get(name), str)]
    return {"type": "text", "text": "\n\n".join((*head, text)), **_marked(block)}


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _is_ours(block: Any) -> bool:
    if not isinstance(block, Mapping) or block.get("type") not in ("thinking", "redacted_thinking"):
        return False
    return str(block.get("signature") or block.get("data") or "").startswith((_MARK, _CALL_MARK))


def _without_ours(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(message.get("content"), list):
        return message
    return {**message, "content": [block for block in message["content"] if not _is_ours(block)]}


def _wrapped_call(call_id: str, signature: str) -> str:
    return _CALL_MARK + b64encode(orjson.dumps([call_id, signature])).decode()


def _unwrapped_call(sealed: str) -> dict[str, str]:
    """A tool call's id and signature. One that was tampered with is no signature at all."""
    try:
        call_id, signature = orjson.loads(b64decode(sealed.removeprefix(_CALL_MARK), validate=True))
    except ValueError:
        return {}
    return {str(call_id): str(signature)}


# --- an answer -> the client -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Waiting:
    """A tool call that has to wait: blocks follow one another, and the one before it is not at its end."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str = ""
    begun: bool = False

    def add(self, delta: ToolCall) -> None:
        self.id = self.id or delta.id
        self.name = self.name or delta.name
        self.arguments += delta.arguments
        self.signature = self.signature or delta.signature

    @property
    def complete(self) -> bool:
        try:
            orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            return False
        return True


@dataclass(slots=True)
class _Open:
    """The block under way: its place in the message, its type, and whether its reasoning is signed."""

    index: int = -1
    kind: str = ""
    signed: bool = False
    call: int = -1
    calls: dict[int, _Waiting] = field(default_factory=dict)


class AnthropicEncoder:
    """Events or a message for one client. The last two events wait for the end: they carry the usage.

    Of a relayed answer only the last one waits, and goes out as its provider said it.
    """

    def __init__(self, chat: ChatRequest, answer_id: str, alias: str) -> None:
        self._chat = chat
        self._alias = alias
        self._id = answer_id
        self._begun = False
        self._relayed = False
        self._last: Frame | None = None
        self._open = _Open()
        self._reason = "stop"

    def relay(self, frame: Frame) -> Iterable[Frame]:
        self._relayed = True
        kind = frame.event or read(frame.data).get("type", "")
        if kind == "message_stop":
            self._last = frame
            return ()
        if kind == "message_start" and self._alias:
            told = read(frame.data)
            told["message"]["model"] = self._alias
            return (_frame(told),)
        return (frame if frame.event else Frame(frame.data, kind),)

    def encode(self, event: Event) -> Iterable[Frame]:
        match event:
            case Start():
                return self._begin()
            case Finish(reason):
                self._reason = reason
            case Raw(data, 0):
                return self._pictures(data)
            case Usage() | Raw():
                pass
            case _ if event.choice == 0:
                return self._content(event)
        return ()

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        if not self._relayed:
            yield from self._begin()
            yield from self._close_calls()
            yield from self._close()
            delta = {"stop_reason": _stop_reason(self._reason, self._open.calls), "stop_sequence": None}
            yield _frame({"type": "message_delta", "delta": delta, "usage": _usage(usage or Usage())})
        yield self._last or _frame({"type": "message_stop"})

    def whole(self, frame: Frame) -> bytes:
        if not self._alias:
            return frame.data.encode()
        return written({**read(frame.data), "model": self._alias})

    def completion(self, completion: Completion) -> bytes:
        choice = completion.choices.get(0, Choice())
        reason = _stop_reason(choice.finish_reason or "stop", choice.calls)
        told = {"content": list(_content(choice, self._id)), "stop_reason": reason, "usage": _usage(completion.usage)}
        return orjson.dumps({**self._message(), **told})

    def _message(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._chat.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(Usage()),
        }

    def _begin(self) -> Iterator[Frame]:
        if not self._begun:
            self._begun = True
            yield _frame({"type": "message_start", "message": self._message()})

    def _content(self, event: Text | Reasoning | ToolCall) -> Iterator[Frame]:
        yield from self._begin()
        match event:
            case Text(text):
                if text:
                    yield from self._ready("text", {"type": "text", "text": ""})
                    yield self._delta({"type": "text_delta", "text": text})
            case Reasoning():
                yield from self._reasoning(event)
            case ToolCall():
                yield from self._tool_call(event)

    def _pictures(self, data: Mapping[str, Any]) -> Iterator[Frame]:
        """Each in a block of text by itself: an answer has none for pictures."""
        for url in addresses(data):
            yield from self._begin()
            if self._open.kind == "tool_use":
                yield from self._close_calls()
            yield from self._block({"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": as_text(url)})
            yield from self._close()

    def _reasoning(self, event: Reasoning) -> Iterator[Frame]:
        if event.data:
            yield from self._block({"type": "redacted_thinking", "data": _MARK + event.data})
            yield from self._close()
            return
        yield from self._ready("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if event.text:
            yield self._delta({"type": "thinking_delta", "thinking": event.text})
        if event.signature:
            yield from self._close(event.signature)

    def _tool_call(self, event: ToolCall) -> Iterator[Frame]:
        """Deltas of one call go out as they come, those of another wait until the first is complete."""
        here = self._open
        waiting = here.calls.setdefault(event.index, _Waiting())
        waiting.add(event)
        if here.kind == "tool_use" and here.call == event.index:
            if event.arguments:
                yield self._arguments(event.arguments)
            return
        if here.kind == "tool_use" and not here.calls[here.call].complete:
            return
        if waiting.name and not waiting.begun:
            yield from self._open_call(event.index)

    def _open_call(self, index: int) -> Iterator[Frame]:
        call = self._open.calls[index]
        call.begun = True
        call.id = call.id or f"toolu_{self._id}_{index}"
        if call.signature:
            yield from self._block({"type": "redacted_thinking", "data": _wrapped_call(call.id, call.signature)})
        yield from self._block({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        self._open.call = index
        if call.arguments:
            yield self._arguments(call.arguments)

    def _close_calls(self) -> Iterator[Frame]:
        for index in sorted(self._open.calls):
            if not self._open.calls[index].begun:
                yield from self._open_call(index)

    def _arguments(self, piece: str) -> Frame:
        return self._delta({"type": "input_json_delta", "partial_json": piece})

    def _ready(self, kind: str, block: dict[str, Any]) -> Iterator[Frame]:
        """Sees to it that a block of this kind is open."""
        if self._open.kind != kind:
            if self._open.kind == "tool_use":
                yield from self._close_calls()
            yield from self._block(block)

    def _block(self, block: dict[str, Any]) -> Iterator[Frame]:
        yield from self._close()
        self._open.index += 1
        self._open.kind = block["type"]
        yield _frame({"type": "content_block_start", "index": self._open.index, "content_block": block})

    def _close(self, signature: str = "") -> Iterator[Frame]:
        if not self._open.kind:
            return
        if self._open.kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": _MARK + signature})
        self._open.kind = ""
        yield _frame({"type": "content_block_stop", "index": self._open.index})

    def _delta(self, delta: dict[str, Any]) -> Frame:
        return _frame({"type": "content_block_delta", "index": self._open.index, "delta": delta})


def _content(choice: Choice, answer_id: str) -> Iterator[dict[str, Any]]:
    """A whole answer's blocks, in the order a stream has them."""
    for detail in choice.details:
        if data := detail.get("data"):
            yield {"type": "redacted_thinking", "data": _MARK + data}
        else:
            yield {"type": "thinking", "thinking": detail["text"], "signature": _MARK + detail["signature"]}
    if choice.text:
        yield {"type": "text", "text": choice.text}
    for extra in choice.extras:
        yield from ({"type": "text", "text": as_text(url)} for url in addresses(extra.data))
    for index, call in enumerate(choice.tool_calls):
        call_id = call.id or f"toolu_{answer_id}_{index}"
        if call.signature:
            yield {"type": "redacted_thinking", "data": _wrapped_call(call_id, call.signature)}
        yield {"type": "tool_use", "id": call_id, "name": call.name, "input": _input(call)}


def _input(call: Call) -> dict[str, Any]:
    """The arguments as an object. Those of an answer cut short are none: its stop reason says why."""
    try:
        given = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        given = {}
    return given if isinstance(given, dict) else {}


def _stop_reason(reason: str, calls: Mapping[int, Any]) -> str:
    return "tool_use" if reason == "stop" and calls else _STOP_REASONS.get(reason, "end_turn")


def _usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's input leaves the cache out."""
    told: dict[str, Any] = {
        "input_tokens": max(0, usage.input - usage.cached - usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }
    return {**told, "output_tokens_details": {"thinking_tokens": usage.reasoning}} if usage.reasoning else told


def _error(error: SluiceError, request_id: str) -> dict[str, Any]:
    told = {"type": _ERROR_TYPES.get(error.status, "api_error"), "message": error.message}
    return {"type": "error", "error": told, "request_id": request_id}


def _model(model: Model) -> dict[str, Any]:
    known = {"max_input_tokens": model.context, "max_tokens": model.max_output}
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name or model.id,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{name: value for name, value in known.items() if value},
    }


def _frame(value: Mapping[str, Any]) -> Frame:
    return Frame(orjson.dumps(value).decode(), str(value["type"]))
