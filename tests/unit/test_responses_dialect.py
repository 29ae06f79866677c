"""OpenAI's Responses as clients speak them: items read, items told, and an answer told again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import responses as wire
from pydantic import TypeAdapter

from sluice import dialects
from sluice.buffer import Buffer
from sluice.errors import BadRequest, InsufficientQuota, NotFound, SluiceError
from sluice.types import (
    ChatRequest,
    Event,
    Finish,
    Frame,
    Inbound,
    KeptAnswer,
    Raw,
    Reasoning,
    Start,
    Text,
    ToolCall,
    Usage,
)

RESPONSES: Any = dialects.load("responses")
CROSSINGS = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
KEY = "0" * 26 + "a"
USAGE = Usage(10, 5, cached=2, reasoning=1)
CUSTOM = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def read(**fields: Any) -> ChatRequest:
    body = {"model": "m", "input": "Hi", **fields}
    chat: ChatRequest = RESPONSES.parse(Inbound(json.dumps(body).encode()))
    return chat


def messages(*items: Any) -> Any:
    return read(input=list(items)).body["messages"]


def encoder(key: str = KEY, **fields: Any) -> Any:
    return RESPONSES.encoder(read(**fields), f"req_{key}", 1_700_000_000, "")


def said(made: Any, *events: Event) -> list[Any]:
    """What an encoder says of events, up to its last word."""
    frames = [frame for event in events for frame in made.encode(event)]
    return [json.loads(frame.data) for frame in (*frames, *made.end(USAGE))]


def answered(*events: Event, key: str = KEY, **fields: Any) -> KeptAnswer:
    made = encoder(key, **fields)
    said(made, *events)
    kept: KeptAnswer = made.record(USAGE)
    return kept


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_least_request() -> None:
    chat = read()
    assert chat.body == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert (chat.dialect, chat.max_tokens, chat.stream, chat.dropped, chat.recalls) == (
        "responses",
        None,
        False,
        (),
        (),
    )


def test_the_cap_on_output_is_the_one_the_hold_is_sized_by() -> None:
    chat = read(max_output_tokens=7)
    assert (chat.max_tokens, chat.body["max_completion_tokens"]) == (7, 7)


def test_what_a_turn_said_thought_and_called_is_one_message() -> None:
    assert messages(
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "patch", "input": "raw"},
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "5"}]},
    ) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "raw"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        {"role": "tool", "tool_call_id": "call_2", "content": "5"},
    ]


def test_turns_that_follow_each_other_stay_apart() -> None:
    turn = {"role": "assistant", "content": "One."}
    assert [one["content"] for one in messages(turn, turn)] == ["One.", "One."]


def test_words_after_a_call_stand_in_its_message_so_that_its_result_follows_it() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "4"}
    turn, tool = messages(call, {"role": "assistant", "content": "Done."}, result)
    assert (turn["content"], turn["tool_calls"][0]["id"], tool["role"]) == ("Done.", "c", "tool")


def test_every_kind_of_part() -> None:
    parts = [
        {"type": "input_text", "text": "See."},
        {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
    ]
    ((message),) = messages({"role": "user", "content": parts})
    assert message["content"] == [
        {"type": "text", "text": "See."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
    ]


def test_a_part_that_is_more_than_text_stays_a_part() -> None:
    marked = {"type": "input_text", "text": "x", "cache_control": {"type": "ephemeral"}}
    ((message),) = messages({"role": "user", "content": [marked]})
    assert message["content"] == [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]


def test_tools_and_formats_are_flat_here_and_deep_there() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    body = read(
        tools=[FUNCTION, CUSTOM],
        tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        parallel_tool_calls=False,
    ).body
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}},
        {
            "type": "custom",
            "custom": {
                "name": "patch",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}},
            },
        },
    ]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert body["tool_choice"] == {"type": "allowed_tools", "allowed_tools": allowed}
    deep = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": deep}
    assert (body["verbosity"], body["reasoning_effort"], body["parallel_tool_calls"]) == ("low", "low", False)
    assert read(tool_choice={"type": "function", "name": "f"}, tools=[FUNCTION]).body["tool_choice"] == {
        "type": "function",
        "function": {"name": "f"},
    }


def test_a_field_of_tomorrow_goes_on_under_its_name() -> None:
    assert read(of_tomorrow={"deep": [1]}, temperature=0.5).body["of_tomorrow"] == {"deep": [1]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
        ({"input": [{"type": ["x"]}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]}, "input[0].output"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"store": "no"}, "store"),
        ({"include": "x"}, "include"),
        ({"reasoning": "hard"}, "reasoning"),
        ({"instructions": ["x"]}, "instructions"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as met:
        read(**fields)
    assert met.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "message", "function", "auto", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "id", "name", "output", "summary", "format", "tools", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = ["input", "tools", "tool_choice", "text", "reasoning", "include", "instructions", "previous_response_id"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "metadata", "store", "truncation"]), JSON, max_size=4))
def test_no_body_breaks_the_reader(fields: dict[str, Any]) -> None:
    try:
        chat = read(**fields)
    except (BadRequest, NotFound):
        return
    assert all(isinstance(message["role"], str) for message in chat.body["messages"])


KINDS = ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call"]
ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "role": st.sampled_from(["user", "assistant"]),
        **dict.fromkeys(["content", "summary", "output", "encrypted_content", "extra_content", "id"], JSON),
        **dict.fromkeys(["call_id", "name", "arguments", "input"], st.just("x")),
    },
)


@given(st.lists(ITEM, min_size=1, max_size=4))
def test_no_item_breaks_the_reader(items: list[Any]) -> None:
    try:
        read(input=items)
    except (BadRequest, NotFound):
        return


# --- the written table -----------------------------------------------------------------------------------------------

SAMPLES: dict[str, Any] = {
    "input": "x",
    "instructions": "x",
    "max_output_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "tools": [FUNCTION],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"verbosity": "low"},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "previous_response_id": f"resp_{KEY}",
    "store": True,
    "metadata": {"a": "b"},
    "max_tool_calls": 3,
    "stream_options": {"include_obfuscation": False},
    "user": "u",
    "safety_identifier": "u",
    "prompt_cache_key": "k",
    "service_tier": "flex",
    "moderation": {"model": "x"},
    "truncation": "auto",
    "context_management": [{"type": "compaction"}],
    "background": True,
    "conversation": "conv_1",
    "prompt": {"id": "pmpt_1"},
}


def test_the_docs_table_is_what_happens() -> None:
    _, section = CROSSINGS.split("## From a Responses client")
    rows = (row.split("|") for row in section.partition("\n## ")[0].splitlines() if row.startswith("| `"))
    told = {row[1].strip().strip("`"): row[2].strip() for row in rows}

    def fate(field: str) -> str:
        try:
            chat = read(**{field: SAMPLES[field]})
        except BadRequest:
            return "refused"
        if field in chat.dropped:
            return "dropped"
        return "carried" if chat.body != read().body or chat.recalls or field == "input" else "ours"

    assert told == {field: fate(field) for field in SAMPLES}


# --- telling ---------------------------------------------------------------------------------------------------------

PICTURE = Raw({"images": [{"type": "image_url", "image_url": {"url": "data:image/webp;base64,QUJD"}}]})
TURN: tuple[Event, ...] = (
    Start("x"),
    Reasoning("th"),
    Reasoning("ink"),
    Reasoning("", "SIG"),
    Text("He"),
    Text("llo"),
    Raw(
        {
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
            ]
        }
    ),
    Raw({"logprobs": {"content": [{"token": "He", "logprob": -0.1, "bytes": [72], "top_logprobs": []}]}}),
    ToolCall(0, "call_a", "f", ""),
    ToolCall(1, "call_b", "patch", "ra"),
    ToolCall(0, "", "", '{"a"'),
    ToolCall(1, "", "", "w"),
    ToolCall(0, "", "", ":1}", signature="GS"),
    Finish("tool_calls"),
    USAGE,
)


def test_every_event_is_one_the_sdk_knows() -> None:
    known: TypeAdapter[Any] = TypeAdapter(wire.ResponseStreamEvent)
    for told in said(encoder(tools=[FUNCTION, CUSTOM]), *TURN):
        assert known.validate_python(told).type == told["type"]
    response = wire.Response.model_validate(said(encoder(), *TURN)[-1]["response"], strict=True)
    assert response.usage is not None
    assert response.usage.input_tokens_details.cache_write_tokens == 0


def test_events_are_numbered_named_and_close_what_they_open() -> None:
    made = encoder(tools=[FUNCTION, CUSTOM])
    frames = [frame for event in TURN for frame in made.encode(event)] + list(made.end(USAGE))
    told = [json.loads(frame.data) for frame in frames]
    assert [frame.event for frame in frames] == [one["type"] for one in told]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    added = [one["item"]["id"] for one in told if one["type"] == "response.output_item.added"]
    done = [one["item"]["id"] for one in told if one["type"] == "response.output_item.done"]
    assert added == done == [f"rs_{KEY}o0", f"msg_{KEY}o1", f"fc_{KEY}o2", f"ctc_{KEY}o3"]
    final = told[-1]["response"]["output"]
    assert [one["item"] for one in told if one["type"] == "response.output_item.done"] == final
    pieces = {
        item["id"]: "".join(one["delta"] for one in told if one.get("item_id") == item["id"] and "delta" in one)
        for item in final
    }
    assert [*pieces.values()] == ["think", "Hello", '{"a":1}', "raw"]


def test_a_call_is_answered_by_another_id_than_its_items() -> None:
    *_, last = said(encoder(tools=[FUNCTION, CUSTOM]), *TURN)
    call, custom = last["response"]["output"][2:]
    assert (call["call_id"], call["arguments"], custom["call_id"], custom["input"]) == (
        "call_a",
        '{"a":1}',
        "call_b",
        "raw",
    )
    assert call["extra_content"] == {"google": {"thought_signature": "GS"}}


def test_a_call_without_an_id_gets_one_that_stays() -> None:
    told = said(encoder(), ToolCall(0, "", "f", "{"), ToolCall(0, "", "", "}"), Finish("tool_calls"))
    ids = {one["item"]["call_id"] for one in told if "item" in one}
    assert len(ids) == 1
    assert ids.pop().startswith("call_")


@pytest.mark.parametrize(
    ("reason", "ending", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_it_ended(reason: str, ending: str, why: Any) -> None:
    last = said(encoder(), Text("x"), Finish(reason))[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{ending}", ending)
    assert last["response"]["incomplete_details"] == why
    assert last["response"]["output"][0]["status"] == ending


def test_a_character_cut_in_two_is_whole_in_the_end() -> None:
    events = (Reasoning("\ud83d", "SIG"), Text("a\ud83d"), Text("\ude00b\ud83d"), Finish("stop"))
    told = said(encoder(), *events)
    assert "".join(one["delta"] for one in told if "text.delta" in one["type"]) == "\ud83da\ud83d\ude00b\ud83d"
    assert told[-1]["response"]["output"][1]["content"][0]["text"] == "a\U0001f600b\ufffd"
    kept = answered(*events)
    assert json.loads(RESPONSES.answer(kept, {}))["output"] == told[-1]["response"]["output"]


def test_what_was_asked_is_echoed() -> None:
    asked = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "tools": [FUNCTION],
        "tool_choice": "required",
        "temperature": 0.0,
        "parallel_tool_calls": False,
        "truncation": "auto",
        "store": False,
        "max_output_tokens": 9,
        "max_tool_calls": 2,
    }
    first = said(encoder(**asked), Finish("stop"))[0]["response"]
    assert {name: first[name] for name in asked} == asked
    assert first["text"] == {"format": {"type": "text"}}
    assert (first["top_p"], first["tool_choice"], first["status"]) == (1.0, "required", "in_progress")


def test_what_broke_ends_as_failed_with_what_there_was() -> None:
    made = encoder()
    frames = [frame for event in (Text("Hel"), Text("lo")) for frame in made.encode(event)]
    told = [json.loads(frame.data) for frame in (*frames, *made.broken(InsufficientQuota("Top up."), USAGE))]
    assert [one["type"] for one in told[-2:]] == ["error", "response.failed"]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    failed = told[-1]["response"]
    assert failed["error"] == {"code": "insufficient_quota", "message": "Top up."}
    assert (failed["status"], failed["output"][0]["status"]) == ("failed", "incomplete")
    assert failed["output"][0]["content"][0]["text"] == "Hello"
    assert made.record(USAGE) is None


def test_what_broke_before_it_began_is_told_from_the_start() -> None:
    told = [json.loads(frame.data) for frame in encoder().broken(SluiceError("x"), None)]
    assert [one["type"] for one in told] == ["response.created", "response.in_progress", "error", "response.failed"]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
EVENTS = st.lists(
    st.builds(Text, TEXTS)
    | st.builds(Reasoning, TEXTS, st.sampled_from(["", "", "SIG"]))
    | st.builds(Reasoning, st.just(""), data=st.sampled_from(["", "DATA"]))
    | st.builds(ToolCall, st.integers(0, 2), st.sampled_from(["", "call_1"]), st.just("f"), TEXTS)
    | st.just(Raw({"annotations": [{"type": "x"}]}))
    | st.just(Raw({"logprobs": {"content": [{"token": "a"}]}}))
    | st.just(PICTURE),
    max_size=12,
)


@given(EVENTS, st.sampled_from(["stop", "length"]))
def test_a_stream_told_again_is_the_same_stream(events: list[Event], reason: str) -> None:
    made = encoder(include=["reasoning.encrypted_content"])
    told = said(made, *events, Finish(reason))
    kept = made.record(USAGE)
    again = [json.loads(frame.data) for frame in RESPONSES.replay(kept, {"include[]": "reasoning.encrypted_content"})]
    assert again == told
    rest = RESPONSES.replay(kept, {"starting_after": "4"})
    assert [json.loads(frame.data)["sequence_number"] for frame in rest] == list(range(5, len(told)))


@given(st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3))
def test_a_stream_and_a_whole_answer_say_the_same(thought: list[str], text: list[str], calls: list[str]) -> None:
    events: list[Event] = [*map(Reasoning, thought), *map(Text, text)]
    events += [ToolCall(index, f"call_{index}", "f", arguments) for index, arguments in enumerate(calls)]
    events.append(Finish("tool_calls" if calls else "stop"))
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    whole = json.loads(encoder().completion(buffer.completion(USAGE)))
    assert whole == said(encoder(), *events)[-1]["response"]


def test_a_whole_answer_is_told_again_an_item_at_a_time() -> None:
    made, buffer = encoder(), Buffer()
    for event in (Text("Hello there"), Finish("stop")):
        buffer.add(event)
    made.completion(buffer.completion(USAGE))
    frames = RESPONSES.replay(made.record(USAGE), {})
    assert [one["delta"] for one in (json.loads(frame.data) for frame in frames) if "delta" in one] == ["Hello there"]


def test_another_ones_stream_keeps_its_last_word_for_the_end() -> None:
    made = encoder()
    piece, last = Frame('{"x": 1 }', "response.output_text.delta"), Frame("{}", "response.completed")
    assert list(made.relay(piece)) == [piece]
    assert list(made.relay(last)) == list(made.relay(Frame("[DONE]"))) == []
    assert list(made.end(USAGE)) == [last]


@pytest.mark.parametrize("first", [(), (Text("Look:"),), (Reasoning("hm"), Text("Look:"))])
def test_a_picture_is_an_item_streamed_whole_and_told_again(first: tuple[Event, ...]) -> None:
    events = (*first, PICTURE, Finish("stop"))
    buffer, made = Buffer(), encoder()
    for event in events:
        buffer.add(event)
    told = said(made, *events)
    for one in told:
        TypeAdapter(wire.ResponseStreamEvent).validate_python(one)
    place = len(first)
    item = told[-1]["response"]["output"][place]
    assert item == {
        "id": f"ig_{KEY}o{place}",
        "type": "image_generation_call",
        "status": "completed",
        "result": "QUJD",
        "output_format": "webp",
    }
    of_item = [one for one in told if one.get("output_index") == place]
    assert [one["type"] for one in of_item] == [
        "response.output_item.added",
        "response.image_generation_call.completed",
        "response.output_item.done",
    ]
    assert (of_item[0]["item"]["result"], of_item[-1]["item"]) == (None, item)
    assert json.loads(encoder().completion(buffer.completion(USAGE)))["output"][place] == item
    again = [json.loads(frame.data) for frame in RESPONSES.replay(made.record(USAGE), {})]
    assert again == told


def test_a_picture_by_its_address_alone_is_said_in_words() -> None:
    linked = Raw({"images": [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]})
    told = said(encoder(), linked, Finish("stop"))[-1]["response"]
    assert told["output"][0]["content"][0]["text"] == "![picture](https://a.example/x.png)"


def test_a_picture_sent_back_is_the_users_to_show() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "result": "QUJD", "status": "completed"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    head = {"type": "text", "text": "The pictures of the answer above:"}
    asked = {"type": "text", "text": "Bluer."}
    assert messages({"role": "user", "content": "Draw."}, item, {"role": "user", "content": "Bluer."})[1:] == [
        {"role": "assistant", "content": "[picture]"},
        {"role": "user", "content": [asked, head, image]},
    ]
    assert messages(item)[-1] == {"role": "user", "content": [head, image]}
    with pytest.raises(BadRequest) as met:
        messages({**item, "result": 5})
    assert met.value.param == "input[].result"


# --- keeping, and going on -------------------------------------------------------------------------------------------


def test_what_is_kept_is_what_was_asked_and_answered() -> None:
    kept = answered(*TURN, input=[{"role": "user", "content": "Hi"}], tools=[FUNCTION, CUSTOM])
    assert kept.id == f"resp_{KEY}"
    (asked,) = kept.input
    assert asked == {
        "type": "message",
        "id": f"msg_{KEY}i0",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi"}],
    }
    assert kept.said == ()
    assert kept.body["output"][0]["encrypted_content"].startswith("sluice1.")


def test_what_has_to_go_back_is_shown_only_to_who_asks() -> None:
    kept = answered(*TURN)
    assert "encrypted_content" not in json.loads(RESPONSES.answer(kept, {}))["output"][0]
    shown = json.loads(RESPONSES.answer(kept, {"include[]": "reasoning.encrypted_content"}))["output"][0]
    assert shown["encrypted_content"] == kept.body["output"][0]["encrypted_content"]
    assert "encrypted_content" not in said(encoder(), *TURN)[-1]["response"]["output"][0]


def test_nothing_is_kept_of_who_wants_nothing_kept_or_of_half_an_answer() -> None:
    made = encoder(store=False)
    said(made, Text("x"), Finish("stop"))
    assert made.record(USAGE) is None
    half = encoder()
    list(half.encode(Text("x")))
    assert half.record(USAGE) is None


@pytest.mark.parametrize("kept_by", ["us", "the client"])
def test_reasoning_and_signatures_come_back_either_way(kept_by: str) -> None:
    result = {"type": "function_call_output", "call_id": "call_a", "output": "4"}
    if kept_by == "us":
        first = answered(*TURN, tools=[FUNCTION])
        chat = read(input=[result], previous_response_id=first.id)
        assert chat.recalls == (first.id,)
        chat = RESPONSES.resumed(chat, [first])
    else:
        output = said(encoder(include=["reasoning.encrypted_content"], tools=[FUNCTION]), *TURN)[-1]["response"][
            "output"
        ]
        chat = read(input=[{"role": "user", "content": "Hi"}, *output, result])
    _, turn, tool = chat.body["messages"]
    assert turn["reasoning_details"] == [{"type": "reasoning.text", "text": "think", "signature": "SIG"}]
    assert (turn["reasoning_content"], turn["content"]) == ("think", "Hello")
    assert turn["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "GS"}}
    assert tool == {"role": "tool", "tool_call_id": "call_a", "content": "4"}


def test_reasoning_that_another_sealed_is_dropped_by_name() -> None:
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    chat = read(input=[sealed, {"role": "user", "content": "Hi"}])
    assert chat.dropped == ("input[].encrypted_content",)
    assert chat.body["messages"] == [{"role": "user", "content": "Hi"}]


def test_instructions_are_this_turns_alone() -> None:
    first = answered(Text("One."), Finish("stop"), instructions="Old.")
    chat = RESPONSES.resumed(read(instructions="New.", previous_response_id=first.id), [first])
    assert [(one["role"], one["content"]) for one in chat.body["messages"]] == [
        ("system", "New."),
        ("user", "Hi"),
        ("assistant", "One."),
        ("user", "Hi"),
    ]


def test_every_turn_keeps_all_that_was_said_before_it() -> None:
    first = answered(Text("One."), Finish("stop"), input="1")
    chat = RESPONSES.resumed(read(previous_response_id=first.id, input="2"), [first])
    made = RESPONSES.encoder(chat, "req_" + "b" * 27, 0, "")
    said(made, Text("Two."), Finish("stop"))
    second = made.record(USAGE)
    third = RESPONSES.resumed(read(previous_response_id=second.id, input="3"), [second])
    assert [one["content"] for one in third.body["messages"]] == ["1", "One.", "2", "Two.", "3"]
    assert [item["content"][0]["text"] for item in second.input] == ["2"]


def test_the_newest_answer_knows_the_items_of_those_before_it() -> None:
    first = answered(Text("One."), Finish("stop"), key="a" * 27)
    asked = [{"type": "item_reference", "id": f"msg_{'a' * 27}o0"}, {"role": "user", "content": "2"}]
    chat = read(input=asked)
    assert chat.recalls == (first.id,)
    chat = RESPONSES.resumed(chat, [first])
    made = RESPONSES.encoder(chat, "req_" + "b" * 27, 0, "")
    said(made, Text("Two."), Finish("stop"))
    second = made.record(USAGE)
    both = [{"type": "item_reference", "id": f"msg_{key * 27}o0"} for key in "ab"]
    last = read(input=both)
    assert last.recalls == (second.id,)
    contents = [one["content"] for one in RESPONSES.resumed(last, [second]).body["messages"]]
    assert contents == ["One.", "Two."]


@pytest.mark.parametrize("item_id", ["msg_of_somebody", f"msg_{KEY}o7"])
def test_an_item_that_is_nowhere_is_not_found(item_id: str) -> None:
    kept = answered(Text("One."), Finish("stop"))
    with pytest.raises(NotFound):
        RESPONSES.resumed(read(input=[{"type": "item_reference", "id": item_id}]), [kept])


def test_pages_of_what_was_asked() -> None:
    kept = answered(Finish("stop"), input=[{"role": "user", "content": str(number)} for number in range(5)])

    def page(**query: str) -> Any:
        return json.loads(RESPONSES.asked(kept, query))

    everything = page()
    assert [item["content"][0]["text"] for item in everything["data"]] == ["4", "3", "2", "1", "0"]
    assert (everything["has_more"], everything["first_id"]) == (False, f"msg_{KEY}i4")
    first = page(limit="2", order="asc")
    assert (first["has_more"], first["last_id"]) == (True, f"msg_{KEY}i1")
    rest = page(after=first["last_id"], order="asc")
    assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "3", "4"]
    for query in ({"limit": "0"}, {"limit": "x"}, {"order": "up"}, {"after": "nobody"}):
        with pytest.raises(BadRequest) as met:
            page(**query)
        assert met.value.param in query
