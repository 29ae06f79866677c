"""OpenAI chat.completions as clients speak it. Wire: openai-python 3.52 `types/chat/*`, `_streaming.py`, `_exceptions.py`.

Its body is the canonical request, so that parsing is checking. What is checked is what the gateway itself acts on or what no
provider could mean otherwise; every other field is the provider's to judge and goes through untouched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sluice.dialects._base import Route
from sluice.dialects._bodies import read, written
from sluice.dialects._checks import (
    BOOLEAN,
    NUMBER,
    STRING,
    WHOLE,
    Shape,
    boolean,
    integer,
    json_object,
    mapping,
    model_name,
    objects,
    shaped,
)
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
_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
_DONE = Frame("[DONE]")
_GROWING = frozenset({"arguments", "data", "transcript", "refusal"})
_NO_USAGE = ',"usage":null'


_PART: Shape = {
    "text": STRING,
    "image_url": (STRING, {"url": STRING}),
    "video_url": (STRING, {"url": STRING}),
    "input_audio": {"data": STRING, "format": STRING},
    "file": {"file_data": STRING, "file_id": STRING, "file_url": STRING, "filename": STRING},
}
_CALLED: Shape = {"name": STRING, "description": STRING, "parameters": {}}
_SHAPE: Shape = {
    **dict.fromkeys(("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"), NUMBER),
    **dict.fromkeys(("seed", "top_logprobs"), WHOLE),
    **dict.fromkeys(("logprobs", "parallel_tool_calls"), BOOLEAN),
    **dict.fromkeys(("reasoning_effort", "verbosity", "service_tier"), STRING),
    **{name: {} for name in ("audio", "prediction", "web_search_options", "extra_body")},
    "stop": (STRING, [STRING]),
    "modalities": [STRING],
    "response_format": {"type": STRING, "json_schema": {"name": STRING, "schema": {}}},
    "tools": [{"type": STRING, "function": _CALLED, "custom": {}}],
    "tool_choice": (
        STRING,
        {"function": {"name": STRING}, "custom": {"name": STRING}, "allowed_tools": {"mode": STRING, "tools": [{}]}},
    ),
    "functions": [_CALLED],
    "function_call": (STRING, {"name": STRING}),
    "messages": [
        {
            "content": (STRING, [_PART]),
            "reasoning_content": STRING,
            "tool_call_id": STRING,
            "tool_calls": [{"id": STRING, "function": {"name": STRING, "arguments": (STRING, {})}, "custom": {}}],
        }
    ],
}
"""The types of the fields that some adapter reads. Every other field goes on as it is."""


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    name: str = "openai"
    routes: tuple[Route, ...] = (
        Route("POST", "/v1/chat/completions", "chat"),
        Route("GET", "/v1/models", "models"),
        Route("GET", "/v1/models/{model:path}", "model"),
    )

    shows: tuple[str, ...] = ("openai-processing-ms", "openai-version", "x-ratelimit-*")

    def claims(self, headers: Mapping[str, str]) -> bool:
        return False

    def parse(self, inbound: Inbound) -> ChatRequest:
        fields = json_object(inbound.body)
        model = model_name(fields)
        _check_messages(fields.get("messages"))
        for name in ("tools", "functions"):
            objects(fields, name)
        for name in ("response_format", "metadata", "logit_bias"):
            mapping(fields, name)
        stream = boolean(fields, "stream")
        options = fields.get("stream_options")
        if options is not None and not isinstance(options, Mapping):
            raise BadRequest("`stream_options` must be an object.", param="stream_options")
        if options is not None and not stream:
            raise BadRequest("`stream_options` is only allowed when `stream` is true.", param="stream_options")
        shaped(fields, _SHAPE)
        cap = integer(fields, "max_completion_tokens", 1) or integer(fields, "max_tokens", 1)
        return ChatRequest(
            model=model,
            body=fields,
            stream=stream,
            include_usage=bool(options and options.get("include_usage")),
            max_tokens=cap,
            n=integer(fields, "n", 1, _MAX_CHOICES) or 1,
            dialect=self.name,
            raw=fields,
        )

    def encoder(self, chat: ChatRequest, request_id: str, created: int, alias: str) -> OpenAIEncoder:
        return OpenAIEncoder(chat, f"chatcmpl-{request_id}", created, alias)

    def error(self, error: SluiceError, request_id: str) -> bytes:
        return orjson.dumps(_error(error, request_id))

    def error_frame(self, error: SluiceError, request_id: str) -> Frame:
        if error.native:
            return Frame(error.native[1].decode("utf-8", "replace"))
        return Frame(orjson.dumps(_error(error, request_id)).decode())

    def models(self, models: Sequence[Model]) -> bytes:
        return orjson.dumps({"object": "list", "data": [_model(model) for model in models]})

    def model(self, model: Model) -> bytes:
        return orjson.dumps(_model(model))

    def counted(self, tokens: int) -> bytes:
        return orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens})


class OpenAIEncoder:
    """Chunks or a completion for one client. Usage is held back until the end and shown only to who asked for it."""

    def __init__(self, chat: ChatRequest, answer_id: str, created: int, alias: str) -> None:
        self._chat = chat
        self._alias = alias
        self._seen = False
        self._head: dict[str, Any] = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": chat.model,
        }
        self._usage: Any = None
        self._last: Frame | None = None
        self._opened: set[int] = set()
        self._listed: Counter[tuple[int, str]] = Counter()

    def relay(self, frame: Frame) -> Iterable[Frame]:
        if frame.data.startswith("[DONE]"):
            return ()
        if self._seen and not self._alias and "\n" not in frame.data:
            # Most frames of most streams. Inside a JSON string every quote is escaped, so that the text can only be the field.
            bare = frame.data if self._chat.include_usage else frame.data.replace(_NO_USAGE, "")
            if '"usage"' not in bare.replace(_NO_USAGE, ""):
                return (frame if bare is frame.data else Frame(bare, frame.event),)
        return self._restated(read(frame.data), frame)

    def encode(self, event: Event) -> Iterable[Frame]:
        match event:
            case Start() | Usage():
                return ()
            case Finish(reason, choice):
                return (self._chunk(choice, {}, reason),)
            case _:
                return (self._chunk(event.choice, self._numbered(event.choice, _delta(event))),)

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        if not self._chat.include_usage:
            return (_DONE,)
        if self._last:
            return (self._last, _DONE)
        believed = self._usage and not (usage and usage.source == "counted")
        told = self._usage if believed or usage is None else _usage(usage)
        return (_frame({**self._head, "choices": [], "usage": told}), _DONE)

    def whole(self, frame: Frame) -> bytes:
        if not self._alias:
            return frame.data.encode()
        return written({**read(frame.data), "model": self._alias})

    def completion(self, completion: Completion) -> bytes:
        head = {**self._head, "object": "chat.completion"}
        choices = [_choice(index, choice) for index, choice in sorted(completion.choices.items())]
        return orjson.dumps({**head, "choices": choices, "usage": _usage(completion.usage)})

    def _restated(self, chunk: dict[str, Any], frame: Frame) -> Iterable[Frame]:
        """A chunk with the client's own name for a mapped model, and with its usage kept for the end.

        One that needs neither is the provider's own frame, the last one with the usage too.
        """
        self._seen = True
        if self._alias:
            chunk["model"] = self._alias
        self._head.update({name: chunk[name] for name in (*self._head, "system_fingerprint") if chunk.get(name)})
        if chunk.get("usage") and not chunk.get("choices"):
            self._usage, self._last = chunk["usage"], None if self._alias else frame
            return ()
        changed = bool(self._alias)
        if chunk.get("usage"):
            self._usage, chunk["usage"], changed = chunk["usage"], None, True
        if not self._chat.include_usage and "usage" in chunk:
            del chunk["usage"]
            changed = True
        return (_frame(chunk) if changed else frame,)

    def _numbered(self, choice: int, delta: dict[str, Any]) -> dict[str, Any]:
        """Objects in a list of a delta under their `index` in the whole of it: OpenAI's client gathers lists by that, or fails."""
        for name, told in delta.items():
            if isinstance(told, list) and any(isinstance(one, dict) and "index" not in one for one in told):
                first = self._listed[choice, name]
                self._listed[choice, name] += len(told)
                delta[name] = [
                    {"index": place, **one} if isinstance(one, dict) else one for place, one in enumerate(told, first)
                ]
        return delta

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> Frame:
        if index not in self._opened:
            self._opened.add(index)
            delta = {"role": "assistant", **delta}
        choice = {"index": index, "delta": delta, "logprobs": delta.pop("logprobs", None), "finish_reason": reason}
        usage = {"usage": None} if self._chat.include_usage else {}
        return _frame({**self._head, "choices": [choice], **usage})


DIALECT = OpenAIDialect()


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list of at least one message.", param="messages")
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, Mapping):
            raise BadRequest(f"`{where}` must be an object.", param=where)
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise BadRequest(f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}.", param=f"{where}.role")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise BadRequest(f"`{where}.content` must be a string or a list of parts.", param=f"{where}.content")
        _check_parts(content if isinstance(content, list) else [], f"{where}.content")
        objects(message, "tool_calls")


def _check_parts(parts: list[Any], where: str) -> None:
    for position, part in enumerate(parts):
        if not isinstance(part, Mapping):
            raise BadRequest(f"`{where}[{position}]` must be an object.", param=f"{where}[{position}]")
        if part.get("type") == "text" and not isinstance(part.get("text"), str):
            raise BadRequest(f"`{where}[{position}].text` must be a string.", param=f"{where}[{position}].text")


def _delta(event: Text | Reasoning | ToolCall | Raw) -> dict[str, Any]:
    match event:
        case Text(text):
            return {"content": text}
        case Reasoning():
            return _reasoning(event)
        case ToolCall(index, call_id, name, arguments):
            function = {"arguments": arguments, **({"name": name} if name else {})}
            identity = {"id": call_id, "type": "function"} if call_id else {}
            return {"tool_calls": [{"index": index, **identity, **_signed(event.signature), "function": function}]}
        case Raw(data):
            return dict(data)


def _reasoning(event: Reasoning) -> dict[str, Any]:
    """Reasoning as clients of compatible providers read it, and what must be sent back beside it."""
    told: dict[str, Any] = {"reasoning_content": event.text} if event.text else {}
    if event.data:
        told["reasoning_details"] = [{"type": "reasoning.encrypted", "data": event.data}]
    elif event.signature:
        told["reasoning_details"] = [{"type": "reasoning.text", "text": "", "signature": event.signature}]
    return told


def _signed(signature: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text or None, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if any(detail.get("signature") or detail.get("data") for detail in choice.details):
        message["reasoning_details"] = choice.details
    if choice.calls:
        message["tool_calls"] = [_whole_call(call) for call in choice.tool_calls]
    for extra in choice.extras:
        message = _grown(message, extra.data)
    logprobs = message.pop("logprobs", None)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason or "stop"}


def _grown(told: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What has come in pieces, put together as the SDKs do: lists and texts grow, everything else is the last one said."""
    grown = dict(told)
    for name, value in more.items():
        before: Any = grown.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            grown[name] = _grown(before, value)
        else:
            grows = isinstance(before, list) or (isinstance(before, str) and name in _GROWING)
            grown[name] = before + value if grows and type(before) is type(value) else value
    return grown


def _whole_call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", **_signed(call.signature), "function": function}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _error(error: SluiceError, request_id: str) -> dict[str, Any]:
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": {**told, "request_id": request_id}}


def _model(model: Model) -> dict[str, Any]:
    """OpenAI's own four fields, and beside them what is known, by the names other compatible gateways have given it."""
    known = {
        "name": model.name,
        "context_window": model.context,
        "max_output_tokens": model.max_output,
        "input_modalities": model.input,
        "output_modalities": model.output,
        "tools": model.tools,
        "structured_outputs": model.structured,
        "reasoning": model.reasoning,
    }
    told = {name: value for name, value in known.items() if value is False or value}
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner or "sluice", **told}


def _frame(value: Mapping[str, Any]) -> Frame:
    return Frame(written(value).decode())
