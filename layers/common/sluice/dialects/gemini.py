"""Gemini's generateContent as clients speak it: google-genai 3.4 (which asks on /v1), its earlier versions and plain HTTP (/v1beta).

Field names may come in camelCase and in snake_case, mixed in one body. On a channel of the same format body and answer pass
as they are; for another, what the canonical form has no place for is in `dropped` and `native`. docs/crossings.md lists it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from sluice.dialects._base import Route
from sluice.dialects._bodies import read, written
from sluice.dialects._checks import BOOLEAN, NUMBER, STRING, WHOLE, Shape, integer, json_object, shaped
from sluice.dialects._pictures import addresses, inline
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

_MAX_CHOICES = 128
_NOTHING: Mapping[str, Any] = {}

_STATUS_NAMES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REASONS: Mapping[str, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "function_call": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}

# --- the written tables of the crossing ------------------------------------------------------------------------------

_SAID_AS: Mapping[str, str] = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "stopSequences": "stop",
}
_READ = frozenset(
    {
        *("candidateCount", "maxOutputTokens", "responseMimeType", "responseSchema", "responseJsonSchema"),
        *("thinkingConfig", "responseModalities"),
    }
)
_CARRIED = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"})
_NATIVE = frozenset({"cachedContent", "continuationToken"})
"""Fields of the body that change what is asked."""
_PART_EXTRAS = frozenset({"videoMetadata", "partMetadata", "mediaResolution", "mediaProcessing"})
_MODES: Mapping[str, str] = {"NONE": "none", "AUTO": "auto", "VALIDATED": "auto", "ANY": "required"}

_PART: Shape = {
    "text": STRING,
    "inlineData": {"mimeType": STRING, "data": STRING},
    "fileData": {"mimeType": STRING, "fileUri": STRING},
    "functionCall": {"name": STRING, "args": {}, "id": STRING},
    "functionResponse": {"name": STRING, "response": {}, "id": STRING},
    "thoughtSignature": STRING,
}
_CONFIG: Shape = {
    **dict.fromkeys(("temperature", "topP", "topK", "presencePenalty", "frequencyPenalty"), NUMBER),
    **dict.fromkeys(("seed", "logprobs"), WHOLE),
    "responseLogprobs": BOOLEAN,
    "responseMimeType": STRING,
    "stopSequences": [STRING],
    "responseSchema": {},
    "responseModalities": [STRING],
}
"""The types of the fields that are read here, by their camelCase names. Every other field goes on as it is."""

_SAYS: Says = {
    **{ours: (f"generationConfig.{theirs}",) for theirs, ours in _SAID_AS.items()},
    "n": ("generationConfig.candidateCount",),
    "max_completion_tokens": ("generationConfig.maxOutputTokens",),
    "reasoning_effort": ("generationConfig.thinkingConfig",),
    "modalities": ("generationConfig.responseModalities",),
    "response_format": (
        "generationConfig.responseJsonSchema",
        "generationConfig.responseSchema",
        "generationConfig.responseMimeType",
    ),
    "tool_choice": ("toolConfig.functionCallingConfig",),
    "messages": ("contents",),
    "messages[].reasoning_content": ("contents[].parts[].thought",),
    "messages[].reasoning_details": ("contents[].parts[].thoughtSignature",),
    "messages[].tool_calls[].extra_content": ("contents[].parts[].thoughtSignature",),
    "messages[].extra_content": ("contents[].parts[].thoughtSignature",),
}

# Tokens of a thinking budget up to which each word for effort goes: as Google's own compatible endpoint has it.
_EFFORTS = ((0, "none"), (1024, "low"), (8192, "medium"))


@dataclass(frozen=True, slots=True)
class GeminiDialect:
    name: str = "gemini"
    routes: tuple[Route, ...] = tuple(
        route
        for version in ("/v1", "/v1beta")
        for route in (
            Route("POST", version + "/models/{model:path}:generateContent", "chat"),
            Route("POST", version + "/models/{model:path}:streamGenerateContent", "chat"),
            Route("POST", version + "/models/{model:path}:countTokens", "count"),
            Route("GET", version + "/models", "models"),
            Route("GET", version + "/models/{model:path}", "model"),
        )
    )

    says: Says = field(default_factory=lambda: _SAYS)
    shows: tuple[str, ...] = ("server-timing", "x-gemini-*")

    def claims(self, headers: Mapping[str, str]) -> bool:
        return "x-goog-api-key" in headers or "x-goog-api-client" in headers

    def parse(self, inbound: Inbound) -> ChatRequest:
        told = json_object(inbound.body)
        # What is to be counted may stand in a whole request of its own.
        raw = told.get("generateContentRequest") or told.get("generate_content_request") or told
        reading = _Reading(raw if isinstance(raw, Mapping) else told)
        try:
            body = reading.body()
        except RecursionError:
            raise BadRequest("The body is nested too deeply.") from None
        streams = inbound.target.endswith(":streamGenerateContent")
        return ChatRequest(
            model=inbound.path["model"],
            body={**body, "model": inbound.path["model"], **({"stream": True} if streams else {})},
            stream=streams,
            include_usage=True,
            max_tokens=body.get("max_completion_tokens"),
            n=body.get("n", 1),
            dialect=self.name,
            raw=_without_ours(raw) if reading.foreign else raw,
            native=tuple(reading.native),
            dropped=tuple(dict.fromkeys(reading.dropped)),
            framing="bare" if inbound.path.get("alt") == "sse" else "array",
        )

    def encoder(self, chat: ChatRequest, request_id: str, created: int, alias: str) -> GeminiEncoder:
        return GeminiEncoder(chat, request_id, alias)

    def error(self, error: SluiceError, request_id: str) -> bytes:
        return orjson.dumps(_error(error, request_id))

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        if error.native:
            return Frame(error.native[1].decode("utf-8", "replace"))
        return _frame(_error(error, request_id))

    def models(self, models: Sequence[Model]) -> bytes:
        return orjson.dumps({"models": [_model(model) for model in models]})

    def model(self, model: Model) -> bytes:
        return orjson.dumps(_model(model))

    def counted(self, tokens: int) -> bytes:
        return orjson.dumps({"totalTokens": tokens})


DIALECT = GeminiDialect()


# --- reading a body --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), name)


@lru_cache(maxsize=256)
def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _named(value: Any, where: str) -> dict[str, Any]:
    """An object's fields by their camelCase names; nulls left out. Raises BadRequest."""
    if not isinstance(value, Mapping):
        raise BadRequest(f"`{where}` must be an object.", param=where)
    return {_camel(name): one for name, one in value.items() if one is not None}


def _listed(value: Any, where: str) -> list[Any]:
    """A list, or the one thing in its place. Raises BadRequest."""
    if value is None or isinstance(value, Mapping):
        return [value] if value else []
    if not isinstance(value, list):
        raise BadRequest(f"`{where}` must be a list.", param=where)
    return value


class _Reading:
    """One body being read. `native` names what only a provider of this format understands, `dropped` what others do without."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = _named(fields, "body")
        self.native: list[str] = [name for name in self._fields if name in _NATIVE]
        self.dropped: list[str] = [name for name in self._fields if name not in _CARRIED | _NATIVE]
        self.foreign = False
        """Whether an earlier answer was another provider's, told in this format by us."""

    def body(self) -> dict[str, Any]:
        """The canonical body. Raises BadRequest."""
        contents = _listed(self._fields.get("contents"), "contents")
        if not contents:
            raise BadRequest("`contents` must be a list of at least one content.", param="contents")
        turns = _Turns(self.native, self.dropped)
        turns.instruct(self._fields.get("systemInstruction"))
        for position, content in enumerate(contents):
            turns.add(content, f"contents[{position}]")
        self.foreign = turns.foreign
        return {"messages": turns.messages, **self._tools(), **self._config()}

    def _tools(self) -> dict[str, Any]:
        functions: list[dict[str, Any]] = []
        for position, told in enumerate(_listed(self._fields.get("tools"), "tools")):
            for name, value in _named(told, f"tools[{position}]").items():
                if name == "functionDeclarations":
                    functions += [self._function(one) for one in _listed(value, "functionDeclarations")]
                else:
                    self.native.append(f"tools[{position}].{name}")
        if not functions:
            return {}
        return {"tools": functions, **self._tool_choice()}

    def _function(self, declaration: Any) -> dict[str, Any]:
        told = _named(declaration, "tools.functionDeclarations")
        known = {"name", "description", "parameters", "parametersJsonSchema"}
        self.dropped += [f"tools.functionDeclarations.{name}" for name in told if name not in known]
        function = {name: value for name, value in told.items() if name in ("name", "description")}
        if schema := told.get("parametersJsonSchema") or _json_schema(told.get("parameters")):
            function["parameters"] = schema
        return {"type": "function", "function": function}

    def _tool_choice(self) -> dict[str, Any]:
        config = _named(self._fields.get("toolConfig") or {}, "toolConfig")
        self.dropped += [f"toolConfig.{name}" for name in config if name != "functionCallingConfig"]
        calling = _named(config.get("functionCallingConfig") or {}, "toolConfig.functionCallingConfig")
        mode = _MODES.get(str(calling.get("mode") or "").upper(), "")
        names = _listed(calling.get("allowedFunctionNames"), "allowedFunctionNames")
        if mode == "required" and len(names) == 1:
            return {"tool_choice": {"type": "function", "function": {"name": names[0]}}}
        if names and mode in ("required", "auto"):
            tools = [{"type": "function", "function": {"name": name}} for name in names]
            return {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}}
        return {"tool_choice": mode} if mode else {}

    def _config(self) -> dict[str, Any]:
        config = _named(self._fields.get("generationConfig") or {}, "generationConfig")
        shaped(config, _CONFIG, "generationConfig")
        unplaced = config.keys() - _SAID_AS.keys() - _READ
        self.dropped += [f"generationConfig.{name}" for name in sorted(unplaced)]
        made = {ours: config[theirs] for theirs, ours in _SAID_AS.items() if theirs in config}
        if cap := integer(config, "maxOutputTokens", 1):
            made["max_completion_tokens"] = cap
        if count := integer(config, "candidateCount", 1, _MAX_CHOICES):
            made["n"] = count
        return made | self._format(config) | self._modalities(config) | self._effort(config.get("thinkingConfig"))

    def _format(self, config: Mapping[str, Any]) -> dict[str, Any]:
        kind = config.get("responseMimeType", "text/plain")
        if kind == "text/plain":
            return {}
        if kind != "application/json":
            self.native.append("generationConfig.responseMimeType")
            return {}
        schema = config.get("responseJsonSchema") or _json_schema(config.get("responseSchema"))
        if not schema:
            return {"response_format": {"type": "json_object"}}
        named = {"name": "response", "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def _modalities(self, config: Mapping[str, Any]) -> dict[str, Any]:
        asked = [str(one).lower() for one in _listed(config.get("responseModalities"), "responseModalities")]
        if "audio" in asked:
            self.native.append("generationConfig.responseModalities")
        return {"modalities": asked} if asked not in ([], ["text"]) else {}

    def _effort(self, thinking: Any) -> dict[str, Any]:
        """How much to think, by the word or by the tokens; a budget of -1 is the model's own choice."""
        config = _named(thinking or {}, "generationConfig.thinkingConfig")
        if level := str(config.get("thinkingLevel") or "").lower():
            return {"reasoning_effort": level} if level != "thinking_level_unspecified" else {}
        budget = config.get("thinkingBudget")
        if not isinstance(budget, int) or budget < 0:
            return {}
        return {"reasoning_effort": next((word for most, word in _EFFORTS if budget <= most), "high")}


class _Turns:
    """Contents as canonical messages. Calls and results without ids are matched by name, in their order."""

    def __init__(self, native: list[str], dropped: list[str]) -> None:
        self.messages: list[dict[str, Any]] = []
        self._native = native
        self._dropped = dropped
        self._open: list[tuple[str, str]] = []
        self._made = 0
        self.foreign = False

    def instruct(self, instruction: Any) -> None:
        told = {"parts": [{"text": instruction}]} if isinstance(instruction, str) else instruction
        parts = self._parts(told, "systemInstruction") if told else []
        if texts := [part["text"] for _, part in parts if "text" in part]:
            self.messages.append({"role": "system", "content": "\n\n".join(texts)})

    def add(self, content: Any, where: str) -> None:
        told = {"parts": [{"text": content}]} if isinstance(content, str) else content
        parts = self._parts(told, where)
        role = told.get("role")
        if role == "model":
            self._spoken(parts)
        else:
            self._asked(parts)

    def _parts(self, content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
        parts = _listed(_named(content, where).get("parts"), f"{where}.parts")
        named = [(f"{where}.parts[{at}]", _named(part, f"{where}.parts[{at}]")) for at, part in enumerate(parts)]
        for place, part in named:
            shaped(part, _PART, place)
        return named

    def _asked(self, parts: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """A turn of the user's: the results of tools come before what else it says."""
        said = []
        for where, part in parts:
            if "functionResponse" in part:
                self._result(_named(part["functionResponse"], f"{where}.functionResponse"), where)
            elif made := self._part(part, where):
                said.append(made)
        if said:
            self.messages.append({"role": "user", "content": _plain(said)})

    def _result(self, response: Mapping[str, Any], where: str) -> None:
        name = str(response.get("name") or "")
        call_id = str(response.get("id") or self._answered(name))
        text = orjson.dumps(response.get("response") or {}).decode()
        media = [
            made
            for at, part in enumerate(_listed(response.get("parts"), f"{where}.functionResponse.parts"))
            if (made := self._part(_named(part, where), f"{where}.functionResponse.parts[{at}]"))
        ]
        content = [{"type": "text", "text": text}, *media] if media else text
        self._open = [one for one in self._open if one[0] != call_id]
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _answered(self, name: str) -> str:
        """The id of the first open call of that name; where there is none the provider has to judge."""
        return next((call_id for call_id, called in self._open if called == name), f"call_{name}")

    def _spoken(self, parts: Sequence[tuple[str, dict[str, Any]]]) -> None:
        thoughts, said, calls, details = "", [], [], []
        self._open = []
        for where, part in parts:
            kept, signature = _unpacked(str(part.get("thoughtSignature") or ""))
            self.foreign = self.foreign or bool(kept)
            details += [kept] if kept.get("type", _CALLED) != _CALLED else []
            if "functionCall" in part:
                calls.append(self._call(_named(part["functionCall"], where), signature))
                continue
            details += [{"type": "reasoning.text", "text": "", "signature": signature}] if signature else []
            if part.get("thought"):
                thoughts += str(part.get("text") or "")
            elif made := self._part(part, where):
                said.append(made)
        self.messages.append(_assistant(said, calls, thoughts, details))

    def _call(self, call: Mapping[str, Any], signature: str) -> dict[str, Any]:
        self._made += 1
        call_id, name = str(call.get("id") or f"call_{self._made}"), str(call.get("name") or "")
        self._open.append((call_id, name))
        signed = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
        function = {"name": name, "arguments": orjson.dumps(call.get("args") or {}).decode()}
        return {"id": call_id, "type": "function", "function": function, **signed}

    def _part(self, part: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A part as a canonical one; empty where it says nothing, or nothing that another provider would understand."""
        self._dropped += [f"contents.parts.{name}" for name in part if name in _PART_EXTRAS]
        if "inlineData" in part:
            blob = _named(part["inlineData"], f"{where}.inlineData")
            return _inlined(str(blob.get("mimeType") or ""), _standard(str(blob.get("data") or "")))
        if "fileData" in part:
            return _linked(_named(part["fileData"], f"{where}.fileData"))
        if "text" in part:
            return {"type": "text", "text": str(part["text"])} if part["text"] else {}
        self._native += [
            f"{where}.{name}" for name in part if name not in _PART_EXTRAS | {"thought", "thoughtSignature"}
        ]
        return {}


def _assistant(
    said: list[dict[str, Any]], calls: list[dict[str, Any]], thoughts: str, details: list[dict[str, str]]
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _plain(said) if said else None}
    if texts := "".join(detail.get("text", "") for detail in details) or thoughts:
        message["reasoning_content"] = texts
    if details:
        message["reasoning_details"] = details
    return message | ({"tool_calls": calls} if calls else {})


def _plain(parts: list[dict[str, Any]]) -> Any:
    """One text alone as a string, which every provider takes."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


_AUDIO = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}


def _inlined(kind: str, data: str) -> dict[str, Any]:
    url = f"data:{kind};base64,{data}"
    family, _, form = kind.partition("/")
    if family == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if family == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO.get(form, form)}}
    if family == "video":
        return {"type": "video_url", "video_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url, "filename": f"file.{form.rpartition('.')[2] or 'bin'}"}}


def _linked(file: Mapping[str, Any]) -> dict[str, Any]:
    kind, url = str(file.get("mimeType") or ""), str(file.get("fileUri") or "")
    name = {"video": "video_url", "application": "file"}.get(kind.partition("/")[0], "image_url")
    return {"type": name, name: {"file_data": url} if name == "file" else {"url": url}}


def _standard(data: str) -> str:
    """Base64 in its standard alphabet: this format's own clients write the other one."""
    return data.translate(_ALPHABET)


_ALPHABET = str.maketrans("-_", "+/")


def _json_schema(schema: Any) -> Any:
    """The format's own schema (OpenAPI's, types in capitals) as a JSON Schema."""
    if isinstance(schema, list):
        return [_json_schema(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        _camel(name): value for name, value in schema.items() if name not in ("propertyOrdering", "property_ordering")
    }
    nullable = made.pop("nullable", False)
    for name in ("items", "anyOf", "additionalProperties"):
        if name in made:
            made[name] = _json_schema(made[name])
    if isinstance(properties := made.get("properties"), Mapping):
        made["properties"] = {name: _json_schema(one) for name, one in properties.items()}
    if isinstance(kind := made.get("type"), str):
        made["type"] = [kind.lower(), "null"] if nullable else kind.lower()
    return made | {name: int(made[name]) for name in _COUNTS if isinstance(made.get(name), str)}


_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


# --- what another provider said, in this format's opaque field -------------------------------------------------------

_PACKED = b"sluice"
_CALLED = "called"
"""The type of what marks a call that has no signature: a provider of this format would miss one."""
_UNSIGNED = "skip_thought_signature_validator"
"""What Google's page on thought signatures gives for a call that another model made."""


def _pack(detail: Mapping[str, str]) -> str:
    """A block of reasoning as a signature that clients send back: base64, as their libraries decode it."""
    return b64encode(_PACKED + orjson.dumps(detail)).decode()


def _unpacked(signature: str) -> tuple[dict[str, str], str]:
    """What was packed, or else the signature as a provider made it."""
    if not signature:
        return {}, ""
    try:
        raw = b64decode(_standard(signature))
        if raw.startswith(_PACKED) and isinstance(told := orjson.loads(raw.removeprefix(_PACKED)), dict):
            return {str(name): str(value) for name, value in told.items()}, ""
    except (NotBase64, orjson.JSONDecodeError):
        pass
    return {}, signature


def _without_ours(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A body for a provider of this very format, which would refuse what we packed."""
    contents = [_theirs(content) for content in _listed(raw.get("contents"), "contents")]
    return {**raw, "contents": contents}


def _theirs(content: Mapping[str, Any]) -> dict[str, Any]:
    parts = [_their_part(part) for part in _listed(content.get("parts"), "parts")]
    return {**content, "parts": [part for part in parts if part] or [{"text": ""}]}


def _their_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    told = _named(part, "parts")
    if not _unpacked(str(told.pop("thoughtSignature", "")))[0]:
        return part
    if "functionCall" in told:
        return {**told, "thoughtSignature": _UNSIGNED}
    return {} if told == {"text": ""} else told


# --- writing an answer -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Writing:
    """One candidate under way. `hidden` is reasoning not yet sealed, `calls` wait to be whole: this format knows no pieces."""

    hidden: str = ""
    calls: dict[int, Call] = field(default_factory=dict)
    reason: str = ""


class GeminiEncoder:
    """Responses for one client. The last one has the reasons and the usage, and nothing comes after it."""

    def __init__(self, chat: ChatRequest, answer_id: str, alias: str) -> None:
        self._alias = alias
        self._tail = {"modelVersion": chat.model, "responseId": answer_id}
        config = chat.raw.get("generationConfig") or chat.raw.get("generation_config") or {}
        thinking = config.get("thinkingConfig") or config.get("thinking_config") or {}
        self._shows_thoughts = bool(thinking.get("includeThoughts") or thinking.get("include_thoughts"))
        self._writing: dict[int, _Writing] = {}

    def relay(self, frame: Frame) -> Iterable[Frame]:
        return (Frame(self.whole(frame).decode()) if self._alias else frame,)

    def encode(self, event: Event) -> Iterable[Frame]:
        match event:
            case Start():
                return
            case Usage():
                self._usage = event
                return
        writing = self._writing.setdefault(event.choice, _Writing())
        if not isinstance(event, Reasoning):
            yield from self._sealed(writing, event.choice)
        match event:
            case Finish(reason):
                writing.reason = reason
                yield from self._called(writing, event.choice)
            case ToolCall():
                _gather(writing.calls, event)
            case Reasoning():
                yield from self._thought(writing, event)
            case Text(text):
                yield self._chunk(event.choice, [{"text": text}])
            case Raw(data):
                parts, beside = _images(data), _beside(data)
                if parts or beside:
                    yield self._chunk(event.choice, parts, beside)

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        if not self._writing:
            return
        candidates = [
            {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": _reason(one), "index": index}
            for index, one in sorted(self._writing.items())
        ]
        yield _frame({"candidates": candidates, **({"usageMetadata": _usage(usage)} if usage else {}), **self._tail})

    def whole(self, frame: Frame) -> bytes:
        if not self._alias:
            return frame.data.encode()
        return written({**read(frame.data), "modelVersion": self._alias})

    def completion(self, completion: Completion) -> bytes:
        candidates = [self._candidate(index, choice) for index, choice in sorted(completion.choices.items())]
        return orjson.dumps({"candidates": candidates, "usageMetadata": _usage(completion.usage), **self._tail})

    def _candidate(self, index: int, choice: Choice) -> dict[str, Any]:
        parts = [{"text": choice.reasoning, "thought": True}] if choice.reasoning and self._shows_thoughts else []
        sealed = (one for one in choice.details if one.get("signature") or one.get("data") or not self._shows_thoughts)
        parts += [{"text": "", "thoughtSignature": _pack(detail)} for detail in sealed]
        parts += [{"text": choice.text}] if choice.text else []
        parts += [part for extra in choice.extras for part in _images(extra.data)]
        parts += _function_calls(choice.tool_calls)
        reason = _reason(_Writing(reason=choice.finish_reason or "stop", calls=choice.calls))
        content = {"parts": parts or [{"text": ""}], "role": "model"}
        beside = {name: value for extra in choice.extras for name, value in _beside(extra.data).items()}
        return {"content": content, "finishReason": reason, "index": index, **beside}

    def _thought(self, writing: _Writing, event: Reasoning) -> Iterator[Frame]:
        """A thought, shown to who asked for it, and kept for when it is sealed: then it can be sent back whole."""
        writing.hidden += event.text
        if event.text and self._shows_thoughts:
            yield self._chunk(event.choice, [{"text": event.text, "thought": True}])
        if event.data:
            yield self._packed(event.choice, {"type": "reasoning.encrypted", "data": event.data})
        elif event.signature:
            told = {"type": "reasoning.text", "text": writing.hidden, "signature": event.signature}
            writing.hidden = ""
            yield self._packed(event.choice, told)

    def _sealed(self, writing: _Writing, choice: int) -> Iterator[Frame]:
        """Thoughts that nobody signed: a client that was not shown them has them in the packed form."""
        text, writing.hidden = writing.hidden, ""
        if text and not self._shows_thoughts:
            yield self._packed(choice, {"type": "reasoning.text", "text": text, "signature": ""})

    def _called(self, writing: _Writing, choice: int) -> Iterator[Frame]:
        if parts := _function_calls([call for _, call in sorted(writing.calls.items())]):
            yield self._chunk(choice, parts)

    def _packed(self, choice: int, detail: Mapping[str, str]) -> Frame:
        return self._chunk(choice, [{"text": "", "thoughtSignature": _pack(detail)}])

    def _chunk(self, index: int, parts: Sequence[Mapping[str, Any]], beside: Mapping[str, Any] = _NOTHING) -> Frame:
        candidate = {"content": {"parts": parts or [{"text": ""}], "role": "model"}, "index": index, **beside}
        return _frame({"candidates": [candidate], **self._tail})


def _gather(calls: dict[int, Call], delta: ToolCall) -> None:
    call = calls.setdefault(delta.index, Call())
    call.id = call.id or delta.id
    call.name = call.name or delta.name
    call.arguments += delta.arguments
    call.signature = call.signature or delta.signature


def _function_calls(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Calls as parts. The first is always signed, as this format's own are: by us where its maker did not."""
    parts = [part for call in calls if (part := _function_call(call))]
    if parts:
        parts[0].setdefault("thoughtSignature", _pack({"type": _CALLED}))
    return parts


def _function_call(call: Call) -> dict[str, Any]:
    """A whole call; empty where its arguments are no object, which this format has no words for."""
    arguments = _arguments(call)
    if arguments is None:
        return {}
    told = {"functionCall": {"id": call.id, "name": call.name, "args": arguments}}
    return told | ({"thoughtSignature": call.signature} if call.signature else {})


def _arguments(call: Call) -> dict[str, Any] | None:
    try:
        value = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _reason(writing: _Writing) -> str:
    spoilt = any(_arguments(call) is None for call in writing.calls.values())
    if spoilt and writing.reason in ("stop", "tool_calls"):
        return "MALFORMED_FUNCTION_CALL"
    return _REASONS.get(writing.reason, "OTHER")


def _beside(data: Mapping[str, Any]) -> dict[str, Any]:
    """Chances and citations, which stand beside a candidate's content."""
    told: dict[str, Any] = {}
    if rows := (data.get("logprobs") or {}).get("content"):
        tops = [{"candidates": [_chance(one) for one in row.get("top_logprobs") or ()]} for row in rows]
        told["logprobsResult"] = {"chosenCandidates": [_chance(row) for row in rows], "topCandidates": tops}
    if cited := [one.get("url_citation") or {} for one in data.get("annotations") or ()]:
        chunks = [{"web": {"uri": one.get("url"), "title": one.get("title")}} for one in cited]
        told["groundingMetadata"] = {"groundingChunks": chunks}
    return told


def _chance(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": row.get("token"), "logProbability": row.get("logprob")}


def _images(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The images among what has no event of its own, as parts. Anything else there has no place here."""
    parts = []
    for url in addresses(data):
        kind, blob = inline(url)
        if blob:
            parts.append({"inlineData": {"mimeType": kind, "data": blob}})
    return parts


def _usage(usage: Usage) -> dict[str, Any]:
    """Thoughts stand beside the candidates here. A provider that counts more of them than of all output has no candidates left."""
    thoughts = min(usage.reasoning, usage.output)
    told = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - thoughts,
        "totalTokenCount": usage.input + usage.output,
    }
    more = {"cachedContentTokenCount": usage.cached, "thoughtsTokenCount": thoughts}
    return told | {name: count for name, count in more.items() if count}


def _error(error: SluiceError, request_id: str) -> dict[str, Any]:
    """`error` comes first, and alone: the SDK knows an error in a stream by how its text begins."""
    name = _STATUS_NAMES.get(error.status, "INTERNAL")
    types = "type.googleapis.com/google.rpc."
    reason = {"@type": f"{types}ErrorInfo", "reason": error.code.upper(), "domain": "sluice"}
    details: list[dict[str, Any]] = [reason, {"@type": f"{types}RequestInfo", "requestId": request_id}]
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{types}BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        details.append({"@type": f"{types}RetryInfo", "retryDelay": f"{error.retry_after:g}s"})
    return {"error": {"code": error.status, "message": error.message, "status": name, "details": details}}


def _model(model: Model) -> dict[str, Any]:
    known = {"inputTokenLimit": model.context, "outputTokenLimit": model.max_output}
    return {
        "name": f"models/{model.id}",
        "displayName": model.name or model.id,
        **{name: value for name, value in known.items() if value},
        **({"thinking": model.reasoning} if model.reasoning is not None else {}),
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


def _frame(value: Mapping[str, Any]) -> Frame:
    return Frame(orjson.dumps(value).decode())
