"""Baidu Qianfan (ERNIE), its v2 API. Wire: facts/providers.md section 10. Errors stand under `error` or at the top."""

from sluice.adapters._openai import EMBEDDINGS_AS_NUMBERS, ENDPOINTS, IMAGES_AT_ONCE, OpenAICompatible

ADAPTER = OpenAICompatible(
    name="qianfan",
    base_url="https://qianfan.baidubce.com/v2",
    endpoints={
        "embeddings": EMBEDDINGS_AS_NUMBERS,
        "image_generations": IMAGES_AT_ONCE,
        "rerank": ENDPOINTS["rerank"],
    },
    drop=frozenset({"logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    most={"n": 1},
    efforts={
        "none": {"enable_thinking": False},
        **{effort: {"enable_thinking": True} for effort in ("minimal", "low", "medium", "high", "xhigh", "max")},
    },
    finish={"normal": "stop"},
    kinds={
        "characters_too_long": "context_length",
        "tokens_too_long": "context_length",
        "unsafe_request": "content_filter",
        "image_url_unsafe": "content_filter",
        "invalid_iam_token": "auth",
        "invalid_appid": "auth",
        "no_parameter_permission": "permission",
        "invalid_model": "model_not_found",
        "insufficient_balance": "quota",
        "account_overdue": "quota",
        "rpm_rate_limit_exceeded": "rate_limit",
        "tpm_rate_limit_exceeded": "rate_limit",
        "internal_error": "server",
        "dispatch_internal_error": "server",
    },
)
