"""The twenty traps of facts/providers.md section 27, each by a test that fails when it is stepped into.

A trap of the way through the gateway (13, 15, 19, 20, and the rest of 2 and 18) is in tests/e2e/test_traps.py; a test here holds
that none of the twenty is left out. What is tested more deeply in an adapter's own tests is here once more, in a few lines, so that
the list can be read beside the page it comes from.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters, dialects, endpoints, sse
from sluice.adapters._openai import OpenAICompatible
from sluice.adapters._tc3 import authorization
from sluice.adapters.bedrock import BedrockAdapter
from sluice.adapters.spark_ws import signed_query
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.sse import SSEDecoder
from sluice.types import (
    CallRequest,
    Channel,
    ChatRequest,
    Event,
    Finish,
    Frame,
    Inbound,
    Reasoning,
    Secret,
    Start,
    Text,
    ToolCall,
    Usage,
)

HERE = Path(__file__)


def fed(name: str, *frames: str | dict[str, Any] | Frame) -> list[Event]:
    """The events of an adapter's frames, to the end of input."""
    adapter = adapters.load(name).adapter(0)
    made = [
        frame if isinstance(frame, Frame) else Frame(frame if isinstance(frame, str) else json.dumps(frame))
        for frame in frames
    ]
    return [*(event for frame in made for event in adapter.feed(frame)), *adapter.finish()]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def usage_of(events: Iterable[Event]) -> Usage:
    return [event for event in events if isinstance(event, Usage)][-1]


def finish_of(events: Iterable[Event]) -> str:
    (finish,) = [event.reason for event in events if isinstance(event, Finish)]
    return finish


def calls_of(events: Iterable[Event]) -> list[tuple[str, str, str]]:
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    return [(call.id, call.name, call.arguments) for call in buffer.tool_calls]


def asked(name: str, body: dict[str, Any], dialect: str = "openai", model: str = "m", **channel: Any) -> dict[str, Any]:
    """The body a provider is sent for a canonical one."""
    channel.setdefault("secret", Secret("key-of-upstream"))
    channel.setdefault("endpoint", "https://upstream.test/v1")
    chat = ChatRequest(model, {"model": model, **body}, stream=bool(body.get("stream")), dialect=dialect, raw=body)
    request = adapters.load(name).adapter(0).request(chat, Channel("c", name, "c", (model,), **channel))
    told: dict[str, Any] = json.loads(request.body)
    return told


def encoded(name: str, events: Iterable[Event]) -> list[Frame]:
    """A stream's frames in a client's format, terminator included."""
    encoder = dialects.load(name).encoder(
        ChatRequest("m", {}, stream=True, include_usage=True, dialect=name), "req_1", 1, ""
    )
    return [*(frame for event in events for frame in encoder.encode(event)), *encoder.end(Usage(1, 1))]


def kind_of(name: str, status: int, body: Any) -> str:
    return adapters.load(name).adapter(0).error(status, {}, json.dumps(body).encode()).kind


def broken_kind(name: str, *frames: str | dict[str, Any] | Frame) -> str:
    with pytest.raises(ProviderError) as met:
        fed(name, *frames)
    return met.value.kind


DONE = "[DONE]"
ANSWER: list[Event] = [Start("x", "m", 1), Text("Hello"), Finish("stop"), Usage(3, 2)]
LOOP = [
    {"role": "user", "content": "weather?"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I look.",
        "reasoning_details": [{"type": "reasoning.text", "text": "I look.", "signature": "c2ln"}],
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_a", "content": "sun"},
    {"role": "tool", "tool_call_id": "call_b", "content": "9"},
    {"role": "user", "content": "so?"},
]


def test_all_twenty_are_here() -> None:
    files = (HERE, HERE.parents[1] / "e2e" / "test_traps.py")
    found = {int(told) for file in files for told in re.findall(r"def test_trap_(\d\d)_", file.read_text())}
    assert found == set(range(1, 21))


# 1. Chunks without choices, and usage in chunks with them.


@pytest.mark.parametrize("name", ["openai", "azure", "qwen", "xai", "openrouter"])
def test_trap_01_a_chunk_without_choices_is_no_answer_and_no_error(name: str) -> None:
    filters = {"choices": [], "created": 0, "id": "", "model": "", "prompt_filter_results": [{}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    events = fed(name, filters, chunk({"content": "x"}), chunk({}, "stop"), usage, DONE)
    assert [event for event in events if isinstance(event, Text)] == [Text("x")]
    assert usage_of(events) == Usage(3, 2)


@pytest.mark.parametrize("name", ["minimax", "zhipu", "deepseek", "qianfan", "mistral", "moonshot", "baichuan"])
def test_trap_01_usage_beside_choices_is_usage(name: str) -> None:
    events = fed(
        name, chunk({"content": "x"}), chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}), DONE
    )
    assert usage_of(events) == Usage(3, 2)


def test_trap_01_the_client_gets_its_usage_in_a_chunk_without_choices_all_the_same() -> None:
    encoder = dialects.load("openai").encoder(ChatRequest("m", {}, stream=True, include_usage=True), "r", 1, "")
    beside = Frame(json.dumps(chunk({"content": ""}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})))
    (passed,) = encoder.relay(beside)
    assert json.loads(passed.data)["usage"] is None
    last, _ = encoder.end(None)
    assert (json.loads(last.data)["choices"], json.loads(last.data)["usage"]["prompt_tokens"]) == ([], 3)


# 2. Spaces after `data:`, terminators, and paths that three SDKs share.


def test_trap_02_data_is_read_with_and_without_the_space_and_written_with_it() -> None:
    for raw in (b'data:{"a":1}\n\n', b'data: {"a":1}\n\n'):
        assert SSEDecoder().feed(raw) == [Frame('{"a":1}')]
    for name in sorted(dialects.available()):
        for frame in encoded(name, ANSWER):
            assert re.match(rb"(event: .+\n)?data: \S", sse.encode(frame.data, frame.event)), (name, frame)


def test_trap_02_only_who_knows_done_is_told_it() -> None:
    last = {name: encoded(name, ANSWER)[-1].data for name in dialects.available()}
    assert last["openai"] == DONE
    assert [name for name in last if last[name] == DONE] == ["openai"]


def test_trap_02_geminis_sdk_asks_on_v1_and_older_ones_on_v1beta() -> None:
    paths = {route.path for route in dialects.load("gemini").routes}
    for version in ("/v1", "/v1beta"):
        assert any(path.startswith(f"{version}/models/") and path.endswith(":generateContent") for path in paths)


# 3. Billing that hides behind other statuses, and 429s that are none.


@pytest.mark.parametrize(
    ("name", "status", "body", "kind"),
    [
        ("openai", 429, {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, "quota"),
        ("openai", 429, {"error": {"code": "rate_limit_exceeded"}}, "rate_limit"),
        ("zhipu", 429, {"error": {"code": "1113"}}, "quota"),
        ("zhipu", 429, {"error": {"code": "1308"}}, "quota"),
        ("zhipu", 429, {"error": {"code": "1305"}}, "overloaded"),
        ("zhipu", 429, {"error": {"code": "1302"}}, "rate_limit"),
        ("moonshot", 429, {"error": {"type": "exceeded_current_quota_error"}}, "quota"),
        ("moonshot", 429, {"error": {"type": "engine_overloaded_error"}}, "overloaded"),
        ("ark", 429, {"error": {"code": "QuotaExceeded"}}, "quota"),
        ("ark", 429, {"error": {"code": "ServerOverloaded"}}, "overloaded"),
        ("ark", 403, {"error": {"code": "AccountOverdueError"}}, "quota"),
        ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}}}, "quota"),
        ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error"}}, "rate_limit"),
        ("deepseek", 402, {"error": {"message": "Insufficient Balance"}}, "quota"),
        ("openrouter", 402, {"error": {"code": 402}}, "quota"),
        ("hunyuan", 402, {"error": {"message": "the model is not activated"}}, "permission"),
        ("qwen", 400, {"error": {"code": "Arrearage"}}, "quota"),
        ("qwen", 429, {"error": {"code": "insufficient_quota"}}, "rate_limit"),
        ("dashscope", 400, {"code": "Arrearage", "message": "overdue"}, "quota"),
    ],
)  # fmt: skip
def test_trap_03_not_every_429_is_a_rate_and_not_every_bill_a_429(name: str, status: int, body: Any, kind: str) -> None:
    assert kind_of(name, status, body) == kind


def test_trap_03_a_bill_may_come_with_200() -> None:
    assert broken_kind("minimax", {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}) == "quota"


# 4. Errors at HTTP 200.


@pytest.mark.parametrize(
    ("name", "frame", "kind"),
    [
        ("minimax", {"id": "", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "auth"),
        ("xai", {"code": "The service is currently unavailable", "error": "try later"}, "overloaded"),
        ("vllm", {"object": "error", "message": "x", "type": "InternalServerError", "code": 500}, "server"),
        ("spark", {"code": 10110, "message": "busy", "sid": "s"}, "overloaded"),
        ("baidu_v1", {"error_code": 336501, "error_msg": "rpm"}, "rate_limit"),
        ("hunyuan_native", {"Response": {"Error": {"Code": "FailedOperation.ServiceStopArrears", "Message": "x"}}}, "quota"),
        ("dashscope", {"code": "Throttling.RateQuota", "message": "x", "request_id": "r"}, "rate_limit"),
        ("openrouter", {"error": {"code": 502, "message": "gone"}, "choices": [{"index": 0, "delta": {"content": ""}}]}, "overloaded"),
        ("groq", {"error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limit"),
        ("groq", {"choices": [], "x_groq": {"id": "r", "error": "over capacity"}}, "server"),
    ],
)  # fmt: skip
def test_trap_04_an_error_at_200_is_an_error(name: str, frame: dict[str, Any], kind: str) -> None:
    assert broken_kind(name, frame) == kind


def test_trap_04_an_error_in_mid_stream_is_no_end() -> None:
    error = {
        "error": {"code": 400, "message": "Token limit reached"},
        "choices": [{"index": 0, "delta": {"content": ""}}],
    }
    assert broken_kind("openrouter", chunk({"content": "x"}), error, DONE) == "invalid_request"


def test_trap_04_a_blocked_prompt_and_a_refusal_are_answers_that_say_so() -> None:
    assert finish_of(fed("gemini", {"promptFeedback": {"blockReason": "SAFETY"}})) == "content_filter"
    refusal = {"type": "message", "id": "m", "content": [], "stop_reason": "refusal", "usage": {"input_tokens": 1}}
    assert finish_of(fed("anthropic", refusal)) == "content_filter"
    assert (
        finish_of(fed("minimax", chunk({"content": "x"}), {**chunk({}), "output_sensitive": True}, DONE))
        == "content_filter"
    )


# 5. What counts as input and what as output.


def test_trap_05_the_cache_is_part_of_the_input() -> None:
    counted = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 4}
    whole = {"type": "message", "id": "m", "content": [], "stop_reason": "end_turn", "usage": counted}
    assert usage_of(fed("anthropic", whole)) == Usage(17, 4, cached=5, cache_write=2)
    metadata = {"usage": {"inputTokens": 10, "outputTokens": 4, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 2}}
    stop = Frame('{"stopReason":"end_turn"}', "messageStop")
    assert usage_of(fed("bedrock", stop, Frame(json.dumps(metadata), "metadata"))) == Usage(
        17, 4, cached=5, cache_write=2
    )


def test_trap_05_the_reasoning_is_part_of_the_output() -> None:
    counted = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 6, "cachedContentTokenCount": 3}
    candidate = {"index": 0, "content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}
    assert usage_of(fed("gemini", {"candidates": [candidate], "usageMetadata": counted})) == Usage(
        9, 10, cached=3, reasoning=6
    )
    told = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 6}}
    events = fed("xai", chunk({"content": "x"}, "stop"), {"choices": [], "usage": told}, DONE)
    assert usage_of(events) == Usage(9, 10, reasoning=6)
    same = fed("openai", chunk({"content": "x"}, "stop"), {"choices": [], "usage": told}, DONE)
    assert usage_of(same) == Usage(9, 4, reasoning=6)


def test_trap_05_anthropics_last_count_overrides_its_first() -> None:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 43, "output_tokens": 1}}}
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 61, "output_tokens": 7},
    }
    assert usage_of(fed("anthropic", start, delta, {"type": "message_stop"})) == Usage(61, 7)


# 6. Anthropic.


def test_trap_06_anthropic_demands_a_cap_and_takes_objects_for_arguments() -> None:
    body = asked("anthropic", {"messages": LOOP}, model="claude-opus-4-5")
    assert body["max_tokens"] > 0
    uses = [block for block in body["messages"][1]["content"] if block["type"] == "tool_use"]
    assert [use["input"] for use in uses] == [{"a": 1}, {}]


def test_trap_06_all_results_of_a_turn_are_in_one_message_and_come_first() -> None:
    body = asked("anthropic", {"messages": LOOP}, model="claude-opus-4-5")
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]


def test_trap_06_signed_thinking_goes_back_as_it_came() -> None:
    body = asked("anthropic", {"messages": LOOP}, model="claude-opus-4-5")
    first = body["messages"][1]["content"][0]
    assert (first["type"], first["thinking"], first["signature"]) == ("thinking", "I look.", "c2ln")


def test_trap_06_newer_models_are_sent_no_sampling() -> None:
    said = {"messages": [{"role": "user", "content": "x"}], "temperature": 1, "top_p": 0.5}
    assert not {"temperature", "top_p"} & set(asked("anthropic", said, model="claude-opus-4-8"))
    assert asked("anthropic", said, model="claude-sonnet-4-5")["temperature"] == 1


def test_trap_06_a_tool_without_arguments_has_an_empty_object() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    frames: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    assert calls_of(fed("anthropic", *frames)) == [("toolu_1", "f", "{}")]


def test_trap_06_every_event_to_an_anthropic_client_has_its_name() -> None:
    for frame in encoded("anthropic", [Start(), Reasoning("hm", "s"), *ANSWER[1:]]):
        assert frame.event == json.loads(frame.data)["type"]


# 7. Gemini.

GEMINI_CALL = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}


def gemini_answer(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"responseId": "r", "candidates": [{"index": 0, "content": {"parts": list(parts)}, "finishReason": "STOP"}]}


def test_trap_07_stop_with_calls_is_tool_calls_and_a_call_has_an_id_that_stays() -> None:
    first, again = (fed("gemini", gemini_answer(GEMINI_CALL, {"functionCall": {"name": "f"}})) for _ in range(2))
    assert finish_of(first) == "tool_calls"
    (one, _, arguments), (other, _, none) = calls_of(first)
    assert (json.loads(arguments), none) == ({"a": 1}, "{}")
    assert one.startswith("call_")
    assert one != other
    assert calls_of(again) == calls_of(first)


def test_trap_07_a_result_has_its_functions_name_and_a_call_its_signature() -> None:
    signed = {**LOOP[1]["tool_calls"][0], "extra_content": {"google": {"thought_signature": "c2ln"}}}
    messages = [LOOP[0], {"role": "assistant", "content": None, "tool_calls": [signed]}, LOOP[2]]
    contents = asked("gemini", {"messages": messages}, model="gemini-3-pro")["contents"]
    (call,) = contents[1]["parts"]
    assert call["thoughtSignature"] == "c2ln"
    assert contents[2]["parts"][0]["functionResponse"]["name"] == "f"
    assert isinstance(contents[2]["parts"][0]["functionResponse"]["response"], dict)


def test_trap_07_schemas_are_cleaned_and_the_key_is_in_no_address() -> None:
    schema = {"$schema": "x", "type": "object", "properties": {"k": {"const": "v"}}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    chat = ChatRequest("gemini-3-pro", {"model": "m", "messages": LOOP[:1], "tools": tools}, stream=True)
    request = (
        adapters.load("gemini")
        .adapter(0)
        .request(chat, Channel("c", "gemini", "c", ("m",), secret=Secret("AIza-secret-key")))
    )
    assert "AIza-secret-key" not in request.url
    (declared,) = json.loads(request.body)["tools"][0]["functionDeclarations"]
    assert "$schema" not in declared["parametersJsonSchema"]
    assert declared["parametersJsonSchema"]["properties"]["k"] == {"enum": ["v"]}


def test_trap_07_without_alt_sse_a_client_gets_an_array() -> None:
    told = json.dumps({"contents": [{"parts": [{"text": "x"}]}]}).encode()
    target = "/v1beta/models/m:streamGenerateContent"
    for query, array in (({}, True), ({"alt": "sse"}, False)):
        inbound = Inbound(told, {}, {"model": "m", **query}, target)
        assert (dialects.load("gemini").parse(inbound).framing == "array") is array


# 8. Whose reasoning goes back.


@pytest.mark.parametrize(
    ("name", "field"),
    [("deepseek", "reasoning_content"), ("moonshot", "reasoning_content"), ("minimax", "reasoning_details"), ("openrouter", "reasoning_details")],
)  # fmt: skip
def test_trap_08_who_needs_its_reasoning_back_gets_it(name: str, field: str) -> None:
    own = {**LOOP[1]["reasoning_details"][0], "format": None}
    turn = {**LOOP[1], "reasoning_details": [own]}
    told = asked(name, {"messages": [LOOP[0], turn, *LOOP[2:]]})["messages"][1][field]
    assert "I look." in json.dumps(told)


@pytest.mark.parametrize("name", ["hunyuan", "hunyuan_native"])
def test_trap_08_who_refuses_it_is_not_sent_it(name: str) -> None:
    assert "I look." not in json.dumps(asked(name, {"messages": LOOP}, secret=Secret("AKID:secret")))


def test_trap_08_deepseeks_reasoner_without_tools_is_not_sent_it_either() -> None:
    turn = {"role": "assistant", "content": "4", "reasoning_content": "I look."}
    assert "I look." not in json.dumps(asked("deepseek", {"messages": [turn, LOOP[0]]}))


# 9. Tool calls in every cut.


def test_trap_09_a_call_may_come_whole_with_empty_ids_after_it_or_without_an_index() -> None:
    def call(**fields: Any) -> dict[str, Any]:
        function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
        return chunk({"tool_calls": [{**fields, "function": function}]})

    end = (chunk({}, "tool_calls"), DONE)
    whole = fed("groq", call(index=0, id="a", name="f", arguments='{"x":1}'), *end)
    assert calls_of(whole) == [("a", "f", '{"x":1}')]
    pieces = (
        call(index=0, id="a", name="f", arguments=""),
        call(index=0, id="", name="", arguments='{"x"'),
        call(index=0, id="", arguments=":1}"),
    )
    assert calls_of(fed("qwen", *pieces, *end)) == [("a", "f", '{"x":1}')]
    no_index = (call(id="a", name="f", arguments='{"x"'), call(arguments=":1}"), call(id="b", name="g", arguments="{}"))
    assert calls_of(fed("mistral", *no_index, *end)) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]
    same_index = (
        call(index=0, id="a", name="f", arguments="{}"),
        call(index=0, id="b", name="g", arguments="["),
        call(index=0, arguments="]"),
    )
    assert calls_of(fed("ollama", *same_index, *end)) == [("a", "f", "{}"), ("b", "g", "[]")]


def test_trap_09_an_empty_id_never_reaches_a_client_in_place_of_the_first() -> None:
    """The SDKs take the last id they are told."""
    frames = encoded("openai", [ToolCall(0, "a", "f"), ToolCall(0, "", "", "{}"), Finish("tool_calls")])
    deltas = [json.loads(frame.data)["choices"][0]["delta"] for frame in frames[:2]]
    assert deltas[0]["tool_calls"][0]["id"] == "a"
    assert not {"id", "type"} & set(deltas[1]["tool_calls"][0])
    assert "name" not in deltas[1]["tool_calls"][0]["function"]


# 10. Responses.


def test_trap_10_a_responses_call_has_two_ids_and_a_stream_no_terminator() -> None:
    frames = encoded("responses", [Start(), ToolCall(0, "call_a", "f", "{}"), Finish("tool_calls"), Usage(1, 1)])
    told = [json.loads(frame.data) for frame in frames]
    assert [frame.event for frame in frames] == [one["type"] for one in told]
    (item,) = told[-1]["response"]["output"]
    assert item["call_id"] == "call_a"
    assert item["id"] != "call_a"
    assert told[-1]["type"] == "response.completed"


def test_trap_10_responses_tools_and_formats_are_flat_on_its_side_only() -> None:
    body = {
        "model": "m",
        "input": [{"type": "function_call_output", "call_id": "call_a", "output": "1"}],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    }
    chat = dialects.load("responses").parse(Inbound(json.dumps(body).encode()))
    assert chat.body["tools"][0]["function"]["name"] == "f"
    assert chat.body["response_format"]["json_schema"]["name"] == "n"
    assert chat.body["messages"][-1]["tool_call_id"] == "call_a"


# 11. Embeddings.


def test_trap_11_base64_is_honoured_though_the_upstream_knows_floats_only() -> None:
    body = {"model": "m", "input": "x", "encoding_format": "base64"}
    answer = endpoints.load("embeddings").answer(CallRequest("embeddings", "m", body), "")
    told = json.dumps({"data": [{"index": 0, "embedding": [0.5, -2.0]}], "usage": {"prompt_tokens": 1}})
    (row,) = json.loads(answer.whole(told.encode()))["data"]
    assert struct.unpack("<2f", base64.b64decode(row["embedding"])) == (0.5, -2.0)


# 16. Bedrock.


def test_trap_16_bedrocks_usage_comes_after_its_stop() -> None:
    adapter = BedrockAdapter(0)
    delta = Frame('{"contentBlockIndex":0,"delta":{"text":"x"}}', "contentBlockDelta")
    events = [*adapter.feed(delta), *adapter.feed(Frame('{"stopReason":"end_turn"}', "messageStop"))]
    assert not adapter.done
    events += adapter.feed(Frame('{"usage":{"inputTokens":3,"outputTokens":2}}', "metadata"))
    assert adapter.done
    assert usage_of(events) == Usage(3, 2)


def test_trap_16_bedrocks_model_is_encoded_and_its_schema_a_text() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
    model = "arn:aws:bedrock:eu-west-1:1:inference-profile/us.anthropic.claude-v1:0"
    chat = ChatRequest(model, {"model": model, "messages": LOOP[:1], "response_format": form}, stream=True)
    request = (
        adapters.load("bedrock")
        .adapter(0)
        .request(chat, Channel("c", "bedrock", "c", (model,), secret=Secret("AKIA:secret")))
    )
    path = request.url.partition(".amazonaws.com")[2]
    assert path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse-stream"
    assert request.framing == "eventstream"
    structure = json.loads(request.body)["outputConfig"]["textFormat"]["structure"]
    assert isinstance(structure["jsonSchema"]["schema"], str)


# 17. Dates in signatures.


def test_trap_17_tc3s_day_is_utcs_and_its_content_type_what_is_sent() -> None:
    def signed(now: int, content_type: str) -> str:
        host = "hunyuan.tencentcloudapi.com"
        return authorization(
            b"{}", host=host, content_type=content_type, service="hunyuan", secret_id="i", secret_key="k", now=now
        )

    before, after = 1_700_006_399, 1_700_006_400
    assert "/2023-11-14/" in signed(before, "application/json")
    assert "/2023-11-15/" in signed(after, "application/json")
    assert signed(after, "application/json") != signed(after, "application/json; charset=utf-8")
    chat = ChatRequest("m", {"model": "m", "messages": LOOP[:1]})
    request = (
        adapters.load("hunyuan_native")
        .adapter(after)
        .request(chat, Channel("c", "hunyuan_native", "c", ("m",), secret=Secret("i:k")))
    )
    assert request.headers["content-type"] == "application/json"


def test_trap_17_sparks_date_is_rfc_1123_and_its_header_base64() -> None:
    query = signed_query("spark-api.xf-yun.com", "/v4.0/chat", 1_700_006_400, "key", "secret")
    assert "date=Wed%2C%2015%20Nov%202023%2000%3A00%3A00%20GMT" in query.replace("+", "%20")
    told = re.search(r"authorization=([^&]+)", query)
    assert told is not None
    header = base64.b64decode(told[1].replace("%3D", "=").replace("%2B", "+").replace("%2F", "/")).decode()
    assert header.startswith('api_key="key", algorithm="hmac-sha256", headers="host date request-line", signature="')


# zai-sdk 0.2.3 `core/_jwt_token.py` with PyJWT 2.15, its clock at 1782862782.4567.
ZHIPU_KEY = "0123456789abcdef0123456789abcdef.TestSecret123456"
ZHIPU_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ"
    ".eyJhcGlfa2V5IjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCJleHAiOjE3ODI4NjI5OTI0NTcsInRpbWVzdGFtcCI6MTc4Mjg2Mjc4MjQ1N30"
    ".qnLgbllpiaancan6zKi9_Nh8XLLtG39YiEzKW0S-c9E"
)


def test_trap_17_zhipus_token_counts_in_milliseconds_as_its_sdk_does() -> None:
    def credentials(secret: str) -> str:
        chat = ChatRequest("m", {"model": "m", "messages": LOOP[:1]})
        channel = Channel("c", "zhipu", "c", ("m",), secret=Secret(secret))
        return adapters.load("zhipu").adapter(1782862782.4567).request(chat, channel).headers["authorization"]

    assert credentials(ZHIPU_KEY) == f"Bearer {ZHIPU_TOKEN}"
    assert credentials("a-key-that-is-no-pair") == "Bearer a-key-that-is-no-pair"


# 18. What a client tells its vendor.


@pytest.mark.parametrize("name", sorted(adapters.available()))
def test_trap_18_a_clients_user_and_metadata_reach_no_other_vendor(name: str) -> None:
    """By a client of another format not even its own namesake: there it says something else."""
    told = {"messages": LOOP[:1], "user": "ada@example.com", "metadata": {"who": "ada@example.com"}}
    for dialect in ("openai", "anthropic", "gemini", "responses"):
        if dialect == getattr(adapters.load(name), "wire", ""):
            continue
        secret = Secret("id:key:more")
        sent = json.dumps(
            asked(
                name,
                told,
                dialect,
                secret=secret,
                endpoint="wss://x.test/v4.0/chat" if name == "spark_ws" else "https://x.test/v1",
            )
        )
        assert "ada@example.com" not in sent, dialect


def test_trap_18_claude_codes_headers_reach_anthropic_only() -> None:
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "context-1m",
        "x-app": "cli",
        "authorization": "Bearer sk-client",
    }
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "metadata": {"user_id": "u"}}
    chat = dialects.load("anthropic").parse(Inbound(json.dumps(body).encode(), headers))
    for name in sorted(adapters.available()):
        endpoint = "wss://x.test/v4.0/chat" if name == "spark_ws" else "https://x.test/v1"
        channel = Channel("c", name, "c", ("m",), secret=Secret("id:key:more"), endpoint=endpoint)
        request = adapters.load(name).adapter(0).request(chat, channel)
        sent = {
            header: value for header, value in request.headers.items() if header.startswith(("anthropic-", "x-app"))
        }
        assert sent.get("anthropic-beta") == ("context-1m" if name == "anthropic" else None), name
        assert "x-app" not in sent
        assert "sk-client" not in json.dumps(dict(request.headers))


# For those that no surface of ours can meet yet.


def test_trap_12_no_route_makes_videos() -> None:
    """The SDK sends `seconds` as text in a form and fetches the content from us: whoever adds the route replaces this test by one
    that says so."""
    paths = {route.path for name in dialects.available() for route in dialects.load(name).routes}
    paths |= {path for name in endpoints.available() for path in endpoints.load(name).paths}
    assert not [path for path in paths if "video" in path]


def test_trap_14_no_adapter_asks_after_a_task() -> None:
    """A DashScope task that is UNKNOWN is at its end, and its result's address expires: whoever adds the tasks replaces this test
    by one that says so."""
    source = HERE.parents[2] / "layers" / "common" / "sluice" / "adapters"
    assert not [path.name for path in source.glob("*.py") if "task_status" in path.read_text()]


def test_every_compatible_row_has_been_looked_at() -> None:
    """A row that passes its streams on untouched has to be clean: a new one is decided here."""
    raw = {
        name for name in adapters.available() if isinstance(row := adapters.load(name), OpenAICompatible) and row.wire
    }
    assert raw == {"openai", "azure", "deepseek", "openrouter", "vllm", "compatible"}
