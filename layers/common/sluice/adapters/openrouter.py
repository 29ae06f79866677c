"""OpenRouter. Wire: facts/providers.md section 20; recorded streams.

Its clients know its own `reasoning` and `reasoning_details`, which go back unchanged: streams are passed on as they are.
"""

from __future__ import annotations

from typing import Any

from sluice.adapters._openai import ENDPOINTS, OpenAIAdapter, OpenAICompatible, at
from sluice.errors import ProviderError


class OpenRouterAdapter(OpenAIAdapter):
    def told(self, body: Any, status: int) -> ProviderError:
        """A 403 is a moderated prompt where it gives reasons, and a right the key lacks where it does not."""
        error = super().told(body, status)
        if error.status == 403 and at(body, "error.metadata.reasons"):
            error.kind = "content_filter"
        return error


ADAPTER = OpenAICompatible(
    name="openrouter",
    base_url="https://openrouter.ai/api/v1",
    endpoints={"embeddings": ENDPOINTS["embeddings"]},
    wire="openai",
    strip=frozenset({"reasoning_content", "extra_content", "prompt_cache_breakpoint"}),
    replay="always",
    replay_as="reasoning",
    finish={"error": "stop"},
    broken={"error": "server"},
    statuses={502: "overloaded"},
    speaks=OpenRouterAdapter,
)
