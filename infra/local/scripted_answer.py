"""What the scripted upstream says: directives in, an OpenAI-shaped answer out. Pure; the sockets are in scripted_upstream.

A script is the first path segment of a channel's endpoint, directives separated by commas:

    http://127.0.0.1:9000/status=429,retry-after=2/v1      -> POST {endpoint}/chat/completions
    http://127.0.0.1:9000/v1                               -> no script: "ok"

Failures
    status=N        an HTTP error with OpenAI's body; with code=, type=, retry-after=SECONDS
    refuse          close before any byte of the response
    hang            never send the headers, until released or the client leaves
    slowheaders=S   S seconds before the headers
    cut=K           after K content chunks end the connection in the middle of the body (0: after the headers; JSON: half the body)
    cutframe=K      the same, counting every `data:` frame (role, finish, usage and [DONE] too)
    reset=K         like cut, with a TCP reset
    end=K           after K content chunks end the body cleanly: no finish reason, no usage, no [DONE]
    stall=K         after K content chunks send nothing, until released or the client leaves
    error=K         after K content chunks an error event, then a clean end
    nodone          everything but [DONE]
    empty           a 200 stream of nothing but [DONE] (JSON: an empty message)
    times=N         the failures above only for the first N calls of this very script, then a good answer
Wire
    split=N         N bytes at a time, each flushed
    crlf, cr        line ends; nospace: `data:{`; comments: a comment line before each event; bom; multiline: data over two lines
    pace=S          seconds between content chunks
Content
    text=T          the answer, URL-encoded; chunks=N: in N chunks (without text: N words); huge=BYTES: one chunk of that size
    tools           two parallel tool calls, their arguments in pieces
    prompt=N, completion=N, cached=N, reasoning=N   the usage to report; nousage: none at all
    floats          embeddings are lists of numbers, whatever was asked for
    nostream        calls that are no chat are answered whole, whatever was asked for
    searches=N      rerank tells its searches instead of tokens
    name=X          means nothing: tells two channels with the same script apart
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

Body = Mapping[str, Any]

_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "server_overloaded"),
}


@dataclass(frozen=True, slots=True)
class Script:
    """One parsed script; -1 and None mean "does not happen". Times are seconds, K counts content chunks."""

    status: int = 0
    code: str = ""
    type: str = ""
    retry_after: float = -1
    refuse: bool = False
    hang: bool = False
    slowheaders: float = 0
    cut: int = -1
    cutframe: int = -1
    reset: int = -1
    end: int = -1
    stall: int = -1
    error: int = -1
    nodone: bool = False
    empty: bool = False
    times: int = 0
    split: int = 0
    crlf: bool = False
    cr: bool = False
    nospace: bool = False
    comments: bool = False
    bom: bool = False
    multiline: bool = False
    pace: float = -1
    text: str = ""
    chunks: int = 0
    huge: int = 0
    tools: bool = False
    prompt: int = -1
    completion: int = -1
    cached: int = 0
    reasoning: int = 0
    nousage: bool = False
    floats: bool = False
    nostream: bool = False
    searches: int = -1
    name: str = ""

    @classmethod
    def parse(cls, segment: str) -> Script:
        """Raises ValueError naming the directive nobody knows: a typo must not pass for "ok"."""
        found: dict[str, Any] = {}
        for directive in filter(None, segment.split(",")):
            name, _, value = unquote(directive).partition("=")
            field = name.replace("-", "_")
            if name == "ok":
                continue
            if field not in cls.__annotations__:
                raise ValueError(f"the scripted upstream knows no directive {name!r}")
            found[field] = _READ[cls.__annotations__[field]](value)
        return cls(**found)

    def well(self) -> Script:
        """The same answer without its failures: what `times=N` turns into."""
        kept = {name: getattr(self, name) for name in _HARMLESS}
        return Script(**kept)

    @property
    def line_end(self) -> bytes:
        return b"\r\n" if self.crlf else b"\r" if self.cr else b"\n"

    def stops_at(self, chunks: int) -> bool:
        """Whether nothing of the answer proper follows after this many content chunks."""
        return chunks in (self.cut, self.reset, self.end, self.error)


_READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda value: value in ("", "1", "true"),
}
_HARMLESS = frozenset(Script.__annotations__) & {
    *("split", "crlf", "cr", "nospace", "comments", "bom", "multiline", "pace", "text", "chunks", "huge", "tools"),
    *("prompt", "completion", "cached", "reasoning", "nousage", "name", "floats", "nostream", "searches"),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One content chunk of one choice: a delta, as OpenAI sends it."""

    choice: int
    delta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer before it is put on the wire; `usage` is None under `nousage`."""

    id: str
    created: int
    model: str
    choices: int
    pieces: tuple[Piece, ...]
    finish: str
    usage: Mapping[str, Any] | None


def error_body(message: str, kind: str = "server_error", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def scripted_error(script: Script, authorization: str) -> dict[str, Any]:
    """OpenAI's error body for `status=N`. A 401 repeats the key it was given whole, as a careless provider would."""
    kind, code = _ERRORS.get(script.status, ("server_error", None))
    message = f"The scripted upstream answers {script.status}."
    if script.status == 401:
        message = f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}."
    return error_body(message, script.type or kind, script.code or code)


def count_tokens(text: str) -> int:
    """This provider's own count, simple on purpose: one token per whitespace-separated word."""
    return len(text.split())


def answer(body: Body, script: Script, id: str, created: int) -> Answer:
    """The answer to an OpenAI chat request. The prompt counts three tokens per message and one per word in it."""
    calls = _tool_calls(body, script)
    text, finish = ("", "tool_calls") if calls else _text(body, script)
    deltas = list(_tool_deltas(calls)) if calls else [{"content": part} for part in _parts(text, script)]
    choices = number_of(body, "n", 1, 128)
    pieces = tuple(Piece(choice, delta) for delta in deltas for choice in range(choices))
    spoken = text if not calls else " ".join(f"{name} {arguments}" for _, name, arguments in calls)
    model = str(body.get("model", "demo"))
    return Answer(id, created, model, choices, pieces, finish, _usage(body, script, spoken, choices))


def number_of(body: Body, field: str, default: int, most: int) -> int:
    """A body's number of something (a form's is a text), from 1 to `most`; `default` where there is none. Raises ValueError."""
    given = body.get(field)
    number = default if given is None else int(given)
    if not 1 <= number <= most:
        raise ValueError(f"{field!r} must be from 1 to {most}")
    return number


def wants_usage(body: Body) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _text(body: Body, script: Script) -> tuple[str, str]:
    if script.empty:
        return "", "stop"
    if script.huge:
        return "x" * script.huge, "stop"
    text = script.text or (" ".join(f"word{n}" for n in range(script.chunks)) if script.chunks else _demo_text(body))
    field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    limit = number_of(body, field, 10**9, 10**9)
    if count_tokens(text) > limit:
        return "".join(_words(text)[:limit]).rstrip(), "length"
    return text, "stop"


def _demo_text(body: Body) -> str:
    last = body["messages"][-1] if body.get("messages") else {}
    said = " ".join(_message_text(last).split())[:200]
    if last.get("role") == "tool":
        return f"The tool answered: {said}"
    return (
        f'You said: "{said}". I am the demo provider of this gateway: I run on your own machine, need no key, and speak at '
        "a human pace. Every word you read went through identity, a hold on your wallet, a channel, and will be settled to "
        "the last nano-dollar when I stop. Add a real channel, and the same call reaches a real model."
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|^\s+", text)


def _parts(text: str, script: Script) -> list[str]:
    if script.huge:
        return [text]
    if not (script.text and script.chunks):
        return _words(text)
    edges = [round(len(text) * n / script.chunks) for n in range(script.chunks + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


def _message_text(message: Body) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] if part["type"] == "text" else "" for part in content)


def _tool_calls(body: Body, script: Script) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call: two under `tools`, one where the user asks for the weather and there is a tool."""
    offered = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    if script.tools:
        names = [one["name"] for one in offered[:2]] + ["get_weather", "get_time"][min(len(offered), 2) :]
        return [(f"call_{n}", name, json.dumps({"city": "Zürich", "number": n})) for n, name in enumerate(names)]
    last = body["messages"][-1] if body.get("messages") else {}
    asked = last.get("role") == "user" and "weather" in _message_text(last).lower()
    if not (asked and offered) or body.get("tool_choice") == "none":
        return []
    return [("call_0", offered[0]["name"], json.dumps(_arguments(offered[0].get("parameters") or {})))]


def _arguments(schema: Body) -> dict[str, Any]:
    samples = {"string": "Berlin", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return {
        name: (one.get("enum") or [samples.get(one.get("type"))])[0]
        for name, one in (schema.get("properties") or {}).items()
    }


def _tool_deltas(calls: list[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    """As OpenAI streams them: id and name with empty arguments first, then the arguments in pieces, the calls interleaved."""
    for index, (id, name, _) in enumerate(calls):
        call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [call]}
    size = 7
    longest = max(len(arguments) for _, _, arguments in calls)
    for start in range(0, longest, size):
        for index, (_, _, arguments) in enumerate(calls):
            if part := arguments[start : start + size]:
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _usage(body: Body, script: Script, spoken: str, choices: int) -> dict[str, Any] | None:
    if script.nousage:
        return None
    messages = body.get("messages") or ()
    prompt = script.prompt if script.prompt >= 0 else sum(3 + count_tokens(_message_text(one)) for one in messages)
    completion = script.completion if script.completion >= 0 else count_tokens(spoken) * choices
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": script.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": script.reasoning, "audio_tokens": 0},
    }


def completion(said: Answer) -> dict[str, Any]:
    """The answer as one JSON body."""
    whole = {
        "id": said.id,
        "object": "chat.completion",
        "created": said.created,
        "model": said.model,
        "choices": [_choice(said, index) for index in range(said.choices)],
        "system_fingerprint": "fp_scripted",
    }
    return whole if said.usage is None else {**whole, "usage": said.usage}


def _choice(said: Answer, index: int) -> dict[str, Any]:
    deltas = [piece.delta for piece in said.pieces if piece.choice == index]
    text = "".join(delta.get("content", "") for delta in deltas)
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                function = dict(part["function"])
                calls[part["index"]] = {"id": part["id"], "type": "function", "function": function}
            else:
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else text, "refusal": None}
    if calls:
        message["tool_calls"] = list(calls.values())
    return {"index": index, "message": message, "logprobs": None, "finish_reason": said.finish}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One frame of the stream. `content` numbers the content chunks from 1 and is 0 on every other frame."""

    data: Mapping[str, Any] | str
    content: int = 0


def stream(said: Answer, script: Script, wants_usage: bool) -> Iterator[Chunk]:
    """The answer as OpenAI's stream: role, content, finish, usage where asked for, [DONE]."""
    head = {
        "id": said.id,
        "object": "chat.completion.chunk",
        "created": said.created,
        "model": said.model,
        "system_fingerprint": "fp_scripted",
    }
    usage: dict[str, Any] = {"usage": None} if wants_usage and said.usage is not None else {}
    if not script.empty:
        role = {"role": "assistant", "content": "", "refusal": None}
        for index in range(said.choices):
            yield Chunk({**head, "choices": [_delta(index, role)], **usage})
        for number, piece in enumerate(said.pieces, 1):
            yield Chunk({**head, "choices": [_delta(piece.choice, piece.delta)], **usage}, content=number)
        for index in range(said.choices):
            yield Chunk({**head, "choices": [_delta(index, {}, said.finish)], **usage})
        if usage:
            yield Chunk({**head, "choices": [], "usage": said.usage})
    if not script.nodone:
        yield Chunk("[DONE]")


def _delta(index: int, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def wire(payload: bytes, script: Script) -> bytes:
    """One event in the form the script asks for."""
    end, colon = script.line_end, b"data:" if script.nospace else b"data: "
    lines: Iterable[bytes] = (payload,)
    if script.multiline:
        lines = payload.replace(b',"object"', b',\n"object"', 1).split(b"\n")
    comment = b": a comment" + end if script.comments else b""
    return comment + b"".join(colon + line + end for line in lines) + end


def with_pace(script: Script, pace: float) -> Script:
    """The script with the server's own pace where it names none."""
    return script if script.pace >= 0 else dataclasses.replace(script, pace=pace)
