"""vLLM. Wire: facts/providers.md section 21. Every installation has its own address: the channel names it.

Errors may be flat; usage may stand in every chunk; reasoning is called by either name.
"""

from sluice.adapters._openai import ENDPOINTS, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="vllm",
    base_url="/v1",
    endpoints={
        kind: ENDPOINTS[kind] for kind in ("completions", "embeddings", "rerank", "transcriptions", "translations")
    },
    wire="openai",
    strip=frozenset({"reasoning_details", "extra_content", "cache_control", "prompt_cache_breakpoint"}),
    broken={"abort": "server"},
)
