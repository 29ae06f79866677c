"""Text to sound. Wire: openai-python 3.52 `types/audio/speech_create_params.py`.

The sound is passed on as it comes. It cannot carry a count: what is counted then are the characters spoken. With `stream_format:
"sse"` it comes in events, and the last one says what it used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sluice import tokens
from sluice.dialects._checks import json_object, model_name
from sluice.endpoints._base import Answer, json_answer, tokens_told, with_units
from sluice.errors import BadRequest, ProviderError
from sluice.types import CallRequest, Frame, Inbound, Usage

_TOKENS_PER_CHARACTER = 6
"""About 21 tokens of sound a second and 15 characters a second, spoken at a quarter of the speed."""


@dataclass(frozen=True, slots=True)
class Speech:
    kind: str = "speech"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/audio/speech",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        if not isinstance(fields.get("input"), str) or not fields["input"]:
            raise BadRequest("`input` must be a text.", param="input")
        form = fields.get("stream_format") or "audio"
        if form not in ("audio", "sse"):
            raise BadRequest("`stream_format` must be audio or sse.", param="stream_format")
        return CallRequest(self.kind, model_name(fields), fields, answer="events" if form == "sse" else "bytes")

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        spoken = len(call.body["input"]) * _TOKENS_PER_CHARACTER if call.answer == "events" else 0
        return Usage(tokens.estimate(_read(call)), spoken, units={"character": len(call.body["input"])})

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return SpeechAnswer(call, alias)


class SpeechAnswer(Answer):
    def __init__(self, call: CallRequest, alias: str) -> None:
        super().__init__(call, alias)
        self._finished = call.answer == "bytes"

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return ()
        if '"speech.audio.done"' in frame.data:
            self._finished = True
            if told := tokens_told(json_answer(frame.data)):
                self.usage = self._with_characters(replace(told, audio_output=told.output))
        return (frame,)

    def finish(self) -> None:
        if not self._finished:
            raise ProviderError("network", "the stream ended before the sound did")

    def counted(self) -> Usage:
        return self._with_characters(Usage(tokens.count(_read(self.call), self.call.model), source="counted"))

    def _with_characters(self, usage: Usage) -> Usage:
        return with_units(usage, character=len(self.call.body["input"]))


def _read(call: CallRequest) -> str:
    return f"{call.body['input']}{call.body.get('instructions') or ''}"


ENDPOINT = Speech()
