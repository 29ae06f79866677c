"""OpenAI, and any server that speaks its chat.completions without quirks. Wire: openai-python 3.52."""

from sluice.adapters._openai import ENDPOINTS, ModelRule, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="openai",
    base_url="https://api.openai.com/v1",
    wire="openai",
    roles={},
    private=frozenset(),
    endpoints=ENDPOINTS,
    # Reasoning models refuse the older name of the cap.
    rules=(ModelRule(r"o\d|gpt-([5-9]|\d\d)", rename={"max_tokens": "max_completion_tokens"}),),
)
