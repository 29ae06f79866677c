"""Alibaba's Qwen by DashScope's compatible mode. Wire: facts/providers.md section 9.1; recorded streams.

Keys are bound to a region and a workspace: set the endpoint to its `/compatible-mode/v1`. Many of the thinking models answer
in streams only, and the others lose nothing by it: the provider is always asked for a stream.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, EXTENSIONS, OpenAIAdapter, OpenAICompatible
from sluice.types import ChatRequest


class QwenAdapter(OpenAIAdapter):
    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        return super().body(replace(chat, stream=True, body={**chat.body, "stream": True}), model)


ADAPTER = OpenAICompatible(
    name="qwen",
    base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
    endpoints={"embeddings": EMBEDDINGS_AS_NUMBERS},
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset({"logit_bias", "service_tier", "verbosity", "prediction", "frequency_penalty"}),
    most={"n": 4},
    strip=EXTENSIONS - {"cache_control"},
    efforts={
        "none": {"enable_thinking": False},
        **{effort: {"enable_thinking": True} for effort in ("minimal", "low", "medium", "high", "xhigh", "max")},
    },
    kinds={
        "Arrearage": "quota",
        "AllocationQuota": "quota",
        "AccessDenied": "permission",
        "DataInspectionFailed": "content_filter",
        "data_inspection_failed": "content_filter",
        "InvalidApiKey": "auth",
        "Model": "permission",
        "ModelNotFound": "model_not_found",
        "Model.NotExist": "model_not_found",
        "ModelServingError": "overloaded",
        "ModelUnavailable": "overloaded",
        "RequestTimeOut": "timeout",
        "Throttling": "rate_limit",
        # Not of money: the tokens of a minute are used up.
        "insufficient_quota": "rate_limit",
    },
    phrases={"range of input length should be": "context_length"},
    speaks=QwenAdapter,
)
