"""Alibaba's DashScope in its native protocol. Wire: dashscope-python 2.0, the samples of Model Studio's documentation.

There are two services, and a request to the wrong one is refused: text models take a text per message, the others a list of
parts. A conversation with a picture, a video or a sound goes to the second, as does any on an endpoint that ends in
`/multimodal-generation/generation`; an endpoint without a path of its own gets the native one. A client may send DashScope's own
parameters by their names (`enable_search`, `enable_thinking`, `thinking_budget`, `repetition_penalty`, `top_k`...).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

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

_BASE_URL = "https://dashscope.aliyuncs.com/api/v1"
_TEXT = "/services/aigc/text-generation/generation"
_MULTIMODAL = "/services/aigc/multimodal-generation/generation"

_STREAM_ONLY = re.compile(r"qwq|qvq|omni|-thinking")
"""Models that answer a request for a whole body with an error, as others do while they think: their stream is put together."""

_PARAMETERS = (
    "enable_search",
    "enable_thinking",
    "logprobs",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "repetition_penalty",
    "response_format",
    "search_options",
    "seed",
    "stop",
    "temperature",
    "thinking_budget",
    "tool_choice",
    "top_k",
    "top_logprobs",
    "top_p",
)
_CARRIED = frozenset(
    {
        *_PARAMETERS,
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "reasoning_effort",
        "stream",
        "stream_options",
        "tools",
    }
)

_KINDS: tuple[tuple[str, ErrorKind], ...] = (
    ("AllocationQuota", "quota"),
    ("Arrearage", "quota"),
    ("DataInspectionFailed", "content_filter"),
    ("data_inspection_failed", "content_filter"),
    ("InternalError.Algo.InvalidParameter", "invalid_request"),
    ("InternalError.Algo.DataInspectionFailed", "content_filter"),
    ("InternalError", "server"),
    ("InvalidApiKey", "auth"),
    ("invalid_api_key", "auth"),
    ("NOT AUTHORIZED", "auth"),
    ("ModelNotFound", "model_not_found"),
    ("Model.NotExist", "model_not_found"),
    ("ModelServingError", "overloaded"),
    ("ModelUnavailable", "overloaded"),
    ("Model.AccessDenied", "permission"),
    ("Workspace.AccessDenied", "permission"),
    ("AccessDenied", "permission"),
    ("RequestTimeOut", "timeout"),
    ("Throttling", "rate_limit"),
    ("insufficient_quota", "rate_limit"),
    ("InvalidParameter", "invalid_request"),
    ("BadRequest", "invalid_request"),
)
"""By how a code begins, longest first within a family. `insufficient_quota` is its limit of tokens a minute, no bill."""


@dataclass(frozen=True, slots=True)
class DashScope:
    name: str = "dashscope"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return DashScopeAdapter()


ADAPTER = DashScope()


class DashScopeAdapter(Attempt):
    """One attempt at the native protocol."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._wanted = 1
        self._open: set[int] = set()
        self._finished: set[int] = set()

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        model = channel.upstream_model(chat.model)
        with shaped():
            url, multimodal = _service(channel.endpoint, chat.body)
            body = _body(chat, model, multimodal=multimodal)
            lost = (*native.dropped(chat.body, _CARRIED), *native.forgotten(chat.body))
            self._wanted = int(chat.body.get("n") or 1)
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {channel.secret.reveal()}",
        }
        if chat.stream or body["parameters"].get("enable_thinking") or _STREAM_ONLY.search(model):
            headers |= {"accept": "text/event-stream", "x-dashscope-sse": "enable"}
            body["parameters"]["incremental_output"] = True
        return UpstreamRequest(url, headers, orjson.dumps(body), proxy=channel.proxy, dropped=lost)

    def events(self, frame: Frame) -> Iterable[Event]:
        told = parse(frame.data)
        if frame.event == "error" or told.get("code"):
            raise _error(told, int(told.get("status_code") or 0))
        output = told.get("output") or {}
        if not self._started:
            self._started = True
            yield Start(str(told.get("request_id") or ""))
        choices = output.get("choices") or ([output] if "text" in output else [])
        for position, choice in enumerate(choices):
            yield from self._choice(choice, int(choice.get("index") or position))
        if search := output.get("search_info"):
            yield Raw({"search_info": search})
        if usage := told.get("usage"):
            yield _usage(usage)

    @property
    def complete(self) -> bool:
        return bool(self._finished) and not self._open

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return _error(loads(_unframed(body)), status)

    def _choice(self, choice: Mapping[str, Any], index: int) -> Iterator[Event]:
        """A choice of a frame. Where nothing is left to say its finish reason is the text "null"."""
        self._open.add(index)
        message = choice.get("message") or {"content": choice.get("text")}
        if thought := message.get("reasoning_content"):
            yield Reasoning(str(thought), choice=index)
        content = message.get("content")
        text = content if isinstance(content, str) else "".join(str(part.get("text") or "") for part in content or ())
        if text:
            yield Text(text, index)
        for position, call in enumerate(message.get("tool_calls") or ()):
            yield _call(call, position, index)
        if logprobs := choice.get("logprobs"):
            yield Raw({"logprobs": logprobs}, index)
        reason = choice.get("finish_reason")
        if reason and reason != "null":
            self._open.discard(index)
            self._finished.add(index)
            self.done = len(self._finished) >= self._wanted
            yield Finish(str(reason), index)


def _call(call: Mapping[str, Any], position: int, choice: int) -> ToolCall:
    function, index = call.get("function") or {}, call.get("index")
    return ToolCall(
        position if index is None else int(index),
        str(call.get("id") or ""),
        str(function.get("name") or ""),
        str(function.get("arguments") or ""),
        choice,
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Every frame has the count so far. Of pictures, sounds and videos it has counts of their own, inside the input's."""
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return Usage(
        input=int(usage.get("input_tokens") or 0),
        output=int(usage.get("output_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
        reasoning=int((usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0),
        cache_write=int(details.get("cache_creation_input_tokens") or 0),
    )


def _error(told: Mapping[str, Any], status: int) -> ProviderError:
    code, message = str(told.get("code") or ""), str(told.get("message") or "")
    kind = native.matching(_KINDS, code) or by_status(status or 500)
    if kind == "invalid_request" and "input length should be" in message.lower():
        kind = "context_length"
    return ProviderError(kind, message, status=status, code=code)


def _unframed(body: bytes) -> bytes:
    """An error's body, which may come as an event although its content type says JSON."""
    lines = [line.partition(b":")[2] for line in body.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else body


def _service(endpoint: str, body: Mapping[str, Any]) -> tuple[str, bool]:
    """The address to ask, and whether it takes parts."""
    base = endpoint.rstrip("/") or _BASE_URL
    if base.endswith((_TEXT, _MULTIMODAL)):
        return base, base.endswith(_MULTIMODAL)
    if not urlsplit(base).path:
        base += urlsplit(_BASE_URL).path
    seen = any(
        native.part_text(part) is None
        for where, _, message in native.messages(body)
        for _, part in native.parts(message.get("content"), where)
    )
    return base + (_MULTIMODAL if seen else _TEXT), seen


def _body(chat: ChatRequest, model: str, *, multimodal: bool) -> dict[str, Any]:
    parameters = {"result_format": "message", **native.said(chat.body, {name: name for name in _PARAMETERS})}
    if cap := native.cap(chat.body):
        parameters["max_tokens"] = cap
    if effort := chat.body.get("reasoning_effort"):
        parameters.setdefault("enable_thinking", effort != "none")
    if tools := [{"type": "function", "function": function} for function, _ in native.functions(chat.body)]:
        parameters["tools"] = tools
    messages = native.joined(
        _message(where, role, message, multimodal=multimodal) for where, role, message in native.messages(chat.body)
    )
    return {"model": model, "input": {"messages": messages}, "parameters": parameters}


def _message(where: str, role: str, message: Mapping[str, Any], *, multimodal: bool) -> dict[str, Any]:
    content = message.get("content")
    out: dict[str, Any] = {"role": role}
    if multimodal:
        out["content"] = [_part(part, place) for place, part in native.parts(content, where)]
    else:
        out["content"] = native.text_of(content, where)
    if role == "tool":
        out["tool_call_id"] = message.get("tool_call_id")
    if message.get("name"):
        out["name"] = message["name"]
    calls = [
        {"id": call_id, "type": "function", "index": index, "function": {"name": name, "arguments": arguments}}
        for index, (call_id, name, arguments) in enumerate(native.calls(message, where))
    ]
    return {**out, "tool_calls": calls} if calls else out


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    """DashScope reads an address itself, so that one may stand where a data URL may."""
    text = native.part_text(part)
    if text is not None:
        return {"text": text}
    match part.get("type"):
        case "image_url":
            return {"image": native.image_url(part)}
        case "video_url":
            return {"video": str((part.get("video_url") or {}).get("url") or "")}
        case "input_audio":
            audio = part.get("input_audio") or {}
            return {"audio": f"data:audio/{audio.get('format') or 'wav'};base64,{audio.get('data') or ''}"}
    raise native.unsupported(place)
