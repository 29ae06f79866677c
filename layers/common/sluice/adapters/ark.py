"""ByteDance Ark (Doubao) on Volcengine, or on BytePlus by its endpoint. Wire: facts/providers.md section 22; a documented stream."""

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, IMAGES_AT_ONCE, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="ark",
    base_url="https://ark.cn-beijing.volces.com/api/v3",
    endpoints={"embeddings": EMBEDDINGS_AS_NUMBERS, "image_generations": IMAGES_AT_ONCE},
    drop=frozenset({"verbosity", "seed", "prediction"}),
    most={"n": 1},
    efforts={
        "none": {"thinking": {"type": "disabled"}},
        "xhigh": {"reasoning_effort": "high"},
        "max": {"reasoning_effort": "high"},
    },
    replay="tools",
    kinds={
        "AuthenticationError": "auth",
        "AccessDenied": "permission",
        "OperationDenied": "permission",
        "InvalidEndpoint": "permission",
        "AccountOverdueError": "quota",
        "QuotaExceeded": "quota",
        "SetLimitExceeded": "quota",
        "InvalidEndpointOrModel": "model_not_found",
        "ModelNotOpen": "model_not_found",
        "RateLimitExceeded": "rate_limit",
        "ModelAccountRpmRateLimitExceeded": "rate_limit",
        "ModelAccountTpmRateLimitExceeded": "rate_limit",
        "ModelAccountIpmRateLimitExceeded": "rate_limit",
        "RequestBurstTooFast": "rate_limit",
        "ServerOverloaded": "overloaded",
        "InternalServiceError": "server",
        "SensitiveContentDetected": "content_filter",
        **{
            f"{side}{what}{found}": "content_filter"
            for side in ("Input", "Output")
            for what in ("Text", "Image", "Video")
            for found in ("SensitiveContentDetected", "RiskDetection", "RiskDetected")
        },
    },
    phrases={"exceed max message tokens": "context_length"},
)
