"""Sound to text in English. Wire: openai-python 3.52 `types/audio/translation_create_params.py`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.endpoints import _sound
from sluice.endpoints._base import Answer
from sluice.types import CallRequest, Inbound, Usage


@dataclass(frozen=True, slots=True)
class Translations:
    kind: str = "translations"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/audio/translations",)

    def parse(self, inbound: Inbound) -> CallRequest:
        return _sound.parse(self.kind, inbound)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return _sound.most(call)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return _sound.SoundAnswer(call, alias)


ENDPOINT = Translations()
