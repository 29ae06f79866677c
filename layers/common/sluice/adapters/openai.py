"""OpenAI, and any server that speaks its chat.completions without quirks. Wire: openai-python 3.52."""

from sluice.adapters._openai import OpenAICompatible

ADAPTER = OpenAICompatible(name="openai", base_url="https://api.openai.com/v1")
