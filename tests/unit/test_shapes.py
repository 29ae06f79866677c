"""A field of a wrong type is named, by every client's format, before anything is held or asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice import dialects
from sluice.errors import BadRequest
from sluice.types import ChatRequest, Inbound

LEAST: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    "anthropic": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    "responses": {"model": "m", "input": "x"},
    "gemini": {"contents": [{"parts": [{"text": "x"}]}]},
}


def read(name: str, **fields: Any) -> ChatRequest:
    body = json.dumps({**LEAST[name], **fields}).encode()
    return dialects.load(name).parse(Inbound(body, path={"model": "m"}))


def part(**fields: Any) -> Any:
    return {"messages": [{"role": "user", "content": [{"type": next(iter(fields)), **fields}]}]}


def turn(**fields: Any) -> Any:
    return {"messages": [{"role": "assistant", **fields}]}


FUNCTION = {"type": "function", "function": {"name": "f"}}
IN_PART = "messages[0].content[0]"
IN_CALL = "messages[0].tool_calls[0]"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("openai", {"temperature": ""}, "temperature"),
    ("openai", {"temperature": True}, "temperature"),
    ("openai", {"top_p": []}, "top_p"),
    ("openai", {"stop": True}, "stop"),
    ("openai", {"stop": ["a", 5]}, "stop[1]"),
    ("openai", {"seed": 1.5}, "seed"),
    ("openai", {"logprobs": "yes"}, "logprobs"),
    ("openai", {"tools": [{"type": "function", "function": True}]}, "tools[0].function"),
    (
        "openai",
        {"tools": [FUNCTION, {"type": "function", "function": {"name": "f", "parameters": True}}]},
        "tools[1].function.parameters",
    ),
    ("openai", {"tool_choice": {"type": "function", "function": True}}, "tool_choice.function"),
    ("openai", {"tool_choice": 5}, "tool_choice"),
    ("openai", {"reasoning_effort": []}, "reasoning_effort"),
    ("openai", {"service_tier": []}, "service_tier"),
    ("openai", {"modalities": True}, "modalities"),
    ("openai", {"modalities": [{}]}, "modalities[0]"),
    ("openai", {"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format.json_schema"),
    ("openai", part(image_url=True), f"{IN_PART}.image_url"),
    ("openai", part(image_url={"url": 5}), f"{IN_PART}.image_url.url"),
    ("openai", part(file=True), f"{IN_PART}.file"),
    ("openai", part(file={"file_data": 5}), f"{IN_PART}.file.file_data"),
    ("openai", part(input_audio="x"), f"{IN_PART}.input_audio"),
    ("openai", turn(tool_calls=[{"id": "a", "function": True}]), f"{IN_CALL}.function"),
    ("openai", turn(tool_calls=[{"id": 5}]), f"{IN_CALL}.id"),
    ("anthropic", {"temperature": ""}, "temperature"),
    ("anthropic", {"stop_sequences": "x"}, "stop_sequences"),
    ("anthropic", {"tools": [{"name": "f", "input_schema": True}]}, "tools[0].input_schema"),
    ("anthropic", {"output_config": {"effort": []}}, "output_config.effort"),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "text", "text": True}]}]}, f"{IN_PART}.text"),
    ("anthropic", {"system": [{"type": "text", "text": True}]}, "system[0].text"),
    ("responses", {"temperature": ""}, "temperature"),
    ("responses", {"text": {"format": {"type": "json_schema", "schema": True}}}, "text.format.schema"),
    ("responses", {"reasoning": {"effort": []}}, "reasoning.effort"),
    ("responses", {"tools": [{"type": "function", "name": "f", "parameters": True}]}, "tools[0].parameters"),
    (
        "responses",
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": True}]}]},
        "input[0].content[0].file_data",
    ),
    ("gemini", {"systemInstruction": {"parts": [{"text": True}]}}, "systemInstruction.parts[0].text"),
    ("gemini", {"system_instruction": {"parts": [{"text": True}]}}, "systemInstruction.parts[0].text"),
    ("gemini", {"contents": [{"parts": [{"text": 5}]}]}, "contents[0].parts[0].text"),
    ("gemini", {"contents": [{"parts": [{"inlineData": {"data": 5}}]}]}, "contents[0].parts[0].inlineData.data"),
    ("gemini", {"generationConfig": {"temperature": ""}}, "generationConfig.temperature"),
    ("gemini", {"generationConfig": {"stopSequences": True}}, "generationConfig.stopSequences"),
    ("gemini", {"generationConfig": {"responseModalities": [5]}}, "generationConfig.responseModalities[0]"),
]


@pytest.mark.parametrize(("name", "fields", "param"), WRONG)
def test_a_wrong_type_is_named(name: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as met:
        read(name, **fields)
    assert met.value.param == param
    assert f"`{param}` must be" in met.value.message


@pytest.mark.parametrize("name", sorted(LEAST))
def test_what_nobody_reads_goes_on_whatever_it_is(name: str) -> None:
    odd: dict[str, Any] = {"field_of_tomorrow": [True, {"a": None}], "temperature": None}
    assert read(name, **odd).raw["field_of_tomorrow"] == odd["field_of_tomorrow"]
