"""Ollama's compatible endpoint. Wire: facts/providers.md section 21. It reads images only where they are sent along."""

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, ENDPOINTS, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="ollama",
    base_url="http://127.0.0.1:11434/v1",
    endpoints={"completions": ENDPOINTS["completions"], "embeddings": EMBEDDINGS_AS_NUMBERS},
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset({"logit_bias", "parallel_tool_calls", "service_tier", "verbosity"}),
    most={"n": 1},
    efforts={
        "minimal": {"reasoning_effort": "low"},
        "xhigh": {"reasoning_effort": "high"},
        "max": {"reasoning_effort": "high"},
    },
    replay="always",
    replay_as="reasoning",
    inline_images=True,
)
