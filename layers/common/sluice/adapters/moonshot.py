"""Moonshot (Kimi). Wire: facts/providers.md section 16. Keys of one site do not hold at the other: set the endpoint."""

from sluice.adapters._openai import OpenAICompatible

ADAPTER = OpenAICompatible(
    name="moonshot",
    base_url="https://api.moonshot.ai/v1",
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset(
        {"logit_bias", "logprobs", "top_logprobs", "seed", "service_tier", "parallel_tool_calls", "verbosity"}
    ),
    clamp={"temperature": (0.0, 1.0)},
    efforts={"none": {"thinking": {"type": "disabled"}}},
    replay="always",
    # In a tool loop its thinking models refuse a message without one, and an empty one has been refused too.
    replay_blank=" ",
    usage=("usage", "choices.0.usage"),
    cached=("cached_tokens", "prompt_tokens_details.cached_tokens"),
    kinds={
        "invalid_authentication_error": "auth",
        "incorrect_api_key_error": "auth",
        "permission_denied_error": "permission",
        "resource_not_found_error": "model_not_found",
        "engine_overloaded_error": "overloaded",
        "exceeded_current_quota_error": "quota",
        "rate_limit_reached_error": "rate_limit",
    },
    phrases={"input token length too long": "context_length", "exceeded model token limit": "context_length"},
)
