"""DeepSeek. Wire: facts/providers.md section 15; recorded streams.

In a conversation with tool calls its thinking models must be given their reasoning back (an empty one where the client kept
none); the older reasoner, which has no tools, must not be.
"""

from sluice.adapters._openai import OpenAICompatible

ADAPTER = OpenAICompatible(
    name="deepseek",
    base_url="https://api.deepseek.com/v1",
    wire="openai",
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset({"logit_bias", "parallel_tool_calls", "seed", "service_tier", "verbosity"}),
    most={"n": 1},
    efforts={
        "none": {"thinking": {"type": "disabled"}},
        "minimal": {"reasoning_effort": "low"},
        "medium": {"reasoning_effort": "high"},
        "xhigh": {"reasoning_effort": "max"},
    },
    replay="tools",
    replay_blank="",
    cached=("prompt_tokens_details.cached_tokens", "prompt_cache_hit_tokens"),
    broken={"insufficient_system_resource": "overloaded"},
)
