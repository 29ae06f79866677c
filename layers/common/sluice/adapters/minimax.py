"""MiniMax. Wire: facts/providers.md section 23; recorded payloads.

Errors come with HTTP 200 in `base_resp`. Reasoning is asked for apart from the text, stands between `<think>` tags where a model
puts it there all the same, and goes back with its message. A stream may end with its whole message said again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sluice.adapters._openai import OpenAIAdapter, OpenAICompatible, at, mappings, number
from sluice.types import ChatRequest, Event, Finish, Frame, Reasoning, Text, ToolCall

_OPEN, _CLOSE = "<think>", "</think>"


class MiniMaxAdapter(OpenAIAdapter):
    def __init__(self, row: OpenAICompatible, now: float) -> None:
        super().__init__(row, now)
        self._texts: dict[int, _Tags] = {}
        self._thoughts_told: dict[int, _Tags] = {}

    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        body, dropped = super().body(chat, model)
        for message in body.get("messages") or ():
            if isinstance(thought := message.get("reasoning_details"), str):
                message["reasoning_details"] = [_detail(thought)]
        return body, dropped

    def read(self, data: str) -> Mapping[str, Any]:
        chunk = super().read(data)
        if code := number(at(chunk, "base_resp.status_code")):
            raise self.told({"code": str(code), "message": at(chunk, "base_resp.status_msg")}, 0)
        changed: dict[str, Any] = {}
        if self._started and chunk.get("object") == "chat.completion":
            changed["message"] = None
        if chunk.get("output_sensitive") or chunk.get("input_sensitive"):
            changed["finish_reason"] = "sensitive"
        return {**chunk, "choices": [{**choice, **changed} for choice in mappings(chunk.get("choices"))]}

    def events(self, frame: Frame) -> Iterable[Event]:
        for event in super().events(frame):
            yield from self._untagged(event)

    def ending(self) -> Iterable[Event]:
        for event in super().ending():
            yield from self._untagged(event)

    def _untagged(self, event: Event) -> Iterator[Event]:
        match event:
            case Text(text, choice):
                for thinks, piece in self._texts.setdefault(choice, _Tags("opening")).split(text):
                    yield Reasoning(piece, choice=choice) if thinks else Text(piece, choice)
            case Reasoning(text, choice=choice):
                for _, piece in self._thoughts_told.setdefault(choice, _Tags("thinking")).split(text):
                    yield Reasoning(piece, choice=choice)
            case Finish(choice=choice) | ToolCall(choice=choice):
                if (tags := self._texts.get(choice)) and (rest := tags.rest()):
                    yield Reasoning(rest, choice=choice) if tags.state == "thinking" else Text(rest, choice)
                yield event
            case _:
                yield event


class _Tags:
    """Text that may open with `<think>…</think>`, in any cut. Later tags are the answer's own words."""

    def __init__(self, state: str) -> None:
        self.state = state
        self._held = ""

    def split(self, text: str) -> Iterator[tuple[bool, str]]:
        """What is certain so far: whether it is thought, and the text."""
        self._held += text
        if self.state == "opening":
            self._open()
        if self.state == "thinking":
            thought = self._thought()
            if thought:
                yield True, thought
        if self.state == "between":
            self._held = self._held.lstrip()
            self.state = "answering" if self._held else "between"
        if self.state == "answering" and self._held:
            yield False, self.rest()

    def rest(self) -> str:
        """What was held back for a tag that did not come."""
        rest, self._held = self._held, ""
        return rest

    def _open(self) -> None:
        head = self._held.lstrip()
        if head.startswith(_OPEN):
            self._held, self.state = head[len(_OPEN) :], "thinking"
        elif not _OPEN.startswith(head):
            self.state = "answering"

    def _thought(self) -> str:
        thought, closed, rest = self._held.partition(_CLOSE)
        if closed:
            self._held, self.state = rest, "between"
            return thought
        kept = next((size for size in range(len(_CLOSE), 0, -1) if thought.endswith(_CLOSE[:size])), 0)
        self._held = thought[len(thought) - kept :]
        return thought[: len(thought) - kept]


def _detail(thought: str) -> dict[str, Any]:
    return {
        "type": "reasoning.text",
        "id": "reasoning-text-1",
        "format": "MiniMax-response-v1",
        "index": 0,
        "text": thought,
    }


ADAPTER = OpenAICompatible(
    name="minimax",
    base_url="https://api.minimax.io/v1",
    rename={"max_tokens": "max_completion_tokens"},
    drop=frozenset(
        {
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "seed",
            "service_tier",
            "verbosity",
            "presence_penalty",
            "frequency_penalty",
            "parallel_tool_calls",
        }
    ),
    most={"n": 1},
    clamp={"temperature": (0.01, 1.0)},
    extra={"reasoning_split": True},
    efforts={
        "none": {"thinking": {"type": "disabled"}},
        **{
            effort: {"thinking": {"type": "adaptive"}}
            for effort in ("minimal", "low", "medium", "high", "xhigh", "max")
        },
    },
    replay="always",
    replay_as="reasoning_details",
    finish={"sensitive": "content_filter"},
    kinds={
        **dict.fromkeys(("1000", "1013", "1024", "1033"), "server"),
        "1001": "timeout",
        **dict.fromkeys(("1002", "1039", "1041"), "rate_limit"),
        **dict.fromkeys(("1004", "2049"), "auth"),
        **dict.fromkeys(("1008", "2056"), "quota"),
        **dict.fromkeys(("1026", "1027"), "content_filter"),
        "2013": "invalid_request",
    },
    speaks=MiniMaxAdapter,
)
