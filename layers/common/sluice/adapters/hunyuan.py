"""Tencent Hunyuan by TokenHub, or by its older compatible endpoint `https://api.hunyuan.cloud.tencent.com/v1`.

Wire: facts/providers.md section 12. Reasoning sent back is an error there.
"""

from sluice.adapters._openai import OpenAICompatible

ADAPTER = OpenAICompatible(
    name="hunyuan",
    base_url="https://tokenhub.tencentmaas.com/v1",
    rename={"max_completion_tokens": "max_tokens"},
    drop=frozenset({"logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity", "parallel_tool_calls"}),
    most={"n": 1},
    efforts={
        "none": {"enable_thinking": False},
        **{effort: {"enable_thinking": True} for effort in ("minimal", "low", "medium", "high", "xhigh", "max")},
    },
    finish={"sensitive": "content_filter"},
    # A model the account has not switched on.
    statuses={402: "permission"},
    kinds={
        "AuthFailure": "auth",
        "RequestLimitExceeded": "rate_limit",
        "LimitExceeded": "rate_limit",
        "ServiceNotActivated": "permission",
        "OperationDenied": "content_filter",
        "InternalError": "server",
        "InvalidParameterValue.Model": "model_not_found",
        "FailedOperation.EngineServerLimitExceeded": "overloaded",
        "FailedOperation.FreeResourcePackExhausted": "quota",
        "FailedOperation.ResourcePackExhausted": "quota",
        "FailedOperation.ServiceStopArrears": "quota",
        "ResourceInsufficient": "quota",
        "ResourceUnavailable": "quota",
    },
)
