"""What a provider's count may charge: no more than can be of this request. docs/billing.md says it for those who pay by it.

A bound is wide on purpose. Nobody's honest count is above it, whatever the model thinks unseen, however the provider frames a
prompt, and whatever it looks up; a count that is above it is as good as never said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.types import ChatRequest, Price, Usage

BYTES_PER_ESTIMATED_TOKEN = 3
"""A text has at most so many bytes for each token `tokens.estimate` finds, and no token is less than a byte."""
BESIDE = 131_072
"""Input tokens that no client wrote: templates, a provider's own instructions, what a model of its own accord looks up."""
WINDOW = 1_048_576
"""A model's window, where it is unknown or told smaller: betas widen windows."""
CAP = 262_144
"""The most output of one choice where neither a cap nor a window is known."""
ROUNDS = 10
"""How often a model goes round with tools that its provider runs, each round counting everything before it again."""
SEARCHES = 1_000
_SLACK = 4
_UNASKED_OUTPUT = 1_024
_FEWEST: Mapping[str, int] = {"second": 300}
"""Five minutes of sound may be very small."""

_ORDINARY = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "n", "stop", "seed", "temperature", "top_p", "top_k"),
        *("max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
        *("top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("response_format", "reasoning_effort", "thinking", "verbosity", "modalities", "audio", "prediction"),
        *("user", "safety_identifier", "metadata", "store", "service_tier"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    }
)
"""Fields that bring nothing into a prompt but what they say."""
_OWN_TOOLS = ("function", "custom")


def of_chat(request: ChatRequest, prompt_tokens: int, price: Price, *, window: int, cap: int) -> Usage:
    """`prompt_tokens` is the high estimate of the input; `window` and `cap` are the model's, 0 where unknown."""
    rounds = ROUNDS if _goes_round(request) else 1
    given = BYTES_PER_ESTIMATED_TOKEN * prompt_tokens + BESIDE
    if rounds > 1 or _has_media(request.body):
        given = rounds * max(given, window, WINDOW)
    each = max(request.max_tokens or 0, price.max_output, 2 * cap or window or CAP)
    return Usage(given, rounds * request.n * each, units={"search": SEARCHES})


def of_call(most: Usage) -> Usage:
    """`most` is the high estimate that is held."""
    units = {kind: max(_SLACK * count, _FEWEST.get(kind, 0)) for kind, count in most.units.items()}
    return Usage(_SLACK * most.input + BESIDE, _SLACK * most.output + _UNASKED_OUTPUT, units=units)


def _goes_round(request: ChatRequest) -> bool:
    """Whether the provider may bring into the conversation what we do not see: by its tools, its searches, what it keeps."""
    tools = request.body.get("tools") or ()
    foreign = any(isinstance(tool, Mapping) and tool.get("type", "function") not in _OWN_TOOLS for tool in tools)
    return foreign or bool(request.native) or not _ORDINARY.issuperset(request.body)


def _has_media(body: Mapping[str, Any]) -> bool:
    """Whether there is more than text: what a picture or a document counts has little to do with its size."""
    return any(part.get("type", "text") not in ("text", "refusal") for part in _parts(body.get("messages")))


def _parts(messages: Any) -> Iterator[Mapping[str, Any]]:
    for message in messages or ():
        content = message.get("content")
        yield from (part for part in content if isinstance(part, Mapping)) if isinstance(content, list) else ()
