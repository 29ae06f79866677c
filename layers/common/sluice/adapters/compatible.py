"""Any endpoint that speaks OpenAI's chat.completions. The channel names its address.

Nothing is known of it, so that nothing is changed but what no stranger should be told: a request goes out, and its answer
comes back, as they are.
"""

from sluice.adapters._openai import ENDPOINTS, OpenAICompatible

ADAPTER = OpenAICompatible(name="compatible", base_url="/v1", wire="openai", strip=frozenset(), endpoints=ENDPOINTS)
