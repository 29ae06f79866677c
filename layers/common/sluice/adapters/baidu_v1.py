"""Baidu's first API for ERNIE (`wenxinworkshop`), by access token, for accounts from before v2.

Wire: the SDK of 2024 (0.4.12: `resources/llm/chat_completion.py`, `consts.py`), the error page of its documentation, recorded
events. A channel's secret is "API-KEY:SECRET-KEY"; it buys an access token that stands in the address, kept until it runs out.
Each model has a path of its own: the model's name in lower case, or as `_PATHS` has it. Errors come with HTTP 200.

A conversation begins and ends with the user and alternates: turns of one role are joined. An answer calls one function at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from sluice.adapters import _native as native
from sluice.adapters._attempt import Attempt, by_status, loads, parse, shaped
from sluice.adapters._base import Adapter
from sluice.errors import ErrorKind, ProviderError
from sluice.types import (
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

_BASE_URL = "https://aip.baidubce.com"
_CHAT = "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/"
_TOKEN = "/oauth/2.0/token"  # noqa: S105

_PATHS = {
    "ernie-3.5-8k": "completions",
    "ernie-4.0-8k": "completions_pro",
    "ernie-4.0-8k-preview-0518": "completions_adv_pro",
    "ernie-character-8k": "ernie-char-8k",
    "ernie-character-fiction-8k": "ernie-char-fiction-8k",
    "ernie-function-8k": "ernie-func-8k",
    "ernie-lite-8k-0308": "ernie-lite-8k",
    "ernie-lite-8k-0922": "eb-instant",
    "ernie-speed-8k": "ernie_speed",
}
_NAMES = {
    "disable_search": "disable_search",
    "enable_citation": "enable_citation",
    "enable_trace": "enable_trace",
    "penalty_score": "penalty_score",
}
_CARRIED = frozenset(
    {
        *_NAMES,
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "response_format",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)
_LEAST = 0.01
"""Temperature and top_p are over 0 and at most 1."""

_FINISHES: Mapping[str, str] = {
    "normal": "stop",
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
}
_KINDS: Mapping[int, ErrorKind] = {
    1: "server",
    2: "overloaded",
    3: "model_not_found",
    4: "rate_limit",
    6: "permission",
    13: "auth",
    14: "auth",
    15: "server",
    17: "quota",
    18: "rate_limit",
    19: "quota",
    100: "auth",
    110: "auth",
    111: "auth",
    336000: "server",
    336001: "invalid_request",
    336002: "invalid_request",
    336003: "invalid_request",
    336004: "permission",
    336005: "model_not_found",
    336006: "invalid_request",
    336007: "context_length",
    336100: "overloaded",
    336101: "server",
    336103: "context_length",
    336104: "invalid_request",
    336105: "invalid_request",
    336501: "rate_limit",
    336502: "rate_limit",
}


@dataclass(frozen=True, slots=True)
class BaiduV1:
    name: str = "baidu_v1"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return BaiduAdapter()

    def exchange(self, channel: Channel) -> UpstreamRequest:
        key, _, secret = channel.secret.reveal().partition(":")
        query = urlencode({"grant_type": "client_credentials", "client_id": key, "client_secret": secret})
        url = f"{_base(channel)}{_TOKEN}?{query}"
        return UpstreamRequest(url, {"content-type": "application/json"}, b"", proxy=channel.proxy)

    def exchanged(self, status: int, body: bytes) -> tuple[str, float]:
        told = loads(body)
        if not told.get("access_token"):
            kind: ErrorKind = "auth" if told.get("error") else by_status(status)
            raise ProviderError(kind, str(told.get("error_description") or ""), status=status)
        return str(told["access_token"]), float(told.get("expires_in") or 0)


ADAPTER = BaiduV1()


class BaiduAdapter(Attempt):
    """One attempt. The channel's secret is the access token by then."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        with shaped():
            body, lost = _body(chat)
        model = channel.upstream_model(chat.model).lower()
        path = _CHAT + quote(_PATHS.get(model, model), safe="")
        url = f"{_base(channel)}{path}?{urlencode({'access_token': channel.secret.reveal()})}"
        headers = {"content-type": "application/json"}
        return UpstreamRequest(url, headers, orjson.dumps(body), proxy=channel.proxy, dropped=lost)

    def events(self, frame: Frame) -> Iterable[Event]:
        told = parse(frame.data)
        if told.get("error_code"):
            raise _error(told, 0)
        if not self._started:
            self._started = True
            yield Start(str(told.get("id") or ""), created=int(told.get("created") or 0))
        call = told.get("function_call") or {}
        if call.get("thoughts"):
            yield Reasoning(str(call["thoughts"]))
        if told.get("result"):
            yield Text(str(told["result"]))
        if call.get("name"):
            name, arguments = str(call["name"]), str(call.get("arguments") or "{}")
            yield ToolCall(0, f"call_{told.get('id') or name}", name, arguments)
        if search := told.get("search_info"):
            yield Raw({"search_info": search})
        if told.get("is_end", "sentence_id" not in told):
            yield from self._end(told)
        if usage := told.get("usage"):
            yield _usage(usage)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return _error(loads(body), status)

    def _end(self, told: Mapping[str, Any]) -> Iterator[Event]:
        reason = "length" if told.get("is_truncated") else str(told.get("finish_reason") or "normal")
        self.done = True
        yield Finish("tool_calls" if told.get("function_call") else _FINISHES.get(reason, "stop"))


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _error(told: Mapping[str, Any], status: int) -> ProviderError:
    code = told.get("error_code") or 0
    kind = _KINDS.get(code) if isinstance(code, int) else None
    message = str(told.get("error_msg") or "")
    return ProviderError(kind or by_status(status or 500), message, status=status, code=str(code or ""))


def _base(channel: Channel) -> str:
    return channel.endpoint.rstrip("/") or _BASE_URL


def _body(chat: ChatRequest) -> tuple[dict[str, Any], tuple[str, ...]]:
    told = chat.body
    system, turns = _conversation(told)
    body: dict[str, Any] = {"messages": turns, "stream": chat.stream, **native.said(told, _NAMES)}
    if system:
        body["system"] = system
    if cap := native.cap(told):
        body["max_output_tokens"] = cap
    if stops := native.stops(told):
        body["stop"] = stops
    for name in ("temperature", "top_p"):
        if told.get(name) is not None:
            body[name] = min(max(told[name], _LEAST), 1)
    form = (told.get("response_format") or {}).get("type", "text")
    if form == "json_object":
        body["response_format"] = form
    elif form != "text":
        raise native.unsupported("response_format", "Ask for a `json_object`.")
    return {**body, **_functions(told)}, (*native.dropped(told, _CARRIED), *native.forgotten(told))


def _functions(told: Mapping[str, Any]) -> dict[str, Any]:
    choice = native.chosen(told.get("tool_choice"))
    functions = native.described(told)
    if not functions or choice == "none":
        return {}
    if choice == "required":
        raise native.unsupported("tool_choice", "One function can be demanded, but not any.")
    if choice.startswith(":"):
        return {"functions": functions, "tool_choice": {"type": "function", "function": {"name": choice[1:]}}}
    return {"functions": functions}


def _conversation(told: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The system's words, and the turns. A function's result is known by the function's name, not by its call's id."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    called: dict[str, str] = {}
    for where, role, message in native.messages(told):
        text = native.text_of(message.get("content"), where)
        if role == "system":
            system.append(text)
            continue
        turn: dict[str, Any] = {"role": role, "content": text}
        if role == "tool":
            name = called.get(str(message.get("tool_call_id") or "")) or str(message.get("name") or "")
            turn = {"role": "function", "name": name, "content": text}
        elif calls := list(native.calls(message, where)):
            if len(calls) > 1:
                raise native.unsupported(f"{where}.tool_calls", "An answer holds one call at most.")
            call_id, name, arguments = calls[0]
            called[call_id] = name
            turn["function_call"] = {"name": name, "arguments": arguments}
        turns.append(turn)
    return "\n\n".join(system), native.joined(turns)
