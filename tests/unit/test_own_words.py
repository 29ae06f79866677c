"""A field by the name its client knows: what is refused or dropped is named as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice import dialects
from sluice.types import ChatRequest, Inbound

URL = "https://a.example/x.png"
DATA = "QUJDREVG" * 4
SCHEMA = {"type": "object", "properties": {}}


def read(name: str, body: dict[str, Any]) -> ChatRequest:
    return dialects.load(name).parse(Inbound(json.dumps(body).encode(), path={"model": "m"}))


def gemini(*parts: Any, **fields: Any) -> ChatRequest:
    return read("gemini", {"contents": [{"role": "user", "parts": [{"text": "x"}, *parts]}], **fields})


def anthropic(*blocks: Any, **fields: Any) -> ChatRequest:
    content = [{"type": "text", "text": "x"}, *blocks]
    return read("anthropic", {"model": "m", "messages": [{"role": "user", "content": content}], **fields})


def responses(*parts: Any, **fields: Any) -> ChatRequest:
    content = [{"type": "input_text", "text": "x"}, *parts]
    return read("responses", {"model": "m", "input": [{"role": "user", "content": content}], **fields})


def named(chat: ChatRequest, field: str) -> str:
    return dialects.own_name(dialects.load(chat.dialect), chat, field)


@pytest.mark.parametrize(
    ("chat", "field", "own"),
    [
        (gemini(generationConfig={"responseMimeType": "application/json"}), "response_format", "responseMimeType"),
        (gemini(generationConfig={"responseSchema": SCHEMA}), "response_format", "responseSchema"),
        (gemini(generation_config={"response_schema": SCHEMA}), "response_format", "responseSchema"),
        (gemini(generationConfig={"responseJsonSchema": SCHEMA}), "response_format", "responseJsonSchema"),
        (gemini(generationConfig={"topK": 4}), "top_k", "topK"),
        (gemini(generationConfig={"candidateCount": 4}), "n", "candidateCount"),
        (gemini(generationConfig={"responseLogprobs": True}), "logprobs", "responseLogprobs"),
    ],
)
def test_geminis_settings_have_their_own_names(chat: ChatRequest, field: str, own: str) -> None:
    assert named(chat, field) == f"generationConfig.{own}"


@pytest.mark.parametrize(
    ("chat", "field", "own"),
    [
        (anthropic(thinking={"type": "enabled", "budget_tokens": 2000}), "reasoning_effort", "thinking"),
        (anthropic(output_config={"effort": "low"}), "reasoning_effort", "output_config.effort"),
        (anthropic(stop_sequences=["x"]), "stop", "stop_sequences"),
        (anthropic(), "messages[].reasoning_content", "messages[].content[].thinking"),
        (anthropic(), "tools.strict", "tools.strict"),
        (responses(text={"format": {"type": "json_object"}}), "response_format", "text.format"),
        (responses(reasoning={"effort": "low"}), "reasoning_effort", "reasoning.effort"),
        (responses(), "field_of_tomorrow", "field_of_tomorrow"),
        (responses(), "messages[0].audio", "input"),
        (gemini(), "messages[0].content[9].type", "contents"),
        (gemini({"text": "y"}), "messages[0].content[9].type", "contents"),
        (gemini(), "messages[7].content[0].type", "contents"),
        (gemini(), "messages[].content[].image_url", "contents"),
        (read("openai", {"model": "m", "messages": [{"role": "user", "content": "x"}]}), "stop", "stop"),
    ],
)
def test_a_field_has_the_name_it_was_sent_by(chat: ChatRequest, field: str, own: str) -> None:
    assert named(chat, field) == own


@pytest.mark.parametrize(
    ("chat", "own"),
    [
        (gemini({"fileData": {"mimeType": "image/png", "fileUri": URL}}), "contents[0].parts[1].fileData.fileUri"),
        (gemini({"inlineData": {"mimeType": "image/png", "data": DATA}}), "contents[0].parts[1].inlineData.data"),
        (
            anthropic({"type": "image", "source": {"type": "url", "url": URL}}),
            "messages[0].content[1].source.url",
        ),
        (
            anthropic({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}),
            "messages[0].content[1].source.data",
        ),
        (responses({"type": "input_image", "image_url": URL}), "input[0].content[1].image_url"),
    ],
)
@pytest.mark.parametrize("tail", ["", ".image_url", ".type"])
def test_a_part_of_a_message_has_the_very_place_it_was_sent_in(chat: ChatRequest, own: str, tail: str) -> None:
    assert named(chat, f"messages[0].content[1]{tail}") == own


def test_a_sentence_names_the_field_as_its_client_does() -> None:
    said = dialects.in_own_words("`stop` cannot be asked; stop it.", "stop", "stop_sequences")
    assert said == "`stop_sequences` cannot be asked; stop it."


@pytest.mark.parametrize("name", sorted(dialects.available() - {"openai"}))
def test_every_other_format_has_a_table(name: str) -> None:
    says: Any = getattr(dialects.load(name), "says", {})
    assert {"messages", "max_completion_tokens", "reasoning_effort", "response_format"} <= says.keys()
