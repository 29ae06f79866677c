"""What Anthropic's adapter sends, and what it makes of odd answers. Recorded traffic is read where the shared folder is present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Finish, Frame, Raw, Secret, Start, ToolCall, UpstreamRequest, Usage
from tests.adapters.test_every_adapter import decoded, played

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "anthropic"
NEEDS_RECORDINGS = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded traffic is kept outside the repository"
)
CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
OLD, NEW = "claude-sonnet-4-5", "claude-opus-4-7"
HI: dict[str, Any] = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"list": {"type": "array", "items": {"type": "object"}}, "map": {"additionalProperties": True}},
}


def request(model: str = OLD, *, on: Channel | None = None, cap: int = 0, **body: Any) -> UpstreamRequest:
    channel = on or Channel(id="c", type="anthropic", name="c", models=(model,), secret=Secret("sk-ant-1234567890"))
    full = {"model": model, "messages": [HI], **body}
    told = body.get("max_completion_tokens") or body.get("max_tokens")
    chat = ChatRequest(
        model, full, stream=bool(body.get("stream")), max_tokens=told, n=body.get("n", 1), output_cap=cap
    )
    return adapters.load("anthropic").adapter(0).request(chat, channel)


def sent(model: str = OLD, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(request(model, **body).body)
    return made


def refused(model: str = OLD, **body: Any) -> str | None:
    with pytest.raises(ProviderError) as met:
        request(model, **body)
    assert met.value.kind == "unsupported"
    assert met.value.param is not None
    assert met.value.param in met.value.message
    return met.value.param


# --- the request -----------------------------------------------------------------------------------------------------


def test_the_least_request() -> None:
    made = request(stream=True)
    assert made.url == "https://api.anthropic.com/v1/messages"
    assert made.headers == {
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-api-key": "sk-ant-1234567890",
    }
    assert json.loads(made.body) == {
        "model": OLD,
        "max_tokens": 8192,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert made.dropped == ()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1/messages"),
        ("http://127.0.0.1:9/anthropic/", "http://127.0.0.1:9/anthropic/messages"),
    ],
)
def test_an_endpoint_without_a_path_gets_anthropics_own(endpoint: str, url: str) -> None:
    assert request(on=Channel("c", "anthropic", "c", (OLD,), endpoint=endpoint)).url == url


def test_the_cap_is_the_one_the_hold_covers() -> None:
    assert sent(max_completion_tokens=100)["max_tokens"] == 100
    assert sent(max_completion_tokens=100_000, cap=64_000)["max_tokens"] == 64_000
    assert sent(cap=4096)["max_tokens"] == 4096


def test_an_anthropic_clients_own_request_goes_on_as_it_is() -> None:
    raw = {"model": "alias", "max_tokens": 1, "messages": [HI], "temperature": 1, "of_tomorrow": {"x": 1}}
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    chat = ChatRequest("alias", {"model": "alias", "messages": []}, dialect="anthropic", raw=raw, headers=headers)
    channel = Channel("c", "anthropic", "c", ("alias",), secret=Secret("sk-ant-1"), mapping={"alias": NEW})
    made = adapters.load("anthropic").adapter(0).request(chat, channel)
    assert json.loads(made.body) == {**raw, "model": NEW}
    assert made.headers.items() >= headers.items()
    assert made.dropped == ()


def test_another_clients_headers_do_not() -> None:
    chat = ChatRequest(OLD, {"model": OLD, "messages": [HI]}, headers={"anthropic-beta": "x"})
    made = adapters.load("anthropic").adapter(0).request(chat, Channel("c", "anthropic", "c", (OLD,)))
    assert "anthropic-beta" not in made.headers


def test_roles_are_merged_and_tool_results_come_first() -> None:
    call = {"id": "call.1:a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    empty = {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}
    body = sent(
        messages=[
            {"role": "system", "content": "One."},
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": "A"},
            {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "B"}]},
            {"role": "assistant", "content": "Calling.", "tool_calls": [call, empty]},
            {"role": "tool", "tool_call_id": "call.1:a", "content": "r1"},
            {"role": "user", "content": "C"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "r2"}]},
            {"role": "system", "content": "Later."},
        ]
    )
    assert body["system"] == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}},
    ]
    first, second, third = body["messages"]
    assert [block["text"] for block in first["content"]] == ["A", "B"]
    assert second["content"] == [
        {"type": "text", "text": "Calling."},
        {"type": "tool_use", "id": "call_1_a", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
    ]
    assert third["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1_a", "content": "r1"},
        {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "r2"}]},
        {"type": "text", "text": "C"},
        {"type": "text", "text": "Later."},
    ]


def test_instructions_alone_become_what_the_user_says() -> None:
    body = sent(messages=[{"role": "system", "content": "Speak."}])
    assert (body["messages"][0]["role"], "system" in body) == ("user", False)


def test_a_beginning_to_go_on_from_does_not_end_in_a_blank() -> None:
    assert sent(messages=[HI, {"role": "assistant", "content": "So: \n"}])["messages"][1]["content"][0]["text"] == "So:"


def test_images_and_files() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,QUJD", "detail": "low"}},
        {
            "type": "image_url",
            "image_url": {"url": "https://pictures.test/a.png"},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}},
    ]
    assert sent(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"}},
        {
            "type": "image",
            "source": {"type": "url", "url": "https://pictures.test/a.png"},
            "cache_control": {"type": "ephemeral"},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
            "title": "a.pdf",
        },
    ]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "input_audio", "input_audio": {}}, "messages[0].content[1]"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "messages[0].content[1]"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,raw"}}, "messages[0].content[1].image_url"),
    ],
)
def test_a_part_without_a_place_is_refused_by_its_name(part: dict[str, Any], field: str) -> None:
    assert refused(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]) == field


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"'])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    field = refused(messages=[HI, {"role": "assistant", "tool_calls": [call]}])
    assert field == "messages[1].tool_calls[0].function.arguments"


def test_signed_reasoning_goes_back_as_it_came() -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "Sg=="},
        {"type": "reasoning.encrypted", "data": "Eo8C"},
        {"type": "reasoning.text", "text": "unsigned", "signature": ""},
        {"type": "reasoning.encrypted", "data": "theirs", "format": "openai-responses-v1"},
    ]
    message = {"role": "assistant", "content": "So.", "reasoning_content": "hm", "reasoning_details": details}
    assert sent(messages=[HI, message])["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "Sg=="},
        {"type": "redacted_thinking", "data": "Eo8C"},
        {"type": "text", "text": "So."},
    ]


def test_a_signature_gathered_from_a_stream_finds_its_text() -> None:
    details = [{"type": "reasoning.text", "text": "", "signature": "Sg=="}]
    message = {"role": "assistant", "content": "So.", "reasoning_content": "hm", "reasoning_details": details}
    assert sent(messages=[HI, message])["messages"][1]["content"][0]["thinking"] == "hm"


def test_tools_and_their_choice() -> None:
    strict = {
        "type": "function",
        "function": {**TOOL["function"], "strict": True},
        "cache_control": {"type": "ephemeral"},
    }
    bare = {"type": "function", "function": {"name": "g", "description": "G."}}
    body = sent(tools=[strict, bare], parallel_tool_calls=False)
    assert body["tools"] == [
        {
            "name": "f",
            "input_schema": {"type": "object", "properties": {"a": {}}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"name": "g", "input_schema": {"type": "object", "properties": {}}, "description": "G."},
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    named = {"type": "function", "function": {"name": "f"}}
    for choice, told in (
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        (named, {"type": "tool", "name": "f"}),
    ):
        assert sent(tools=[TOOL], tool_choice=choice)["tool_choice"] == told
    assert "tool_choice" not in sent(tool_choice="auto")
    assert request("claude-3-5-haiku-20241022", tools=[strict]).dropped == ("tools.strict",)
    assert refused(tools=[{"type": "custom", "custom": {"name": "x"}}]) == "tools[0].type"
    assert refused(tools=[TOOL], tool_choice={"type": "allowed_tools"}) == "tool_choice"


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("claude-3-7-sonnet-20250219", {"temperature": 1, "top_p": 0.5, "top_k": 5}),
        ("claude-sonnet-4-20250514", {"temperature": 1, "top_p": 0.5, "top_k": 5}),
        ("claude-sonnet-4-5-20250929", {"temperature": 1, "top_k": 5}),
        ("claude-opus-4-6", {"temperature": 1, "top_k": 5}),
        ("anthropic/claude-opus-4.7", {}),
        ("claude-sonnet-5", {}),
        ("claude-fable-5", {}),
        ("claude-latest", {}),
        ("kimi-k3", {"temperature": 1, "top_p": 0.5, "top_k": 5}),
    ],
)
def test_sampling_only_where_the_model_takes_it(model: str, taken: dict[str, Any]) -> None:
    given = {"temperature": 1.5, "top_p": 0.5, "top_k": 5}
    made = request(model, **given)
    assert {name: value for name, value in json.loads(made.body).items() if name in given} == taken
    assert set(made.dropped) == given.keys() - taken.keys()


@pytest.mark.parametrize(
    ("model", "effort", "told"),
    [
        (
            NEW,
            "minimal",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
        ),
        (
            NEW,
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
        ),
        (
            "claude-opus-4-6",
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (NEW, "none", {"thinking": {"type": "disabled"}}),
        ("claude-fable-5", "none", {"output_config": {"effort": "low"}}),
        (OLD, "none", {}),
        (OLD, "low", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OLD, "medium", {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
        (OLD, "high", {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
    ],
)
def test_effort_as_the_models_generation_has_it(model: str, effort: str, told: dict[str, Any]) -> None:
    body = sent(model, reasoning_effort=effort, max_completion_tokens=10_000)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == told


def test_thinking_gives_way_where_it_would_be_refused() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    loop = [HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", "content": "1"}]
    cases: list[tuple[str, dict[str, Any]]] = [
        (OLD, {"max_completion_tokens": 1000}),
        (OLD, {"messages": loop}),
        (NEW, {"tools": [TOOL], "tool_choice": "required"}),
    ]
    for model, body in cases:
        made = request(model, reasoning_effort="high", **body)
        assert "thinking" not in json.loads(made.body)
        assert made.dropped == ("reasoning_effort",)
    signed = {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "Sg=="}]}
    loop[1] = {**loop[1], **signed}
    assert sent(reasoning_effort="high", messages=loop)["thinking"]["type"] == "enabled"
    assert sent(NEW, reasoning_effort="high", messages=loop[:1] + loop[1:])["thinking"]["type"] == "adaptive"
    assert request(reasoning_effort="low", temperature=0.5).dropped == ("temperature",)


def test_a_schema_is_closed_and_asked_for_where_the_model_knows_it() -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    made = sent(NEW, response_format=asked, reasoning_effort="high")["output_config"]
    assert made["effort"] == "high"
    schema = made["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["list"]["items"]["additionalProperties"] is False
    assert schema["properties"]["map"]["additionalProperties"] is True
    assert refused("claude-3-5-haiku-20241022", response_format=asked) == "response_format"
    assert refused(response_format={"type": "json_object"}) == "response_format"
    assert "output_config" not in sent(response_format={"type": "text"})


def test_blank_stops_are_dropped() -> None:
    made = request(stop=["END", "\n"])
    assert (json.loads(made.body)["stop_sequences"], made.dropped) == (["END"], ("stop",))
    assert sent(stop="END")["stop_sequences"] == ["END"]


@pytest.mark.parametrize("body", [{"tools": 5}, {"messages": [{"role": "user", "content": [5]}]}, {"stop": [1]}])
def test_a_field_of_the_wrong_shape_is_the_clients_fault(body: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as met:
        request(**body)
    assert met.value.kind == "invalid_request"


SAMPLES: dict[str, Any] = {
    "messages": [HI],
    "max_completion_tokens": 5,
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "stop": "x",
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "reasoning_effort": "low",
    "seed": 1,
    "store": True,
    "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    "thinking": {"type": "adaptive"},
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "logit_bias": {"1": 1},
    "logprobs": True,
    "top_logprobs": 2,
    "user": "u",
    "safety_identifier": "s",
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "verbosity": "low",
    "prediction": {"type": "content"},
    "prompt_cache_key": "k",
    "n": 2,
    "functions": [{}],
    "function_call": "auto",
    "audio": {"v": 1},
    "web_search_options": {"x": 1},
}


def test_the_table_of_the_docs_is_what_happens() -> None:
    section = CROSSINGS.split("## To an Anthropic channel")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {field.strip(" `"): fate.strip() for _, field, fate, *_ in rows}
    assert told == {field: fate_of(field, value) for field, value in SAMPLES.items()}


def fate_of(field: str, value: Any) -> str:
    beside = {"tools": [TOOL]} if "tool_" in field else {}
    try:
        made = request(**{**beside, "max_completion_tokens": 9000, field: value})
    except ProviderError as met:
        return "refused" if (met.kind, met.param) == ("unsupported", field) else str(met)
    return "dropped" if field in made.dropped else "carried"


# --- the answer ------------------------------------------------------------------------------------------------------


def test_an_error_inside_a_stream_is_raised_with_its_kind_and_its_own_words() -> None:
    data = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    with pytest.raises(ProviderError) as met:
        list(adapters.load("anthropic").adapter(0).feed(Frame(data, "error")))
    assert (met.value.kind, met.value.body.decode()) == ("overloaded", data)


def test_the_last_word_is_known() -> None:
    adapter = adapters.load("anthropic").adapter(0)
    assert not adapter.done
    list(adapter.feed(Frame('{"type":"message_stop"}')))
    assert adapter.done


def test_a_refusal_says_why() -> None:
    whole = (Path(__file__).parent / "cases" / "anthropic" / "refusal.json").read_text()
    events = list(adapters.load("anthropic").adapter(0).feed(Frame(whole)))
    assert Raw({"refusal": "Not this."}) in events
    assert Finish("content_filter") in events


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("new_one", "stop"),
    ],
)
def test_a_reason_to_stop(reason: str, said: str) -> None:
    told = {"type": "message_delta", "delta": {"stop_reason": reason}}
    assert Finish(said) in adapters.load("anthropic").adapter(0).feed(Frame(json.dumps(told)))


@pytest.mark.parametrize("usage", [{}, None, {"output_tokens": None}])
def test_the_output_count_a_message_starts_with_only_holds_its_place(usage: Any) -> None:
    adapter = adapters.load("anthropic").adapter(0)
    details = {"output_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, **details}}}
    assert list(adapter.feed(Frame(json.dumps(start)))) == [Start(), Usage(5)]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    assert list(adapter.feed(Frame(json.dumps(end)))) == [Finish("stop"), Usage(5)]


def test_calls_are_numbered_among_themselves() -> None:
    adapter = adapters.load("anthropic").adapter(0)
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    start = json.dumps({"type": "content_block_start", "index": 4, "content_block": block})
    assert list(adapter.feed(Frame(start))) == [ToolCall(0, "t", "f")]


@pytest.mark.parametrize(
    "data", ['{"type":"ping"}', '{"type":"event_of_tomorrow"}', '{"type":"content_block_delta","delta":{"type":"new"}}']
)
def test_what_is_not_known_is_no_event(data: str) -> None:
    assert list(adapters.load("anthropic").adapter(0).feed(Frame(data))) == []


def test_search_calls_are_counted() -> None:
    stream = (Path(__file__).parent / "cases" / "anthropic" / "server_tool.sse").read_bytes()
    adapter = adapters.load("anthropic").adapter(0)
    events = [event for frame in decoded([stream]) for event in adapter.feed(frame)]
    assert getattr(events[-1], "units", None) == {"search": 1}


# --- recorded traffic ------------------------------------------------------------------------------------------------

ANSWERS = {
    "text.sse": ("2", "", [], "stop", 20, 5),
    "thinking.sse": ("925 ÷ 5 = 185", "The previous result was", [], "stop", 69, 53),
    "redacted_thinking.sse": ("I notice that you've sent", "", [], "stop", 92, 189),
    "tool_use_no_args.sse": (
        "I'll update the issue list for you.",
        "",
        [["toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "updateIssueList", "{}"]],
        "tool_calls",
        565,
        48,
    ),
    "text.json": ("Hello! I'm doing well", "", [], "stop", 12, 29),
    "refusal.json": ("", "", [], "content_filter", 18, 5),
}


@NEEDS_RECORDINGS
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_recorded_answers(name: str, end: bytes) -> None:
    raw = (RECORDED / name).read_bytes()
    frames = decoded([raw.replace(b"\n", end)]) if name.endswith(".sse") else [Frame(raw.decode())]
    answer = played("anthropic", frames)
    text, reasoning, calls, finish, given, made = ANSWERS[name]
    choice = answer["choices"]["0"]
    assert choice["text"].startswith(text)
    assert choice["reasoning"].startswith(reasoning)
    assert (choice["tool_calls"], choice["finish_reason"]) == (calls, finish)
    assert (answer["usage"]["input"], answer["usage"]["output"]) == (given, made)


@NEEDS_RECORDINGS
@pytest.mark.parametrize("name", [name for name in ANSWERS if name.endswith(".sse")])
def test_recorded_streams_cut_at_every_byte(name: str) -> None:
    raw = (RECORDED / name).read_bytes()
    whole = decoded([raw])
    for at in range(len(raw)):
        assert decoded([raw[:at], raw[at:]]) == whole


@NEEDS_RECORDINGS
@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [("error_400.json", 400, "invalid_request"), ("error_404_count_tokens.json", 404, "model_not_found")],
)
def test_recorded_errors(name: str, status: int, kind: str) -> None:
    body = (RECORDED / name).read_bytes()
    error = adapters.load("anthropic").adapter(0).error(status, {}, body)
    assert (error.kind, error.body) == (kind, body)
