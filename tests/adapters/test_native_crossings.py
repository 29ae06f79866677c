"""docs/crossings.md against the adapters of protocols of their own: each field's fate is what happens to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Secret

CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
NATIVES = ("bedrock", "cohere", "dashscope", "hunyuan_native", "baidu_v1", "spark_ws")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SAMPLES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_completion_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "n": 2,
    "stop": ["x"],
    "seed": 5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 5},
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "reasoning_effort": "high",
    "modalities": ["text", "audio"],
    "audio": {"voice": "v"},
    "web_search_options": {"search_context_size": "low"},
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "service_tier": "flex",
    "prediction": {"type": "content"},
    "verbosity": "low",
    "prompt_cache_key": "k",
    "user": "u",
    "safety_identifier": "u",
    "metadata": {"a": "b"},
    "store": True,
    "field_of_tomorrow": 1,
}


def fate(kind: str, field: str) -> str:
    body = {"model": "lite", "messages": SAMPLES["messages"], field: SAMPLES[field]}
    if field in ("tool_choice", "parallel_tool_calls"):
        body["tools"] = [TOOL]
    channel = Channel("c", kind, "c", ("lite",), secret=Secret("a:b:c"))
    try:
        made = adapters.load(kind).adapter(0).request(ChatRequest("lite", body), channel)
    except ProviderError as error:
        return "refused" if (error.kind, error.param) == ("unsupported", field) else f"{error.kind} {error.param}"
    if field in made.dropped:
        assert field not in json.loads(made.body)
        return "dropped"
    return "carried"


def told() -> dict[str, dict[str, str]]:
    """The table's fates: field -> provider -> fate."""
    section = CROSSINGS.split("## To a channel of a protocol of its own")[1].split("\n## ")[0]
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")
    ]
    head, _, *body = rows
    assert tuple(head[1:]) == NATIVES
    return {row[0]: dict(zip(NATIVES, row[1:], strict=True)) for row in body}


@pytest.mark.parametrize("kind", NATIVES)
def test_the_table_of_the_docs_is_what_happens(kind: str) -> None:
    assert {field: fates[kind] for field, fates in told().items()} == {field: fate(kind, field) for field in SAMPLES}


def test_what_a_client_tells_of_its_users_reaches_none_of_them() -> None:
    for field in ("user", "safety_identifier", "metadata"):
        assert set(told()[field].values()) == {"dropped"}
