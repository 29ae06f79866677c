"""Mistral. Wire: facts/providers.md section 19; recorded streams.

It refuses fields it does not know, and ids of tool calls that are not nine letters and digits; a user may not speak right after
a tool; reasoning is a part of the content, both ways.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sluice.adapters._openai import ENDPOINTS, EXTENSIONS, ModelRule, OpenAIAdapter, OpenAICompatible, mappings
from sluice.types import ChatRequest, Event, Reasoning, Text

_ID = re.compile(r"[a-zA-Z0-9]{9}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class MistralAdapter(OpenAIAdapter):
    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        body, dropped = super().body(chat, model)
        body["messages"] = list(_spoken(body.get("messages") or []))
        return body, dropped

    def delta(self, delta: Mapping[str, Any], choice: int) -> Iterator[Event]:
        """A content that is a list holds thinking beside the text."""
        content = delta.get("content")
        for part in mappings(content) if isinstance(content, list) else ():
            if part.get("type") == "thinking":
                thought = "".join(str(piece.get("text") or "") for piece in mappings(part.get("thinking")))
                yield from (Reasoning(thought, choice=choice),) if thought else ()
            elif text := part.get("text"):
                yield Text(str(text), choice)
        yield from super().delta({**delta, "content": None} if isinstance(content, list) else delta, choice)


def _spoken(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    before = ""
    for message in messages:
        if before == "tool" and message.get("role") == "user":
            yield {"role": "assistant", "content": "OK"}
        before = str(message.get("role"))
        if thought := message.pop("reasoning_content", None):
            message["content"] = _thinking(thought, message.get("content"))
        if message.get("tool_call_id"):
            message["tool_call_id"] = _short(str(message["tool_call_id"]))
        if message.get("tool_calls"):
            message["tool_calls"] = [{**call, "id": _short(str(call.get("id")))} for call in message["tool_calls"]]
        yield message


def _thinking(thought: str, content: Any) -> list[Any]:
    text = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
    return [{"type": "thinking", "thinking": [{"type": "text", "text": thought}], "closed": True}, *text]


def _short(call_id: str) -> str:
    """An id Mistral takes: its own as it is, another's always by the same nine characters."""
    if _ID.fullmatch(call_id):
        return call_id
    value = int.from_bytes(hashlib.blake2s(call_id.encode(), digest_size=8).digest())
    return "".join(_DIGITS[value // 62**place % 62] for place in range(9))


ADAPTER = OpenAICompatible(
    name="mistral",
    base_url="https://api.mistral.ai/v1",
    endpoints={
        "embeddings": replace(ENDPOINTS["embeddings"], rename={"dimensions": "output_dimension"}),
        "transcriptions": ENDPOINTS["transcriptions"],
    },
    rename={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
    drop=frozenset(
        {
            "stream_options",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "service_tier",
            "verbosity",
            "modalities",
            "prompt_cache_options",
            "prompt_cache_retention",
        }
    ),
    refuse=frozenset({"audio", "web_search_options", "functions"}),
    strip=EXTENSIONS | {"name", "annotations", "refusal", "audio"},
    replay="always",
    efforts={
        **{effort: {"reasoning_effort": "high"} for effort in ("minimal", "low", "medium", "xhigh", "max")},
        "none": {"reasoning_effort": "none"},
    },
    # These always think, or never do: an effort is a field they do not know.
    rules=(
        ModelRule(r"magistral|codestral|ministral|pixtral|open-|mistral-large", drop=frozenset({"reasoning_effort"})),
    ),
    finish={"model_length": "length"},
    broken={"error": "server"},
    kinds={
        "rate_limited": "rate_limit",
        "service_tier_capacity_exceeded": "rate_limit",
        "invalid_model": "model_not_found",
    },
    phrases={"too large for model": "context_length"},
    speaks=MistralAdapter,
)
