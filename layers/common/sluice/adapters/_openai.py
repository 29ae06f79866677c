"""OpenAI's chat.completions protocol, and the table row a compatible provider is.

Wire facts: openai-python 3.52 `types/chat/chat_completion*.py`, `_streaming.py`; recorded streams of fourteen providers.
A provider that differs in names and numbers is a row of `OpenAICompatible`; one that needs code is a class in its own file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

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

_BY_CODE: Mapping[str, ErrorKind] = {
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "content_policy_violation": "content_filter",
    "content_filter": "content_filter",
    "moderation_blocked": "content_filter",
    "invalid_prompt": "content_filter",
    "invalid_api_key": "auth",
    "account_deactivated": "auth",
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "model_not_found": "model_not_found",
    "rate_limit_exceeded": "rate_limit",
}

_BY_STATUS: Mapping[int, ErrorKind] = {
    401: "auth",
    402: "quota",
    403: "permission",
    404: "model_not_found",
    408: "timeout",
    429: "rate_limit",
    500: "server",
    502: "server",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}

# Fields of a delta that commit an answer but have no event of their own.
_EXTRAS = ("audio", "annotations", "function_call", "reasoning_details")


@dataclass(frozen=True, slots=True)
class OpenAICompatible:
    """A provider that speaks OpenAI's chat.completions. Every field is data.

    `rename` maps request fields to the provider's names, `drop` lists fields it refuses, `kinds` maps its error codes,
    `reasoning` lists the delta fields its reasoning may stand in.
    """

    name: str
    base_url: str
    path: str = "/chat/completions"
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    kinds: Mapping[str, ErrorKind] = field(default_factory=dict)
    reasoning: tuple[str, ...] = ("reasoning_content", "reasoning")
    wire: str = "openai"

    def adapter(self, now: float) -> Adapter:
        return OpenAIAdapter(self)


class OpenAIAdapter:
    """One attempt in OpenAI's protocol."""

    def __init__(self, spec: OpenAICompatible) -> None:
        self._spec = spec
        self._started = False
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self.done = False

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        body = {
            self._spec.rename.get(name, name): value for name, value in chat.body.items() if name not in self._spec.drop
        }
        body["model"] = channel.upstream_model(chat.model)
        if chat.stream:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if chat.stream else "application/json",
        }
        if channel.secret:
            headers["authorization"] = f"Bearer {channel.secret.reveal()}"
        return UpstreamRequest(self._url(channel), headers, orjson.dumps(body), proxy=channel.proxy)

    def feed(self, frame: Frame) -> Iterable[Event]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return
        chunk = parse(frame.data)
        if chunk.get("error"):
            raise self._told(chunk["error"], 0)
        if not self._started:
            self._started = True
            yield Start(str(chunk.get("id") or ""), str(chunk.get("model") or ""), int(chunk.get("created") or 0))
        for choice in chunk.get("choices") or ():
            yield from self._choice(choice)
        if usage := chunk.get("usage"):
            yield _usage(usage)

    def finish(self) -> Iterable[Event]:
        if not self.done and (self._open or not self._finished):
            raise ProviderError("network", "the stream ended before the answer did")
        return ()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = {}
        detail = told.get("error", told) if isinstance(told, Mapping) else {}
        error = self._told(detail, status)
        error.retry_after = retry_after(headers)
        error.body = body
        return error

    def _url(self, channel: Channel) -> str:
        base = (channel.endpoint or self._spec.base_url).rstrip("/")
        if not urlsplit(base).path:
            base += urlsplit(self._spec.base_url).path
        return base + self._spec.path

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        index = int(choice.get("index") or 0)
        self._open.add(index)
        delta = choice.get("delta") or choice.get("message") or {}
        yield from self._delta(delta, index)
        if reason := choice.get("finish_reason"):
            self._open.discard(index)
            self._finished.add(index)
            yield Finish(str(reason), index)

    def _delta(self, delta: Mapping[str, Any], index: int) -> Iterator[Event]:
        for name in self._spec.reasoning:
            if isinstance(thought := delta.get(name), str) and thought:
                yield Reasoning(thought, choice=index)
                break
        for name in ("content", "refusal"):
            if text := _text(delta.get(name)):
                yield Text(text, index)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            yield _tool_call(call, position, index)
        if extras := {name: delta[name] for name in _EXTRAS if delta.get(name)}:
            yield Raw(extras, index)

    def _told(self, detail: Any, status: int) -> ProviderError:
        """A provider's error object, classified by its code or type, then by status."""
        fields: Mapping[str, Any] = detail if isinstance(detail, Mapping) else {"message": str(detail)}
        code, kind_name = str(fields.get("code") or ""), str(fields.get("type") or "")
        kind = (
            self._spec.kinds.get(code)
            or self._spec.kinds.get(kind_name)
            or _BY_CODE.get(code)
            or _BY_CODE.get(kind_name)
            or _BY_STATUS.get(status or _number(code))
            or ("invalid_request" if 400 <= status < 500 else "server")
        )
        param = fields.get("param")
        return ProviderError(
            kind, str(fields.get("message") or ""), status=status, code=code, param=str(param) if param else None
        )


def parse(data: str) -> Mapping[str, Any]:
    """A frame's JSON object. Raises ProviderError("server") on anything else.

    Where orjson refuses, the standard library is asked: half a surrogate pair in a delta is wrong, and common.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(data)
        except ValueError:
            raise ProviderError("server", "the provider sent a frame that is no JSON") from None
    if not isinstance(value, Mapping):
        raise ProviderError("server", "the provider sent a frame that is no JSON object")
    return value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds told by `retry-after-ms` or `retry-after`; an HTTP date counts from the answer's own `date`."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        told = headers.get("retry-after", "")
        if not told or told.replace(".", "", 1).isdigit():
            return float(told) if told else None
        gap = parsedate_to_datetime(told) - parsedate_to_datetime(headers["date"])
        return max(0.0, gap.total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


def _tool_call(call: Mapping[str, Any], position: int, choice: int) -> ToolCall:
    function = call.get("function") or call.get("custom") or {}
    index = call.get("index")
    return ToolCall(
        index=position if index is None else int(index),
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=str(function.get("arguments") or function.get("input") or ""),
        choice=choice,
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=int(usage.get("prompt_tokens") or 0),
        output=int(usage.get("completion_tokens") or 0),
        cached=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        reasoning=int((usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0),
    )


def _number(code: str) -> int:
    return int(code) if code.isdigit() else 0
