"""OpenAI's chat.completions protocol, and the table row a compatible provider is.

Wire facts: openai-python 3.52 `types/chat/chat_completion*.py`, `_streaming.py`; recorded streams of fourteen providers.
A provider that differs in names and numbers is a row of `OpenAICompatible`; one that needs code is a class in its own file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from sluice.adapters._attempt import BY_STATUS, Attempt, loads, named, parse, shaped
from sluice.adapters._base import Adapter, CallAdapter
from sluice.adapters._halves import written
from sluice.adapters._openai_calls import (
    EMBEDDINGS_AS_NUMBERS,
    ENDPOINTS,
    IMAGES_AT_ONCE,
    CallRow,
    OpenAICalls,
)
from sluice.adapters._outgoing import EXTENSIONS, IRREPLACEABLE, PRIVATE, ModelRule, outgoing, thought_of
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

__all__ = [
    "EMBEDDINGS_AS_NUMBERS",
    "ENDPOINTS",
    "EXTENSIONS",
    "IMAGES_AT_ONCE",
    "PRIVATE",
    "ModelRule",
    "OpenAIAdapter",
    "OpenAICompatible",
    "thought_of",
]

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

_BY_STATUS: Mapping[int, ErrorKind] = {**BY_STATUS, 500: "server", 502: "server"}

_BY_PHRASE: Mapping[str, ErrorKind] = {"maximum context length": "context_length"}

_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

# Fields of a delta that commit an answer but have no event of their own.
_EXTRAS = ("audio", "annotations", "function_call")


@dataclass(frozen=True, slots=True)
class OpenAICompatible:
    """A provider that speaks OpenAI's chat.completions. Every field is data.

    `base_url` without a host means that the channel's endpoint has to name one. `wire` is "openai" where the streams are
    clean enough to be handed to OpenAI's own clients as they are, "" where they are written anew from their events.

    Of the request: `rename` maps fields to the provider's names, `drop` lists those it refuses or ignores, `refuse` those
    whose loss would change the meaning, `clamp` bounds numbers, `most` bounds lists and counts, `extra` is sent unless the
    client said otherwise, `efforts` turns `reasoning_effort` into fields of the provider's, `roles` renames roles, `private`
    are fields it need not know, `strip` are fields of messages, parts, tool calls and tools it has no place for, `rules`
    hold for some models only. `replay` says whether reasoning goes back: never, in conversations with tool calls, or always;
    `replay_as` under which name, `replay_blank` what stands for it before a tool call where the client kept none.

    Of the answer: `reasoning` lists the delta fields its reasoning may stand in, `usage` and `cached` the dotted paths of what
    it counted, `finish` maps its reasons, `broken` those that are errors. Of errors: `kinds` maps codes and types (or what of
    one comes before its first dot), `statuses` HTTP statuses, `phrases` what a message without a telling code says.
    """

    name: str
    base_url: str
    path: str = "/chat/completions"
    wire: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    refuse: frozenset[str] = frozenset()
    clamp: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    efforts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=lambda: {"developer": "system"})
    private: frozenset[str] = PRIVATE
    strip: frozenset[str] = EXTENSIONS
    replay: Literal["never", "tools", "always"] = "never"
    replay_as: str = "reasoning_content"
    replay_blank: str | None = None
    inline_images: bool = False
    rules: tuple[ModelRule, ...] = ()
    reasoning: tuple[str, ...] = ("reasoning_content", "reasoning")
    usage: tuple[str, ...] = ("usage",)
    cached: tuple[str, ...] = ("prompt_tokens_details.cached_tokens",)
    finish: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, ErrorKind] = field(default_factory=dict)
    kinds: Mapping[str, ErrorKind] = field(default_factory=dict)
    statuses: Mapping[int, ErrorKind] = field(default_factory=dict)
    phrases: Mapping[str, ErrorKind] = field(default_factory=dict)
    speaks: Callable[[OpenAICompatible, float], Adapter] | None = None
    """The class of a provider that needs code. `OpenAIAdapter` where there is none."""
    endpoints: Mapping[str, CallRow] = field(default_factory=dict)
    """The calls it has beyond chat, by kind. `ENDPOINTS` are OpenAI's own."""

    @property
    def refused(self) -> frozenset[str]:
        """What it refuses of every model. What it has not got and cannot be done without is never only dropped."""
        return self.refuse | (self.drop & IRREPLACEABLE)

    def adapter(self, now: float) -> Adapter:
        return (self.speaks or OpenAIAdapter)(self, now)

    def endpoint(self, kind: str, now: float) -> CallAdapter | None:
        row = self.endpoints.get(kind)
        speaker = replace(self, path=row.path).adapter(now) if row else None
        return OpenAICalls(speaker, row) if row and isinstance(speaker, OpenAIAdapter) else None


class OpenAIAdapter(Attempt):
    """One attempt in OpenAI's protocol. A provider's own class overrides the step in which it differs."""

    def __init__(self, row: OpenAICompatible, now: float = 0) -> None:
        super().__init__()
        self.row = row
        self.now = now
        self._id = ""
        self._started = False
        self._whole = False
        self._open: set[int] = set()
        self._spoke: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, _Calls] = {}

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        model = channel.upstream_model(chat.model)
        with shaped():
            body, dropped = self.body(chat, model)
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if body.get("stream") else "application/json",
            **self.credentials(channel),
        }
        url = self.url(channel, model)
        return UpstreamRequest(url, headers, orjson.dumps(body), proxy=channel.proxy, dropped=dropped)

    def events(self, frame: Frame) -> Iterable[Event]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return
        chunk = self.read(frame.data)
        if not self._started:
            self._started = True
            self._id = str(chunk.get("id") or "")
            yield Start(self._id, str(chunk.get("model") or ""), number(chunk.get("created")))
        for choice in mappings(chunk.get("choices")):
            yield from self._choice(choice)
        if usage := self.counted(chunk):
            yield usage

    def ending(self) -> Iterable[Event]:
        """Some providers never say why they stopped: what they ended in good order has its reason made up for it."""
        if not (self.done or self._whole) and (self._open or not self._finished):
            raise ProviderError("network", "the stream ended before the answer did")
        for choice in sorted(self._open & self._spoke):
            yield self._end("stop", choice)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return self.told(loads(body), status)

    def list_models(self, channel: Channel) -> UpstreamRequest:
        address, mark, query = self.url(channel, "").partition("?")
        url = f"{address.removesuffix(self.row.path)}/models{mark}{query}"
        headers = {"accept": "application/json", **self.credentials(channel)}
        return UpstreamRequest(url, headers, b"", "GET", channel.proxy)

    def models_of(self, data: str) -> list[str]:
        return named(parse(data).get("data"), "id")

    # The steps a provider's own class may take differently.

    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The request's body, and what of the client's is not in it."""
        body, dropped = outgoing(chat, self.row, model)
        body["model"] = model
        if chat.stream and "stream_options" not in self.row.drop:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        return body, dropped

    def url(self, channel: Channel, model: str) -> str:
        """Where to ask. An endpoint without a path gets the provider's own; its query, if any, stays."""
        base, _, query = (channel.endpoint or self.row.base_url).partition("?")
        base = base.rstrip("/")
        if not urlsplit(base).path:
            base += urlsplit(self.row.base_url).path
        if "://" not in base:
            raise ProviderError("permission", "this channel's type has no address of its own, and it names no endpoint")
        return base + self.row.path + (f"?{query}" if query else "")

    def credentials(self, channel: Channel) -> dict[str, str]:
        return {"authorization": f"Bearer {channel.secret.reveal()}"} if channel.secret else {}

    def read(self, data: str) -> Mapping[str, Any]:
        """A frame's object. Raises ProviderError where it tells of an error instead of an answer."""
        chunk = parse(data)
        nothing_else = not chunk.get("choices") and not chunk.get("usage")
        if chunk.get("error") or (nothing_else and (chunk.get("object") == "error" or chunk.get("code"))):
            error = self.told(chunk, 0)
            error.body = data.encode("utf-8", "replace") if chunk.get("error") else b""
            raise error
        return chunk

    def delta(self, delta: Mapping[str, Any], choice: int) -> Iterator[Event]:
        """The events of a piece of a message, or of a whole one."""
        yield from self._thoughts(delta, choice)
        for name in ("content", "refusal"):
            if text := _text(delta.get(name)):
                yield Text(text, choice)
        for call in mappings(delta.get("tool_calls")):
            yield self._call(call, choice)
        if extras := {name: delta[name] for name in _EXTRAS if delta.get(name)}:
            yield Raw(extras, choice)

    def counted(self, chunk: Mapping[str, Any]) -> Usage | None:
        """What the provider counted. One that counted nothing at all holds a place and says nothing."""
        found = (at(chunk, path) for path in self.row.usage)
        usage = next((told for told in found if isinstance(told, Mapping)), {})
        given, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        told = Usage(
            input=number(usage.get("prompt_tokens")),
            output=number(usage.get("completion_tokens")),
            cached=next((number(value) for path in self.row.cached if (value := at(usage, path))), 0),
            reasoning=number(at(made, "reasoning_tokens")),
            cache_write=number(at(given, "cache_write_tokens") or at(given, "cache_creation_input_tokens")),
            audio_input=number(at(given, "audio_tokens")),
            image_input=number(at(given, "image_tokens")),
            audio_output=number(at(made, "audio_tokens")),
        )
        return told if told.input or told.output else None

    def told(self, body: Any, status: int) -> ProviderError:
        """An error's body, classified by its code or type, then by status, then by what it says."""
        fields = _error_fields(body)
        code, type_ = str(fields.get("code") or ""), str(fields.get("type") or "")
        status = status or (int(code) if code.isdigit() and 400 <= int(code) < 600 else 0)
        message, param = _sentence(fields), fields.get("param")
        kind = self._kind(code) or self._kind(type_) or self.row.statuses.get(status) or _BY_STATUS.get(status)
        if kind in (None, "invalid_request"):
            kind = (
                _phrase(message, self.row.phrases) or kind or ("invalid_request" if 400 <= status < 500 else "server")
            )
        return ProviderError(kind, message, status=status, code=code, param=str(param) if param else None)

    # The same for all.

    def _kind(self, code: str) -> ErrorKind | None:
        for name in (code, code.partition(".")[0]):
            if kind := self.row.kinds.get(name) or _BY_CODE.get(name):
                return kind
        return None

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        index = number(choice.get("index"))
        if index not in self._finished:
            self._open.add(index)
        delta, message = mapping(choice.get("delta")), mapping(choice.get("message"))
        self._whole = self._whole or bool(message and not delta)
        for event in self.delta(delta or message, index):
            self._spoke.add(index)
            yield event
        if isinstance(logprobs := choice.get("logprobs"), Mapping) and any(logprobs.values()):
            yield Raw({"logprobs": logprobs}, index)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason not in ("", "null") and index not in self._finished:
            yield self._end(reason, index)

    def _end(self, reason: str, choice: int) -> Finish:
        if kind := self.row.broken.get(reason):
            raise ProviderError(kind, f"the provider broke off: {reason}")
        self._open.discard(choice)
        self._finished.add(choice)
        said = self.row.finish.get(reason) or _FINISH.get(reason, "stop")
        return Finish("tool_calls" if said == "stop" and self._calls.get(choice) else said, choice)

    def _thoughts(self, delta: Mapping[str, Any], choice: int) -> Iterator[Event]:
        """Reasoning by its field; what a list of its blocks adds to that are signatures and encrypted blocks."""
        told = (delta.get(name) for name in self.row.reasoning)
        plain = next((text for text in told if text and isinstance(text, str)), "")
        if plain:
            yield Reasoning(plain, choice=choice)
        for detail in mappings(delta.get("reasoning_details")):
            text = "" if plain else str(detail.get("text") or detail.get("summary") or "")
            signature, data = str(detail.get("signature") or ""), str(detail.get("data") or "")
            if text or signature or data:
                yield Reasoning(text, signature, choice, data)

    def _call(self, call: Mapping[str, Any], choice: int) -> ToolCall:
        function = mapping(call.get("function")) or mapping(call.get("custom"))
        call_id, name = str(call.get("id") or ""), str(function.get("name") or "")
        calls = self._calls.setdefault(choice, _Calls())
        index = calls.place(call.get("index"), call_id, name)
        if name and not calls.ids[index]:
            call_id = call_id or _made_up_id(f"{self._id}:{choice}:{index}")
        calls.ids[index] = calls.ids[index] or call_id
        signature = at(call, "extra_content.google.thought_signature")
        return ToolCall(index, call_id, name, _arguments(function), choice, str(signature or ""))


class _Calls:
    """The tool calls of one choice, numbered as they appear: providers leave the index out, or give two calls the same."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._places: dict[int, int] = {}

    def place(self, told: Any, call_id: str, name: str) -> int:
        """Whose delta it is: a known id's, its index's unless it opens another call there, else the last one's."""
        if call_id in self.ids and call_id:
            return self.ids.index(call_id)
        known = len(self.ids) - 1 if told is None else self._places.get(number(told), -1)
        opens = bool(name and (told is None or (call_id and known >= 0 and self.ids[known])))
        if known < 0 or opens:
            known = len(self.ids)
            self.ids.append("")
        if told is not None:
            self._places[number(told)] = known
        return known


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path, None where there is no such place. A number is a place in a list."""
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def number(value: Any) -> int:
    """A count as providers write it: a number, a string of one, or nothing."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _made_up_id(place: str) -> str:
    """An id for a call that came without one: the same whenever its place in the same answer is."""
    return "call_" + hashlib.blake2s(place.encode(), digest_size=9).hexdigest()


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one in the place of anything else."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; one object alone is a list of it."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, Mapping)]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in mappings(content))


def _arguments(function: Mapping[str, Any]) -> str:
    """The arguments as JSON text, which some providers send as the object itself."""
    told = function.get("arguments") or function.get("input") or ""
    return told if isinstance(told, str) else written(told)


def _error_fields(body: Any) -> Mapping[str, Any]:
    """An error's own fields: under `error`, beside an `error` that is only a sentence, or the body itself."""
    fields = body if isinstance(body, Mapping) else {}
    detail = fields.get("error")
    if isinstance(detail, Mapping):
        return detail
    return {**fields, "message": detail} if detail else fields


def _sentence(fields: Mapping[str, Any]) -> str:
    told = fields.get("message") or fields.get("detail") or ""
    return told if isinstance(told, str) else written(told)


def _phrase(message: str, phrases: Mapping[str, ErrorKind]) -> ErrorKind | None:
    said = message.lower()
    return next((kind for phrase, kind in {**_BY_PHRASE, **phrases}.items() if phrase in said), None)
