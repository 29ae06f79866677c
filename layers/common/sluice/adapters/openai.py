"""OpenAI, and any server that speaks its chat.completions without quirks. Wire: openai-python 3.52."""

from sluice.adapters._openai import ENDPOINTS, ModelRule, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="openai",
    base_url="https://api.openai.com/v1",
    wire="openai",
    roles={},
    private=frozenset(),
    endpoints=ENDPOINTS,
    rules=(
        # Reasoning models refuse the older name of the cap.
        ModelRule(r"o\d|gpt-([5-9]|\d\d)", rename={"max_tokens": "max_completion_tokens"}),
        # The others refuse an effort, and every model what other makers' clients have beside `top_p`.
        ModelRule(r"gpt-[34]|chatgpt", drop=frozenset({"reasoning_effort"})),
        ModelRule(r"o\d|gpt-|chatgpt", drop=frozenset({"top_k"})),
    ),
)
