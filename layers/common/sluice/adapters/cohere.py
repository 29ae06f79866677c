"""Cohere: v2 chat. Wire: cohere-python 7.3 `v2/raw_client.py`, `types/chat_*_event.py`, and a recorded stream.

Charged is what Cohere bills (`usage.billed_units`), which leaves out the preamble it adds itself; `usage.tokens` is read where
there are no billed units. Beyond OpenAI's fields a client may send `documents`, `citation_options`, `safety_mode`, `thinking`,
`priority`, `strict_tools` and `k`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sluice.adapters import _native as native
from sluice.adapters._attempt import Attempt, by_status, loads, parse, shaped
from sluice.adapters._base import Adapter, CallAdapter
from sluice.adapters._outgoing import thought_of
from sluice.errors import ErrorKind, ProviderError
from sluice.types import (
    CallRequest,
    Channel,
    ChatRequest,
    Event,
    Finish,
    Frame,
    Raw,
    Reasoning,
    Start,
    Text,
    ToolCall,
    UpstreamRequest,
    Usage,
)

_BASE_URL = "https://api.cohere.com"

_NAMES = {
    "citation_options": "citation_options",
    "documents": "documents",
    "frequency_penalty": "frequency_penalty",
    "k": "k",
    "presence_penalty": "presence_penalty",
    "priority": "priority",
    "safety_mode": "safety_mode",
    "seed": "seed",
    "strict_tools": "strict_tools",
    "temperature": "temperature",
    "thinking": "thinking",
    "top_k": "k",
    "top_p": "p",
}
_CARRIED = frozenset(
    {
        *_NAMES,
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "reasoning_effort",
        "response_format",
        "stop",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
    }
)

_RERANKED = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority", "return_documents"})

_FINISHES: Mapping[str, str] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
_BROKEN: Mapping[str, ErrorKind] = {"ERROR": "server", "TIMEOUT": "timeout"}
_BY_STATUS: Mapping[int, ErrorKind] = {498: "content_filter", 499: "server"}
"""498 is a request or an answer with a deny-listed token; 499 is Cohere's own word for a request it gave up."""
_BY_WORDS: tuple[tuple[str, ErrorKind], ...] = (("too many tokens", "context_length"), ("calls / month", "quota"))
"""A body holds a sentence and no code."""


@dataclass(frozen=True, slots=True)
class Cohere:
    name: str = "cohere"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return CohereAdapter()

    def endpoint(self, kind: str, now: float) -> CallAdapter | None:
        return CohereRerank() if kind == "rerank" else None


ADAPTER = Cohere()


class CohereRerank:
    """One attempt at v2 rerank, whose documents are texts, and come back as numbers of their places."""

    def request(self, call: CallRequest, channel: Channel) -> UpstreamRequest:
        lost = tuple(name for name in call.body if name not in _RERANKED)
        kept = {name: value for name, value in call.body.items() if name in _RERANKED - {"return_documents"}}
        texts = [one["text"] if isinstance(one, Mapping) else one for one in call.body["documents"]]
        body = orjson.dumps({**kept, "model": channel.upstream_model(call.model), "documents": texts})
        headers = {"content-type": "application/json", "authorization": f"Bearer {channel.secret.reveal()}"}
        url = f"{channel.endpoint.rstrip('/') or _BASE_URL}/v2/rerank"
        return UpstreamRequest(url, headers, body, proxy=channel.proxy, dropped=lost)

    def feed(self, frame: Frame) -> Iterable[Frame]:
        return (frame,)

    def whole(self, body: bytes) -> bytes:
        return body

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return CohereAdapter().error(status, headers, body)


class CohereAdapter(Attempt):
    """One attempt at v2 chat."""

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        with shaped():
            body, lost = _body(chat, channel.upstream_model(chat.model))
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if chat.stream else "application/json",
            "authorization": f"Bearer {channel.secret.reveal()}",
        }
        url = f"{channel.endpoint.rstrip('/') or _BASE_URL}/v2/chat"
        return UpstreamRequest(url, headers, orjson.dumps(body), proxy=channel.proxy, dropped=lost)

    def events(self, frame: Frame) -> Iterable[Event]:
        if frame.data.startswith("[DONE]"):
            return
        told = parse(frame.data)
        delta = told.get("delta") or {}
        message = delta.get("message") or {}
        match told.get("type"):
            case "message-start":
                yield Start(str(told.get("id") or ""))
            case "content-start" | "content-delta":
                yield from _content(message.get("content") or {})
            case "tool-plan-delta" if message.get("tool_plan"):
                yield Reasoning(str(message["tool_plan"]))
            case "tool-call-start" | "tool-call-delta":
                yield _call(message.get("tool_calls") or {}, int(told.get("index") or 0))
            case "citation-start" if message.get("citations"):
                yield Raw({"citations": [message["citations"]]})
            case "message-end":
                yield from self._end(delta)
            case None if "message" in told:
                yield from self._whole(told)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return ProviderError(*_kind(loads(body), status), status=status)

    def _whole(self, told: Mapping[str, Any]) -> Iterator[Event]:
        message = told["message"]
        if not isinstance(message, Mapping):
            raise ProviderError(*_kind(told, 500))
        yield Start(str(told.get("id") or ""))
        if message.get("tool_plan"):
            yield Reasoning(str(message["tool_plan"]))
        for part in message.get("content") or ():
            yield from _content(part)
        for index, call in enumerate(message.get("tool_calls") or ()):
            yield _call(call, index)
        if message.get("citations"):
            yield Raw({"citations": message["citations"]})
        yield from self._end(told)

    def _end(self, told: Mapping[str, Any]) -> Iterator[Event]:
        reason = str(told.get("finish_reason") or "COMPLETE")
        if reason in _BROKEN or told.get("error"):
            raise ProviderError(_BROKEN.get(reason, "server"), str(told.get("error") or ""), code=reason)
        self.done = True
        yield Finish(_FINISHES.get(reason, "stop"))
        if usage := _usage(told.get("usage") or {}):
            yield usage


def _content(part: Mapping[str, Any]) -> Iterator[Event]:
    if part.get("thinking"):
        yield Reasoning(str(part["thinking"]))
    if part.get("text"):
        yield Text(str(part["text"]))


def _call(call: Mapping[str, Any], index: int) -> ToolCall:
    function = call.get("function") or {}
    return ToolCall(
        index, str(call.get("id") or ""), str(function.get("name") or ""), str(function.get("arguments") or "")
    )


def _usage(usage: Mapping[str, Any]) -> Usage | None:
    billed, counted = usage.get("billed_units") or {}, usage.get("tokens") or {}
    searches = int(billed.get("search_units") or 0)
    units = {"search": searches} if searches else {}
    if billed.get("input_tokens") is not None:
        return Usage(int(billed["input_tokens"]), int(billed.get("output_tokens") or 0), units=units)
    if not counted:
        return None
    cached = int(usage.get("cached_tokens") or 0)
    return Usage(int(counted.get("input_tokens") or 0), int(counted.get("output_tokens") or 0), cached, units=units)


def _kind(told: Mapping[str, Any], status: int) -> tuple[ErrorKind, str]:
    message = str(told.get("message") or "")
    words = next((kind for part, kind in _BY_WORDS if part in message.lower()), None)
    return words or _BY_STATUS.get(status) or by_status(status), message


def _body(chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    told = chat.body
    if (told.get("n") or 1) != 1:
        raise native.unsupported("n")
    lost: dict[str, None] = {}
    messages = native.joined(_message(where, role, message, lost) for where, role, message in native.messages(told))
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": chat.stream, **native.said(told, _NAMES)}
    if cap := native.cap(told):
        body["max_tokens"] = cap
    if stops := native.stops(told):
        body["stop_sequences"] = stops
    if told.get("reasoning_effort") == "none":
        body.setdefault("thinking", {"type": "disabled"})
    elif told.get("reasoning_effort"):
        lost["reasoning_effort"] = None
    if form := _response_format(told.get("response_format") or {}):
        body["response_format"] = form
    return {**body, **_tools(told)}, (*native.dropped(told, _CARRIED), *lost)


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    match wanted.get("type", "text"):
        case "text":
            return {}
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            return {"type": "json_object", "json_schema": (wanted.get("json_schema") or {}).get("schema") or {}}
    raise native.unsupported("response_format")


def _tools(told: Mapping[str, Any]) -> dict[str, Any]:
    tools = []
    strict = False
    for function, _ in native.functions(told):
        strict = strict or bool(function.get("strict"))
        known = native.said(function, {"name": "name", "description": "description", "parameters": "parameters"})
        tools.append({"type": "function", "function": {"parameters": native.ANYTHING, **known}})
    if not tools:
        return {}
    choice = native.chosen(told.get("tool_choice"))
    if choice.startswith(":"):
        raise native.unsupported("tool_choice", "One function cannot be demanded, only some.")
    demanded = {} if choice == "auto" else {"tool_choice": choice.upper()}
    return {"tools": tools, **({"strict_tools": True} if strict else {}), **demanded}


def _message(where: str, role: str, message: Mapping[str, Any], lost: dict[str, None]) -> dict[str, Any]:
    if message.get("name"):
        lost["messages[].name"] = None
    content = message.get("content")
    match role:
        case "user":
            return {"role": role, "content": [_part(part, place) for place, part in native.parts(content, where)]}
        case "tool":
            result = native.text_of(content, where)
            return {"role": role, "tool_call_id": message.get("tool_call_id"), "content": result}
        case "assistant":
            return _said(where, message, lost)
    return {"role": "system", "content": native.text_of(content, where)}


def _said(where: str, message: Mapping[str, Any], lost: dict[str, None]) -> dict[str, Any]:
    """An assistant's turn. What it thought goes back as the plan of its calls; without calls there is no place for it."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in native.calls(message, where)
    ]
    thought = thought_of(message)
    text = native.text_of(message.get("content"), where)
    out: dict[str, Any] = {"role": "assistant", **({"content": text} if text or not calls else {})}
    if calls:
        out["tool_calls"] = calls
    if calls and thought:
        out["tool_plan"] = thought
    elif thought:
        lost["messages[].reasoning_content"] = None
    return out


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    text = native.part_text(part)
    if text is not None:
        return {"type": "text", "text": text}
    if part.get("type") != "image_url":
        raise native.unsupported(place)
    image = part.get("image_url")
    detail = image.get("detail") if isinstance(image, Mapping) else None
    known = {"detail": detail} if detail in ("auto", "low", "high") else {}
    return {"type": "image_url", "image_url": {"url": native.image_url(part), **known}}
