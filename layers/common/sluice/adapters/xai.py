"""xAI (Grok). Wire: facts/providers.md section 18; a recorded stream.

What it calls completion tokens leaves the reasoning out, and what it calls prompt tokens has been seen without the cached ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sluice.adapters._openai import IMAGES_AT_ONCE, ModelRule, OpenAIAdapter, OpenAICompatible
from sluice.errors import ProviderError
from sluice.types import Usage

_SPENT = re.compile(r"credits|spending limit", re.IGNORECASE)


class XAIAdapter(OpenAIAdapter):
    def counted(self, chunk: Mapping[str, Any]) -> Usage | None:
        told = super().counted(chunk)
        if told is None:
            return None
        input_tokens = told.input + told.cached if told.cached > told.input else told.input
        return replace(told, input=input_tokens, output=told.output + told.reasoning)

    def told(self, body: Any, status: int) -> ProviderError:
        """The same codes say that a minute's requests are used up, and that the credits are."""
        error = super().told(body, status)
        if error.kind in ("permission", "rate_limit") and _SPENT.search(error.message):
            error.kind = "quota"
        return error


ADAPTER = OpenAICompatible(
    name="xai",
    base_url="https://api.x.ai/v1",
    endpoints={"image_generations": IMAGES_AT_ONCE},
    drop=frozenset({"logit_bias", "service_tier", "prediction", "verbosity"}),
    efforts={"minimal": {"reasoning_effort": "low"}, "max": {"reasoning_effort": "xhigh"}},
    rules=(
        ModelRule(
            r"grok-(3-mini|code|build|latest|[4-9](?!.*non-reasoning))",
            drop=frozenset({"presence_penalty", "frequency_penalty"}),
            refuse=frozenset({"stop"}),
        ),
        # These think as they please: an effort is an error.
        ModelRule(r"grok-(code|4($|-)|4\.20-(?!multi)|3($|-(?!mini)))", drop=frozenset({"reasoning_effort"})),
    ),
    kinds={
        "The service is currently unavailable": "overloaded",
        "Some requested entity was not found": "model_not_found",
        "The caller does not have permission to execute the specified operation": "permission",
    },
    statuses={410: "model_not_found"},
    phrases={"incorrect api key": "auth", "maximum prompt length": "context_length"},
    speaks=XAIAdapter,
)
