"""AWS Bedrock: Converse and ConverseStream. Wire: botocore 1.44 `bedrock-runtime/2023-09-30`, recorded streams.

A channel's secret is "ACCESS:SECRET" or "ACCESS:SECRET:SESSION" and signs each request, or a Bedrock API key (it has no colon)
and goes out as a bearer token. The endpoint is the region's, `https://bedrock-runtime.eu-west-1.amazonaws.com` or one of a
VPC; behind an address that names no region the secret says it, "ACCESS:SECRET@eu-west-1". Where nobody says, it is us-east-1.

Beyond OpenAI's fields a client may send Converse's own `additionalModelRequestFields`, `additionalModelResponseFieldPaths`,
`guardrailConfig`, `performanceConfig` and `requestMetadata`. Files and pictures travel as bytes only: what lies under an
`s3://` address is read with the operator's rights, so that no client may name one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from sluice.adapters import _native as native
from sluice.adapters._attempt import Attempt, by_status, loads, parse, shaped
from sluice.adapters._base import Adapter
from sluice.adapters._halves import written
from sluice.adapters._sigv4 import Credentials, signed
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

_REGION = "us-east-1"
_REGION_IN_HOST = re.compile(r"//(?:[^/]*\.)?bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")

_OWN = frozenset(
    {
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "performanceConfig",
        "requestMetadata",
    }
)
_CARRIED = _OWN | {
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "response_format",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = frozenset({"default", "flex", "priority", "reserved"})

_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_SEALED = re.compile(r"[A-Za-z0-9+/=_-]+")
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_A_DOCUMENTS_NAME = re.compile(r"[^a-zA-Z0-9()\[\]-]+")

_FINISHES: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}

_KINDS: Mapping[str, ErrorKind] = {
    "accessdeniedexception": "permission",
    "expiredtokenexception": "auth",
    "incompletesignatureexception": "auth",
    "internalserverexception": "server",
    "invalidclienttokenid": "auth",
    "invalidsignatureexception": "auth",
    "missingauthenticationtokenexception": "auth",
    "modelerrorexception": "server",
    "modelnotreadyexception": "overloaded",
    "modelstreamerrorexception": "server",
    "modeltimeoutexception": "timeout",
    "resourcenotfoundexception": "model_not_found",
    "servicequotaexceededexception": "quota",
    "serviceunavailableexception": "overloaded",
    "throttlingexception": "rate_limit",
    "unrecognizedclientexception": "auth",
    "validationexception": "invalid_request",
}
_VALIDATIONS: Sequence[tuple[str, ErrorKind]] = (
    ("input is too long", "context_length"),
    ("prompt is too long", "context_length"),
    ("exceeds the maximum number of tokens", "context_length"),
    ("model identifier is invalid", "model_not_found"),
    ("on-demand throughput", "model_not_found"),
)
"""A validationException has no code of its own for these: its sentence is all there is."""


@dataclass(frozen=True, slots=True)
class Bedrock:
    name: str = "bedrock"
    wire: str = ""

    def adapter(self, now: float) -> Adapter:
        return BedrockAdapter(now)


ADAPTER = Bedrock()


class BedrockAdapter(Attempt):
    """One attempt at Converse."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._now = now
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        self._stopped = False

    # canonical -> Converse

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        with shaped():
            body, lost = _converse(chat.body)
        key, region = _key(channel)
        base = channel.endpoint.rstrip("/") or f"https://bedrock-runtime.{region}.amazonaws.com"
        verb = "converse-stream" if chat.stream else "converse"
        url = f"{base}/model/{quote(channel.upstream_model(chat.model), safe='')}/{verb}"
        raw = orjson.dumps(body)
        headers = {"content-type": "application/json"}
        if isinstance(key, Credentials):
            headers = signed(
                "POST", url, headers, raw, credentials=key, region=region, service="bedrock", now=self._now
            )
        else:
            headers["authorization"] = f"Bearer {key}"
        framing: Any = "eventstream" if chat.stream else "sse"
        return UpstreamRequest(url, headers, raw, proxy=channel.proxy, framing=framing, dropped=lost)

    # Converse -> events

    def events(self, frame: Frame) -> Iterable[Event]:
        told = parse(frame.data)
        match frame.event:
            case "messageStart":
                yield Start()
            case "contentBlockStart":
                yield from self._opened(told)
            case "contentBlockDelta":
                yield from self._delta(told)
            case "contentBlockStop":
                yield from self._closed(told)
            case "messageStop":
                yield self._stop(told)
            case "metadata":
                self.done = self._stopped
                yield _usage(told.get("usage") or {})
            case "":
                yield from self._whole(told)
            case name if name.lower() in _KINDS or name.endswith(("Exception", "Error")):
                raise _error(name, str(told.get("message") or ""), 0)

    @property
    def complete(self) -> bool:
        return self._stopped

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        told = loads(body)
        name = str(headers.get("x-amzn-errortype") or told.get("__type") or "")
        return _error(name, str(told.get("message") or told.get("Message") or ""), status)

    def _opened(self, told: Mapping[str, Any]) -> Iterator[Event]:
        if use := (told.get("start") or {}).get("toolUse"):
            yield self._call(int(told.get("contentBlockIndex") or 0), use, "")

    def _delta(self, told: Mapping[str, Any]) -> Iterator[Event]:
        delta = told.get("delta") or {}
        if delta.get("text"):
            yield Text(str(delta["text"]))
        if (use := delta.get("toolUse")) and use.get("input"):
            block = int(told.get("contentBlockIndex") or 0)
            self._silent.discard(block)
            yield ToolCall(self._calls.get(block, 0), arguments=str(use["input"]))
        if thought := delta.get("reasoningContent"):
            yield from _reasoning(thought)

    def _closed(self, told: Mapping[str, Any]) -> Iterator[Event]:
        """A call without arguments sends none at all: to a client it is an empty object."""
        block = int(told.get("contentBlockIndex") or 0)
        if block in self._silent:
            self._silent.discard(block)
            yield ToolCall(self._calls[block], arguments="{}")

    def _call(self, block: int, use: Mapping[str, Any], arguments: str) -> ToolCall:
        index = self._calls.setdefault(block, len(self._calls))
        if not arguments:
            self._silent.add(block)
        return ToolCall(index, str(use.get("toolUseId") or ""), str(use.get("name") or ""), arguments)

    def _stop(self, told: Mapping[str, Any]) -> Finish:
        reason = str(told.get("stopReason") or "end_turn")
        if reason.startswith("malformed"):
            raise ProviderError("server", "the model's answer was malformed", code=reason)
        self._stopped = True
        return Finish(_FINISHES.get(reason, "stop"))

    def _whole(self, told: Mapping[str, Any]) -> Iterator[Event]:
        message = (told.get("output") or {}).get("message")
        if not isinstance(message, Mapping):
            raise ProviderError("server", "the answer holds no message")
        yield Start()
        for block, content in enumerate(message.get("content") or ()):
            if content.get("text"):
                yield Text(str(content["text"]))
            if use := content.get("toolUse"):
                yield self._call(block, use, written(use.get("input") or {}))
            if thought := content.get("reasoningContent"):
                yield from _reasoning({**thought, **(thought.get("reasoningText") or {})})
        yield self._stop(told)
        yield _usage(told.get("usage") or {})


def _reasoning(thought: Mapping[str, Any]) -> Iterator[Reasoning]:
    text, signature = str(thought.get("text") or ""), str(thought.get("signature") or "")
    if text or signature:
        yield Reasoning(text, signature)
    if thought.get("redactedContent"):
        yield Reasoning("", data=str(thought["redactedContent"]))


def _usage(usage: Mapping[str, Any]) -> Usage:
    """Its input leaves out what was read from the cache and written to it."""
    cached, written = int(usage.get("cacheReadInputTokens") or 0), int(usage.get("cacheWriteInputTokens") or 0)
    return Usage(
        input=int(usage.get("inputTokens") or 0) + cached + written,
        output=int(usage.get("outputTokens") or 0),
        cached=cached,
        cache_write=written,
    )


def _error(name: str, message: str, status: int) -> ProviderError:
    """`name` as a header has it may go on after a colon, and as a body has it may begin with a namespace."""
    name = name.partition(":")[0].rpartition("#")[2]
    kind = _KINDS.get(name.lower()) or by_status(status or 500)
    if kind == "invalid_request":
        kind = next((other for words, other in _VALIDATIONS if words in message.lower()), kind)
    return ProviderError(kind, message, status=status, code=name)


def _key(channel: Channel) -> tuple[Credentials | str, str]:
    """What to sign with, or the API key; and the region."""
    secret, _, told = channel.secret.reveal().partition("@")
    named = _REGION_IN_HOST.search(channel.endpoint)
    region = told or (named[1] if named else _REGION)
    return (Credentials(*secret.split(":", 2)) if ":" in secret else secret), region


# --- the canonical body in Converse's words ---------------------------------------------------------------------------


def _converse(chat: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    if (chat.get("n") or 1) != 1:
        raise native.unsupported("n")
    system, turns, lost = _conversation(chat)
    tools = _tool_config(chat, turns)
    inference = native.said(chat, {"temperature": "temperature", "top_p": "topP"})
    if cap := native.cap(chat):
        inference["maxTokens"] = cap
    if stops := native.stops(chat):
        inference["stopSequences"] = stops
    output, told = _output_config(chat)
    body: dict[str, Any] = {"messages": turns, **native.said(chat, {name: name for name in sorted(_OWN)})}
    fields = {**(body.get("additionalModelRequestFields") or {}), **_model_fields(chat)}
    if (tier := chat.get("service_tier")) in _TIERS:
        body["serviceTier"] = {"type": tier}
        told |= {"service_tier"}
    additions = {
        "system": system,
        "inferenceConfig": inference,
        "toolConfig": tools,
        "outputConfig": output,
        "additionalModelRequestFields": fields,
    }
    body.update({name: value for name, value in additions.items() if value})
    return body, (*native.dropped(chat, _CARRIED | told), *lost)


def _model_fields(chat: Mapping[str, Any]) -> dict[str, Any]:
    return native.said(chat, {"top_k": "top_k", "thinking": "thinking"})


def _output_config(chat: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """The output's form and effort, and the names of the fields that found a place."""
    config: dict[str, Any] = {}
    wanted = chat.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema") or {}
        named = native.said(schema, {"name": "name", "description": "description"})
        form = {"jsonSchema": {"schema": orjson.dumps(schema.get("schema") or {}).decode(), **named}}
        config["textFormat"] = {"type": "json_schema", "structure": form}
    elif wanted.get("type", "text") != "text":
        raise native.unsupported("response_format", "Ask for a `json_schema`.")
    if effort := _EFFORTS.get(str(chat.get("reasoning_effort"))):
        config["effort"] = effort
        return config, frozenset({"reasoning_effort"})
    return config, frozenset()


def _tool_config(chat: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Converse knows no "none": without tools nothing is called, unless the conversation already holds calls, which it does
    not take without their tools."""
    choice = native.chosen(chat.get("tool_choice"))
    tools = [] if choice == "none" else list(_tools(chat))
    if not tools:
        if any("toolUse" in block or "toolResult" in block for turn in turns for block in turn["content"]):
            raise native.unsupported("tool_choice" if choice == "none" else "tools", "The conversation has tool calls.")
        return {}
    config: dict[str, Any] = {"tools": tools}
    if choice.startswith(":"):
        config["toolChoice"] = {"tool": {"name": choice[1:]}}
    elif choice == "required":
        config["toolChoice"] = {"any": {}}
    elif chat.get("tool_choice"):
        config["toolChoice"] = {"auto": {}}
    return config


def _tools(chat: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for function, tool in native.functions(chat):
        spec: dict[str, Any] = {
            "name": function.get("name"),
            "inputSchema": {"json": function.get("parameters") or native.ANYTHING},
        }
        if function.get("description"):
            spec["description"] = function["description"]
        if function.get("strict"):
            spec["strict"] = True
        yield {"toolSpec": spec}
        yield from _cache_point(tool)


def _conversation(chat: Mapping[str, Any]) -> tuple[list[Any], list[dict[str, Any]], tuple[str, ...]]:
    """System blocks, turns whose roles alternate, and what was left out of them."""
    system: list[Any] = []
    turns: list[dict[str, Any]] = []
    lost: dict[str, None] = {}
    for where, role, message in native.messages(chat):
        if role == "system":
            system += _blocks(message, where)
            continue
        if role == "assistant":
            blocks, speaker = _said(message, where, lost), "assistant"
        elif role == "tool":
            blocks, speaker = [_result(message, where)], "user"
        else:
            blocks, speaker = _blocks(message, where), "user"
        if message.get("name"):
            lost["messages[].name"] = None
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    return system, turns, tuple(lost)


def _said(message: Mapping[str, Any], where: str, lost: dict[str, None]) -> list[Any]:
    """An assistant's turn: its reasoning, then its words, then its calls."""
    blocks = list(_thoughts(message))
    if not blocks and (message.get("reasoning_content") or message.get("reasoning_details")):
        lost["messages[].reasoning_content"] = None
    blocks += _blocks(message, where)
    for call_id, name, arguments in native.calls(message, where):
        use = {"toolUseId": _id(call_id), "name": name, "input": native.arguments(arguments, where)}
        blocks.append({"toolUse": use})
    return blocks


def _thoughts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The reasoning that can be sent back: what is signed or encrypted, and by no other maker, who would mark it as theirs.

    A client that gathered a stream has the text in `reasoning_content` and the signature alone in the details.
    """
    spoken = message.get("reasoning_content") or ""
    for detail in message.get("reasoning_details") or ():
        sealed = str(detail.get("data") or detail.get("signature") or "")
        if detail.get("format") or not _SEALED.fullmatch(sealed):
            continue
        if detail.get("data"):
            yield {"reasoningContent": {"redactedContent": sealed}}
        else:
            yield {"reasoningContent": {"reasoningText": {"text": detail.get("text") or spoken, "signature": sealed}}}
            spoken = ""


def _result(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    content = [block for block in _blocks(message, where) if "cachePoint" not in block]
    return {"toolResult": {"toolUseId": _id(str(message.get("tool_call_id") or "")), "content": content}}


def _blocks(message: Mapping[str, Any], where: str) -> list[Any]:
    """Content blocks; an empty text is none, since Converse refuses it."""
    blocks: list[Any] = []
    for place, part in native.parts(message.get("content"), where):
        text = native.part_text(part)
        if text is None:
            blocks.append(_media(part, place))
        elif text.strip():
            blocks.append({"text": text})
        blocks += _cache_point(part)
    return blocks


def _media(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    match part.get("type"):
        case "image_url":
            kind, data = _inline(native.image_url(part), f"{place}.image_url")
            return _source("image", _IMAGES.get(kind), data, f"{place}.image_url")
        case "input_audio":
            audio = part.get("input_audio") or {}
            return _source("audio", audio.get("format"), str(audio.get("data") or ""), f"{place}.input_audio")
        case "file":
            return _document(part.get("file") or {}, f"{place}.file")
    raise native.unsupported(place)


def _document(file: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind, data = _inline(str(file.get("file_data") or ""), place)
    name, _, suffix = str(file.get("filename") or "document").rpartition(".")
    extension = suffix.lower() if suffix.lower() in _DOCUMENTS.values() else None
    block = _source("document", _DOCUMENTS.get(kind) or extension, data, place)
    block["document"]["name"] = _NOT_IN_A_DOCUMENTS_NAME.sub(" ", name or suffix).strip()[:200] or "document"
    return block


def _inline(url: str, place: str) -> tuple[str, str]:
    if found := native.inline(url):
        return found
    raise native.unsupported(place, "Send it as a base64 data URL: no address is read here.")


def _source(kind: str, form: str | None, data: str, place: str) -> dict[str, Any]:
    if not form:
        raise native.unsupported(place, "Its format is not known here.")
    return {kind: {"format": form, "source": {"bytes": data}}}


def _cache_point(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    control = part.get("cache_control")
    if not isinstance(control, Mapping):
        return []
    ttl = {"ttl": control["ttl"]} if control.get("ttl") in ("5m", "1h") else {}
    return [{"cachePoint": {"type": "default", **ttl}}]


def _id(call_id: str) -> str:
    """A call's id as Converse takes it: another provider's may be too long for it, and has to be the same in call and result."""
    return call_id if _ID.fullmatch(call_id) else f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:24]}"
