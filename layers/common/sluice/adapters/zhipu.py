"""Zhipu GLM (Z.ai). Wire: facts/providers.md section 14; a recorded stream; zai-sdk 0.2.3.

The HTTP status alone tells nothing: arrears and quotas come as 429 too. A key of the form `ID.SECRET` signs a token that holds
for three and a half minutes, as the SDK does; any other goes out as it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, ENDPOINTS, IMAGES_AT_ONCE, OpenAIAdapter, OpenAICompatible
from sluice.types import Channel, ChatRequest

_TOKEN_SECONDS = 210


class ZhipuAdapter(OpenAIAdapter):
    def body(self, chat: ChatRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A temperature of 0 or less asks for no sampling at all, as the SDK takes it."""
        body, dropped = super().body(chat, model)
        temperature = chat.body.get("temperature")
        if isinstance(temperature, int | float) and temperature <= 0:
            body["do_sample"] = False
        return body, dropped

    def credentials(self, channel: Channel) -> dict[str, str]:
        key_id, dot, secret = channel.secret.reveal().partition(".")
        if not (key_id and dot and secret) or "." in secret:
            return super().credentials(channel)
        return {"authorization": f"Bearer {_token(key_id, secret, round(self.now * 1000))}"}


def _token(key_id: str, secret: str, now_ms: int) -> str:
    """A JWT by HS256 whose times are in milliseconds."""
    header = {"alg": "HS256", "sign_type": "SIGN", "typ": "JWT"}
    claims = {"api_key": key_id, "exp": now_ms + _TOKEN_SECONDS * 1000, "timestamp": now_ms}
    signed = b".".join(_encoded(orjson.dumps(part)) for part in (header, claims))
    return (signed + b"." + _encoded(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


ADAPTER = OpenAICompatible(
    name="zhipu",
    base_url="https://open.bigmodel.cn/api/paas/v4",
    endpoints={
        "embeddings": EMBEDDINGS_AS_NUMBERS,
        "image_generations": IMAGES_AT_ONCE,
        **{kind: ENDPOINTS[kind] for kind in ("rerank", "speech", "transcriptions")},
    },
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
            "presence_penalty",
            "frequency_penalty",
            "parallel_tool_calls",
        }
    ),
    most={"n": 1, "stop": 1},
    clamp={"temperature": (0.01, 0.99), "top_p": (0.01, 0.99)},
    efforts={"none": {"thinking": {"type": "disabled"}}},
    replay="always",
    finish={"sensitive": "content_filter", "model_context_window_exceeded": "length"},
    broken={"network_error": "server"},
    kinds={
        **dict.fromkeys(("1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112", "1121"), "auth"),
        **dict.fromkeys(("1113", "1304", "1308", "1310"), "quota"),
        **dict.fromkeys(("1210", "1213", "1214", "1215"), "invalid_request"),
        **dict.fromkeys(("1211", "1221", "1222"), "model_not_found"),
        **dict.fromkeys(("1220", "1309", "1311", "1313"), "permission"),
        **dict.fromkeys(("1234", "500"), "server"),
        "1261": "context_length",
        **dict.fromkeys(("1300", "1301"), "content_filter"),
        **dict.fromkeys(("1302", "1303"), "rate_limit"),
        **dict.fromkeys(("1305", "1312"), "overloaded"),
    },
    speaks=ZhipuAdapter,
)
