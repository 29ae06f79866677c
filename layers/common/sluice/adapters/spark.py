"""iFlytek Spark over HTTP. Wire: facts/providers.md section 13; a recorded stream.

Every frame carries a code, and anything but 0 is an error; the first version of the API never says why it stopped. Newer models
live under their own path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sluice.adapters._openai import OpenAIAdapter, OpenAICompatible, number
from sluice.types import Channel

_PATHS = {"x1": "/v2", "x1.5": "/v2", "spark-x": "/x2", "spark-x2": "/x2"}


class SparkAdapter(OpenAIAdapter):
    def url(self, channel: Channel, model: str) -> str:
        base = (channel.endpoint or self.row.base_url.removesuffix("/v1")).rstrip("/")
        if urlsplit(base).path:
            return super().url(channel, model)
        return base + _PATHS.get(model.lower(), "/v1") + self.row.path

    def read(self, data: str) -> Mapping[str, Any]:
        chunk = super().read(data)
        if number(chunk.get("code")):
            raise self.told(chunk, 0)
        return chunk


ADAPTER = OpenAICompatible(
    name="spark",
    base_url="https://spark-api-open.xf-yun.com/v1",
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
        }
    ),
    most={"n": 1},
    kinds={
        **dict.fromkeys(("10013", "10014", "10019"), "content_filter"),
        "10907": "context_length",
        **dict.fromkeys(("10006", "11200"), "auth"),
        "11201": "quota",
        **dict.fromkeys(("10007", "11202", "11203"), "rate_limit"),
        **dict.fromkeys(("10008", "10010", "10110"), "overloaded"),
        **dict.fromkeys(("10003", "10004", "10163"), "invalid_request"),
    },
    phrases={"invalid param model": "model_not_found"},
    speaks=SparkAdapter,
)
