"""What a provider's count may charge: nothing absurd, and everything that an honest one can say."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import endpoints, tokens
from sluice.buffer import Buffer
from sluice.pipeline import bounds
from sluice.types import CallRequest, ChatRequest, Price, Text, Usage

PRICE = Price("m", Decimal(1), Decimal(10))
IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}
CASES = sorted((Path(__file__).parents[1] / "adapters" / "cases").glob("*/*.expected.json"))


def bound(window: int = 0, cap: int = 0, price: Price = PRICE, **fields: Any) -> Usage:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    chat = ChatRequest("m", body, n=fields.get("n", 1), max_tokens=fields.get("max_tokens"))
    return bounds.of_chat(chat, tokens.estimate_prompt(body), price, window=window, cap=cap)


@pytest.mark.parametrize("absurd", [Usage(10**7, 5), Usage(5, 10**7), Usage(5, 5, cached=10**7), Usage(-1, 5)])
def test_what_is_absurd_is_above_the_bound_of_a_text(absurd: Usage) -> None:
    assert not absurd.within(bound())
    assert not absurd.within(bound(window=200_000, cap=64_000))


@pytest.mark.parametrize(
    ("fields", "honest"),
    [
        ({}, Usage(100_000, 200_000)),
        ({"max_tokens": 300_000}, Usage(5, 300_000, reasoning=299_000)),
        ({"max_tokens": 10}, Usage(5, 200_000, reasoning=199_990)),
        ({"cap": 128_000}, Usage(5, 128_000 + 100_000)),
        ({"cap": 64_000, "n": 4}, Usage(5, 4 * 64_000)),
        ({"window": 500_000}, Usage(5, 500_000, reasoning=500_000)),
        ({"price": replace(PRICE, max_output=400_000)}, Usage(5, 400_000)),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, Usage(900_000, 5, image_input=900_000)),
        ({"window": 2 * 10**6, "messages": [{"role": "user", "content": [IMAGE]}]}, Usage(2 * 10**6, 5)),
        ({"web_search_options": {}}, Usage(9 * 10**6, 10**6, units={"search": 50})),
        ({"tools": [{"type": "web_search_20260318"}]}, Usage(9 * 10**6, 5)),
        ({"enable_search": True}, Usage(2 * 10**6, 5)),
        ({"cached_content": "cachedContents/a"}, Usage(10**6, 5, cached=10**6)),
        ({"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 300_000}}]}, Usage(300_000, 5)),
        ({"messages": [{"role": "user", "content": "!?" * 500_000}]}, Usage(10**6, 5)),
    ],
)
def test_what_an_honest_provider_can_say_is_believed(fields: dict[str, Any], honest: Usage) -> None:
    assert honest.within(bound(**fields))


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_its_bytes_and_all_of_them_are_believed(text: str) -> None:
    size = len(text.encode())
    assert Usage(size + bounds.BESIDE, 5).within(bound(messages=[{"role": "user", "content": text}]))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name.partition('.')[0]}")
def test_every_recorded_count_is_believed(path: Path) -> None:
    assert Usage(**json.loads(path.read_text())["usage"]).within(bound())


def test_what_was_received_is_believed_whatever_the_caps_say() -> None:
    most = bound(cap=10)
    buffer = Buffer(5, most)
    buffer.add(Text("ab" * 5_000))
    buffer.add(Usage(5, 10_000))
    assert (buffer.usage, buffer.unbelieved) == (Usage(5, 10_000), None)
    buffer.add(Text("c"))
    buffer.add(Usage(5, 10_002))
    assert (buffer.usage, buffer.unbelieved) == (None, Usage(5, 10_002))


@pytest.mark.parametrize(
    ("kind", "body", "honest", "absurd"),
    [
        ("embeddings", {"input": ["one two"] * 2_048}, Usage(100_000), Usage(10**7)),
        ("image_generations", {"prompt": "x", "n": 2}, Usage(200, 12_480, units={"image": 2}), Usage(200, 10**6)),
        ("rerank", {"query": "x", "documents": ["y"]}, Usage(600, units={"search": 1}), Usage(units={"search": 50})),
        ("completions", {"prompt": "x", "max_tokens": 500}, Usage(5, 500), Usage(5, 10**6)),
        ("speech", {"input": "x" * 50}, Usage(20, units={"character": 50}), Usage(20, 10**6)),
        ("moderations", {"input": "x"}, Usage(50), Usage(10**7)),
    ],
)
def test_a_calls_count_is_bounded_by_what_is_held(
    kind: str, body: dict[str, Any], honest: Usage, absurd: Usage
) -> None:
    most = endpoints.load(kind).most(CallRequest(kind, "m", {"model": "m", **body}), 8_192)
    assert honest.within(bounds.of_call(most))
    assert not absurd.within(bounds.of_call(most))
