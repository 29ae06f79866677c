"""Embeddings as Gemini's clients ask for them. Wire: google-genai 3.4 `models.py`, facts/providers.md sections 6 and 7.

Every request of a batch goes into one canonical call, so that all of them have to ask for one size. On a channel of the same
format body and answer pass as they are; elsewhere a task's type is lost, and what is no text is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sluice import tokens
from sluice.dialects._checks import json_object
from sluice.endpoints._base import Answer, json_answer, objects
from sluice.endpoints.embeddings import EmbeddingsAnswer, check, inputs
from sluice.errors import BadRequest
from sluice.types import CallRequest, Inbound, Usage

_LOST = ("taskType", "task_type", "title", "autoTruncate", "auto_truncate")


@dataclass(frozen=True, slots=True)
class GeminiEmbeddings:
    kind: str = "embeddings"
    dialect: str = "gemini"
    paths: tuple[str, ...] = tuple(
        f"{version}/models/{{model:path}}:{verb}"
        for version in ("/v1", "/v1beta")
        for verb in ("embedContent", "batchEmbedContents")
    )

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        batch = inbound.target.endswith(":batchEmbedContents")
        asked = fields.get("requests") if batch else [fields]
        if not isinstance(asked, list) or not asked or not all(isinstance(one, Mapping) for one in asked):
            raise BadRequest("`requests` must be a list of at least one request.", param="requests")
        texts = [_text(one, f"requests[{place}]." if batch else "") for place, one in enumerate(asked)]
        body: dict[str, Any] = {"input": texts, "encoding_format": "float"}
        if size := _size(asked):
            body["dimensions"] = size
        lost = tuple(name for name in _LOST if any(one.get(name) for one in asked))
        model = inbound.path["model"].removeprefix("models/")
        return CallRequest(self.kind, model, body, dialect=self.dialect, raw=fields, dropped=lost)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return Usage(sum(map(tokens.estimate, call.body["input"])))

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return GeminiEmbeddingsAnswer(call, alias)


class GeminiEmbeddingsAnswer(EmbeddingsAnswer):
    def whole(self, body: bytes) -> bytes:
        told = json_answer(body)
        if "embedding" in told or "embeddings" in told:
            counted = told.get("usageMetadata")
            spent = counted.get("promptTokenCount") if isinstance(counted, Mapping) else None
            self.usage = Usage(int(spent)) if spent else None
            rows = objects(told.get("embeddings", [told.get("embedding")]), "embeddings", inputs(self.call))
            check([row.get("values") for row in rows], [None] * len(rows))
            return body
        rows = json_answer(super().whole(body))["data"]
        values = [{"values": row["embedding"]} for row in sorted(rows, key=lambda row: int(row.get("index") or 0))]
        shown = {"embeddings": values} if "requests" in self.call.raw else {"embedding": values[0]}
        usage = {"usageMetadata": {"promptTokenCount": self.usage.input}} if self.usage else {}
        return orjson.dumps({**shown, **usage})


def _text(asked: Mapping[str, Any], where: str) -> str:
    content = asked.get("content")
    parts = content.get("parts") if isinstance(content, Mapping) else None
    if not isinstance(parts, list) or not parts:
        raise BadRequest(f"`{where}content` must have parts.", param=f"{where}content")
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts) or not any(texts):
        message = f"`{where}content.parts` must be texts: this gateway embeds nothing else."
        raise BadRequest(message, param=f"{where}content.parts", code="unsupported_parameter")
    return "\n".join(map(str, texts))


def _size(asked: list[Mapping[str, Any]]) -> int:
    """How many numbers each vector shall have, 0 where nobody said. It stands in a request, or in its configuration."""
    configs = [{**one, **(one.get("embedContentConfig") or one.get("config") or {})} for one in asked]
    sizes = {one.get("outputDimensionality") or one.get("output_dimensionality") or 0 for one in configs}
    (size,) = sizes if len(sizes) == 1 else (None,)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        message = "`outputDimensionality` must be a whole number, and the same for all."
        raise BadRequest(message, param="outputDimensionality")
    return size


ENDPOINT = GeminiEmbeddings()
