"""Baichuan. Wire: facts/providers.md section 11; a documented stream. Until the end its finish reason is an empty text."""

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="baichuan",
    base_url="https://api.baichuan-ai.com/v1",
    endpoints={"embeddings": EMBEDDINGS_AS_NUMBERS},
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset(
        {
            "stream_options",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "seed",
            "service_tier",
            "verbosity",
            "reasoning_effort",
            "parallel_tool_calls",
            "presence_penalty",
        }
    ),
    most={"n": 1},
    clamp={"temperature": (0.0, 1.0)},
)
