"""Sound to text in its own language. Wire: openai-python 3.52 `types/audio/transcription_create_params.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluice.endpoints import _forms, _sound
from sluice.endpoints._base import Answer
from sluice.types import CallRequest, Inbound, Usage


@dataclass(frozen=True, slots=True)
class Transcriptions:
    kind: str = "transcriptions"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/audio/transcriptions",)

    def parse(self, inbound: Inbound) -> CallRequest:
        call = _sound.parse(self.kind, inbound)
        return replace(call, answer="events") if _forms.truth(call.body, "stream") else call

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return _sound.most(call)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return _sound.SoundAnswer(call, alias)


ENDPOINT = Transcriptions()
