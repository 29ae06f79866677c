"""What a client of OpenAI Responses is told: canonical events as items, one frame after the other, and as a whole response.

Wire: openai-python 3.52 `types/responses/*`, `lib/streaming/responses`; recorded streams of four providers.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from sluice.dialects._pictures import addresses, as_text, inline
from sluice.errors import SluiceError
from sluice.types import (
    ChatRequest,
    Choice,
    Completion,
    Event,
    Finish,
    Frame,
    KeptAnswer,
    Raw,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

ENCRYPTED = "reasoning.encrypted_content"
"""What a client includes to be shown what of the reasoning has to be sent back."""

_SEAL = "sluice1."

_Kind = Literal["message", "reasoning", "function_call", "custom_tool_call", "image_generation_call"]


@dataclass(frozen=True, slots=True)
class _Form:
    """What a kind of item is called on the wire: the prefix of its id, the stem of its events, the field of its text."""

    prefix: str
    stem: str
    name: str
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where in the item its text stands."""
    part: str = ""
    """The stem of the events of the part around its text, where there is one."""


_FORMS: Mapping[str, _Form] = {
    "message": _Form("msg", "response.output_text", "text", {"content_index": 0}, "response.content_part"),
    "reasoning": _Form(
        "rs", "response.reasoning_summary_text", "text", {"summary_index": 0}, "response.reasoning_summary_part"
    ),
    "function_call": _Form("fc", "response.function_call_arguments", "arguments"),
    "custom_tool_call": _Form("ctc", "response.custom_tool_call_input", "input"),
    "image_generation_call": _Form("ig", "response.image_generation_call", "result"),
}


@dataclass(slots=True)
class _Item:
    """One item of the output as far as it has come. `text` is what was said, thought, given to a tool, or a picture's base64.

    Of a picture, `name` is its format.
    """

    kind: _Kind
    id: str
    index: int
    call_id: str = ""
    name: str = ""
    signature: str = ""
    text: str = ""
    details: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    in_part: bool = False
    status: str = "in_progress"

    def told(self, *, sealed: bool = False) -> dict[str, Any]:
        """The item as the wire has it; `sealed` puts in what a provider must be sent back of its reasoning."""
        head = {"id": self.id, "type": self.kind, "status": self.status}
        match self.kind:
            case "message":
                return {**head, "role": "assistant", "content": [self.part()] if self.in_part else []}
            case "reasoning":
                encrypted = {"encrypted_content": _seal(self.details)} if sealed else {}
                return {**head, "summary": [self.part()] if self.in_part else [], **encrypted}
            case "image_generation_call":
                return {**head, "result": self.text or None, "output_format": self.name}
        signed = {"extra_content": {"google": {"thought_signature": self.signature}}} if self.signature else {}
        return {
            **head,
            "call_id": self.call_id,
            "name": self.name,
            _FORMS[self.kind].name: _joined(self.text),
            **signed,
        }

    def part(self, *, empty: bool = False) -> dict[str, Any]:
        text = "" if empty else _joined(self.text)
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": text}
        more: dict[str, Any] = {"annotations": [] if empty else self.annotations}
        return {"type": "output_text", "text": text, **more, "logprobs": [] if empty else self.logprobs}


class ResponsesEncoder:
    """Events or a response for one client, and what is to be kept of it.

    `skeleton` is the response before anything was said; `chat` is None where a kept answer is told again.
    """

    def __init__(self, skeleton: dict[str, Any], key: str, chat: ChatRequest | None = None) -> None:
        self._response = skeleton
        self._key = key
        self._chat = chat
        self._custom = {tool["name"] for tool in skeleton["tools"] if tool.get("type") == "custom"}
        self._sealed = chat is not None and ENCRYPTED in (chat.raw.get("include") or ())
        self._sequence = 0
        self._items: list[_Item] = []
        self._speaking: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._cuts: list[tuple[int, int]] = []
        self._reason = ""
        self._last: Frame | None = None

    def relay(self, frame: Frame) -> Iterable[Frame]:
        """No provider speaks this wire yet. Its last event waits for the settlement; a `[DONE]` some add is not of this wire."""
        if frame.data.startswith("[DONE]"):
            return ()
        if frame.event in ("response.completed", "response.incomplete", "response.failed"):
            self._last = frame
            return ()
        return (frame,)

    def whole(self, frame: Frame) -> bytes:
        return frame.data.encode()

    def encode(self, event: Event) -> Iterable[Frame]:
        yield from self._begin()
        match event:
            case Text(text, 0) if text:
                yield from self._say(self._speaker("message"), text)
            case Reasoning(choice=0):
                yield from self._think(event)
            case ToolCall(choice=0):
                yield from self._call(event)
            case Raw(data, 0):
                yield from self._add(data)
            case Finish(reason, 0):
                self._reason = reason
                yield from self._close_all()

    def end(self, usage: Usage | None) -> Iterable[Frame]:
        if self._last:
            yield self._last
            return
        yield from self._begin()
        yield from self._close_all()
        response = self._finished(usage)
        yield self._frame(f"response.{response['status']}", response=response)

    def completion(self, completion: Completion) -> bytes:
        if not self._items:
            for event in _events(completion.choices.get(0, Choice())):
                list(self.encode(event))
        return orjson.dumps(self._finished(completion.usage))

    # For the pipeline: an answer that broke, and an answer that is to be kept.

    def broken(self, error: SluiceError, usage: Usage | None) -> Iterable[Frame]:
        """Both ends a client may look for, in the order OpenAI was recorded to send them."""
        yield from self._begin()
        yield self._frame("error", error=error_of(error))
        for item in self._items:
            item.status = "completed" if item.status == "completed" else "incomplete"
        told = {"status": "failed", "error": {"code": error.code, "message": error.message}}
        yield self._frame("response.failed", response={**self._finished(usage), **told, "incomplete_details": None})

    def record(self, usage: Usage) -> KeptAnswer | None:
        """What is to be kept of a whole answer; None where the client wants nothing kept, or there is no whole answer."""
        if self._chat is None or not self._response["store"] or not self._reason:
            return None
        body = {**self._finished(usage), "output": [item.told(sealed=True) for item in self._items]}
        asked = tuple(_named(item, f"{self._key}i{place}") for place, item in enumerate(self._chat.raw["input"]))
        return KeptAnswer(self._response["id"], body, asked, self._chat.said, tuple(self._cuts))

    def unkept(self) -> None:
        """It could not be kept: the answer says so."""
        self._response["store"] = False

    # One frame after the other.

    def _frame(self, kind: str, **fields: Any) -> Frame:
        told = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return Frame(_json(told), kind)

    def _begin(self) -> Iterator[Frame]:
        if not self._sequence:
            yield self._frame("response.created", response=self._response)
            yield self._frame("response.in_progress", response=self._response)

    def _open(self, item: _Item) -> Iterator[Frame]:
        """Puts a fresh item into the output; does nothing to one that is there."""
        if item.index < len(self._items):
            return
        if self._speaking:
            yield from self._close(self._speaking)
        self._speaking = item if item.kind in ("message", "reasoning") else None
        self._items.append(item)
        self._cuts.append((item.index, 0))
        yield self._frame("response.output_item.added", output_index=item.index, item=item.told())

    def _say(self, item: _Item, text: str) -> Iterator[Frame]:
        yield from self._open(item)
        yield from self._open_part(item)
        if text:
            item.text += text
            self._cuts.append((item.index, len(text)))
            logprobs: dict[str, Any] = {"logprobs": []} if item.kind == "message" else {}
            yield self._frame(f"{_FORMS[item.kind].stem}.delta", **self._where(item), delta=text, **logprobs)

    def _open_part(self, item: _Item) -> Iterator[Frame]:
        form = _FORMS[item.kind]
        if form.part and not item.in_part:
            item.in_part = True
            yield self._frame(f"{form.part}.added", **self._where(item), part=item.part(empty=True))

    def _close(self, item: _Item) -> Iterator[Frame]:
        form = _FORMS[item.kind]
        if item.in_part or not form.part:
            more: dict[str, Any] = {"logprobs": item.logprobs} if item.kind == "message" else {}
            more |= {"name": item.name} if item.kind == "function_call" else {}
            yield self._frame(f"{form.stem}.done", **self._where(item), **{form.name: _joined(item.text)}, **more)
        if item.in_part:
            yield self._frame(f"{form.part}.done", **self._where(item), part=item.part())
        item.status = "incomplete" if _INCOMPLETE.get(self._reason) else "completed"
        yield self._frame("response.output_item.done", output_index=item.index, item=item.told(sealed=self._sealed))

    def _close_all(self) -> Iterator[Frame]:
        for item in self._items:
            if item.status == "in_progress":
                yield from self._close(item)
        self._speaking = None

    def _where(self, item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index, **_FORMS[item.kind].place}

    # What an event does to the items.

    def _speaker(self, kind: _Kind) -> _Item:
        """The item that is being said or thought, or a new one."""
        return self._speaking if self._speaking and self._speaking.kind == kind else self._fresh(kind)

    def _fresh(self, kind: _Kind) -> _Item:
        index = len(self._items)
        return _Item(kind, f"{_FORMS[kind].prefix}_{self._key}o{index}", index)

    def _think(self, event: Reasoning) -> Iterator[Frame]:
        item = self._speaker("reasoning")
        yield from self._say(item, event.text) if event.text else self._open(item)
        _remember(item.details, event)

    def _call(self, event: ToolCall) -> Iterator[Frame]:
        item = self._calls.get(event.index)
        if item is None:
            item = self._fresh("custom_tool_call" if event.name in self._custom else "function_call")
            item.call_id, item.name = event.id or f"call_{self._key}{item.index}", event.name
            self._calls[event.index] = item
        yield from self._open(item)
        item.name = item.name or event.name
        item.signature = item.signature or event.signature
        yield from self._say(item, event.arguments)

    def _add(self, data: Mapping[str, Any]) -> Iterator[Frame]:
        """What stands beside the words: a refusal, pictures, sources, probabilities. Sound has no place here."""
        for url in addresses(data):
            yield from self._picture(url)
        if isinstance(refusal := data.get("refusal"), str) and refusal:
            yield from self._say(self._speaker("message"), refusal)
        for annotation in data.get("annotations") or ():
            yield from self._annotate(_flat_annotation(annotation))
        if told := (data.get("logprobs") or {}).get("content"):
            item = self._speaker("message")
            yield from self._open(item)
            item.logprobs.extend(told)

    def _picture(self, url: str) -> Iterator[Frame]:
        """A picture as an item of its own; one that is only an address, which an item has no place for, in words."""
        kind, data = inline(url)
        if not data:
            yield from self._say(self._speaker("message"), as_text(url))
            return
        item = self._fresh("image_generation_call")
        item.name = kind.removeprefix("image/")
        yield from self._show(item, data)

    def _show(self, item: _Item, data: str) -> Iterator[Frame]:
        """A picture comes whole: its item ends as it begins."""
        yield from self._open(item)
        item.text, item.status = data, "completed"
        place = {"item_id": item.id, "output_index": item.index}
        yield self._frame(f"{_FORMS[item.kind].stem}.completed", **place)
        yield self._frame("response.output_item.done", output_index=item.index, item=item.told())

    def _annotate(self, annotation: Any) -> Iterator[Frame]:
        item = self._speaker("message")
        yield from self._say(item, "")
        self._cuts.append((item.index, 0))
        place = {"annotation_index": len(item.annotations), "annotation": annotation}
        item.annotations.append(annotation)
        yield self._frame("response.output_text.annotation.added", **self._where(item), **place)

    def _finished(self, usage: Usage | None) -> dict[str, Any]:
        why = _INCOMPLETE.get(self._reason)
        return {
            **self._response,
            "status": "incomplete" if why else "completed",
            "incomplete_details": {"reason": why} if why else None,
            "output": [item.told(sealed=self._sealed) for item in self._items],
            "usage": _usage(usage) if usage else None,
        }


_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and what is told of it."""


def _events(choice: Choice) -> Iterator[Event]:
    """A whole answer as the events it might have come in."""
    for detail in choice.details:
        yield Reasoning(detail.get("text", ""), detail.get("signature", ""), data=detail.get("data", ""))
    if choice.text:
        yield Text(choice.text)
    yield from choice.extras
    for index, call in enumerate(choice.tool_calls):
        yield ToolCall(index, call.id, call.name, call.arguments, signature=call.signature)
    yield Finish(choice.finish_reason or "stop")


def _remember(details: list[dict[str, Any]], event: Reasoning) -> None:
    """As a buffer does: a block is open until its signature comes, one shown encrypted is whole at once."""
    if event.data:
        details.append({"type": "reasoning.encrypted", "data": event.data})
        return
    if not details or details[-1].get("type") != "reasoning.text" or details[-1]["signature"]:
        details.append({"type": "reasoning.text", "text": "", "signature": ""})
    details[-1]["text"] += event.text
    details[-1]["signature"] += event.signature


# --- a kept answer, told again ---------------------------------------------------------------------------------------


class Replay(ResponsesEncoder):
    """Says again what the items of a response say, instead of what events bring."""

    def __init__(self, body: Mapping[str, Any], *, sealed: bool) -> None:
        nothing_yet: dict[str, Any] = {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        super().__init__({**body, **nothing_yet}, body["id"].removeprefix("resp_"))
        self._body = body
        self._sealed = sealed

    def frames(self, cuts: Iterable[tuple[int, int]]) -> Iterator[Frame]:
        """Every event, cut as it came."""
        yield from self._begin()
        for index, length in cuts:
            yield from self._piece(self._body["output"][index], index, length)
        why = self._body["incomplete_details"]
        self._reason = _REASONS[why["reason"]] if why else "stop"
        yield from self._close_all()
        response = {**self._finished(None), "usage": self._body["usage"]}
        yield self._frame(f"response.{response['status']}", response=response)

    def _piece(self, stored: Mapping[str, Any], index: int, length: int) -> Iterator[Frame]:
        if index == len(self._items):
            yield from self._again(stored)
            return
        item = self._items[index]
        if length:
            at = len(item.text)
            yield from self._say(item, _text_of(stored)[at : at + length])
        else:
            yield from self._annotate(stored["content"][0]["annotations"][len(item.annotations)])

    def _again(self, stored: Mapping[str, Any]) -> Iterator[Frame]:
        item = self._fresh(stored["type"])
        if item.kind == "image_generation_call":
            item.name = stored["output_format"]
            yield from self._show(item, stored["result"])
            return
        item.call_id, item.name = stored.get("call_id", ""), stored.get("name", "")
        yield from self._open(item)
        item.signature = str(_signature(stored))
        item.details = opened(stored.get("encrypted_content"))
        if item.kind == "message" and stored["content"]:
            item.logprobs = stored["content"][0]["logprobs"]


_REASONS = {told: reason for reason, told in _INCOMPLETE.items()}


def _text_of(stored: Mapping[str, Any]) -> str:
    parts = stored.get("content") or stored.get("summary")
    return str(parts[0]["text"] if parts else stored.get("arguments") or stored.get("input") or "")


def _signature(stored: Mapping[str, Any]) -> Any:
    return ((stored.get("extra_content") or {}).get("google") or {}).get("thought_signature", "")


# --- small shapes ----------------------------------------------------------------------------------------------------


def _json(told: Mapping[str, Any]) -> str:
    """Where orjson refuses, the standard library writes: half a surrogate pair, whose other half comes with the next piece."""
    try:
        return orjson.dumps(told).decode()
    except TypeError:
        return json.dumps(told)


def _joined(text: str) -> str:
    """The text with the halves of surrogate pairs put together, and those that stayed alone replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def skeleton(chat: ChatRequest, response_id: str, created: int) -> dict[str, Any]:
    """The response before anything was said: what was asked for, and what stands where nothing was."""
    asked = {name: chat.raw.get(name) for name in _ECHOED}
    chosen = {name: default if chat.raw.get(name) is None else chat.raw[name] for name, default in _DEFAULTS.items()}
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": chat.model,
        "output": [],
        "usage": None,
        **asked,
        **chosen,
        "reasoning": {"effort": None, "summary": None, **(chat.raw.get("reasoning") or {})},
        "text": {"format": {"type": "text"}, **(chat.raw.get("text") or {})},
    }


_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key"),
    *("safety_identifier", "user"),
)
_DEFAULTS: Mapping[str, Any] = {
    "metadata": {},
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def error_of(error: SluiceError) -> dict[str, Any]:
    return {"type": error.type, "code": error.code, "message": error.message, "param": error.param}


def _flat_annotation(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """A source of chat.completions, whose fields stand one level deeper there."""
    kind = str(annotation.get("type") or "")
    inner = annotation.get(kind)
    return {"type": kind, **inner} if isinstance(inner, Mapping) else dict(annotation)


def _seal(details: Sequence[Mapping[str, Any]]) -> str | None:
    """What a provider must be sent back of its reasoning, for a client that keeps its own conversation: opaque, not secret."""
    if not any(detail.get("signature") or detail.get("data") for detail in details):
        return None
    return _SEAL + b64encode(_joined(json.dumps(details, ensure_ascii=False)).encode()).decode()


def opened(sealed: Any) -> list[dict[str, Any]]:
    """What `_seal` closed; nothing where somebody else did."""
    if not isinstance(sealed, str) or not sealed.startswith(_SEAL):
        return []
    try:
        details = orjson.loads(b64decode(sealed.removeprefix(_SEAL)))
    except ValueError:
        return []
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _named(item: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """An item of the input with an id of its own, and in the state an item has that is there."""
    prefix = _FORMS[item["type"]].prefix if item["type"] in _FORMS else "fco"
    return {**item, "id": item.get("id") or f"{prefix}_{suffix}", "status": item.get("status") or "completed"}
