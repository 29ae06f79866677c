"""What transcribing and translating sound have in common. Wire: openai-python 3.52 `types/audio/*`.

How long the sound is decides what it costs, and only the provider knows for certain. Where it does not say: the last time in
subtitles, a WAV file's header, and else the file's size, taken as 128 kbit/s to charge by and as 16 kbit/s to hold by.
"""

from __future__ import annotations

import math
import re
import wave
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import orjson

from sluice import tokens
from sluice.dialects._checks import model_name
from sluice.endpoints import _forms
from sluice.endpoints._base import Answer, json_answer, tokens_told, with_units
from sluice.errors import ProviderError
from sluice.types import CallRequest, Frame, Inbound, Usage

_USUAL_BYTES_PER_SECOND = 16_000
_FEWEST_BYTES_PER_SECOND = 2_000
_INPUT_TOKENS_PER_SECOND = 16
_OUTPUT_TOKENS_PER_SECOND = 8
"""High: sound is about 10 tokens a second, and nobody says more than five words in one."""

_CUE_END = re.compile(rb"--> *(?:(\d+):)?(\d+):(\d+)[.,]\d+")
_PLAIN = ("text", "srt", "vtt")
_DONE = "transcript.text.done"


def parse(kind: str, inbound: Inbound) -> CallRequest:
    """A form with a `file`."""
    form = _forms.parts(inbound)
    fields = _forms.fields(form)
    _forms.files(form, "file")
    return CallRequest(kind, model_name(fields), fields, form)


def most(call: CallRequest) -> Usage:
    seconds = _seconds(call, _FEWEST_BYTES_PER_SECOND)
    prompt = tokens.estimate(str(call.body.get("prompt") or ""))
    heard = seconds * _INPUT_TOKENS_PER_SECOND + prompt
    return Usage(heard, seconds * _OUTPUT_TOKENS_PER_SECOND, units={"second": seconds})


class SoundAnswer(Answer):
    """The provider's own answer: JSON, or plain text and subtitles, or events."""

    def __init__(self, call: CallRequest, alias: str) -> None:
        super().__init__(call, alias)
        self._finished = False
        self._text: list[str] = []

    def whole(self, body: bytes) -> bytes:
        if self.call.body.get("response_format") in _PLAIN:
            self._text.append(body.decode("utf-8", "replace"))
            if cues := _CUE_END.findall(body):
                hours, minutes, seconds = (int(part or 0) for part in cues[-1])
                self.usage = with_units(None, second=3600 * hours + 60 * minutes + seconds + 1)
            return body
        self._count(json_answer(body))
        return body

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return ()
        told = json_answer(frame.data)
        if told.get("type") == _DONE:
            self._count(told)
        elif isinstance(delta := told.get("delta"), str):
            self._text.append(delta)
        return (frame,)

    def streamed(self, body: bytes) -> Iterable[Frame]:
        told = json_answer(body)
        self._count(told)
        delta = {"type": "transcript.text.delta", "delta": told["text"]}
        for event in (delta, {"type": _DONE, **told}):
            yield Frame(orjson.dumps(event).decode())

    def finish(self) -> None:
        if self.call.answer == "events" and not self._finished:
            raise ProviderError("network", "the stream ended before the text did")

    def counted(self) -> Usage:
        """The text, and the sound by its length: what that is in tokens only the provider knows."""
        text = tokens.count("".join(self._text), self.call.model)
        return with_units(Usage(0, text, source="counted"), second=_seconds(self.call, _USUAL_BYTES_PER_SECOND))

    def _count(self, told: Mapping[str, Any]) -> None:
        if not isinstance(told.get("text"), str):
            raise ProviderError("server", "the provider's answer has no text")
        self._finished = True
        self._text = [told["text"]]
        usage, said = told.get("usage"), tokens_told(told)
        lengths = (usage.get("seconds") if isinstance(usage, Mapping) else None, told.get("duration"))
        seconds = next((length for length in lengths if _is_length(length)), None)
        if seconds is not None:
            self.usage = with_units(said, second=math.ceil(float(seconds)))
        elif said:
            self.usage = with_units(said, second=_seconds(self.call, _USUAL_BYTES_PER_SECOND))


def _is_length(seconds: Any) -> bool:
    """Some providers send it as text."""
    try:
        return 0 < float(seconds) < 10**9
    except (TypeError, ValueError):
        return False


def _seconds(call: CallRequest, bytes_per_second: int) -> int:
    return sum(_length(part.data, bytes_per_second) for part in _forms.files(call.form, "file"))


def _length(data: bytes, bytes_per_second: int) -> int:
    """Seconds, each begun one, at least one."""
    if data[:4] == b"RIFF":
        try:
            with wave.open(BytesIO(data)) as sound:
                # By what is there and not by what the header claims: a recorder writes the header before it knows.
                rate = sound.getframerate() * sound.getnchannels() * sound.getsampwidth()
        except (wave.Error, EOFError):
            rate = 0
        bytes_per_second = rate or bytes_per_second
    return max(1, -(-len(data) // bytes_per_second))
