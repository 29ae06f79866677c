"""OpenRouter. Wire: facts/providers.md section 20; recorded streams.

Its clients know its own `reasoning` and `reasoning_details`, which go back unchanged: streams are passed on as they are. To a
client of another format a block that is signed or encrypted goes with all it says packed into its signature, and comes back
unpacked; one that another provider signed is not sent here.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sluice.adapters._openai import OpenAIAdapter, OpenAICompatible, at, mappings, thought_of
from sluice.errors import ProviderError
from sluice.types import ChatRequest, Event

_MARK = "openrouter:"


class OpenRouterAdapter(OpenAIAdapter):
    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        body, dropped = super().body(chat, model)
        for message, told in zip(body.get("messages") or (), chat.body.get("messages") or (), strict=True):
            if message.pop("reasoning_details", None):
                thought = thought_of(told)
                details = list(_own(told["reasoning_details"], thought))
                message.update({"reasoning_details": details} if details else {"reasoning": thought} if thought else {})
        return body, dropped

    def delta(self, delta: Mapping[str, Any], choice: int) -> Iterator[Event]:
        details = [_packed(detail) for detail in mappings(delta.get("reasoning_details"))]
        return super().delta({**delta, "reasoning_details": details}, choice)

    def told(self, body: Any, status: int) -> ProviderError:
        """A 403 is a moderated prompt where it gives reasons, and a right the key lacks where it does not."""
        error = super().told(body, status)
        if error.status == 403 and at(body, "error.metadata.reasons"):
            error.kind = "content_filter"
        return error


def _packed(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block whose seal holds all but its text; one without a seal as it is."""
    sealed = "signature" if detail.get("signature") else "data" if detail.get("data") else ""
    if not sealed:
        return detail
    rest = {name: value for name, value in detail.items() if name != "text"}
    return {**detail, sealed: _MARK + urlsafe_b64encode(orjson.dumps(rest)).decode()}


def _own(details: Any, thought: str) -> Iterator[dict[str, Any]]:
    """Blocks as they came from here: unpacked, or from a client that had them as they are (those have a `format`).

    A client that gathered a stream may have the text beside the block.
    """
    for detail in mappings(details):
        sealed = str(detail.get("signature") or detail.get("data") or "")
        if sealed.startswith(_MARK):
            yield {**_unpacked(sealed), **({} if detail.get("data") else {"text": detail.get("text") or thought})}
            thought = ""
        elif "format" in detail:
            yield dict(detail)


def _unpacked(sealed: str) -> dict[str, Any]:
    """What a block said besides its text. A seal that was tampered with says nothing."""
    try:
        told = orjson.loads(urlsafe_b64decode(sealed.removeprefix(_MARK)))
    except ValueError:
        return {"type": "reasoning.text"}
    return told if isinstance(told, dict) else {"type": "reasoning.text"}


ADAPTER = OpenAICompatible(
    name="openrouter",
    base_url="https://openrouter.ai/api/v1",
    wire="openai",
    strip=frozenset({"reasoning_content", "extra_content", "prompt_cache_breakpoint"}),
    replay="always",
    replay_as="reasoning",
    finish={"error": "stop"},
    broken={"error": "server"},
    statuses={502: "overloaded"},
    speaks=OpenRouterAdapter,
)
