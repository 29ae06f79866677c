"""iFlytek's Spark over WebSocket: one question and its answer per connection, signed in the address.

Wire: recorded frames, iFlytek's documentation of the interface and of its signature, spark_ai_python 0.4 `llm/llm.py`. A
channel's secret is "APPID:APIKey:APISecret". Each model has an address of its own; an endpoint with a path overrides it.
`https` in an endpoint is read as `wss`, `http` as `ws`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode, urlsplit

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
    Reasoning,
    Start,
    Text,
    ToolCall,
    UpstreamRequest,
    Usage,
)

_BASE_URL = "https://spark-api.xf-yun.com"
_PATHS = {
    "lite": "/v1.1/chat",
    "generalv3": "/v3.1/chat",
    "generalv3.5": "/v3.5/chat",
    "4.0ultra": "/v4.0/chat",
    "pro-128k": "/chat/pro-128k",
    "max-32k": "/chat/max-32k",
    "x1": "/v1/x1",
}
_CARRIED = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
    }
)
_LAST = 2
_KINDS: Mapping[int, ErrorKind] = {
    10003: "invalid_request",
    10004: "invalid_request",
    10005: "auth",
    10006: "auth",
    10007: "rate_limit",
    10008: "overloaded",
    10010: "overloaded",
    10013: "content_filter",
    10014: "content_filter",
    10019: "content_filter",
    10110: "overloaded",
    10163: "invalid_request",
    10907: "context_length",
    11200: "auth",
    11201: "quota",
    11202: "rate_limit",
    11203: "rate_limit",
}


@dataclass(frozen=True, slots=True)
class SparkWebSocket:
    name: str = "spark_ws"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return SparkAdapter(now)


ADAPTER = SparkWebSocket()


class SparkAdapter(Attempt):
    """One connection."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._now = now
        self._sid = ""
        self._started = False
        self._called = False

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        app_id, api_key, api_secret = (*channel.secret.reveal().split(":", 2), "", "")[:3]
        domain = channel.upstream_model(chat.model)
        split = urlsplit(channel.endpoint.rstrip("/") or _BASE_URL)
        path = split.path or _PATHS.get(domain.lower(), "")
        if not path:
            raise ProviderError("model_not_found", "its address is not known: the channel's endpoint has to name it")
        scheme = "ws" if split.scheme == "http" else "wss"
        query = signed_query(split.netloc, path, self._now, api_key, api_secret)
        with shaped():
            body = _body(chat.body, domain, app_id)
            lost = (*native.dropped(chat.body, _CARRIED), *native.forgotten(chat.body))
        return UpstreamRequest(
            f"{scheme}://{split.netloc}{path}?{query}",
            {},
            orjson.dumps(body),
            method="GET",
            proxy=channel.proxy,
            framing="websocket",
            dropped=lost,
        )

    def events(self, frame: Frame) -> Iterable[Event]:
        told = parse(frame.data)
        header, payload = told.get("header") or {}, told.get("payload") or {}
        if header.get("code"):
            raise _error(int(header["code"]), str(header.get("message") or ""), 0)
        if not self._started:
            self._started = True
            self._sid = str(header.get("sid") or "").replace("@", "_")
            yield Start(self._sid)
        choices = payload.get("choices") or {}
        for part in choices.get("text") or ():
            yield from self._part(part)
        if _LAST in (header.get("status"), choices.get("status")):
            self.done = True
            yield Finish("tool_calls" if self._called else "stop")
        if usage := (payload.get("usage") or {}).get("text"):
            yield Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """A handshake that was refused: 401 without a signature, 403 with a wrong one or one too old."""
        told = loads(body)
        kind: ErrorKind = "auth" if status in (401, 403) else by_status(status)
        return ProviderError(kind, str(told.get("message") or ""), status=status)

    def _part(self, part: Mapping[str, Any]) -> Iterator[Event]:
        if part.get("reasoning_content"):
            yield Reasoning(str(part["reasoning_content"]))
        if part.get("content"):
            yield Text(str(part["content"]))
        call = part.get("function_call") or {}
        if call.get("name"):
            self._called = True
            name = str(call["name"])
            yield ToolCall(0, f"call_{self._sid or name}", name, str(call.get("arguments") or "{}"))


def signed_query(host: str, path: str, now: float, api_key: str, api_secret: str) -> str:
    """The query that admits a connection for five minutes around `now`, in epoch seconds."""
    date = formatdate(now, usegmt=True)
    origin = f"host: {host}\ndate: {date}\nGET {path} HTTP/1.1"
    signature = base64.b64encode(hmac.digest(api_secret.encode(), origin.encode(), "sha256")).decode()
    told = f'api_key="{api_key}", algorithm="hmac-sha256", headers="host date request-line", signature="{signature}"'
    return urlencode({"authorization": base64.b64encode(told.encode()).decode(), "date": date, "host": host})


def _error(code: int, message: str, status: int) -> ProviderError:
    return ProviderError(_KINDS.get(code, "server"), message, status=status, code=str(code))


def _body(told: Mapping[str, Any], domain: str, app_id: str) -> dict[str, Any]:
    settings = {"domain": domain, **native.said(told, {"temperature": "temperature", "top_k": "top_k"})}
    if cap := native.cap(told):
        settings["max_tokens"] = cap
    payload: dict[str, Any] = {"message": {"text": _messages(told)}}
    if functions := _functions(told):
        payload["functions"] = {"text": functions}
    return {"header": {"app_id": app_id}, "parameter": {"chat": settings}, "payload": payload}


def _functions(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    choice = native.chosen(told.get("tool_choice"))
    if choice not in ("auto", "none"):
        raise native.unsupported("tool_choice", "No function can be demanded.")
    functions = native.described(told)
    return functions if choice == "auto" else []


def _messages(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its conversations hold texts only: there is no place for a call and its result."""
    out: list[dict[str, Any]] = []
    for where, role, message in native.messages(told):
        if role == "tool" or message.get("tool_calls"):
            raise native.unsupported(
                f"{where}.tool_calls" if role != "tool" else where, "It takes no results of calls."
            )
        out.append({"role": role, "content": native.text_of(message.get("content"), where)})
    return native.joined(out)
