"""Google Gemini: generateContent and streamGenerateContent, with an API key.

Wire facts: google-genai 3.4 `models.py`, `types.py`; recorded streams. What a canonical request has that this protocol has
not is listed in docs/crossings.md, and named in `dropped` or refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2s
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import orjson

from sluice.adapters import _native as native
from sluice.adapters._attempt import Attempt, by_status, named, parse, parsed, readable, shaped
from sluice.adapters._base import Adapter, CallAdapter
from sluice.adapters._halves import written
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

_WIRE = "gemini"
_BASE_URL = "https://generativelanguage.googleapis.com/v1beta"

_MARK = "gemini:"
"""Put before a signature on its way out, so that one of another provider's is never sent to this one: it would be a 400."""

_UNSIGNED = "skip_thought_signature_validator"
"""What Google's page on thought signatures gives for a call that another model made."""

# --- the written tables of the crossing ------------------------------------------------------------------------------

_CONFIG: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}

# Google's own extensions of the canonical body (its page on OpenAI compatibility): where each goes.
_EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "thinking_config": ("generationConfig", "thinkingConfig"),
    "speech_config": ("generationConfig", "speechConfig"),
    "image_config": ("generationConfig", "imageConfig"),
    "media_resolution": ("generationConfig", "mediaResolution"),
    "safety_settings": ("safetySettings",),
}

_CARRIED = frozenset(
    {
        *(*_CONFIG, *_EXTENSIONS, "extra_body"),
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "modalities"),
        *("tools", "tool_choice", "response_format", "reasoning_effort", "thinking", "service_tier"),
        "web_search_options",
        "cached_content",
    }
)

_TIERS: Mapping[str, str] = {"flex": "flex", "priority": "priority", "fast": "priority"}

_BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192}
_MOST_BUDGET, _LEAST_OF_PRO = 24_576, 128

_LEVELS: Mapping[str, str] = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM"}
# Levels that a model lacks, and the next one it has.
_LACKING = (("-pro", "MINIMAL", "LOW"), ("gemini-3.8-flash", "MINIMAL", "LOW"), ("gemini-3-pro", "MEDIUM", "HIGH"))

_FINISH: Mapping[str, str] = {
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION", "PUP_LIMITED_DISABLED"),
        ),
        "content_filter",
    ),
}
_BROKEN = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
        "MALFORMED_RESPONSE",
    }
)

_BY_NAME: Mapping[str, ErrorKind] = {
    "INVALID_ARGUMENT": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "FAILED_PRECONDITION": "permission",
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "auth",
    "NOT_FOUND": "model_not_found",
    "RESOURCE_EXHAUSTED": "rate_limit",
    "INTERNAL": "server",
    "UNKNOWN": "server",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "server",
}
# There is no code for these: the sentence is all there is.
_TOO_LONG = "exceeds the maximum number of tokens"
_PAID_OUT = "credits are depleted"
_NO_FILE = "permission to access the File"
"""What a request that names a file is told: the key it came with is good."""


# --- the attempt -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Candidate:
    """One choice as far as it has come. `text` is kept to turn the provider's byte offsets into a client's characters."""

    calls: int = 0
    finished: bool = False
    text: bytearray = field(default_factory=bytearray)


class GeminiAdapter(Attempt):
    """One attempt in Gemini's protocol. A stream ends with its connection: there is no last word."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self._id = f"{now:.6f}"
        self._native = False
        self._started = False
        self._candidates: dict[int, _Candidate] = {}

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        model = channel.upstream_model(chat.model)
        self._native = chat.dialect == _WIRE
        body, dropped = (chat.raw, ()) if self._native else _translated(chat.body, model)
        verb = "streamGenerateContent?alt=sse" if chat.stream else "generateContent"
        headers = {"content-type": "application/json", **chat.headers} if self._native else _JSON
        return UpstreamRequest(
            f"{_base(channel)}/{_resource(model)}:{verb}",
            {**headers, **_key(channel)},
            orjson.dumps(body),
            proxy=channel.proxy,
            dropped=dropped,
        )

    def list_models(self, channel: Channel) -> UpstreamRequest:
        return UpstreamRequest(f"{_base(channel)}/models?pageSize=1000", _key(channel), b"", "GET", channel.proxy)

    def models_of(self, data: str) -> list[str]:
        return [name.removeprefix("models/") for name in named(parse(data).get("models"), "name")]

    def events(self, frame: Frame) -> Iterable[Event]:
        for answer in _answers(frame.data):
            if answer.get("error"):
                error = _told(answer["error"], 0)
                error.body = orjson.dumps({"error": answer["error"]})
                raise error
            yield from self._answer(answer)

    @property
    def complete(self) -> bool:
        return bool(self._candidates) and all(one.finished for one in self._candidates.values())

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return _told(_detail(body), status)

    def _answer(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        if not self._started:
            self._started = True
            self._id = str(answer.get("responseId") or self._id)
            yield Start(str(answer.get("responseId") or ""), str(answer.get("modelVersion") or ""))
        candidates = answer.get("candidates") or ()
        for candidate in candidates:
            yield from self._candidate(candidate)
        if not candidates and (answer.get("promptFeedback") or {}).get("blockReason"):
            self._candidates[0] = _Candidate(finished=True)
            yield Finish("content_filter")
        if usage := answer.get("usageMetadata"):
            told = _usage(usage)
            yield told if self._counted(usage) else replace(told, output=0, reasoning=0, audio_output=0)

    def _counted(self, usage: Mapping[str, Any]) -> bool:
        """Whether the output's count covers what has come: some models tell it only at the end."""
        return "candidatesTokenCount" in usage or all(one.finished for one in self._candidates.values())

    def _candidate(self, candidate: Mapping[str, Any]) -> Iterator[Event]:
        index = int(candidate.get("index") or 0)
        state = self._candidates.setdefault(index, _Candidate())
        for part in (candidate.get("content") or {}).get("parts") or ():
            yield from self._part(part, state, index)
        if cited := _citations(candidate.get("groundingMetadata"), bytes(state.text)):
            yield Raw({"annotations": cited}, index)
        if chances := _logprobs(candidate.get("logprobsResult")):
            yield Raw({"logprobs": chances}, index)
        reason = str(candidate.get("finishReason") or "")
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            state.finished = True
            yield Finish(self._reason(reason, candidate, state), index)

    def _reason(self, reason: str, candidate: Mapping[str, Any], state: _Candidate) -> str:
        """The canonical finish reason. Raises ProviderError on an answer that the model itself spoiled.

        A client of the same format is told in its own words instead.
        """
        if reason in _BROKEN and not self._native:
            raise ProviderError("server", str(candidate.get("finishMessage") or reason), code=reason)
        if reason == "STOP" and state.calls:
            return "tool_calls"
        return _FINISH.get(reason, "stop")

    def _part(self, part: Mapping[str, Any], state: _Candidate, index: int) -> Iterator[Event]:
        signature = str(part.get("thoughtSignature") or "")
        if call := part.get("functionCall"):
            yield self._call(call, state, index, signature)
            return
        text = str(part.get("text") or "")
        if text and part.get("thought"):
            yield Reasoning(text, choice=index)
        elif text:
            state.text += text.encode("utf-8", "replace")
            yield Text(text, index)
        elif media := _media(part):
            yield Raw(media, index)
        if signature:
            yield Reasoning("", _MARK + signature, index)

    def _call(self, call: Mapping[str, Any], state: _Candidate, index: int, signature: str) -> ToolCall:
        """A call, which comes whole. One without an id gets the same one each time its answer is read."""
        position, state.calls = state.calls, state.calls + 1
        made = blake2s(f"{self._id}/{index}/{position}".encode(), digest_size=12).hexdigest()
        return ToolCall(
            index=position,
            id=str(call.get("id") or f"call_{made}"),
            name=str(call.get("name") or ""),
            arguments=written(call.get("args") or {}),
            choice=index,
            signature=signature,
        )


class GeminiEmbeddings:
    """One attempt at embeddings. A client of this very format gets the provider's own answer."""

    def __init__(self) -> None:
        self._native = False

    def request(self, call: CallRequest, channel: Channel) -> UpstreamRequest:
        self._native = call.dialect == _WIRE
        resource = _resource(channel.upstream_model(call.model))
        body, lost = (_named(call.raw, resource), ()) if self._native else _to_embed(call.body, resource)
        verb = "batchEmbedContents" if "requests" in body else "embedContent"
        url = f"{_base(channel)}/{resource}:{verb}"
        headers = {**_JSON, **_key(channel)}
        return UpstreamRequest(url, headers, orjson.dumps(body), proxy=channel.proxy, dropped=lost)

    def feed(self, frame: Frame) -> Iterable[Frame]:
        return (frame,)

    def whole(self, body: bytes) -> bytes:
        """In the canonical form, which is OpenAI's: unless the client's is this one."""
        with readable():
            return self._whole(body)

    def _whole(self, body: bytes) -> bytes:
        told = parse(body.decode("utf-8", "replace"))
        if told.get("error"):
            raise _told(told["error"], 0)
        if self._native:
            return body
        data = [
            {"object": "embedding", "index": place, "embedding": one.get("values")}
            for place, one in enumerate(told.get("embeddings") or ())
        ]
        spent = _count(told.get("usageMetadata") or {}, "promptTokenCount")
        usage = {"usage": {"prompt_tokens": spent, "total_tokens": spent}} if spent else {}
        return orjson.dumps({"object": "list", "data": data, **usage})

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return GeminiAdapter(0).error(status, headers, body)


def _named(raw: Mapping[str, Any], resource: str) -> Mapping[str, Any]:
    """A client's own body, with the provider's name for the model where the body repeats it."""
    if "requests" in raw:
        return {**raw, "requests": [{**one, "model": resource} for one in raw["requests"]]}
    return {**raw, "model": resource} if "model" in raw else raw


def _to_embed(canonical: Mapping[str, Any], resource: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A batch of texts. Tokens are of another's tokenizer, and mean nothing here."""
    given = canonical["input"]
    texts = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise ProviderError("unsupported", "This provider embeds texts, and no tokens.", param="input")
    size = {"outputDimensionality": canonical["dimensions"]} if canonical.get("dimensions") else {}
    asked = [{"model": resource, "content": {"parts": [{"text": text}]}, **size} for text in texts]
    lost = tuple(name for name in canonical if name not in ("input", "model", "dimensions", "encoding_format"))
    return {"requests": asked}, lost


@dataclass(frozen=True, slots=True)
class Gemini:
    name: str = "gemini"
    wire: str = _WIRE

    def adapter(self, now: float) -> Adapter:
        return GeminiAdapter(now)

    def endpoint(self, kind: str, now: float) -> CallAdapter | None:
        return GeminiEmbeddings() if kind == "embeddings" else None


ADAPTER = Gemini()


# --- where to --------------------------------------------------------------------------------------------------------

_JSON = {"content-type": "application/json"}


def _key(channel: Channel) -> dict[str, str]:
    """The key in its header: in an address it would end up in logs."""
    return {"x-goog-api-key": channel.secret.reveal()} if channel.secret else {}


def _base(channel: Channel) -> str:
    base = (channel.endpoint or _BASE_URL).rstrip("/")
    return base if urlsplit(base).path else base + urlsplit(_BASE_URL).path


def _resource(model: str) -> str:
    full = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    return quote(full, safe="/:@")


# --- the request -----------------------------------------------------------------------------------------------------


def _translated(canonical: Mapping[str, Any], model: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    with shaped():
        return _body(canonical, model)


def _body(canonical: Mapping[str, Any], model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request's body, and what was dropped on the way. Raises ProviderError."""
    asked = {name: value for name, value in canonical.items() if value is not None}
    if asked.get("parallel_tool_calls") is True:
        del asked["parallel_tool_calls"]
    lost = list(native.dropped(asked, _CARRIED))
    talk = _Conversation(model, lost)
    for where, role, message in native.messages(asked):
        talk.add(where, role, message)
    body = talk.body()
    body["generationConfig"] = _config(asked, model, lost)
    body["tools"] = _tools(asked, lost)
    if asked.get("tools") and "tool_choice" in asked:
        body["toolConfig"] = {"functionCallingConfig": _tool_choice(asked["tool_choice"])}
    body["serviceTier"] = _tier(asked.get("service_tier"), lost)
    _extend(body, asked, lost)
    return {name: value for name, value in body.items() if value}, tuple(dict.fromkeys(lost))


def _tier(asked: Any, lost: list[str]) -> str:
    if asked not in (None, "auto", "default", *_TIERS):
        lost.append("service_tier")
    return _TIERS.get(str(asked), "")


def _extend(body: dict[str, Any], asked: Mapping[str, Any], lost: list[str]) -> None:
    """Google's extensions of the canonical body, beside its other fields or in `extra_body.google`."""
    extra = asked.get("extra_body")
    told = extra.get("google") if isinstance(extra, Mapping) else None
    google: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    if google.get("cached_content") or asked.get("cached_content"):
        raise native.unsupported("cached_content", "What lies at the provider is the operator's.")
    lost += [f"extra_body.google.{name}" for name in google if name not in _EXTENSIONS]
    for name, way in _EXTENSIONS.items():
        value = google.get(name, asked.get(name))
        if value is not None:
            place = body if len(way) == 1 else body[way[0]]
            place[way[-1]] = value


def _config(asked: Mapping[str, Any], model: str, lost: list[str]) -> dict[str, Any]:
    config = native.said(asked, _CONFIG)
    if cap := native.cap(asked):
        config["maxOutputTokens"] = cap
    if stop := asked.get("stop"):
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if modalities := _modalities(asked.get("modalities") or ()):
        config["responseModalities"] = modalities
    return config | _thinking(asked, model, lost) | _format(asked.get("response_format") or {})


def _modalities(asked: Sequence[str]) -> list[str]:
    if "audio" in asked:
        raise native.unsupported("modalities", "It answers in text and images only.")
    return [modality.upper() for modality in asked] if list(asked) != ["text"] else []


def _format(asked: Mapping[str, Any]) -> dict[str, Any]:
    if asked.get("type") not in ("json_object", "json_schema"):
        return {}
    schema = (asked.get("json_schema") or {}).get("schema")
    cleaned = {"responseJsonSchema": _schema(schema)} if schema else {}
    return {"responseMimeType": "application/json", **cleaned}


def _thinking(asked: Mapping[str, Any], model: str, lost: list[str]) -> dict[str, Any]:
    """How much to think, in the words of the model's generation: a budget or a level, never both."""
    budget = _budget(asked.get("thinking"))
    effort = str(asked.get("reasoning_effort") or _by_budget(budget))
    if not effort:
        return {}
    generation = _generation(model)
    if generation < (2, 5):
        lost.append("reasoning_effort" if "reasoning_effort" in asked else "thinking")
        return {}
    how: dict[str, Any] = {"thinkingLevel": _level(effort, model)}
    if generation < (3, 0):
        least = _LEAST_OF_PRO if "-pro" in model else 0
        how = {"thinkingBudget": max(least, budget or _BUDGETS.get(effort, _MOST_BUDGET))}
    return {"thinkingConfig": {"includeThoughts": effort != "none", **how}}


def _budget(thinking: Any) -> int | None:
    """The tokens that a budget of thoughts grants, 0 where it forbids, None where it says nothing."""
    if not isinstance(thinking, Mapping) or thinking.get("type") not in ("enabled", "disabled"):
        return None
    return int(thinking.get("budget_tokens") or 0) if thinking["type"] == "enabled" else 0


def _by_budget(budget: int | None) -> str:
    if budget is None:
        return ""
    return next((effort for effort, tokens in _BUDGETS.items() if budget <= tokens), "high")


def _level(effort: str, model: str) -> str:
    level = _LEVELS.get(effort, "HIGH")
    for name, lacking, instead in _LACKING:
        if name in model and level == lacking:
            return instead
    return level


def _generation(model: str) -> tuple[int, int]:
    """The generation a model's name tells: an alias without a number is of the newest, another family of none."""
    name = model.rpartition("/")[2]
    if not name.startswith("gemini"):
        return (0, 0)
    told = re.match(r"gemini-(\d+)(?:\.(\d+))?", name)
    return (int(told[1]), int(told[2] or 0)) if told else (99, 0)


# --- tools and schemas -----------------------------------------------------------------------------------------------


def _tools(asked: Mapping[str, Any], lost: list[str]) -> list[dict[str, Any]]:
    declared = []
    for function, tool in native.functions(asked):
        lost += ["tools.strict"] if function.get("strict") else []
        lost += ["tools.cache_control"] if tool.get("cache_control") else []
        declared.append(_declaration(function))
    tools: list[dict[str, Any]] = [{"functionDeclarations": declared}] if declared else []
    if (search := asked.get("web_search_options")) is not None:
        tools.append({"googleSearch": {}})
        lost += [f"web_search_options.{name}" for name in search]
    return tools


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    declaration = {"name": function.get("name"), "description": function.get("description") or ""}
    if parameters := function.get("parameters"):
        declaration["parametersJsonSchema"] = _schema(parameters)
    return declaration


def _tool_choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        names = [function.get("name") for function, _ in native.functions(allowed)]
        # Names may only be given where a call is demanded, or checked.
        return {"mode": "ANY" if allowed.get("mode") == "required" else "VALIDATED", "allowedFunctionNames": names}
    chosen = native.chosen(choice)
    if chosen.startswith(":"):
        return {"mode": "ANY", "allowedFunctionNames": [chosen[1:]]}
    return {"mode": {"none": "NONE", "required": "ANY"}.get(chosen, "AUTO")}


# What the provider's JSON Schema knows (API reference, `responseJsonSchema`). Another keyword is a 400 on some models.
_PLAIN = frozenset(
    {
        *("$id", "$ref", "$anchor", "type", "title", "description", "enum", "required", "propertyOrdering"),
        *("minItems", "maxItems", "minimum", "maximum"),
    }
)
_ONE = frozenset({"items", "additionalProperties"})
_MANY = frozenset({"anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "$defs"})
_FORMATS = frozenset({"date-time", "date", "time"})


def _schema(schema: Any) -> Any:
    """A JSON Schema without what the provider refuses: `const` as an enum of one, other formats said in words."""
    if not isinstance(schema, Mapping):
        return schema
    cleaned: dict[str, Any] = {}
    for name, value in _inlined(schema).items():
        if name == "$ref":
            cleaned[name] = str(value).replace("#/definitions/", "#/$defs/", 1)
        elif name in _PLAIN:
            cleaned[name] = value
        elif name in _ONE:
            cleaned[name] = _schema(value)
        elif name in _MANY and isinstance(value, list):
            cleaned[name] = [_schema(one) for one in value]
        elif name in _NAMED and isinstance(value, Mapping):
            cleaned[name] = {key: _schema(one) for key, one in value.items()}
    return cleaned | _restated(schema)


def _inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with the older name of `$defs` replaced, and with what `allOf` adds."""
    merged = {"$defs" if name == "definitions" else name: value for name, value in schema.items() if name != "allOf"}
    for part in schema.get("allOf") or ():
        for name, value in _inlined(part).items():
            known = merged.get(name)
            if isinstance(known, Mapping) and isinstance(value, Mapping):
                merged[name] = {**known, **value}
            elif name == "required" and isinstance(known, list):
                merged[name] = list(dict.fromkeys([*known, *value]))
            else:
                merged.setdefault(name, value)
    return merged


def _restated(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the provider says with other keywords."""
    told: dict[str, Any] = {}
    if "const" in schema:
        told["enum"] = [schema["const"]]
    if schema.get("nullable") and isinstance(kind := schema.get("type"), str):
        told["type"] = [kind, "null"]
    if (form := schema.get("format")) in _FORMATS:
        told["format"] = form
    elif form and schema.get("type") == "string":
        told["description"] = f"{schema.get('description') or ''} (format: {form})".strip()
    return told


# --- the conversation ------------------------------------------------------------------------------------------------

_AUDIO = {"mp3": "audio/mp3", "wav": "audio/wav"}
_KINDS: Mapping[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
}


class _Conversation:
    """Canonical messages as contents. A tool's result needs its function's name: that is looked up by the call's id."""

    def __init__(self, model: str, lost: list[str]) -> None:
        self._signs = _generation(model) >= (3, 0)
        self._lost = lost
        self._system: list[dict[str, Any]] = []
        self._contents: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        if not self._contents:
            # The provider wants at least one turn: instructions alone are then the turn.
            return {"contents": [{"role": "user", "parts": self._system or [{"text": ""}]}]}
        return {"contents": self._contents, "systemInstruction": {"parts": self._system} if self._system else {}}

    def add(self, where: str, role: str, message: Mapping[str, Any]) -> None:
        """Takes the next message. Raises ProviderError on what cannot be said here."""
        if role in ("tool", "function"):
            self._result(message, where)
            return
        self._results = []
        self._lost += ["messages.name"] if message.get("name") else []
        if role == "system":
            self._system += self._parts(message, where)
        elif role == "assistant":
            self._turn("model", [*self._spoken(message, where), *self._calls(message, where)])
        else:
            self._turn("user", self._parts(message, where))

    def _turn(self, role: str, parts: list[dict[str, Any]]) -> None:
        if parts:
            self._contents.append({"role": role, "parts": parts})

    def _result(self, message: Mapping[str, Any], where: str) -> None:
        """A tool's result. All of one turn stand in one content, or the provider counts some as missing."""
        call_id = str(message.get("tool_call_id") or "")
        name = self._names.get(call_id) or message.get("name")
        if not name:
            place = f"{where}.tool_call_id"
            raise ProviderError("invalid_request", f"`{place}` answers no call before it.", param=place)
        parts = self._parts(message, where)
        told: dict[str, Any] = {"name": name, "response": _response(parts), **({"id": call_id} if call_id else {})}
        media = [part for part in parts if "text" not in part]
        if media and self._signs:
            told["parts"], media = media, []
        if not self._results:
            self._contents.append({"role": "user", "parts": self._results})
        self._results += [{"functionResponse": told}, *media]

    def _spoken(self, message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """What an assistant thought and said, and the signature of that."""
        if message.get("audio"):
            raise native.unsupported(f"{where}.audio")
        thought, signature = _reasoned(message)
        parts = self._parts(message, where)
        parts += [{"text": message["refusal"]}] if message.get("refusal") else []
        if signature:
            parts = parts or [{"text": ""}]
            parts[-1]["thoughtSignature"] = signature
        return [*([{"text": thought, "thought": True}] if thought else []), *parts]

    def _calls(self, message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        parts = []
        for call, (call_id, name, text) in zip(
            message.get("tool_calls") or (), native.calls(message, where), strict=True
        ):
            self._names[call_id] = name
            told = {"name": name, "args": native.arguments(text, where)} | ({"id": call_id} if call_id else {})
            signature = ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")
            parts.append({"functionCall": told} | ({"thoughtSignature": signature} if signature else {}))
        if parts and self._signs:
            # The first call of a turn has to be signed; those beside it never are.
            parts[0].setdefault("thoughtSignature", _UNSIGNED)
        if message.get("function_call"):
            raise native.unsupported(f"{where}.function_call", "Use `tool_calls`.")
        return parts

    def _parts(self, message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        made = [self._part(part, place) for place, part in native.parts(message.get("content") or (), where)]
        return [part for part in made if part]

    def _part(self, part: Mapping[str, Any], where: str) -> dict[str, Any]:
        self._lost += [f"messages.{name}" for name in _UNPLACED if part.get(name)]
        if (text := native.part_text(part)) is not None:
            return {"text": text} if text else {}
        match part.get("type"):
            case "image_url" | "video_url" as kind:
                value = part.get(kind)
                return _located(str(value.get("url") if isinstance(value, Mapping) else value), f"{where}.{kind}")
            case "input_audio":
                audio = part.get("input_audio") or {}
                form = str(audio.get("format") or "wav")
                return _inline(_AUDIO.get(form, f"audio/{form}"), str(audio.get("data") or ""))
            case "file":
                return _located(str((part.get("file") or {}).get("file_data") or ""), f"{where}.file")
        raise native.unsupported(f"{where}.type")


_UNPLACED = ("cache_control", "prompt_cache_breakpoint")


def _response(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A tool's result as the object that it has to be."""
    text = "".join(part.get("text", "") for part in parts)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"result": value}


def _located(url: str, where: str) -> dict[str, Any]:
    """Data as it is, a public address for the provider to read.

    What lies at the provider itself or in a bucket is read with the operator's rights: no client may name it.
    """
    if found := native.inline(url):
        return _inline(found[0] or "text/plain", found[1])
    address = _address(url)
    if address.scheme != "https" or not address.hostname or address.hostname.endswith(".googleapis.com"):
        raise native.unsupported(where, "Send the data itself in base64, or a public https address.")
    kind = _KINDS.get(address.path.rpartition(".")[2].lower())
    return {"fileData": {"fileUri": url, **({"mimeType": kind} if kind else {})}}


def _address(url: str) -> SplitResult:
    """An address in its parts, which are empty where it is none: "https://[x" raises where it is split."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _inline(kind: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": data}}


def _reasoned(message: Mapping[str, Any]) -> tuple[str, str]:
    """An earlier answer's reasoning, and its signature where that is this provider's."""
    details = [one for one in message.get("reasoning_details") or () if isinstance(one, Mapping)]
    texts = "".join(str(one.get("text") or "") for one in details)
    signatures = [str(one.get("signature") or "") for one in details]
    ours = [signature for signature in signatures if signature.startswith(_MARK)]
    return texts or str(message.get("reasoning_content") or ""), ours[-1].removeprefix(_MARK) if ours else ""


# --- the answer ------------------------------------------------------------------------------------------------------


def _answers(data: str) -> list[Mapping[str, Any]]:
    """The responses of one frame: one, or a list of all where a proxy forgot that a stream of events was asked for."""
    value = parsed(data)
    answers = value if isinstance(value, list) else [value]
    if not all(isinstance(answer, Mapping) for answer in answers):
        raise ProviderError("server", "the provider sent a frame that is no JSON object")
    return answers


def _usage(usage: Mapping[str, Any]) -> Usage:
    """The counts as the canonical form has them: thoughts are apart from candidates here, what tools read from the prompt."""
    thoughts = _count(usage, "thoughtsTokenCount")
    heard = _by_modality(usage, "promptTokensDetails", "toolUsePromptTokensDetails")
    return Usage(
        input=_count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount"),
        output=_count(usage, "candidatesTokenCount") + thoughts,
        cached=_count(usage, "cachedContentTokenCount"),
        reasoning=thoughts,
        audio_input=heard.get("AUDIO", 0),
        image_input=heard.get("IMAGE", 0),
        audio_output=_by_modality(usage, "candidatesTokensDetails").get("AUDIO", 0),
    )


def _count(usage: Mapping[str, Any], name: str) -> int:
    return int(usage.get(name) or 0)


def _by_modality(usage: Mapping[str, Any], *names: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in (row for name in names for row in usage.get(name) or ()):
        kind = str(one.get("modality"))
        counts[kind] = counts.get(kind, 0) + _count(one, "tokenCount")
    return counts


def _media(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part that is no text: an image in the form its compatible clients read, anything else as it came."""
    blob = part.get("inlineData") or {}
    kind = str(blob.get("mimeType") or "")
    if kind.startswith("image/"):
        url = f"data:{kind};base64,{blob.get('data') or ''}"
        return {"images": [{"type": "image_url", "image_url": {"url": url}}]}
    return {name: value for name, value in part.items() if name not in ("text", "thought", "thoughtSignature")}


def _citations(grounding: Any, text: bytes) -> list[dict[str, Any]]:
    """What a search found, as OpenAI's annotations: byte offsets become characters."""
    if not isinstance(grounding, Mapping):
        return []
    chunks = [chunk.get("web") or {} for chunk in grounding.get("groundingChunks") or ()]
    cited = []
    for support in grounding.get("groundingSupports") or ():
        segment = support.get("segment") or {}
        begin, end = (
            len(text[: int(segment.get(at) or 0)].decode("utf-8", "ignore")) for at in ("startIndex", "endIndex")
        )
        for web in (chunks[at] for at in support.get("groundingChunkIndices") or () if at < len(chunks)):
            told = {"url": web.get("uri"), "title": web.get("title"), "start_index": begin, "end_index": end}
            cited.append({"type": "url_citation", "url_citation": told})
    return cited


def _logprobs(result: Any) -> dict[str, Any]:
    if not isinstance(result, Mapping):
        return {}
    tops = [[_chance(one) for one in row.get("candidates") or ()] for row in result.get("topCandidates") or ()]
    chosen = [_chance(one) for one in result.get("chosenCandidates") or ()]
    rows = [{**one, "top_logprobs": tops[at] if at < len(tops) else []} for at, one in enumerate(chosen)]
    return {"content": rows, "refusal": None} if rows else {}


def _chance(candidate: Mapping[str, Any]) -> dict[str, Any]:
    token = str(candidate.get("token") or "")
    return {"token": token, "logprob": candidate.get("logProbability"), "bytes": list(token.encode("utf-8", "replace"))}


# --- errors ----------------------------------------------------------------------------------------------------------


def _detail(body: bytes) -> Any:
    """The error object of a body, which may come in a list of one."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    first = told[0] if isinstance(told, list) and told else told
    return first.get("error", first) if isinstance(first, Mapping) else {}


def _told(detail: Any, status: int) -> ProviderError:
    fields: Mapping[str, Any] = detail if isinstance(detail, Mapping) else {"message": str(detail)}
    details = [one for one in fields.get("details") or () if isinstance(one, Mapping)]
    name, message = str(fields.get("status") or ""), str(fields.get("message") or "")
    code = int(told) if str(told := fields.get("code") or "").isdigit() else 0
    kind = _by_details(details) or _by_sentence(name, message) or _BY_NAME.get(name) or by_status(status or code)
    error = ProviderError(kind, message, status=status or code, code=name)
    error.retry_after = _delay(details)
    return error


def _by_details(details: Sequence[Mapping[str, Any]]) -> ErrorKind | None:
    if any(str(one.get("reason") or "").startswith("API_KEY") for one in details):
        return "auth"
    quotas = [str(violation.get("quotaId")) for one in details for violation in one.get("violations") or ()]
    return "quota" if any("PerDay" in quota for quota in quotas) else None


def _by_sentence(name: str, message: str) -> ErrorKind | None:
    if name == "INVALID_ARGUMENT" and _TOO_LONG in message:
        return "context_length"
    if name == "PERMISSION_DENIED" and _NO_FILE in message:
        return "invalid_request"
    return "quota" if name == "RESOURCE_EXHAUSTED" and _PAID_OUT in message else None


def _delay(details: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds of a RetryInfo, told as "34.4s"."""
    for one in details:
        told = str(one.get("retryDelay") or "").removesuffix("s")
        if told.replace(".", "", 1).isdigit():
            return float(told)
    return None
