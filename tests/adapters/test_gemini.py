"""What Gemini's adapter sends, and what it makes of odd answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.types import (
    Channel,
    ChatRequest,
    Finish,
    Frame,
    Raw,
    Reasoning,
    Secret,
    Text,
    ToolCall,
    UpstreamRequest,
    Usage,
)

CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
OLD, NEW = "gemini-2.5-flash", "gemini-3-flash"
HI: dict[str, Any] = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PNG = "data:image/png;base64,QUJD"


def request(model: str = NEW, *, on: Channel | None = None, dialect: str = "openai", **body: Any) -> UpstreamRequest:
    channel = on or Channel(id="c", type="gemini", name="c", models=(model,), secret=Secret("AIza-1234567890"))
    full = {"model": model, "messages": [HI], **body}
    chat = ChatRequest(model, full, stream=bool(body.get("stream")), dialect=dialect, raw={"contents": [], "x": 1})
    return adapters.load("gemini").adapter(0).request(chat, channel)


def sent(model: str = NEW, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(request(model, **body).body)
    return made


def config(model: str = NEW, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = sent(model, **body)["generationConfig"]
    return made


def contents(*messages: Any, model: str = NEW) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = sent(model, messages=[*messages])["contents"]
    return made


def part(value: dict[str, Any]) -> dict[str, Any]:
    """What becomes of one part of a user's message."""
    (turn,) = contents({"role": "user", "content": [value]})
    (made,) = turn["parts"]
    return dict(made)


def call(call_id: str, name: str = "f", arguments: str = "{}", signature: str = "") -> dict[str, Any]:
    signed = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **signed}


def refused(model: str = NEW, **body: Any) -> str | None:
    with pytest.raises(ProviderError) as met:
        request(model, **body)
    assert met.value.kind == "unsupported"
    assert met.value.param is not None
    assert met.value.param in met.value.message
    return met.value.param


# --- the request -----------------------------------------------------------------------------------------------------


def test_the_least_request() -> None:
    made = request()
    assert made.url == f"https://generativelanguage.googleapis.com/v1beta/models/{NEW}:generateContent"
    assert made.headers == {"content-type": "application/json", "x-goog-api-key": "AIza-1234567890"}
    assert json.loads(made.body) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    assert made.dropped == ()


def test_a_stream_is_asked_for_as_events_and_the_key_is_in_no_address() -> None:
    made = request(stream=True, stream_options={"include_usage": True})
    assert made.url.endswith(":streamGenerateContent?alt=sse")
    assert "AIza" not in made.url
    assert "stream" not in json.loads(made.body)


@pytest.mark.parametrize(
    ("endpoint", "model", "url"),
    [
        ("https://proxy.example", NEW, f"https://proxy.example/v1beta/models/{NEW}:generateContent"),
        ("https://proxy.example/x/v1/", NEW, f"https://proxy.example/x/v1/models/{NEW}:generateContent"),
        ("https://p.example", "models/a", "https://p.example/v1beta/models/a:generateContent"),
        ("https://p.example", "tunedModels/a?b", "https://p.example/v1beta/tunedModels/a%3Fb:generateContent"),
    ],
)
def test_where_it_is_sent(endpoint: str, model: str, url: str) -> None:
    channel = Channel(id="c", type="gemini", name="c", models=(model,), endpoint=endpoint)
    assert request(model, on=channel).url == url


def test_its_own_clients_body_goes_on_as_it_is() -> None:
    assert json.loads(request(dialect="gemini").body) == {"contents": [], "x": 1}


def test_instructions_are_joined_and_alone_they_are_the_turn() -> None:
    system, developer = {"role": "system", "content": "One."}, {"role": "developer", "content": "Two."}
    assert sent(messages=[system, HI, developer])["systemInstruction"] == {
        "parts": [{"text": "One."}, {"text": "Two."}]
    }
    assert contents(system) == [{"role": "user", "parts": [{"text": "One."}]}]


def test_the_numbers_go_where_they_belong() -> None:
    asked = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "n": 2,
        "seed": 7,
        "presence_penalty": 1,
        "frequency_penalty": -1,
    }
    assert config(**asked, stop="x", max_tokens=5, logprobs=True, top_logprobs=2) == {
        "temperature": 0,
        "topP": 0.5,
        "topK": 3,
        "candidateCount": 2,
        "seed": 7,
        "presencePenalty": 1,
        "frequencyPenalty": -1,
        "stopSequences": ["x"],
        "maxOutputTokens": 5,
        "responseLogprobs": True,
        "logprobs": 2,
    }


@pytest.mark.parametrize(
    ("model", "asked", "thinking"),
    [
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"includeThoughts": False, "thinkingBudget": 128}),
        ("gemini-2.5-flash", {"reasoning_effort": "medium"}, {"includeThoughts": True, "thinkingBudget": 8192}),
        ("gemini-2.5-flash", {"reasoning_effort": "max"}, {"includeThoughts": True, "thinkingBudget": 24576}),
        ("gemini-3-flash", {"reasoning_effort": "minimal"}, {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro", {"reasoning_effort": "minimal"}, {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-3.8-flash", {"reasoning_effort": "none"}, {"includeThoughts": False, "thinkingLevel": "LOW"}),
        ("gemini-flash-latest", {"reasoning_effort": "xhigh"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (
            "gemini-2.5-flash",
            {"thinking": {"type": "enabled", "budget_tokens": 5000}},
            {"includeThoughts": True, "thinkingBudget": 5000},
        ),
        ("gemini-3-flash", {"thinking": {"type": "disabled"}}, {"includeThoughts": False, "thinkingLevel": "MINIMAL"}),
        (
            "gemini-3-flash",
            {"reasoning_effort": "low", "extra_body": {"google": {"thinking_config": {"thinking_level": "high"}}}},
            {"thinking_level": "high"},
        ),
    ],
)
def test_thinking_is_a_budget_or_a_level_by_the_models_generation(model: str, asked: Any, thinking: Any) -> None:
    assert config(model, **asked)["thinkingConfig"] == thinking


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    made = request("gemini-2.0-flash", reasoning_effort="high")
    assert made.dropped == ("reasoning_effort",)
    assert "generationConfig" not in json.loads(made.body)


def test_a_structured_answer_is_asked_for_with_a_schema_of_what_it_knows() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "const": {"const": "a", "default": "a"},
            "format": {"type": "string", "format": "uuid", "pattern": "x", "description": "An id"},
            "day": {"type": ["string", "null"], "format": "date"},
            "of": {"$ref": "#/definitions/N"},
            "some": {
                "type": "array",
                "items": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]},
            },
        },
        "allOf": [{"required": ["day"], "properties": {"more": {"type": "boolean", "examples": [True]}}}],
        "required": ["const"],
        "definitions": {"N": {"type": "number", "maximum": 3, "multipleOf": 2}},
    }
    made = config(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    assert made["responseMimeType"] == "application/json"
    assert made["responseJsonSchema"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "const": {"enum": ["a"]},
            "format": {"type": "string", "description": "An id (format: uuid)"},
            "day": {"type": ["string", "null"], "format": "date"},
            "of": {"$ref": "#/$defs/N"},
            "some": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "more": {"type": "boolean"},
        },
        "required": ["const", "day"],
        "$defs": {"N": {"type": "number", "maximum": 3}},
    }
    assert config(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_tools_and_their_choice(choice: Any, told: Any) -> None:
    made = sent(tools=[TOOL], tool_choice=choice)
    declared = {"name": "f", "description": "", "parametersJsonSchema": {"type": "object"}}
    assert made["tools"] == [{"functionDeclarations": [declared]}]
    assert made["toolConfig"] == {"functionCallingConfig": told}


def test_parts_of_every_kind() -> None:
    assert part({"type": "image_url", "image_url": {"url": PNG}}) == {
        "inlineData": {"mimeType": "image/png", "data": "QUJD"}
    }
    assert part({"type": "image_url", "image_url": {"url": "https://x.example/a.JPG?b"}}) == {
        "fileData": {"fileUri": "https://x.example/a.JPG?b", "mimeType": "image/jpeg"}
    }
    assert part({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}}) == {
        "inlineData": {"mimeType": "audio/mp3", "data": "QQ=="}
    }
    assert part({"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}}) == {
        "inlineData": {"mimeType": "application/pdf", "data": "QQ=="}
    }


@pytest.mark.parametrize(
    "value",
    [
        {"type": "image_url", "image_url": {"url": "http://x.example/a.png"}},
        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://generativelanguage.googleapis.com/v1beta/files/other"}},
        {"type": "image_url", "image_url": {"url": "https://storage.googleapis.com/bucket/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://[no-address/a.png"}},
        {"type": "image_url", "image_url": {"url": "https:///a.png"}},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "hologram"},
    ],
)
def test_what_no_client_may_name_and_what_is_unknown_is_refused_by_its_place(value: Any) -> None:
    place = refused(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, value]}])
    assert place is not None
    assert place.startswith("messages[0].content[1].")


def test_a_tools_results_stand_together_with_their_functions_names() -> None:
    turns = contents(
        HI,
        {"role": "assistant", "content": None, "tool_calls": [call("a", "one", '{"x":1}', "c2ln"), call("b", "two")]},
        {"role": "tool", "tool_call_id": "b", "content": '{"ok":true}'},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "plain"}]},
        {"role": "user", "content": "go on"},
    )
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "user"]
    assert turns[1]["parts"] == [
        {"functionCall": {"name": "one", "args": {"x": 1}, "id": "a"}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "two", "args": {}, "id": "b"}},
    ]
    assert turns[2]["parts"] == [
        {"functionResponse": {"name": "two", "response": {"ok": True}, "id": "b"}},
        {"functionResponse": {"name": "one", "response": {"result": "plain"}, "id": "a"}},
    ]


def test_a_result_of_no_call_is_the_clients_fault() -> None:
    with pytest.raises(ProviderError) as met:
        request(messages=[{"role": "tool", "tool_call_id": "a", "content": "x"}])
    assert (met.value.kind, met.value.param) == ("invalid_request", "messages[0].tool_call_id")


@pytest.mark.parametrize(("model", "inside"), [(NEW, True), (OLD, False)])
def test_a_result_with_an_image(model: str, inside: bool) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    _, turn = contents(
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
        model=model,
    )
    response, *beside = turn["parts"]
    assert (response["functionResponse"].get("parts"), beside) == (([image], []) if inside else (None, [image]))


def test_a_call_another_model_made_is_excused_where_signatures_are_demanded() -> None:
    spoken = {"role": "assistant", "tool_calls": [call("a"), call("b")]}
    first, second = contents(spoken, model="gemini-3-pro-preview")[0]["parts"]
    assert (first["thoughtSignature"], "thoughtSignature" in second) == ("skip_thought_signature_validator", False)
    assert all("thoughtSignature" not in made for made in contents(spoken, model=OLD)[0]["parts"])


def test_reasoning_goes_back_and_only_its_own_signature_with_it() -> None:
    def spoken(signature: str, content: Any = "It is 3.") -> list[Any]:
        details = [{"type": "reasoning.text", "text": "Hm.", "signature": signature}]
        message = {"role": "assistant", "content": content, "reasoning_content": "Hm.", "reasoning_details": details}
        return list(contents(message)[0]["parts"])

    thought = {"text": "Hm.", "thought": True}
    assert spoken("gemini:c2ln") == [thought, {"text": "It is 3.", "thoughtSignature": "c2ln"}]
    assert spoken("gemini:c2ln", None) == [thought, {"text": "", "thoughtSignature": "c2ln"}]
    assert spoken("of-another-provider") == [thought, {"text": "It is 3."}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": [call("a", arguments="[]")]},
        {"role": "assistant", "audio": {"id": "x"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    ],
)
def test_what_an_assistant_cannot_have_said_here_is_refused(message: Any) -> None:
    place = refused(messages=[HI, message])
    assert place is not None
    assert place.startswith("messages[1].")


def test_a_field_of_the_wrong_shape_is_the_clients_fault() -> None:
    with pytest.raises(ProviderError) as met:
        request(tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": [1]})
    assert met.value.kind == "invalid_request"


def test_what_is_dropped_inside_a_message_is_named() -> None:
    marked = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    strict = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": {}}
    made = request(messages=[{"role": "user", "name": "Ann", "content": [marked]}], tools=[strict])
    assert set(made.dropped) == {"messages.name", "messages.cache_control", "tools.strict"}


SAMPLES: dict[str, Any] = {
    "messages": [HI],
    "max_completion_tokens": 5,
    "temperature": 1,
    "top_p": 0.5,
    "top_k": 3,
    "n": 2,
    "seed": 1,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "stop": ["x"],
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [TOOL],
    "tool_choice": "none",
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "thinking": {"type": "disabled"},
    "modalities": ["text", "image"],
    "service_tier": "flex",
    "web_search_options": {},
    "extra_body": {"google": {"safety_settings": [{"category": "X", "threshold": "OFF"}]}},
    "parallel_tool_calls": False,
    "user": "u",
    "safety_identifier": "u",
    "metadata": {"a": "b"},
    "store": True,
    "prediction": {"type": "content", "content": "x"},
    "verbosity": "low",
    "prompt_cache_key": "k",
    "audio": {"voice": "x"},
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "logit_bias": {"1": 1},
    "cached_content": "cachedContents/1",
}


def fate_of(field: str, value: Any) -> str:
    beside = {"tools": [TOOL]} if "tool_" in field else {}
    try:
        made = request(**{**beside, field: value})
    except ProviderError as met:
        return "refused" if (met.kind, met.param) == ("unsupported", field) else str(met)
    return "dropped" if field in made.dropped else "carried"


def test_the_table_of_the_docs_is_what_happens() -> None:
    section = CROSSINGS.split("## To a Gemini channel")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {field.strip(" `"): fate.strip() for _, field, fate, *_ in rows}
    assert told == {field: fate_of(field, value) for field, value in SAMPLES.items()}


# --- the answer ------------------------------------------------------------------------------------------------------


def events(*frames: Any) -> list[Any]:
    adapter = adapters.load("gemini").adapter(0)
    return [event for frame in frames for event in adapter.feed(Frame(json.dumps(frame)))] + list(adapter.finish())


def answer(*parts: Any, finish: str = "", **candidate: Any) -> dict[str, Any]:
    told = {"content": {"parts": list(parts), "role": "model"}, **({"finishReason": finish} if finish else {})}
    return {"candidates": [{**told, **candidate}], "responseId": "R"}


def test_a_call_without_an_id_gets_the_same_one_each_time() -> None:
    told = answer({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}, finish="STOP")
    first, second = (event for event in events(told) if isinstance(event, ToolCall))
    assert first.id != second.id
    assert (first.index, second.index, first.arguments) == (0, 1, "{}")
    assert [event for event in events(told) if isinstance(event, ToolCall)] == [first, second]


def test_a_signature_is_kept_on_a_call_and_after_a_text() -> None:
    told = events(
        answer({"functionCall": {"name": "f"}, "thoughtSignature": "QQ=="}, {"text": "x", "thoughtSignature": "QkI="}),
        answer({"text": "", "thoughtSignature": "Q0M="}, finish="STOP"),
    )
    assert [event.signature for event in told if isinstance(event, ToolCall)] == ["QQ=="]
    assert [event.signature for event in told if isinstance(event, Reasoning)] == ["gemini:QkI=", "gemini:Q0M="]


def test_a_count_without_the_outputs_does_not_stand_for_what_came() -> None:
    adapter, buffer = adapters.load("gemini").adapter(0), Buffer()
    usage = {"promptTokenCount": 15, "thoughtsTokenCount": 40, "totalTokenCount": 55}
    told = {**answer({"text": "some text"}), "usageMetadata": usage}
    for event in adapter.feed(Frame(json.dumps(told))):
        buffer.add(event)
    assert (buffer.usage, buffer.told, buffer.output_tokens) == (None, Usage(15), 3)


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"])
def test_an_answer_the_model_spoilt_is_an_error(reason: str) -> None:
    with pytest.raises(ProviderError) as met:
        events(answer(finish=reason, finishMessage="It was malformed."))
    assert (met.value.kind, met.value.message) == ("server", "It was malformed.")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SPII", "content_filter"),
        ("OTHER", "stop"),
        ("NEW_ONE", "stop"),
        ("STOP", "stop"),
    ],
)
def test_a_reason_to_stop(reason: str, said: str) -> None:
    assert events(answer({"text": "x"}, finish=reason))[-1] == Finish(said)


def test_a_reason_that_is_none_ends_nothing() -> None:
    with pytest.raises(ProviderError) as met:
        events(answer({"text": "x"}, finish="FINISH_REASON_UNSPECIFIED"))
    assert met.value.kind == "network"


def test_images_citations_and_chances_reach_a_client() -> None:
    web = [{"web": {"uri": "https://a.example", "title": "A"}}]
    supports = [{"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [0, 9]}]
    chosen = {"token": "é", "logProbability": -0.5}
    told = events(
        answer({"inlineData": {"mimeType": "image/png", "data": "QUJD"}}, {"text": "é cité."}),
        answer(
            finish="STOP",
            groundingMetadata={"groundingChunks": web, "groundingSupports": supports},
            logprobsResult={"chosenCandidates": [chosen], "topCandidates": [{"candidates": [chosen]}]},
        ),
    )
    image, cited, chances = (event.data for event in told if isinstance(event, Raw))
    assert image == {"images": [{"type": "image_url", "image_url": {"url": PNG}}]}
    (citation,) = cited["annotations"]
    assert citation["url_citation"] == {"url": "https://a.example", "title": "A", "start_index": 2, "end_index": 5}
    row = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert chances["logprobs"]["content"] == [{**row, "top_logprobs": [row]}]


def test_an_error_inside_an_answer_is_raised_with_its_own_words() -> None:
    error = {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
    with pytest.raises(ProviderError) as met:
        events(answer({"text": "x"}), error)
    assert (met.value.kind, json.loads(met.value.body)) == ("overloaded", error)


@pytest.mark.parametrize("data", ["<html>", "5", "[5]"])
def test_a_frame_that_is_no_answer_is_the_providers_fault(data: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load("gemini").adapter(0).feed(Frame(data)))
    assert met.value.kind == "server"


def test_half_a_surrogate_does_not_end_a_stream() -> None:
    data = '{"candidates":[{"content":{"parts":[{"text":"a\\ud83d"}]},"finishReason":"STOP"}]}'
    told = list(adapters.load("gemini").adapter(0).feed(Frame(data)))
    assert [event.text for event in told if isinstance(event, Text)] == ["a", "\ufffd"]
