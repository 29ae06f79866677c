"""OpenAI's moderations. Wire: openai-python 3.52 `types/moderation_create_params.py`."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sluice import tokens
from sluice.dialects._checks import json_object, model_name
from sluice.endpoints._base import Answer, json_answer, objects, tokens_told
from sluice.errors import BadRequest
from sluice.types import CallRequest, Inbound, Usage

_DEFAULT = "omni-moderation-latest"


@dataclass(frozen=True, slots=True)
class Moderations:
    kind: str = "moderations"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/moderations",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = {"model": _DEFAULT, **json_object(inbound.body)}
        if not isinstance(fields.get("input"), str | list) or not fields["input"]:
            raise BadRequest("`input` must be a text, or a list of texts or parts.", param="input")
        return CallRequest(self.kind, model_name(fields), fields)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return Usage(tokens.estimate_prompt(_as_chat(call)))

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return ModerationsAnswer(call, alias)


class ModerationsAnswer(Answer):
    def whole(self, body: bytes) -> bytes:
        told = json_answer(body)
        objects(told.get("results"), "results", _texts(self.call))
        self.usage = tokens_told(told)
        return orjson.dumps({**told, "model": self.alias}) if self.alias else body

    def counted(self) -> Usage:
        return Usage(tokens.count_prompt(_as_chat(self.call), self.call.model), source="counted")


def _texts(call: CallRequest) -> int | None:
    """How many texts there are to judge, each by itself; None of parts, which are judged together."""
    given = call.body["input"]
    if isinstance(given, str):
        return 1
    return len(given) if all(isinstance(part, str) for part in given) else None


def _as_chat(call: CallRequest) -> dict[str, object]:
    """Texts and pictures are sized as those of a message are."""
    given = call.body["input"]
    parts = [
        {"text": part} if isinstance(part, str) else part for part in (given if isinstance(given, list) else [given])
    ]
    return {"messages": [{"role": "user", "content": parts}]}


ENDPOINT = Moderations()
