"""OpenAI's embeddings. Wire: openai-python 3.52 `types/embedding_create_params.py`, `lib/_parsing/_embeddings.py`."""

from __future__ import annotations

import struct
from array import array
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import orjson

from sluice import tokens
from sluice.dialects._checks import integer, json_object, model_name
from sluice.endpoints._base import Answer, json_answer, objects, tokens_told
from sluice.errors import BadRequest, ProviderError
from sluice.types import CallRequest, Inbound, Usage


@dataclass(frozen=True, slots=True)
class Embeddings:
    kind: str = "embeddings"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/embeddings",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        if fields.get("encoding_format", "float") not in ("float", "base64"):
            raise BadRequest("`encoding_format` must be float or base64.", param="encoding_format")
        integer(fields, "dimensions", 1)
        _check_input(fields.get("input"))
        return CallRequest(self.kind, model_name(fields), fields)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return Usage(_size(call, tokens.estimate))

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return EmbeddingsAnswer(call, alias)


class EmbeddingsAnswer(Answer):
    """The provider's own body, unless it gave floats for base64 or the other way round."""

    def whole(self, body: bytes) -> bytes:
        told = json_answer(body)
        self.usage = tokens_told(told)
        rows = objects(told.get("data"), "embeddings", inputs(self.call))
        check([row.get("embedding") for row in rows], [row.get("index") for row in rows])
        form = str if self.call.body.get("encoding_format") == "base64" else list
        others = [row for row in rows if not isinstance(row["embedding"], form)]
        if not others and not self.alias:
            return body
        for row in others:
            row["embedding"] = packed(row["embedding"]) if form is str else floats(row["embedding"])
        return orjson.dumps({**told, "model": self.alias} if self.alias else told)

    def counted(self) -> Usage:
        return Usage(_size(self.call, lambda text: tokens.count(text, self.call.model)), source="counted")


def check(vectors: list[Any], places: list[Any]) -> None:
    """Raises ProviderError("server") on vectors that are none or of several sizes, and on places that are not theirs."""
    sizes = {_numbers(vector) for vector in vectors}
    if len(sizes) != 1 or 0 in sizes:
        raise ProviderError("server", "the provider's embeddings are empty, or of several sizes")
    told = {place for place in places if isinstance(place, int)}
    if any(place is not None for place in places) and told != set(range(len(vectors))):
        raise ProviderError("server", "the provider's embeddings are not of the inputs")


def inputs(call: CallRequest) -> int:
    """How many there are to embed: a list of numbers is one text's tokens."""
    given = call.body["input"]
    return len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1


def _numbers(vector: Any) -> int:
    """How many numbers a vector has, in either form. Raises ProviderError("server") on what is no vector."""
    if isinstance(vector, str):
        return len(floats(vector))
    try:
        return len(array("d", vector))
    except (TypeError, OverflowError):
        raise ProviderError("server", "the provider's embedding is no list of numbers") from None


def packed(vector: Any) -> str:
    """Floats as the base64 of little-endian 32-bit floats. Raises ProviderError("server") on what are none."""
    try:
        return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError, TypeError):
        raise ProviderError("server", "the provider's embedding is no list of numbers") from None


def floats(text: Any) -> list[float]:
    """The other way round."""
    try:
        raw = b64decode(text, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    except (struct.error, TypeError, ValueError):
        raise ProviderError("server", "the provider's embedding is no base64 of floats") from None


def _check_input(value: Any) -> None:
    """A text, texts, tokens, or lists of tokens."""
    rows = value if isinstance(value, list) else [value]
    if not rows or not (
        _all(rows, str) or _all(rows, int) or all(isinstance(row, list) and _all(row, int) for row in rows)
    ):
        raise BadRequest("`input` must be a text, texts, tokens, or lists of tokens.", param="input")
    if any(row in ("", []) for row in rows):
        raise BadRequest("`input` must not hold anything empty.", param="input")


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _size(call: CallRequest, size: tokens.Size) -> int:
    given = call.body["input"]
    rows = given if isinstance(given, list) else [given]
    return sum(size(row) if isinstance(row, str) else len(row) if isinstance(row, list) else 1 for row in rows)


ENDPOINT = Embeddings()
