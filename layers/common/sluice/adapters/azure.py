"""Azure OpenAI: OpenAI's protocol under the operator's own host. Wire: facts/providers.md section 3, openai-python `lib/azure.py`.

The endpoint decides the style: `https://NAME.openai.azure.com` asks the v1 API, where the deployment is the model of the body;
`https://NAME.openai.azure.com?api-version=2024-10-21` (a date) the older one, where it stands in the path.
A secret that is a token of Entra (a JWT) goes out as such, everything else as `api-key`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from sluice.adapters._openai import ENDPOINTS, OpenAIAdapter, OpenAICompatible
from sluice.adapters.openai import ADAPTER as OPENAI
from sluice.types import Channel

_DATED = re.compile(r"(^|&)api-version=\d{4}-")


class AzureAdapter(OpenAIAdapter):
    def url(self, channel: Channel, model: str) -> str:
        parts = urlsplit(channel.endpoint)
        if not _DATED.search(parts.query) or not parts.netloc:
            return super().url(channel, model)
        path = (
            parts.path.rstrip("/") if "/deployments/" in parts.path else f"/openai/deployments/{quote(model, safe='')}"
        )
        return f"{parts.scheme}://{parts.netloc}{path}{self.row.path}?{parts.query}"

    def credentials(self, channel: Channel) -> dict[str, str]:
        key = channel.secret.reveal()
        return super().credentials(channel) if key.startswith("eyJ") else {"api-key": key}


ADAPTER = OpenAICompatible(
    name="azure",
    base_url="/openai/v1",
    endpoints={kind: row for kind, row in ENDPOINTS.items() if kind not in ("moderations", "rerank")},
    wire="openai",
    roles={},
    private=frozenset(),
    # A deployment's model is one of OpenAI's, as far as its name tells.
    rules=OPENAI.rules,
    kinds={
        "DeploymentNotFound": "model_not_found",
        "RateLimitReached": "rate_limit",
        "too_many_requests": "rate_limit",
        "ResponsibleAIPolicyViolation": "content_filter",
    },
    speaks=AzureAdapter,
)
