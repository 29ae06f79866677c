"""Groq. Wire: facts/providers.md section 17; recorded streams. A tool call that does not fit its schema is the model's
failure, told as a 400: the same request may succeed elsewhere or the next time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.adapters._openai import ENDPOINTS, EXTENSIONS, OpenAIAdapter, OpenAICompatible, at


class GroqAdapter(OpenAIAdapter):
    def read(self, data: str) -> Mapping[str, Any]:
        """An error in mid-stream stands beside the usage."""
        chunk = super().read(data)
        if error := at(chunk, "x_groq.error"):
            raise self.told({"error": error}, 0)
        return chunk


ADAPTER = OpenAICompatible(
    name="groq",
    base_url="https://api.groq.com/openai/v1",
    endpoints={kind: ENDPOINTS[kind] for kind in ("speech", "transcriptions", "translations")},
    drop=frozenset({"logprobs", "top_logprobs", "logit_bias", "service_tier", "verbosity", "prediction"}),
    refuse=frozenset({"audio", "web_search_options"}),
    most={"n": 1, "stop": 4},
    efforts={
        "minimal": {"reasoning_effort": "low"},
        "xhigh": {"reasoning_effort": "high"},
        "max": {"reasoning_effort": "high"},
    },
    strip=EXTENSIONS | {"name", "annotations", "refusal", "audio"},
    usage=("usage", "x_groq.usage"),
    kinds={"tool_use_failed": "server", "json_validate_failed": "server"},
    statuses={413: "rate_limit", 498: "overloaded"},
    speaks=GroqAdapter,
)
