"""OpenAI's older completions: a text is gone on from. Wire: openai-python 3.52 `types/completion_create_params.py`.

Its own endpoint and no dialect of chat: prompts as tokens, `suffix`, `echo`, `best_of` and flat logprobs have no place in a
chat, and a base model has no roles. A provider that has only chat does not offer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sluice import tokens
from sluice.dialects._checks import boolean, integer, json_object, model_name
from sluice.endpoints._base import Answer, json_answer, objects, tokens_told
from sluice.errors import BadRequest, ProviderError
from sluice.types import CallRequest, Frame, Inbound, Usage

_MAX_CHOICES = 128
_DONE = Frame("[DONE]")


@dataclass(frozen=True, slots=True)
class Completions:
    kind: str = "completions"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/completions",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        if not isinstance(fields.get("prompt", ""), str | list):
            raise BadRequest("`prompt` must be a text, texts, tokens, or lists of tokens.", param="prompt")
        integer(fields, "max_tokens", 0)
        for name in ("n", "best_of"):
            integer(fields, name, 1, _MAX_CHOICES)
        stream, options = boolean(fields, "stream"), fields.get("stream_options")
        if options is not None and not (stream and isinstance(options, Mapping)):
            raise BadRequest(
                "`stream_options` must be an object, and only where `stream` is true.", param="stream_options"
            )
        if not stream:
            return CallRequest(self.kind, model_name(fields), fields)
        # The provider is always asked for usage; the client sees it if it asked.
        body = {**fields, "stream_options": {**(options or {}), "include_usage": True}}
        return CallRequest(self.kind, model_name(fields), body, answer="events", raw=fields)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        told = call.body.get("max_tokens")
        choices = max(call.body.get(name) or 1 for name in ("n", "best_of"))
        # `echo` gives the prompt back, as part of the output.
        output = (output_cap if told is None else told) * choices * len(_prompts(call))
        return Usage(_size(call, tokens.estimate), output)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return CompletionsAnswer(call, alias)


class CompletionsAnswer(Answer):
    """Usage comes at the end, for who asked. `[DONE]` is kept until the settlement."""

    def __init__(self, call: CallRequest, alias: str) -> None:
        super().__init__(call, alias)
        self._texts: list[str] = []
        self._finished = False
        self._head: dict[str, Any] = {}

    def whole(self, body: bytes) -> bytes:
        told = self._read(body)
        objects(told["choices"], "choices")
        return orjson.dumps({**told, "model": self.alias}) if self.alias else body

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return ()
        told = self._read(frame.data)
        changed = bool(self.alias) or "usage" in told
        if self.alias:
            told["model"] = self.alias
        told.pop("usage", None)
        self._head = {**told, "choices": []}
        return (_framed(told) if changed else frame,) if told["choices"] else ()

    def streamed(self, body: bytes) -> Iterable[Frame]:
        yield from self.frame(Frame(body.decode("utf-8", "replace")))
        self.done = True

    def finish(self) -> None:
        if self.call.answer == "events" and not (self.done or self._finished):
            raise ProviderError("network", "the stream ended before the answer did")

    def end(self, usage: Usage) -> Iterable[Frame]:
        options = self.call.raw.get("stream_options") or {}
        return (_framed({**self._head, "usage": _shown(usage)}), _DONE) if options.get("include_usage") else (_DONE,)

    def counted(self) -> Usage:
        def count(text: str) -> int:
            return tokens.count(text, self.call.model)

        return Usage(_size(self.call, count), count("".join(self._texts)), source="counted")

    def _read(self, body: bytes | str) -> dict[str, Any]:
        told = json_answer(body)
        choices = told.get("choices")
        if not isinstance(choices, list):
            raise ProviderError("server", "the provider's answer has no choices")
        self._texts += [text for one in choices if isinstance(text := one.get("text"), str)]
        self._finished = self._finished or any(one.get("finish_reason") for one in choices)
        if usage := tokens_told(told):
            self.usage = usage
        return told


def _framed(told: Mapping[str, Any]) -> Frame:
    return Frame(orjson.dumps(told).decode())


def _shown(usage: Usage) -> dict[str, int]:
    total = usage.input + usage.output
    return {"prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": total}


def _prompts(call: CallRequest) -> list[Any]:
    """The prompts, each a text or tokens."""
    prompt = call.body.get("prompt", "")
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return prompt if several else [prompt]


def _size(call: CallRequest, size: tokens.Size) -> int:
    return sum(size(prompt) if isinstance(prompt, str) else len(prompt) for prompt in _prompts(call))


ENDPOINT = Completions()
