"""Gemini's format as clients speak it: what is read of a request, what is passed on, what is made from canonical events."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import adapters, dialects
from sluice.buffer import Buffer
from sluice.errors import BadRequest, InsufficientQuota, RateLimited, UpstreamFailed
from sluice.types import (
    Channel,
    ChatRequest,
    Choice,
    Completion,
    Event,
    Finish,
    Frame,
    Inbound,
    Model,
    Raw,
    Reasoning,
    Start,
    Text,
    ToolCall,
    Usage,
)

GEMINI = dialects.load("gemini")
CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
PNG = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
WHOLE = st.integers(-(2**63), 2**63 - 1)
"""Beyond that JSON's readers disagree."""
SHOWN = {"thinkingConfig": {"includeThoughts": True}}


def read(method: str = "generateContent", query: dict[str, str] | None = None, **fields: Any) -> ChatRequest:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **fields}
    path = {"model": "m", **(query or {})}
    return GEMINI.parse(Inbound(json.dumps(body).encode(), {}, path, f"/v1/models/m:{method}"))


def canonical(**fields: Any) -> dict[str, Any]:
    """The canonical body of a request, without what every one has."""
    return {name: value for name, value in read(**fields).body.items() if name not in ("model", "messages")}


def spoken(*contents: Any) -> list[Any]:
    return list(read(contents=[*contents]).body["messages"])


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [*parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": [*parts]}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_least_request() -> None:
    chat = read()
    assert chat.body == {"messages": [{"role": "user", "content": "Hi"}], "model": "m"}
    assert (chat.dialect, chat.max_tokens, chat.stream, chat.n) == ("gemini", None, False, 1)
    assert (chat.native, chat.dropped, chat.headers) == ((), (), {})
    assert chat.raw == {"contents": [user({"text": "Hi"})]}


@pytest.mark.parametrize(("query", "framing"), [({"alt": "sse"}, "bare"), ({}, "array"), ({"alt": "json"}, "array")])
def test_a_stream_is_told_by_the_method_and_its_form_by_the_query(query: dict[str, str], framing: str) -> None:
    chat = read("streamGenerateContent", query)
    assert (chat.stream, chat.body["stream"], chat.framing) == (True, True, framing)


def test_names_may_be_mixed_and_single_things_stand_for_lists() -> None:
    body = {
        "contents": {"parts": {"text": "Hi"}},
        "system_instruction": {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
        "generation_config": {"max_output_tokens": 5, "topP": 0.5, "thinkingConfig": {"thinking_level": "LOW"}},
        "tools": {"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object", "a_b": 1}}]},
    }
    chat = GEMINI.parse(Inbound(json.dumps(body).encode(), {}, {"model": "m"}))
    assert chat.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "One\n\nTwo"}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 5,
        "top_p": 0.5,
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "a_b": 1}}}],
    }
    assert chat.dropped == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": "Hi"}, "contents"),
        ({"contents": [5]}, "contents[0]"),
        ({"contents": [{"parts": [5]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": "x"}]}, "contents[0].parts"),
        ({"contents": [{"parts": [{"inlineData": "x"}]}]}, "contents[0].parts[0].inlineData"),
        ({"generationConfig": [1]}, "generationConfig"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
        ({"generationConfig": {"candidateCount": 1000}}, "candidateCount"),
        ({"generationConfig": {"thinkingConfig": 5}}, "generationConfig.thinkingConfig"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": "x"}, "tools"),
        ({"toolConfig": "x", "tools": [{"functionDeclarations": [{"name": "f"}]}]}, "toolConfig"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as met:
        read(**fields)
    assert met.value.param == param


def test_a_bottomless_body_is_a_bad_request() -> None:
    def nested(levels: int) -> Any:
        schema: Any = {}
        for _ in range(levels):
            schema = {"items": schema}
        return [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]

    assert read(tools=nested(150)).body["tools"]
    with pytest.raises(BadRequest, match="deeper"):
        read(tools=nested(400))
    with pytest.raises(BadRequest):
        GEMINI.parse(Inbound(b'{"contents":' + b"[" * 2000, {}, {"model": "m"}))


def test_parts_of_every_kind() -> None:
    (message,) = spoken(
        user(
            {"text": "Look"},
            {"inlineData": {"mimeType": "image/png", "data": "-_A="}},
            {"inline_data": {"mime_type": "audio/mpeg", "data": "QQ=="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.jpg"}},
            {"inlineData": {"mimeType": "video/mp4", "data": "QQ=="}, "videoMetadata": {"fps": 1}},
        )
    )
    assert message["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,+/A="}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "file.pdf"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.jpg"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,QQ=="}},
    ]


def test_calls_and_results_without_ids_are_matched_by_name_in_their_order() -> None:
    _, answer, *results = spoken(
        user({"text": "Hi"}),
        model(*({"functionCall": {"name": name, "args": {"n": n}}} for n, name in enumerate(("a", "b", "a")))),
        user(
            {"text": "Here:"},
            *({"functionResponse": {"name": name, "response": {"r": n}}} for n, name in enumerate(("b", "a", "a"))),
        ),
    )
    first, second, third = (call["id"] for call in answer["tool_calls"])
    assert len({first, second, third}) == 3
    *told, after = results
    assert [(one["tool_call_id"], one["content"]) for one in told] == [
        (second, '{"r":0}'),
        (first, '{"r":1}'),
        (third, '{"r":2}'),
    ]
    assert after == {"role": "user", "content": "Here:"}


def test_ids_and_signatures_are_kept() -> None:
    (answer, result) = spoken(
        model({"text": "Hm.", "thought": True}, {"functionCall": {"id": "x", "name": "f"}, "thoughtSignature": "QQ=="}),
        {"role": "function", "parts": [{"functionResponse": {"id": "x", "name": "f", "response": {}, "parts": [PNG]}}]},
    )
    assert answer["reasoning_content"] == "Hm."
    assert answer["tool_calls"] == [
        {
            "id": "x",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "QQ=="}},
        }
    ]
    assert [part["type"] for part in result["content"]] == ["text", "image_url"]


def test_a_schema_of_its_own_kind_becomes_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "propertyOrdering": ["a"],
        "properties": {
            "any_of": {"type": "STRING", "nullable": True, "min_length": "3"},
            "nullable": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}, {"type": "NULL"}]}},
        },
    }
    made = canonical(generationConfig={"responseMimeType": "application/json", "responseSchema": schema})
    assert made["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {
            "any_of": {"type": ["string", "null"], "minLength": 3},
            "nullable": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        },
    }
    plain = canonical(generationConfig={"responseMimeType": "application/json"})
    assert plain == {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("calling", "choice"),
    [
        ({"mode": "AUTO"}, "auto"),
        ({"mode": "any"}, "required"),
        ({"mode": "NONE"}, "none"),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, {"type": "function", "function": {"name": "f"}}),
        (
            {"mode": "ANY", "allowed_function_names": ["f", "g"]},
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": name}} for name in ("f", "g")],
                },
            },
        ),
    ],
)
def test_the_choice_of_tools(calling: Any, choice: Any) -> None:
    made = canonical(tools=[{"functionDeclarations": [{"name": "f"}]}], toolConfig={"functionCallingConfig": calling})
    assert made["tool_choice"] == choice


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"thinkingLevel": "HIGH"}, "high"),
        ({"thinkingBudget": 0}, "none"),
        ({"thinkingBudget": 1024}, "low"),
        ({"thinkingBudget": 8000}, "medium"),
        ({"thinkingBudget": 30000}, "high"),
        ({"thinkingBudget": -1}, None),
        ({"includeThoughts": True}, None),
    ],
)
def test_how_much_to_think(thinking: Any, effort: str | None) -> None:
    assert canonical(generationConfig={"thinkingConfig": thinking}).get("reasoning_effort") == effort


def test_what_is_to_be_counted_may_stand_in_a_request_of_its_own() -> None:
    inner = {"generateContentRequest": {"model": "models/m", "contents": [user({"text": "Inner"})]}}
    told = GEMINI.parse(Inbound(json.dumps(inner).encode(), {}, {"model": "m"}))
    assert told.body["messages"] == [{"role": "user", "content": "Inner"}]


CONFIG_SAMPLES: dict[str, Any] = {
    "temperature": 1,
    "topP": 0.5,
    "topK": 3,
    "candidateCount": 2,
    "maxOutputTokens": 5,
    "stopSequences": ["x"],
    "seed": 1,
    "presencePenalty": 1,
    "frequencyPenalty": 1,
    "responseLogprobs": True,
    "logprobs": 2,
    "responseMimeType": "application/json",
    "responseSchema": {"type": "OBJECT"},
    "responseJsonSchema": {"type": "object"},
    "thinkingConfig": {"thinkingLevel": "LOW"},
    "responseModalities": ["IMAGE"],
    "speechConfig": {},
    "imageConfig": {},
    "mediaResolution": "MEDIA_RESOLUTION_LOW",
}
SAMPLES: dict[str, Any] = {
    "contents": [user({"text": "Hi"})],
    "systemInstruction": {"parts": [{"text": "x"}]},
    "tools": [{"functionDeclarations": [{"name": "f"}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    **{f"generationConfig.{name}": value for name, value in CONFIG_SAMPLES.items()},
    "safetySettings": [{}],
    "labels": {"a": "b"},
    "serviceTier": "flex",
    "store": False,
    "cachedContent": "cachedContents/x",
    "continuationToken": "x",
}


def fate_of(name: str, value: Any) -> str:
    outer, _, inner = name.partition(".")
    chat = read(**{outer: {inner: value} if inner else value})
    return "refused" if name in chat.native else "dropped" if name in chat.dropped else "carried"


def test_the_table_of_the_docs_is_what_happens() -> None:
    section = CROSSINGS.split("## From a Gemini client")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): fate.strip() for _, name, fate, *_ in rows}
    assert told == {name: fate_of(name, value) for name, value in SAMPLES.items()}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{"code_execution": {}}]}, "tools[0].codeExecution"),
        ({"contents": [model({"executableCode": {"code": "1"}})]}, "contents[0].parts[0].executableCode"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, "generationConfig.responseModalities"),
    ],
)
def test_what_only_its_own_provider_understands_is_named(fields: Any, where: str) -> None:
    assert read(**fields).native == (where,)


# --- what another provider said --------------------------------------------------------------------------------------

ANSWERS: list[Event] = [
    Start("up", "m"),
    Reasoning("Let me"),
    Reasoning(" think."),
    Reasoning("", "+/signed"),
    Reasoning("", data="sealed"),
    ToolCall(0, "id-0", "f", '{"a":'),
    ToolCall(1, "id-1", "g", "{}", signature="ORIG"),
    ToolCall(0, arguments="1}"),
    Finish("tool_calls"),
    Usage(10, 20, cached=3, reasoning=5),
]
DETAILS = [
    {"type": "reasoning.text", "text": "Let me think.", "signature": "+/signed"},
    {"type": "reasoning.encrypted", "data": "sealed"},
]


def written(events: list[Event], usage: Usage | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The chunks a client is sent for these events, charged with `usage`."""
    encoder = GEMINI.encoder(read(**fields), "R", 0, "")
    frames = [frame for event in events for frame in encoder.encode(event)] + list(encoder.end(usage or Usage(1, 1)))
    return [json.loads(frame.data) for frame in frames]


def whole(events: list[Event], **fields: Any) -> dict[str, Any]:
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    completion = buffer.completion(buffer.usage or Usage(1, 1))
    made: dict[str, Any] = json.loads(GEMINI.encoder(read(**fields), "R", 0, "").completion(completion))
    return made


def parts_of(*answers: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for one in answers for candidate in one["candidates"] for part in candidate["content"]["parts"]]


def resent(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts as the SDK sends them back: the other alphabet of base64."""
    return [
        {
            name: value.replace("+", "-").replace("/", "_") if name == "thoughtSignature" else value
            for name, value in part.items()
        }
        for part in parts
    ]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_reasoning_of_another_provider_comes_back_as_it_was(shown: bool, streamed: bool) -> None:
    fields = {"generationConfig": SHOWN} if shown else {}
    parts = parts_of(*(written(ANSWERS, **fields) if streamed else [whole(ANSWERS, **fields)]))
    assert "".join(part["text"] for part in parts if part.get("thought")) == ("Let me think." if shown else "")
    assert all(
        base64.b64decode(part["thoughtSignature"], validate=True) for part in parts if "thoughtSignature" in part
    )
    (message,) = spoken(model(*resent(parts)))
    assert message["reasoning_details"] == DETAILS
    assert message["reasoning_content"] == "Let me think."
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"a":1}', "{}"]
    assert [call.get("extra_content") for call in message["tool_calls"]] == [
        None,
        {"google": {"thought_signature": "ORIG"}},
    ]


@pytest.mark.parametrize("streamed", [True, False])
def test_unsigned_reasoning_that_was_not_shown_comes_back_too(streamed: bool) -> None:
    events = [Reasoning("Hidden."), Text("Hi"), Finish("stop")]
    parts = parts_of(*(written(events) if streamed else [whole(events)]))
    assert not any(part.get("thought") for part in parts)
    (message,) = spoken(model(*parts))
    assert (message["reasoning_content"], message["content"]) == ("Hidden.", "Hi")


def test_what_we_packed_never_reaches_a_provider_of_this_format() -> None:
    parts = resent(parts_of(*written(ANSWERS)))
    chat = read(contents=[user({"text": "Hi"}), model(*parts)])
    channel = Channel(id="c", type="gemini", name="c", models=("m",))
    sent = json.loads(adapters.load("gemini").adapter(0).request(chat, channel).body)
    assert sent["contents"][0] == user({"text": "Hi"})
    assert sent["contents"][1]["parts"] == [
        {
            "functionCall": {"id": "id-0", "name": "f", "args": {"a": 1}},
            "thoughtSignature": "skip_thought_signature_validator",
        },
        {"functionCall": {"id": "id-1", "name": "g", "args": {}}, "thoughtSignature": "ORIG"},
        {"text": ""},
    ]


def test_a_body_without_ours_is_sent_on_untouched() -> None:
    body = {"contents": [model({"text": "x", "thought_signature": "c2x1aWNl"})], "of_tomorrow": None}
    assert GEMINI.parse(Inbound(json.dumps(body).encode(), {}, {"model": "m"})).raw == body


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_stream_ends_with_its_reason_and_usage_and_nothing_after() -> None:
    chunks = written([Start("up", "x"), Text("a"), Text("b"), Finish("length")], Usage(10, 20, cached=3, reasoning=5))
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None, None, "MAX_TOKENS"]
    assert chunks[-1]["usageMetadata"] == {
        "promptTokenCount": 10,
        "candidatesTokenCount": 15,
        "totalTokenCount": 30,
        "cachedContentTokenCount": 3,
        "thoughtsTokenCount": 5,
    }
    assert {(chunk["responseId"], chunk["modelVersion"]) for chunk in chunks} == {("R", "m")}


def test_usage_is_what_was_charged_where_the_provider_never_said() -> None:
    assert written([Text("a"), Finish("stop")])[-1]["usageMetadata"]["totalTokenCount"] == 2


@pytest.mark.parametrize(("output", "reasoning"), [(5, 9), (0, 3), (9, 5)])
def test_no_count_is_negative_and_the_total_is_their_sum(output: int, reasoning: int) -> None:
    used = Usage(4, output, reasoning=reasoning)
    streamed = written([Text("a"), Finish("stop"), Usage(1)], used)[-1]["usageMetadata"]
    completion = Completion(Start(), {0: Choice("a")}, used)
    assert streamed == json.loads(GEMINI.encoder(read(), "R", 0, "").completion(completion))["usageMetadata"]
    counts = [streamed.get(f"{kind}TokenCount", 0) for kind in ("prompt", "candidates", "thoughts")]
    assert min(counts) >= 0
    assert sum(counts) == streamed["totalTokenCount"] == 4 + output


@pytest.mark.parametrize(
    ("reason", "said"), [("stop", "STOP"), ("tool_calls", "STOP"), ("content_filter", "SAFETY"), ("odd", "OTHER")]
)
def test_a_reason_to_stop(reason: str, said: str) -> None:
    assert written([Text("a"), Finish(reason)])[-1]["candidates"][0]["finishReason"] == said


@pytest.mark.parametrize("streamed", [True, False])
def test_arguments_that_are_no_object_are_told_as_a_spoilt_call(streamed: bool) -> None:
    events = [ToolCall(0, "x", "f", '{"a":'), Finish("tool_calls")]
    answers = written(events) if streamed else [whole(events)]
    assert answers[-1]["candidates"][0]["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert not any("functionCall" in part for part in parts_of(*answers))


def test_an_image_chances_and_citations_are_written() -> None:
    image = {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]}
    chance = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}
    cited = {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]}
    events = [Raw(image), Text("a"), Raw({"logprobs": {"content": [chance]}}), Raw(cited), Finish("stop")]
    for answers in (written(events), [whole(events)]):
        assert PNG in parts_of(*answers)
        told = {name: value for one in answers for name, value in one["candidates"][0].items()}
        assert told["logprobsResult"]["chosenCandidates"] == [{"token": "a", "logProbability": -0.5}]
        assert told["groundingMetadata"]["groundingChunks"][0]["web"]["uri"] == "https://a.example"


def test_a_mapped_model_keeps_the_clients_name() -> None:
    encoder = GEMINI.encoder(read(), "R", 0, "m")
    frame = Frame('{"candidates":[],"modelVersion":"gemini-of-today"}')
    assert [json.loads(one.data)["modelVersion"] for one in encoder.relay(frame)] == ["m"]
    assert json.loads(encoder.whole(frame))["modelVersion"] == "m"


def test_a_providers_own_frames_are_untouched_and_nothing_is_added() -> None:
    encoder = GEMINI.encoder(read(), "R", 0, "")
    frame = Frame('{"candidates": []}')
    assert list(encoder.relay(frame)) == [frame]
    assert list(encoder.end(Usage(1, 1))) == []


@given(
    st.lists(
        st.one_of(
            st.builds(Text, st.text(min_size=1)),
            st.builds(Reasoning, st.text(min_size=1)),
            st.builds(lambda at, n: ToolCall(at, f"id-{at}", f"f{at}", json.dumps({"n": n})), st.integers(0, 3), WHOLE),
        ),
        max_size=12,
        unique_by=lambda event: (
            (type(event), event.index) if isinstance(event, ToolCall) else (type(event), event.text)
        ),
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_piece_by_piece_reads_as_what_is_written_whole(told: list[Event]) -> None:
    """Both are read again by the provider's side, and hold what the events held."""
    events = [Start("up", "m"), *told, Finish("stop"), Usage(3, 9)]
    buffers = [Buffer(), Buffer(), Buffer()]
    for event in events:
        buffers[0].add(event)
    frames = [Frame(json.dumps(chunk)) for chunk in written(events, generationConfig=SHOWN)]
    for buffer, answers in zip(
        buffers[1:], (frames, [Frame(json.dumps(whole(events, generationConfig=SHOWN)))]), strict=True
    ):
        adapter = adapters.load("gemini").adapter(0)
        for frame in answers:
            for event in adapter.feed(frame):
                buffer.add(event)
        assert list(adapter.finish()) == []
    ours, *theirs = (
        (
            buffer.text,
            buffer.choices[0].reasoning,
            sorted((call.id, call.name, json.loads(call.arguments)["n"]) for call in buffer.tool_calls),
        )
        for buffer in buffers
    )
    assert theirs == [ours, ours]


# --- errors and lists ------------------------------------------------------------------------------------------------


def test_an_error_begins_with_its_object_and_says_what_to_do() -> None:
    error = RateLimited("Slow down.", param="contents", retry_after=1.5)
    told = json.loads(GEMINI.error(error, "req_1"))["error"]
    assert (told["code"], told["status"], told["message"]) == (429, "RESOURCE_EXHAUSTED", "Slow down.")
    kinds = {one["@type"].rpartition(".")[2]: one for one in told["details"]}
    assert kinds["ErrorInfo"]["reason"] == "RATE_LIMIT_EXCEEDED"
    assert kinds["RequestInfo"]["requestId"] == "req_1"
    assert kinds["RetryInfo"]["retryDelay"] == "1.5s"
    assert kinds["BadRequest"]["fieldViolations"][0]["field"] == "contents"
    assert GEMINI.error_frame(InsufficientQuota("Empty."), "r").data.startswith('{"error":')


def test_a_providers_own_error_ends_a_stream_in_its_own_words() -> None:
    error = UpstreamFailed("x", (), status=502, code="upstream_broken")
    error.native = (503, b'{"error":{"code":503}}')
    assert GEMINI.error_frame(error, "r").data == '{"error":{"code":503}}'


def test_models_are_described_in_its_shape() -> None:
    known = Model("a", name="Model A", context=1000, max_output=10, reasoning=True)
    listed = json.loads(GEMINI.models([known, Model("b")]))["models"]
    assert listed[0] == {
        "name": "models/a",
        "displayName": "Model A",
        "inputTokenLimit": 1000,
        "outputTokenLimit": 10,
        "thinking": True,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
    assert listed[1]["name"] == "models/b"
    assert json.loads(GEMINI.counted(7)) == {"totalTokens": 7}


@pytest.mark.parametrize(
    ("headers", "claimed"),
    [({"x-goog-api-key": "k"}, True), ({"authorization": "x"}, False), ({"x-api-key": "k"}, False)],
)
def test_a_shared_path_is_told_by_the_headers(headers: dict[str, str], claimed: bool) -> None:
    assert GEMINI.claims(headers) is claimed
