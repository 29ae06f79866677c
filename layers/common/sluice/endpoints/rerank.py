"""Rerank, which OpenAI has not: the body that those who have it have in common.

{model, query, documents: [text | {text}], top_n, return_documents} -> {id, results: [{index, relevance_score, document?}],
usage | meta}. Wire: facts/providers.md section 2.5, fixtures/rerank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sluice import tokens
from sluice.dialects._checks import boolean, integer, json_object, model_name
from sluice.endpoints._base import Answer, json_answer, objects, tokens_told, with_units
from sluice.errors import BadRequest, ProviderError
from sluice.types import CallRequest, Inbound, Usage

_DOCUMENTS_PER_SEARCH = 100
_TOKENS_PER_CHUNK = 500
"""A document longer than this counts as several, where a search is what is paid for."""


@dataclass(frozen=True, slots=True)
class Rerank:
    kind: str = "rerank"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/rerank",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        if not isinstance(fields.get("query"), str) or not fields["query"]:
            raise BadRequest("`query` must be a text.", param="query")
        documents = fields.get("documents")
        if not isinstance(documents, list) or not documents:
            raise BadRequest("`documents` must be a list of at least one document.", param="documents")
        for position, document in enumerate(documents):
            if not isinstance(_text(document), str):
                where = f"documents[{position}]"
                raise BadRequest(f"`{where}` must be a text or an object with a `text`.", param=where)
        integer(fields, "top_n", 1)
        boolean(fields, "return_documents")
        return CallRequest(self.kind, model_name(fields), fields)

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return _sized(call, tokens.estimate)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return RerankAnswer(call, alias)


class RerankAnswer(Answer):
    def whole(self, body: bytes) -> bytes:
        told = json_answer(body)
        results = objects(told.get("results"), "results")
        _check(results, self.call.body["documents"])
        self.usage = self._counted_by_provider(told)
        changed = self._with_documents(results) if self.call.body.get("return_documents") else False
        if self.alias and "model" in told:
            told["model"], changed = self.alias, True
        return orjson.dumps(told) if changed else body

    def counted(self) -> Usage:
        return _sized(self.call, lambda text: tokens.count(text, self.call.model), "counted")

    def _counted_by_provider(self, told: Mapping[str, Any]) -> Usage | None:
        """Tokens in `usage`, or searches in `meta.billed_units`; what it does not say is counted as a search is."""
        meta = told.get("meta")
        billed = meta.get("billed_units") if isinstance(meta, Mapping) else None
        searches = billed.get("search_units") if isinstance(billed, Mapping) else None
        said = tokens_told(told) or tokens_told({"usage": meta.get("tokens") if isinstance(meta, Mapping) else None})
        if isinstance(searches, int | float):
            return with_units(said, search=int(searches))
        return with_units(said, search=_sized(self.call, tokens.estimate).units["search"]) if said else None

    def _with_documents(self, results: list[dict[str, Any]]) -> bool:
        """Some providers no longer send the documents back: they are here."""
        documents = self.call.body["documents"]
        bare = [one for one in results if one.get("document") is None]
        for one in bare:
            one["document"] = {"text": _text(documents[one["index"]])}
        return bool(bare)


def _check(results: list[dict[str, Any]], documents: list[Any]) -> None:
    """Raises ProviderError("server") on a result that is of no document, of one that had its own, or without a score."""
    places = [one.get("index") for one in results]
    scores = [one.get("relevance_score") for one in results]
    if not all(_is_place(place, documents) for place in places) or len(set(places)) < len(places):
        raise ProviderError("server", "the provider's results are not of the documents")
    if not all(isinstance(score, int | float) for score in scores):
        raise ProviderError("server", "the provider's results have no scores")


def _is_place(index: Any, documents: list[Any]) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(documents)


def _text(document: Any) -> Any:
    return document.get("text") if isinstance(document, Mapping) else document


def _sized(call: CallRequest, size: tokens.Size, source: Any = "provider") -> Usage:
    """The query goes with every document. A search is a query with up to a hundred documents."""
    query = size(call.body["query"])
    lengths = [query + size(_text(document)) for document in call.body["documents"]]
    chunks = sum(-(-length // _TOKENS_PER_CHUNK) for length in lengths)
    return Usage(sum(lengths), source=source, units={"search": max(1, -(-chunks // _DOCUMENTS_PER_SEARCH))})


ENDPOINT = Rerank()
