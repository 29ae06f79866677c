"""Anthropic's format as clients speak it: what is read of a request, what is passed on, what is made from canonical events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import dialects
from sluice.buffer import Buffer
from sluice.errors import BadRequest, InsufficientQuota, RateLimited, SluiceError, UpstreamFailed
from sluice.types import ChatRequest, Event, Finish, Frame, Inbound, Model, Raw, Reasoning, Start, Text, ToolCall, Usage

ANTHROPIC = dialects.load("anthropic")
CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
PNG: dict[str, Any] = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}


def read(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return ANTHROPIC.parse(
        Inbound(json.dumps(body).encode(), {"anthropic-beta": "a,b", "x-claude-code-session-id": "s"})
    )


def spoken(*content: Any, role: str = "user") -> list[Any]:
    """The canonical messages of one message with these blocks."""
    return list(read(messages=[{"role": role, "content": list(content)}]).body["messages"])


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_least_request() -> None:
    chat = read()
    assert chat.body == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9}
    assert (chat.dialect, chat.max_tokens, chat.stream, chat.native, chat.dropped) == ("anthropic", 9, False, (), ())
    assert chat.headers == {"anthropic-beta": "a,b"}


def test_the_clients_own_body_is_kept_to_be_sent_on() -> None:
    odd = {"model": "m", "messages": [{"role": "user", "content": "x"}], "of_tomorrow": None}
    assert ANTHROPIC.parse(Inbound(json.dumps(odd).encode())).raw == odd


def test_counting_needs_no_cap() -> None:
    assert "max_completion_tokens" not in read(max_tokens=None).body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"system": {"text": "x"}}, "system"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"thinking": "hard"}, "thinking"),
        ({"tool_choice": "auto", "tools": [{"name": "f"}]}, "tool_choice"),
        ({"output_config": []}, "output_config"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": 5}]}]},
            "messages[0].content[0].source",
        ),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as met:
        read(**fields)
    assert met.value.param == param


def test_instructions_and_marks_are_kept() -> None:
    marked = {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}}
    messages = read(
        system=[{"type": "text", "text": "One."}, marked], messages=[{"role": "system", "content": "x"}]
    ).body
    assert messages["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "One."}, marked]},
        {"role": "system", "content": "x"},
    ]
    assert read(system="One.").body["messages"][0] == {"role": "system", "content": "One."}


def test_an_assistants_turn_with_reasoning_and_parallel_calls() -> None:
    (turn,) = spoken(
        {"type": "thinking", "thinking": "hm", "signature": "Sg=="},
        {"type": "redacted_thinking", "data": "Eo8C"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"a": [1]}},
        {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}},
        role="assistant",
    )
    assert turn == {
        "role": "assistant",
        "content": "So.",
        "reasoning_content": "hm",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "signature": "Sg=="},
            {"type": "reasoning.encrypted", "data": "Eo8C"},
        ],
        "tool_calls": [
            {"id": "toolu_a", "type": "function", "function": {"name": "f", "arguments": '{"a":[1]}'}},
            {"id": "toolu_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_a_tools_result_with_an_image_has_it_in_the_next_message() -> None:
    first, second, after = spoken(
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "Seen."}, PNG]},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        {"type": "text", "text": "So?"},
    )
    assert first == {"role": "tool", "tool_call_id": "a", "content": "Seen."}
    assert second == {"role": "tool", "tool_call_id": "b", "content": "Error: "}
    assert [part["type"] for part in after["content"]] == ["text", "image_url", "text"]
    assert after["content"][1]["image_url"] == {"url": "data:image/png;base64,QUJD"}


def test_a_mark_on_a_tools_result_is_kept() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    (message,) = spoken({"type": "tool_result", "tool_use_id": "a", "content": "r", **mark})
    assert message["content"] == [{"type": "text", "text": "r", **mark}]


def test_images_and_documents() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    (turn,) = spoken(
        {
            "type": "image",
            "source": {"type": "url", "url": "https://a.test/b.png"},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words."}, "title": "T"},
        {
            "type": "search_result",
            "title": "S",
            "source": "https://s.test",
            "content": [{"type": "text", "text": "Found."}],
        },
    )
    assert turn["content"] == [
        {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}, "cache_control": {"type": "ephemeral"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
        {"type": "text", "text": "T\n\nWords."},
        {"type": "text", "text": "S\n\nhttps://s.test\n\nFound."},
    ]


def test_tools_and_their_choice() -> None:
    tool = {"name": "f", "description": "F.", "input_schema": {"type": "object"}, "strict": True, "defer_loading": True}
    chat = read(tools=[tool], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    function = {"name": "f", "parameters": {"type": "object"}, "description": "F.", "strict": True}
    assert chat.body["tools"] == [{"type": "function", "function": function}]
    assert (chat.body["tool_choice"], chat.body["parallel_tool_calls"]) == ("required", False)
    assert chat.dropped == ("tools.defer_loading",)
    named = read(tools=[tool], tool_choice={"type": "tool", "name": "f"}).body["tool_choice"]
    assert named == {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "xhigh"),
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"output_config": {"effort": "low"}}, "low"),
        ({}, None),
    ],
)
def test_thinking_in_the_one_word_others_have_for_it(fields: dict[str, Any], effort: str | None) -> None:
    assert read(**fields).body.get("reasoning_effort") == effort


def test_a_schema_for_the_answer() -> None:
    asked = {"format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": {"tokens": 5}}
    chat = read(output_config=asked)
    assert chat.body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert chat.dropped == ("output_config.task_budget",)


@pytest.mark.parametrize(
    ("block", "native"),
    [
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, True),
        ({"type": "document", "source": {"type": "url", "url": "https://a.test/a.pdf"}}, True),
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, True),
        ({"type": "block_of_tomorrow"}, True),
        (PNG, False),
    ],
)
def test_a_block_only_anthropic_understands_is_named(block: dict[str, Any], native: bool) -> None:
    chat = read(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, block]}])
    assert chat.native == (("messages[0].content[1]",) if native else ())


SAMPLES: dict[str, Any] = {
    "system": "x",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 5,
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "speed": "fast",
    "cache_control": {"type": "ephemeral"},
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": "m"},
    "mcp_servers": [{"name": "s"}],
    "container": "c",
    "inference_geo": "eu",
}


def test_the_table_of_the_docs_is_what_happens() -> None:
    section = CROSSINGS.split("## From an Anthropic client")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {field.strip(" `"): fate.strip() for _, field, fate, *_ in rows}

    def fate(field: str) -> str:
        chat = read(**{field: SAMPLES[field]})
        return "refused" if field in chat.native else "dropped" if field in chat.dropped else "carried"

    assert told == {field: fate(field) for field in SAMPLES}


# --- passing on ------------------------------------------------------------------------------------------------------


def encoder(alias: str = "") -> Any:
    return ANTHROPIC.encoder(ChatRequest(model="m", body={}, stream=True, dialect="anthropic"), "req_1", 0, alias)


def test_a_frame_is_passed_on_to_the_letter_and_the_last_waits() -> None:
    relay = encoder()
    odd = Frame('{"type":"event_of_tomorrow"  }', "event_of_tomorrow")
    assert list(relay.relay(odd)) == [odd]
    assert list(relay.relay(Frame('{"type":"message_stop"}', "message_stop"))) == []
    assert list(relay.end(Usage(1, 2))) == [Frame('{"type":"message_stop"}', "message_stop")]


def test_a_frame_without_its_event_line_gets_it() -> None:
    assert list(encoder().relay(Frame('{"type":"ping"}'))) == [Frame('{"type":"ping"}', "ping")]


def test_a_mapped_model_keeps_the_clients_name() -> None:
    start = Frame('{"type":"message_start","message":{"model":"theirs"}}', "message_start")
    (told,) = encoder(alias="ours").relay(start)
    assert json.loads(told.data)["message"]["model"] == "ours"
    assert list(encoder().relay(start)) == [start]
    assert json.loads(encoder(alias="ours").whole(Frame('{"model":"theirs","x":1}'))) == {"model": "ours", "x": 1}
    assert encoder().whole(Frame('{"model": "theirs" }')) == b'{"model": "theirs" }'


# --- encoding --------------------------------------------------------------------------------------------------------


def streamed(events: list[Event], usage: Usage | None = None) -> list[Any]:
    made = encoder()
    charged = usage or next((event for event in events if isinstance(event, Usage)), None)
    frames = [frame for event in events for frame in made.encode(event)] + list(made.end(charged))
    told = [json.loads(frame.data) for frame in frames]
    assert [frame.event for frame in frames] == [one["type"] for one in told]
    return told


_GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def gathered(told: list[Any]) -> Any:
    """The message a client makes of a stream, strict about what the protocol promises."""
    start, *rest = told
    assert start["type"] == "message_start"
    message, arguments = start["message"], dict[int, str]()
    for event in rest:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                grow(message["content"][-1], event["delta"], event["index"], arguments)
            case "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
    for index, text in arguments.items():
        message["content"][index]["input"] = json.loads(text)
    return message


def grow(block: dict[str, Any], delta: dict[str, Any], index: int, arguments: dict[int, str]) -> None:
    if delta["type"] == "input_json_delta":
        arguments[index] = arguments.get(index, "") + delta["partial_json"]
    else:
        block[_GROWS[delta["type"]]] += delta[_GROWS[delta["type"]]]


def completed(events: list[Event], usage: Usage) -> Any:
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    return json.loads(encoder().completion(buffer.completion(usage)))


def test_a_stream_has_anthropics_events_in_their_order() -> None:
    told = streamed(
        [
            Start("x", "theirs", 1),
            Reasoning("hm"),
            Text("Hello"),
            ToolCall(0, "call_a", "f", '{"a"'),
            ToolCall(0, "", "", ":1}"),
            Finish("tool_calls"),
            Usage(30, 4, cached=10, cache_write=5, reasoning=2),
        ]
    )
    assert [(one["type"], one.get("index")) for one in told] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    message = told[0]["message"]
    assert (message["id"], message["model"], message["content"], message["stop_reason"]) == ("msg_req_1", "m", [], None)
    assert message["usage"]["output_tokens"] == 0
    assert told[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert told[8]["content_block"] == {"type": "tool_use", "id": "call_a", "name": "f", "input": {}}
    assert told[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert told[-2]["usage"] == {
        "input_tokens": 15,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 10,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
    }


@pytest.mark.parametrize(
    ("reason", "told"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("of_tomorrow", "end_turn")],
)
def test_stop_reasons(reason: str, told: str) -> None:
    assert streamed([Start(), Text("x"), Finish(reason)])[-2]["delta"]["stop_reason"] == told


def test_a_provider_that_stops_with_calls_meant_them() -> None:
    assert streamed([Start(), ToolCall(0, "a", "f", "{}"), Finish("stop")])[-2]["delta"]["stop_reason"] == "tool_use"


def test_usage_is_what_was_charged_where_the_provider_never_said() -> None:
    assert streamed([Start(), Text("x"), Finish("stop")], Usage(7, 1))[-2]["usage"]["input_tokens"] == 7


def test_an_answer_without_content_is_a_well_formed_message() -> None:
    message = gathered(streamed([Finish("content_filter")]))
    assert (message["content"], message["stop_reason"]) == ([], "refusal")


def test_calls_that_come_in_turns_are_told_one_after_the_other() -> None:
    events: list[Event] = [
        Start(),
        ToolCall(0, "a", "f", '{"x":'),
        ToolCall(1, "b", "g", '{"y"'),
        ToolCall(0, arguments="1}"),
        ToolCall(1, arguments=":2}"),
        ToolCall(2, "", "h"),
        Finish("tool_calls"),
    ]
    told = streamed(events)
    blocks = gathered(told)["content"]
    assert [(block["name"], block["input"]) for block in blocks] == [("f", {"x": 1}), ("g", {"y": 2}), ("h", {})]
    open_now = 0
    for one in told:
        open_now += {"content_block_start": 1, "content_block_stop": -1}.get(one["type"], 0)
        assert open_now <= 1


def test_a_second_call_is_told_live_once_the_first_is_whole() -> None:
    made = encoder()
    for event in (Start(), ToolCall(0, "a", "f", "{}")):
        list(made.encode(event))
    assert [frame.event for frame in made.encode(ToolCall(1, "b", "g", '{"y"'))] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def sent_back(content: list[Any]) -> tuple[Any, list[Any]]:
    """A client sends an answer back: the canonical turn, and the types of the blocks an Anthropic channel would get."""
    chat = read(messages=[{"role": "assistant", "content": content}])
    return chat.body["messages"][0], [block["type"] for block in chat.raw["messages"][0]["content"]]


def test_reasoning_of_others_survives_the_client_and_never_reaches_anthropic() -> None:
    events: list[Event] = [
        Start(),
        Reasoning("open"),
        Reasoning("", data="sealed"),
        Reasoning("signed"),
        Reasoning("", "sig"),
        ToolCall(0, "call_a", "f", "{}", signature="of a call"),
        Finish("tool_calls"),
    ]
    content = gathered(streamed(events))["content"]
    assert content == completed(events, Usage())["content"]
    assert all(block.get("signature", "x") for block in content)
    turn, native = sent_back(content)
    assert turn["reasoning_details"] == [
        {"type": "reasoning.text", "text": "open", "signature": ""},
        {"type": "reasoning.encrypted", "data": "sealed"},
        {"type": "reasoning.text", "text": "signed", "signature": "sig"},
    ]
    assert turn["reasoning_content"] == "opensigned"
    assert turn["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "of a call"}}
    assert native == ["tool_use"]


def test_a_signature_that_was_tampered_with_is_none() -> None:
    content = [
        {"type": "redacted_thinking", "data": "sluice-call.!!"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]
    turn, _ = sent_back(content)
    assert "extra_content" not in turn["tool_calls"][0]


def test_anthropics_own_reasoning_goes_back_untouched() -> None:
    content = [{"type": "thinking", "thinking": "hm", "signature": "Sg=="}, {"type": "redacted_thinking", "data": "E"}]
    assert sent_back(content)[1] == ["thinking", "redacted_thinking"]


_TEXTS = st.text(min_size=1, max_size=8).filter(str.strip)
_CALLS = st.lists(st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63) | _TEXTS, max_size=3), max_size=3)


@given(thought=st.lists(_TEXTS, max_size=3), text=st.lists(_TEXTS, max_size=3), calls=_CALLS, data=st.data())
def test_a_stream_says_what_the_completion_says(
    thought: list[str], text: list[str], calls: list[dict[str, Any]], data: st.DataObject
) -> None:
    """And what is read back of it is what was said."""
    events: list[Event] = [Start("x"), *map(Reasoning, thought), *map(Text, text)]
    deltas: list[list[Event]] = []
    for index, arguments in enumerate(calls):
        whole = json.dumps(arguments)
        at = data.draw(st.integers(0, len(whole)))
        deltas.append(
            [ToolCall(index, f"call_{index}", f"f{index}", whole[:at]), ToolCall(index, arguments=whole[at:])]
        )
    in_turns = data.draw(st.booleans())
    pairs = zip(*deltas, strict=True) if in_turns else deltas
    events += [event for pair in pairs for event in pair]
    events += [Finish("tool_calls" if calls else "stop"), Usage(9, 8, cached=3, reasoning=2)]
    whole_message = completed(events, Usage(9, 8, cached=3, reasoning=2))
    message = gathered(streamed(events))
    for name in ("id", "model", "role", "type", "stop_reason", "content"):
        assert message[name] == whole_message[name]
    assert message["usage"].items() >= whole_message["usage"].items()
    turn, _ = sent_back(message["content"]) if message["content"] else ({}, [])
    assert (turn.get("content") or "") == "".join(text)
    assert turn.get("reasoning_content", "") == "".join(thought)
    assert [json.loads(call["function"]["arguments"]) for call in turn.get("tool_calls", [])] == calls


# --- errors and lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (InsufficientQuota("x"), "billing_error"),
        (RateLimited("x"), "rate_limit_error"),
        (UpstreamFailed("x", (), status=503, code="upstream_overloaded"), "overloaded_error"),
        (UpstreamFailed("x", (), status=502, code="upstream_failed"), "api_error"),
    ],
)
def test_an_error_has_the_same_form_as_a_body_and_as_an_event(error: SluiceError, kind: str) -> None:
    body = json.loads(ANTHROPIC.error(error, "req_1"))
    assert body == {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "req_1"}
    frame = ANTHROPIC.error_frame(error, "req_1")
    assert (frame.event, json.loads(frame.data)) == ("error", body)


def test_the_providers_own_error_event_is_not_restated() -> None:
    error = BadRequest("x")
    error.native = (0, b'{"type":"error" }')
    assert ANTHROPIC.error_frame(error, "req_1") == Frame('{"type":"error" }', "error")


def test_models() -> None:
    known = Model("m", name="M", created=1_700_000_000, context=200_000, max_output=64_000)
    told = json.loads(ANTHROPIC.models([known, Model("n")]))
    assert (told["has_more"], told["first_id"], told["last_id"]) == (False, "m", "n")
    assert told["data"][0] == {
        "type": "model",
        "id": "m",
        "display_name": "M",
        "created_at": "2023-11-14T22:13:20Z",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
    assert json.loads(ANTHROPIC.model(Model("n")))["display_name"] == "n"
    assert json.loads(ANTHROPIC.models([])) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_who_asks_is_known_by_its_headers() -> None:
    assert ANTHROPIC.claims({"anthropic-version": "2026-10-21"})
    assert ANTHROPIC.claims({"x-api-key": "k"})
    assert not ANTHROPIC.claims({"authorization": "Bearer k"})


def test_raw_content_has_no_block() -> None:
    assert [one["type"] for one in streamed([Start(), Raw({"audio": {}}), Finish("stop")])] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


# --- any shape -------------------------------------------------------------------------------------------------------

RICH: dict[str, Any] = {
    **SAMPLES,
    "model": "m",
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "messages": [
        {
            "role": "user",
            "content": [PNG, {"type": "search_result", "title": "t", "source": "s", "content": [{"text": "x"}]}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "y"},
                {"type": "redacted_thinking", "data": "sluice-call.W10="},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "r"}]}],
        },
        {
            "role": "user",
            "content": [{"type": "document", "title": "t", "source": {"type": "content", "content": "x"}}],
        },
    ],
}
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "auto", "text"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text", "x"]), inner, max_size=2)
    ),
)


@settings(max_examples=500)
@given(data=st.data(), odd=_ANY)
def test_a_body_of_any_shape_is_read_or_refused(data: st.DataObject, odd: Any) -> None:
    body = json.loads(json.dumps(RICH))
    place: Any = body
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
    place[key] = odd
    try:
        chat = ANTHROPIC.parse(Inbound(json.dumps(body).encode()))
    except BadRequest:
        return
    assert chat.body["messages"]


# --- pictures of an answer -------------------------------------------------------------------------------------------

DRAWN = Raw({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]})
IN_WORDS: dict[str, Any] = {"type": "text", "text": "![picture](data:image/png;base64,QUJD)"}


def test_a_picture_is_a_block_of_text_by_itself_streamed_and_whole() -> None:
    events: list[Event] = [Start(), Text("Look:"), DRAWN, Finish("stop")]
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    assert gathered(streamed(events))["content"] == [{"type": "text", "text": "Look:"}, IN_WORDS]
    whole = json.loads(encoder().completion(buffer.completion(Usage(1, 2))))
    assert whole["content"] == [{"type": "text", "text": "Look:"}, IN_WORDS]
    assert gathered(streamed([Start(), DRAWN, Finish("stop")]))["content"] == [IN_WORDS]


def test_a_picture_sent_back_is_an_image_of_the_users_in_either_body() -> None:
    turns = [{"role": "assistant", "content": [IN_WORDS]}, {"role": "user", "content": "Bluer."}]
    chat = read(messages=turns)
    said, head = {"type": "text", "text": "Bluer."}, {"type": "text", "text": "The pictures of the answer above:"}
    assert chat.raw["messages"] == [
        {"role": "assistant", "content": [{"type": "text", "text": "[picture]"}]},
        {"role": "user", "content": [said, head, PNG]},
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    assert chat.body["messages"] == [
        {"role": "assistant", "content": "[picture]"},
        {"role": "user", "content": [said, head, image]},
    ]


@pytest.mark.parametrize("text", ["![picture](https://a.example/x.png)", "![picture](data:image/png;base64,Q Q)", "x"])
def test_what_is_no_picture_of_ours_stays_as_it_is(text: str) -> None:
    turns = [{"role": "assistant", "content": [{"type": "text", "text": text}]}, {"role": "user", "content": "x"}]
    assert read(messages=turns).raw["messages"] == turns
