"""Tencent's Hunyuan by its cloud API of 2023: ChatCompletions, signed with TC3, for accounts from before TokenHub.

Wire: tencentcloud-sdk-python-hunyuan 3.1 `hunyuan/v20230901/models.py`, a recorded stream. A channel's secret is
"SecretId:SecretKey". Every error comes with HTTP 200, as a whole body even to a request for a stream. There is no cap on the
length of an answer. A client may send `EnableEnhancement`, `EnableThinking` and the other switches by their own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from sluice.adapters import _native as native
from sluice.adapters import _tc3
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

_BASE_URL = "https://hunyuan.tencentcloudapi.com"
_CONTENT_TYPE = "application/json"
_MOST_SEED = 10000

_NAMES = {"temperature": "Temperature", "top_p": "TopP"}
_SWITCHES = (
    "Citation",
    "EnableDeepRead",
    "EnableDeepSearch",
    "EnableEnhancement",
    "EnableMultimedia",
    "EnableRecommendedQuestions",
    "EnableSpeedSearch",
    "EnableThinking",
    "ForceSearchEnhancement",
    "SearchInfo",
    "StreamModeration",
    "TopicChoice",
    "WebSearchOptions",
)
_CARRIED = frozenset(
    {
        *_NAMES,
        *_SWITCHES,
        "messages",
        "model",
        "reasoning_effort",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
    }
)

_FINISHES = {"sensitive": "content_filter"}
_KINDS: tuple[tuple[str, ErrorKind], ...] = (
    ("AuthFailure.UnauthorizedOperation", "permission"),
    ("AuthFailure", "auth"),
    ("FailedOperation.EngineRequestTimeout", "timeout"),
    ("FailedOperation.EngineServerLimitExceeded", "overloaded"),
    ("FailedOperation.EngineServerError", "server"),
    ("FailedOperation.FreeResourcePackExhausted", "quota"),
    ("FailedOperation.ResourcePackExhausted", "quota"),
    ("FailedOperation.ServiceStopArrears", "quota"),
    ("FailedOperation.ServiceNotActivated", "permission"),
    ("FailedOperation.UserUnAuthError", "permission"),
    ("FailedOperation.GenerateImageFailed", "content_filter"),
    ("FailedOperation", "server"),
    ("InternalError", "server"),
    ("InvalidParameterValue.Model", "model_not_found"),
    ("InvalidParameter", "invalid_request"),
    ("LimitExceeded", "rate_limit"),
    ("MissingParameter", "invalid_request"),
    ("OperationDenied", "content_filter"),
    ("RequestLimitExceeded", "rate_limit"),
    ("ResourceInsufficient.ChargeResourceExhaust", "quota"),
    ("ResourceInsufficient", "overloaded"),
    ("ResourceUnavailable.InArrears", "quota"),
    ("ResourceUnavailable.LowBalance", "quota"),
    ("ResourceUnavailable", "permission"),
    ("UnauthorizedOperation", "permission"),
    ("UnknownParameter", "invalid_request"),
    ("UnsupportedOperation", "invalid_request"),
)


@dataclass(frozen=True, slots=True)
class HunyuanNative:
    name: str = "hunyuan_native"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return HunyuanAdapter(now)


ADAPTER = HunyuanNative()


class HunyuanAdapter(Attempt):
    """One attempt at ChatCompletions."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._now = int(now)
        self._started = False

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        with shaped():
            body, lost = _body(chat, channel.upstream_model(chat.model))
        raw = orjson.dumps(body)
        url = channel.endpoint.rstrip("/") or _BASE_URL
        host = urlsplit(url).netloc
        secret_id, _, secret_key = channel.secret.reveal().partition(":")
        signature = _tc3.authorization(
            raw,
            host=host,
            content_type=_CONTENT_TYPE,
            service="hunyuan",
            secret_id=secret_id,
            secret_key=secret_key,
            now=self._now,
        )
        headers = {
            "host": host,
            "content-type": _CONTENT_TYPE,
            "x-tc-action": "ChatCompletions",
            "x-tc-version": "2023-09-01",
            "x-tc-timestamp": str(self._now),
            "authorization": signature,
        }
        return UpstreamRequest(f"{url}/", headers, raw, proxy=channel.proxy, dropped=lost)

    def events(self, frame: Frame) -> Iterable[Event]:
        if frame.data.startswith("[DONE]"):
            return
        told = parse(frame.data)
        told = told.get("Response") or told
        if isinstance(told.get("Error"), Mapping):
            raise _error(str(told["Error"].get("Code") or ""), str(told["Error"].get("Message") or ""), 0)
        if (failed := told.get("ErrorMsg")) and failed.get("Msg"):
            raise _error(str(failed.get("Code") or ""), str(failed["Msg"]), 0)
        if not self._started:
            self._started = True
            yield Start(str(told.get("Id") or ""), created=int(told.get("Created") or 0))
        for choice in told.get("Choices") or ():
            yield from self._choice(choice)
        if search := told.get("SearchInfo"):
            yield Raw({"search_info": search})
        if usage := told.get("Usage"):
            yield _usage(usage)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        told = (loads(body).get("Response") or {}).get("Error") or {}
        return _error(str(told.get("Code") or ""), str(told.get("Message") or ""), status)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        said = choice.get("Delta") or choice.get("Message") or {}
        if said.get("ReasoningContent"):
            yield Reasoning(str(said["ReasoningContent"]))
        if said.get("Content"):
            yield Text(str(said["Content"]))
        for position, call in enumerate(said.get("ToolCalls") or ()):
            yield _call(call, position)
        if reason := choice.get("FinishReason"):
            self.done = True
            yield Finish(_FINISHES.get(reason, str(reason)))


def _call(call: Mapping[str, Any], position: int) -> ToolCall:
    function, index = call.get("Function") or {}, call.get("Index")
    return ToolCall(
        position if index is None else int(index),
        str(call.get("Id") or ""),
        str(function.get("Name") or ""),
        str(function.get("Arguments") or ""),
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input=int(usage.get("PromptTokens") or 0),
        output=int(usage.get("CompletionTokens") or 0),
        cached=int((usage.get("PromptTokensDetails") or {}).get("CachedTokens") or 0),
    )


def _error(code: str, message: str, status: int) -> ProviderError:
    kind = native.matching(_KINDS, code) or by_status(status or 500)
    return ProviderError(kind, message, status=status, code=code)


def _body(chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    told = chat.body
    body: dict[str, Any] = {
        "Model": model,
        "Messages": native.joined(
            (_message(where, role, message) for where, role, message in native.messages(told)), "Role", "Content"
        ),
        "Stream": chat.stream,
        **native.said(told, {**_NAMES, **{name: name for name in _SWITCHES}}),
    }
    lost = dict.fromkeys(native.dropped(told, _CARRIED))
    if seed := told.get("seed"):
        if 0 < seed <= _MOST_SEED:
            body["Seed"] = seed
        else:
            lost["seed"] = None
    if stops := native.stops(told):
        body["Stop"] = stops
    if effort := told.get("reasoning_effort"):
        body.setdefault("EnableThinking", effort != "none")
    body.update(_tools(told))
    return body, (*lost, *native.forgotten(told))


def _tools(told: Mapping[str, Any]) -> dict[str, Any]:
    tools: list[dict[str, Any]] = [
        {
            "Type": "function",
            "Function": {
                "Name": function.get("name"),
                "Description": function.get("description") or "",
                "Parameters": orjson.dumps(function.get("parameters") or native.ANYTHING).decode(),
            },
        }
        for function, _ in native.functions(told)
    ]
    choice = native.chosen(told.get("tool_choice"))
    if not tools:
        return {}
    if choice == "required":
        raise native.unsupported("tool_choice", "One function can be demanded, but not any.")
    if not choice.startswith(":"):
        return {"Tools": tools, **({"ToolChoice": choice} if told.get("tool_choice") else {})}
    demanded = [tool for tool in tools if tool["Function"]["Name"] == choice[1:]]
    if not demanded:
        raise native.unsupported("tool_choice", "It names no function of `tools`.")
    return {"Tools": tools, "ToolChoice": "custom", "CustomTool": demanded[0]}


def _message(where: str, role: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """A message. Reasoning is never sent back: the API answers it with an error."""
    out: dict[str, Any] = {"Role": role}
    parts = list(native.parts(message.get("content"), where))
    if any(native.part_text(part) is None for _, part in parts):
        out["Contents"] = [_part(part, place) for place, part in parts]
    else:
        out["Content"] = native.text_of(message.get("content"), where)
    if role == "tool":
        out["ToolCallId"] = message.get("tool_call_id")
    if calls := [
        {"Id": call_id, "Type": "function", "Function": {"Name": name, "Arguments": arguments}}
        for call_id, name, arguments in native.calls(message, where)
    ]:
        out["ToolCalls"] = calls
    return out


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    text = native.part_text(part)
    if text is not None:
        return {"Type": "text", "Text": text}
    if part.get("type") != "image_url":
        raise native.unsupported(place)
    return {"Type": "image_url", "ImageUrl": {"Url": native.image_url(part)}}
