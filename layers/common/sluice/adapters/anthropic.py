"""Anthropic's Messages API.

Wire facts: anthropic-python 2.11 `types/`, the API's versions 2023-06-01 and 2026-10-21, recorded streams. What a request loses
on the way here, and what is refused, is written in docs/crossings.md; a test holds that page to this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import orjson

from sluice.adapters import _native as native
from sluice.adapters._attempt import BY_STATUS, Attempt, loads, named, parse, shaped
from sluice.adapters._base import Adapter
from sluice.adapters._halves import written
from sluice.adapters._outgoing import IRREPLACEABLE
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

_BASE_URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"
"""What a translated request is written in: the newer version refuses sampling parameters of any model."""
_DEFAULT_CAP = 8192
"""`max_tokens` where nobody named a cap: every model since Claude 3.5 takes it."""

_BY_CODE: Mapping[str, ErrorKind] = {
    "enforced_spend_limit_reached": "quota",
    "contract_spend_limit_reached": "quota",
    "ramp_limit_exceeded": "rate_limit",
}
_BY_TYPE: Mapping[str, ErrorKind] = {
    "authentication_error": "auth",
    "billing_error": "quota",
    "permission_error": "permission",
    "not_found_error": "model_not_found",
    "rate_limit_error": "rate_limit",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
    "api_error": "server",
}
_BY_STATUS: Mapping[int, ErrorKind] = {**BY_STATUS, 409: "server"}
# An `invalid_request_error` has no code: its words are all there is.
_BY_BEGINNING: Mapping[str, ErrorKind] = {
    "your credit balance is too low": "quota",
    "you have reached your specified": "quota",
    "this organization has been disabled": "auth",
}
"""Sentences about the channel. Only at the beginning: further on a sentence may quote the client, who marks no channel."""
_BY_WORDS: Mapping[str, ErrorKind] = {
    "prompt is too long": "context_length",
    "exceed context limit": "context_length",
    "content filtering policy": "content_filter",
}
_FINISHES: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Anthropic:
    name: str = "anthropic"
    wire: str = "anthropic"

    def adapter(self, now: float) -> Adapter:
        return AnthropicAdapter()


ADAPTER = Anthropic()


class AnthropicAdapter(Attempt):
    """One attempt. An Anthropic client's own body, version and betas go on as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()
        self._stopped = False

    def request(self, chat: ChatRequest, channel: Channel) -> UpstreamRequest:
        model = channel.upstream_model(chat.model)
        own = chat.dialect == ADAPTER.wire
        translation = _Translation(chat, model)
        with shaped():
            body = {**chat.raw, "model": model} if own else translation.body()
        headers = {
            "anthropic-version": _VERSION,
            **(chat.headers if own else {}),
            "content-type": "application/json",
            "accept": "text/event-stream" if chat.stream else "application/json",
        }
        if channel.secret:
            headers["x-api-key"] = channel.secret.reveal()
        dropped = tuple(translation.dropped)
        return UpstreamRequest(_url(channel), headers, orjson.dumps(body), proxy=channel.proxy, dropped=dropped)

    def list_models(self, channel: Channel) -> UpstreamRequest:
        url = _url(channel).removesuffix("/messages") + "/models?limit=1000"
        headers = {"anthropic-version": _VERSION, "accept": "application/json", "x-api-key": channel.secret.reveal()}
        return UpstreamRequest(url, headers, b"", "GET", channel.proxy)

    def models_of(self, data: str) -> list[str]:
        return named(parse(data).get("data"), "id")

    def events(self, frame: Frame) -> Iterable[Event]:
        told = parse(frame.data)
        match told.get("type"):
            case "content_block_delta":
                yield from self._delta(int(told.get("index") or 0), told.get("delta") or {})
            case "content_block_start":
                yield from self._block(int(told.get("index") or 0), told.get("content_block") or {})
            case "content_block_stop":
                yield from self._block_end(int(told.get("index") or 0))
            case "message_start":
                yield from self._start(told.get("message") or {})
            case "message_delta":
                yield from self._stop(told.get("delta") or {}, told.get("usage") or {})
            case "message_stop":
                self.done = True
            case "message":
                yield from self._whole(told)
            case "error":
                error = _told(told.get("error"), 0)
                error.body = frame.data.encode()
                raise error

    @property
    def complete(self) -> bool:
        return self._stopped

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return _told(loads(body).get("error"), status)

    def _whole(self, message: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._start(message)
        for index, block in enumerate(message.get("content") or ()):
            yield from self._block(index, block)
            yield from self._block_end(index)
        yield from self._stop(message, message.get("usage") or {})
        self.done = True

    def _start(self, message: Mapping[str, Any]) -> Iterator[Event]:
        """The input is counted by now; what is said of the output only holds its place."""
        usage = message.get("usage") or {}
        self._count({name: value for name, value in usage.items() if not name.startswith("output_tokens")})
        yield Start(str(message.get("id") or ""), str(message.get("model") or ""))
        if (told := _usage(self._usage)).input:
            yield told

    def _block(self, index: int, block: Mapping[str, Any]) -> Iterator[Event]:
        match block.get("type"):
            case "text":
                if text := block.get("text"):
                    yield Text(str(text))
            case "thinking":
                if block.get("thinking") or block.get("signature"):
                    yield Reasoning(str(block.get("thinking") or ""), str(block.get("signature") or ""))
            case "redacted_thinking":
                yield Reasoning("", data=str(block.get("data") or ""))
            case "tool_use":
                call = self._calls[index] = len(self._calls)
                self._without_arguments.add(index)
                yield ToolCall(call, str(block.get("id") or ""), str(block.get("name") or ""))
                if given := block.get("input"):
                    yield from self._arguments(index, written(given))
            case _:
                # A server tool's block, or one of tomorrow: the client of this very format sees it, no other could.
                yield Raw({})

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[Event]:
        match delta.get("type"):
            case "text_delta":
                yield Text(str(delta.get("text") or ""))
            case "thinking_delta":
                yield Reasoning(str(delta.get("thinking") or ""))
            case "signature_delta":
                yield Reasoning("", str(delta.get("signature") or ""))
            case "input_json_delta" if index in self._calls:
                yield from self._arguments(index, str(delta.get("partial_json") or ""))

    def _arguments(self, index: int, piece: str) -> Iterator[Event]:
        if piece:
            self._without_arguments.discard(index)
            yield ToolCall(self._calls[index], arguments=piece)

    def _block_end(self, index: int) -> Iterator[Event]:
        """A tool without arguments has sent no JSON at all: canonical arguments are an object's text, always."""
        if index in self._without_arguments:
            yield from self._arguments(index, "{}")

    def _stop(self, told: Mapping[str, Any], usage: Mapping[str, Any]) -> Iterator[Event]:
        self._count(usage)
        reason = told.get("stop_reason")
        if not reason:
            return
        self._stopped = True
        if explanation := (told.get("stop_details") or {}).get("explanation"):
            yield Raw({"refusal": explanation})
        yield Finish(_FINISHES.get(reason, "stop"))
        yield _usage(self._usage)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Later counts are cumulative and override earlier ones, the input's too."""
        self._usage.update({name: value for name, value in usage.items() if value is not None})


# --- canonical request -> Messages -----------------------------------------------------------------------------------

_CARRIED = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "stop"),
        *("tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "top_k", "response_format"),
        *("reasoning_effort", "thinking", "modalities"),
    }
)
_REFUSED = IRREPLACEABLE | {"functions", "function_call", "audio", "web_search_options"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768, "max": 32768}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_LEAST_BUDGET = 1024
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_VERSIONED = re.compile(r"claude-(?:[a-z]+-)*?(\d+)(?:[-.](\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a model takes. `adaptive`: it thinks by effort, an older one by a budget of tokens."""

    sampling: bool
    temperature_with_top_p: bool
    adaptive: bool
    thinking_ends: bool
    xhigh: bool
    structured: bool


def _rules(model: str) -> _Rules:
    """By the version in the model's name. A Claude without one is a new one; another maker's model is an old one."""
    found = _VERSIONED.search(model)
    version = (99, 0) if "claude" in model else (0, 0)
    if found:
        version = (int(found[1]), int(found[2] or 0))
    return _Rules(
        sampling=version < (4, 7),
        temperature_with_top_p=version < (4, 1),
        adaptive=version >= (4, 6),
        thinking_ends="fable" not in model,
        xhigh=version >= (4, 7),
        structured=version >= (4, 5),
    )


class _Translation:
    """A canonical request on its way to a Messages body. `dropped` names what found no place."""

    def __init__(self, chat: ChatRequest, model: str) -> None:
        self._chat = chat
        self._model = model
        self._fields = {name: value for name, value in chat.body.items() if value is not None}
        self._rules = _rules(model)
        self._cap = chat.output_cap or chat.max_tokens or _DEFAULT_CAP
        self.dropped: list[str] = []

    def body(self) -> dict[str, Any]:
        """Raises ProviderError("unsupported") naming the field that cannot be said here."""
        lost = native.dropped(self._fields, _CARRIED, _REFUSED)
        self._refuse()
        system, turns = _conversation(self._fields["messages"])
        tools = self._tools()
        thinking = self._thinking(turns, forced=tools.get("tool_choice", {}).get("type") in ("any", "tool"))
        config = {**thinking.pop("output_config", {}), **self._format()}
        body = {"model": self._model, "max_tokens": self._cap, "messages": turns}
        body |= {"system": system} if system else {}
        body |= {"stream": True} if self._chat.stream else {}
        body |= tools | self._stop() | thinking | self._sampling(thinks=_thinks(thinking))
        body |= {"output_config": config} if config else {}
        self.dropped += sorted(lost)
        return body

    def _refuse(self) -> None:
        if self._chat.n > 1:
            raise native.unsupported("n")
        if set(self._fields.get("modalities") or ()) - {"text"}:
            raise native.unsupported("modalities")

    def _tools(self) -> dict[str, Any]:
        tools = [self._tool(tool, f"tools[{at}]") for at, tool in enumerate(self._fields.get("tools") or ())]
        if not tools:
            return {}
        choice = _tool_choice(self._fields.get("tool_choice"))
        if self._fields.get("parallel_tool_calls") is False and choice.get("type") != "none":
            choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
        return {"tools": tools, **({"tool_choice": choice} if choice else {})}

    def _tool(self, tool: Any, where: str) -> dict[str, Any]:
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise native.unsupported(f"{where}.type")
        function = tool.get("function") or {}
        schema = function.get("parameters") or {"properties": {}}
        made = {"name": function.get("name"), "input_schema": {"type": "object", **schema}, **_marked(tool)}
        if function.get("description"):
            made["description"] = function["description"]
        if function.get("strict"):
            if self._rules.structured:
                made["strict"] = True
            else:
                self._drop("tools.strict")
        return made

    def _stop(self) -> dict[str, Any]:
        stops = native.stops(self._fields)
        spoken = [stop for stop in stops if stop.strip()]
        if len(spoken) < len(stops):
            self._drop("stop")
        return {"stop_sequences": spoken} if spoken else {}

    def _thinking(self, turns: Sequence[Mapping[str, Any]], *, forced: bool) -> dict[str, Any]:
        """How the model is to think: by effort or by a budget, as its generation has it."""
        effort = self._fields.get("reasoning_effort")
        if isinstance(own := self._fields.get("thinking"), Mapping):
            made: dict[str, Any] = {"thinking": own}
        elif effort is None:
            return {}
        elif effort == "none":
            return self._unthinking()
        elif effort not in _EFFORTS:
            raise native.unsupported("reasoning_effort")
        else:
            made = self._by_effort(effort) if self._rules.adaptive else self._by_budget(effort)
        if _thinks(made) and (forced or (not self._rules.adaptive and _began_without_thought(turns))):
            self._drop("reasoning_effort" if effort else "thinking")
            return {}
        return made

    def _unthinking(self) -> dict[str, Any]:
        if not self._rules.adaptive:
            return {}
        if self._rules.thinking_ends:
            return {"thinking": {"type": "disabled"}}
        self._drop("reasoning_effort")
        return {"output_config": {"effort": "low"}}

    def _by_effort(self, effort: str) -> dict[str, Any]:
        level = "high" if effort == "xhigh" and not self._rules.xhigh else _EFFORTS[effort]
        return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": level}}

    def _by_budget(self, effort: str) -> dict[str, Any]:
        """At most half of the cap is thought away, so that an answer is left."""
        budget = min(_BUDGETS[effort], max(_LEAST_BUDGET, self._cap // 2))
        if budget >= self._cap:
            self._drop("reasoning_effort")
            return {}
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}

    def _sampling(self, *, thinks: bool) -> dict[str, Any]:
        names = ("temperature", "top_p", "top_k")
        given: dict[str, Any] = {name: self._fields[name] for name in names if name in self._fields}
        taken = {**given} if self._rules.sampling and not thinks else {}
        if not self._rules.temperature_with_top_p and "temperature" in taken:
            taken.pop("top_p", None)
        for name in given.keys() - taken.keys():
            self._drop(name)
        if "temperature" in taken:
            taken["temperature"] = min(taken["temperature"], 1)
        return taken

    def _format(self) -> dict[str, Any]:
        asked = self._fields.get("response_format") or {}
        if asked.get("type", "text") == "text":
            return {}
        if asked["type"] != "json_schema" or not self._rules.structured:
            raise native.unsupported("response_format", "Ask for a `json_schema` of a model of Claude 4.5 or newer.")
        return {"format": {"type": "json_schema", "schema": _closed((asked.get("json_schema") or {}).get("schema"))}}

    def _drop(self, name: str) -> None:
        self.dropped.append(name)


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The opening instructions, and turns of alternating roles. Later instructions are the user's: only new models know them."""
    system: list[Any] = []
    turns: list[dict[str, Any]] = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if message["role"] in ("system", "developer") and not turns:
            system += _parts(message.get("content"), f"{where}.content")
        elif blocks := _blocks(message, where):
            role = "assistant" if message["role"] == "assistant" else "user"
            if not turns or turns[-1]["role"] != role:
                turns.append({"role": role, "content": []})
            turns[-1]["content"] += blocks
    for turn in turns:
        turn["content"].sort(key=lambda block: turn["role"] == "user" and block["type"] != "tool_result")
    if not turns:
        return [], [{"role": "user", "content": system}]
    _trim(turns[-1])
    return system, turns


def _blocks(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    content = message.get("content")
    match message["role"]:
        case "assistant":
            calls = (
                _tool_use(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(_list(message, "tool_calls"))
            )
            if message.get("function_call"):
                raise native.unsupported(f"{where}.function_call")
            return [*_thoughts(message), *_parts(content, f"{where}.content"), *calls]
        case "tool":
            result = content if isinstance(content, str) else _parts(content, f"{where}.content")
            return [{"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id")), "content": result}]
        case "function":
            raise native.unsupported(f"{where}.role")
    return _parts(content, f"{where}.content")


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Content as blocks. Blank texts go: Anthropic refuses them."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    made = (_part(part, f"{where}[{at}]") for at, part in enumerate(content or ()))
    return [block for block in made if block["type"] != "text" or block["text"].strip()]


def _part(part: Any, where: str) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    match part.get("type"):
        case "text":
            return {"type": "text", "text": str(part.get("text") or ""), **_marked(part)}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal") or "")}
        case "image_url":
            image = part.get("image_url") or {}
            source = _source(image if isinstance(image, str) else str(image.get("url") or ""), f"{where}.image_url")
            return {"type": "image", "source": source, **_marked(part)}
        case "file" if isinstance(data := (part.get("file") or {}).get("file_data"), str):
            title = {"title": part["file"]["filename"]} if part["file"].get("filename") else {}
            return {"type": "document", "source": _source(data, f"{where}.file"), **title, **_marked(part)}
    raise native.unsupported(where)


def _source(url: str, where: str) -> dict[str, Any]:
    """A data URL inline; any other is for Anthropic to fetch, never for us."""
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, comma, data = url.removeprefix("data:").partition(",")
    if not comma or not kind.endswith(";base64"):
        raise native.unsupported(where, "A data URL has to be base64.")
    media_type = kind.partition(";")[0].replace("image/jpg", "image/jpeg")
    return {"type": "base64", "media_type": media_type, "data": data}


def _thoughts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The reasoning that was signed, as it came: without it a tool loop is refused, and unsigned it is refused as well.

    A client that gathered a stream has the text in `reasoning_content` and the signature alone in the details.
    """
    spoken = message.get("reasoning_content") or ""
    for detail in _list(message, "reasoning_details"):
        if not str(detail.get("format") or "anthropic").startswith("anthropic"):
            continue
        if detail.get("data"):
            yield {"type": "redacted_thinking", "data": detail["data"]}
        elif (
            detail.get("signature") and ":" not in detail["signature"]
        ):  # base64; another provider's is marked by a colon
            yield {"type": "thinking", "thinking": detail.get("text") or spoken, "signature": detail["signature"]}
            spoken = ""


def _tool_use(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise native.unsupported(f"{where}.type")
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise native.unsupported(f"{where}.function.arguments", "They have to be the JSON text of an object.")
    return {
        "type": "tool_use",
        "id": _id(call.get("id")),
        "name": function.get("name"),
        "input": given,
        **_marked(call),
    }


def _tool_choice(choice: Any) -> dict[str, Any]:
    if choice is None:
        return {}
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if isinstance(choice, Mapping) and isinstance(function := choice.get("function"), Mapping):
        return {"type": "tool", "name": function.get("name")}
    raise native.unsupported("tool_choice")


def _closed(schema: Any) -> Any:
    """The schema with every object closed, as Anthropic demands: narrower than asked where that was left open."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **closed} if schema.get("type") == "object" else closed


def _trim(turn: Mapping[str, Any]) -> None:
    """A last turn of the assistant's is a beginning to go on from, and may not end in a blank."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _began_without_thought(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool loop is under way that was begun without thinking: a model that thinks by budget refuses to join."""
    spoken = [turn for turn in turns if turn["role"] == "assistant"]
    under_way = turns[-1]["role"] == "user" and turns[-1]["content"][0]["type"] == "tool_result"
    return under_way and bool(spoken) and not spoken[-1]["content"][0]["type"].endswith("thinking")


def _thinks(made: Mapping[str, Any]) -> bool:
    return bool(made.get("thinking", {}).get("type", "disabled") != "disabled")


def _marked(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"cache_control": part["cache_control"]} if part.get("cache_control") else {}


def _list(message: Mapping[str, Any], name: str) -> Iterable[Any]:
    return message.get(name) or ()


def _id(told: Any) -> str:
    """Other makers' ids may have characters that Anthropic's pattern refuses."""
    return _NOT_IN_AN_ID.sub("_", str(told or ""))


def _url(channel: Channel) -> str:
    base = (channel.endpoint or _BASE_URL).rstrip("/")
    return (base if urlsplit(base).path else f"{base}/v1") + "/messages"


# --- small readings --------------------------------------------------------------------------------------------------


def _usage(told: Mapping[str, Any]) -> Usage:
    """Anthropic's input leaves the cache out; ours has it in."""
    cached, written = (int(told.get(f"cache_{name}_input_tokens") or 0) for name in ("read", "creation"))
    searches = int((told.get("server_tool_use") or {}).get("web_search_requests") or 0)
    return Usage(
        input=int(told.get("input_tokens") or 0) + cached + written,
        output=int(told.get("output_tokens") or 0),
        cached=cached,
        cache_write=written,
        reasoning=int((told.get("output_tokens_details") or {}).get("thinking_tokens") or 0),
        units={"search": searches} if searches else {},
    )


def _told(detail: Any, status: int) -> ProviderError:
    """An error object by its code, then its type, then the status; by its words only where there is nothing else."""
    fields: Mapping[str, Any] = detail if isinstance(detail, Mapping) else {}
    code = str((fields.get("details") or {}).get("error_code") or "")
    kind_name, message = str(fields.get("type") or ""), str(fields.get("message") or "")
    kind = _BY_CODE.get(code) or _BY_TYPE.get(kind_name) or _BY_STATUS.get(status)
    if kind is None and (kind_name == "invalid_request_error" or 400 <= status < 500):
        kind = _by_sentence(message.lower())
    return ProviderError(kind or "server", message, status=status, code=code or kind_name)


def _by_sentence(message: str) -> ErrorKind:
    begun = (kind for words, kind in _BY_BEGINNING.items() if message.startswith(words))
    held = (kind for words, kind in _BY_WORDS.items() if words in message)
    return next(chain(begun, held), "invalid_request")
