"""What the adapters of protocols of their own send, what they refuse by name, and errors that come with HTTP 200."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Finish, Frame, Raw, Secret, UpstreamRequest
from tests.adapters.test_every_adapter import decoded, played

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
NEEDS_RECORDINGS = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded traffic is kept outside the repository"
)
FUNCTION = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"at": {}}}}
TOOL = {"type": "function", "function": FUNCTION}
USER = {"role": "user", "content": "Hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x.test/cat.png"}}
CALL = {"id": "a1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
TWO_TURNS = [
    {"role": "system", "content": "Be brief."},
    USER,
    {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a1", "content": [{"type": "text", "text": "a cat"}]},
]


def request(
    kind: str, body: dict[str, Any], *, secret: str = "key", endpoint: str = "", model: str = "m"
) -> UpstreamRequest:
    channel = Channel("c", kind, "c", (model,), secret=Secret(secret), endpoint=endpoint)
    chat = ChatRequest(model, {"model": model, "messages": [USER], **body}, stream=bool(body.get("stream")))
    return adapters.load(kind).adapter(1_763_683_200).request(chat, channel)


def sent(kind: str, body: dict[str, Any], **more: str) -> Any:
    return json.loads(request(kind, body, **more).body)


# --- Cohere ----------------------------------------------------------------------------------------------------------


def test_cohere_takes_a_conversation_with_calls_and_a_picture() -> None:
    body = {
        "messages": [*TWO_TURNS, {"role": "user", "content": [{"type": "text", "text": "This?"}, PICTURE]}],
        "tools": [TOOL],
        "tool_choice": "required",
        "max_completion_tokens": 5,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["A"],
        "seed": 7,
        "user": "somebody",
        "reasoning_effort": "none",
        "safety_mode": "STRICT",
    }
    made = request("cohere", body)
    assert made.url == "https://api.cohere.com/v2/chat"
    assert made.headers["authorization"] == "Bearer key"
    assert made.dropped == ("user",)
    assert json.loads(made.body) == {
        "model": "m",
        "stream": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "tool_calls": [CALL], "tool_plan": "Hm."},
            {"role": "tool", "tool_call_id": "a1", "content": "a cat"},
            {"role": "user", "content": [{"type": "text", "text": "This?"}, PICTURE]},
        ],
        "tools": [TOOL],
        "tool_choice": "REQUIRED",
        "max_tokens": 5,
        "p": 0.5,
        "k": 3,
        "stop_sequences": ["A"],
        "seed": 7,
        "safety_mode": "STRICT",
        "thinking": {"type": "disabled"},
    }


def test_cohere_takes_a_schema_for_the_answer() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    out = sent("cohere", {"response_format": form})
    assert out["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}


def test_cohere_tells_its_citations_and_what_it_searched() -> None:
    adapter = adapters.load("cohere").adapter(0)
    cited = {"type": "citation-start", "delta": {"message": {"citations": {"start": 0, "text": "a"}}}}
    assert list(adapter.feed(Frame(json.dumps(cited)))) == [Raw({"citations": [{"start": 0, "text": "a"}]})]
    ended = {
        "type": "message-end",
        "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 1, "search_units": 2}}},
    }
    *_, usage = adapter.feed(Frame(json.dumps(ended)))
    assert getattr(usage, "units", None) == {"search": 2}


@pytest.mark.parametrize(("reason", "kind"), [("ERROR", "server"), ("TIMEOUT", "timeout")])
def test_cohere_ends_a_broken_answer_with_a_reason(reason: str, kind: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(
            adapters.load("cohere")
            .adapter(0)
            .feed(Frame(json.dumps({"type": "message-end", "delta": {"finish_reason": reason}})))
        )
    assert met.value.kind == kind


# --- DashScope -------------------------------------------------------------------------------------------------------


def test_dashscope_takes_text_by_one_service() -> None:
    body = {"messages": TWO_TURNS, "tools": [TOOL], "max_tokens": 9, "stream": True, "enable_search": True, "user": "x"}
    made = request("dashscope", body)
    assert made.url.endswith("dashscope.aliyuncs.com/api/v1/services/aigc/text-generation/generation")
    assert made.headers["x-dashscope-sse"] == "enable"
    assert made.dropped == ("user", "messages[].reasoning_content")
    assert json.loads(made.body) == {
        "model": "m",
        "input": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0}]},
                {"role": "tool", "content": "a cat", "tool_call_id": "a1"},
            ]
        },
        "parameters": {
            "result_format": "message",
            "incremental_output": True,
            "enable_search": True,
            "max_tokens": 9,
            "tools": [TOOL],
        },
    }


def test_dashscope_takes_a_picture_by_another() -> None:
    made = request("dashscope", {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, PICTURE]}]})
    assert made.url.endswith("/services/aigc/multimodal-generation/generation")
    assert "x-dashscope-sse" not in made.headers
    (message,) = json.loads(made.body)["input"]["messages"]
    assert message["content"] == [{"text": "?"}, {"image": "https://x.test/cat.png"}]


def test_dashscope_models_that_see_take_parts_by_the_endpoint_that_says_so() -> None:
    endpoint = "https://w.cn-beijing.maas.aliyuncs.com/api/v1/services/aigc/multimodal-generation/generation"
    made = request("dashscope", {}, endpoint=endpoint)
    assert made.url == endpoint
    assert json.loads(made.body)["input"]["messages"][0]["content"] == [{"text": "Hi"}]
    assert request("dashscope", {}, endpoint="http://127.0.0.1:9").url == (
        "http://127.0.0.1:9/api/v1/services/aigc/text-generation/generation"
    )


@pytest.mark.parametrize(("model", "body"), [("qwq-plus", {}), ("m", {"reasoning_effort": "high"})])
def test_dashscope_models_that_think_are_always_asked_for_a_stream(model: str, body: dict[str, Any]) -> None:
    made = request("dashscope", body, model=model)
    assert made.headers["x-dashscope-sse"] == "enable"
    assert json.loads(made.body)["parameters"]["incremental_output"] is True


@pytest.mark.parametrize("event", ["error", ""])
def test_dashscope_an_error_in_a_stream_is_one(event: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load("dashscope").adapter(0).feed(Frame('{"code":"Throttling.RateQuota","message":"m"}', event)))
    assert met.value.kind == "rate_limit"


# --- Baidu's first API -----------------------------------------------------------------------------------------------


def test_baidu_takes_a_call_and_its_result_by_the_functions_name() -> None:
    body = {
        "messages": [
            USER,
            {"role": "user", "content": "there"},
            *TWO_TURNS[2:],
            {"role": "developer", "content": "Be brief."},
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "max_tokens": 5,
        "temperature": 0,
        "top_p": 1.4,
        "stop": "A",
        "response_format": {"type": "json_object"},
    }
    made = request("baidu_v1", body, secret="24.token", model="ERNIE-4.0-8K")
    split = urlsplit(made.url)
    assert split.path == "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro"
    assert parse_qs(split.query) == {"access_token": ["24.token"]}
    assert json.loads(made.body) == {
        "messages": [
            {"role": "user", "content": "Hi\n\nthere"},
            {"role": "assistant", "content": "", "function_call": {"name": "look", "arguments": '{"at":1}'}},
            {"role": "function", "name": "look", "content": "a cat"},
        ],
        "stream": False,
        "system": "Be brief.",
        "max_output_tokens": 5,
        "stop": ["A"],
        "temperature": 0.01,
        "top_p": 1,
        "response_format": "json_object",
        "functions": [FUNCTION],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
    }


def test_baidu_has_a_path_for_every_model() -> None:
    assert urlsplit(request("baidu_v1", {}, model="ERNIE-Speed-128K").url).path.endswith("/chat/ernie-speed-128k")
    assert urlsplit(request("baidu_v1", {}, model="ERNIE-Speed-8K").url).path.endswith("/chat/ernie_speed")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "stop"),
        ({"finish_reason": "normal"}, "stop"),
        ({"is_truncated": True}, "length"),
        ({"is_truncated": True, "finish_reason": "normal"}, "length"),
        ({"is_truncated": False, "finish_reason": "content_filter"}, "content_filter"),
    ],
)
def test_baidu_an_answer_cut_short_says_so(fields: dict[str, Any], said: str) -> None:
    told = {"id": "as-1", "result": "x", **fields}
    assert Finish(said) in adapters.load("baidu_v1").adapter(0).feed(Frame(json.dumps(told)))


# --- Hunyuan's cloud API ---------------------------------------------------------------------------------------------


def test_hunyuan_takes_a_conversation_by_its_own_names() -> None:
    body = {
        "messages": [*TWO_TURNS, {"role": "user", "content": [{"type": "text", "text": "This?"}, PICTURE]}],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "temperature": 0.5,
        "stop": "A",
        "seed": 20000,
        "max_tokens": 5,
        "EnableEnhancement": False,
    }
    made = request("hunyuan_native", body, secret="AKIDexample:secretExample")
    assert made.url == "https://hunyuan.tencentcloudapi.com/"
    assert made.headers["x-tc-timestamp"] == "1763683200"
    assert made.headers["content-type"] == "application/json"
    assert "Credential=AKIDexample/2025-11-21/hunyuan/tc3_request" in made.headers["authorization"]
    assert made.dropped == ("max_tokens", "seed", "messages[].reasoning_content")
    tool = {
        "Type": "function",
        "Function": {"Name": "look", "Description": "Looks.", "Parameters": '{"type":"object","properties":{"at":{}}}'},
    }
    call = {"Id": "a1", "Type": "function", "Function": {"Name": "look", "Arguments": '{"at":1}'}}
    assert json.loads(made.body) == {
        "Model": "m",
        "Messages": [
            {"Role": "system", "Content": "Be brief."},
            {"Role": "user", "Content": "Hi"},
            {"Role": "assistant", "Content": "", "ToolCalls": [call]},
            {"Role": "tool", "Content": "a cat", "ToolCallId": "a1"},
            {
                "Role": "user",
                "Contents": [
                    {"Type": "text", "Text": "This?"},
                    {"Type": "image_url", "ImageUrl": {"Url": "https://x.test/cat.png"}},
                ],
            },
        ],
        "Stream": False,
        "Temperature": 0.5,
        "EnableEnhancement": False,
        "Stop": ["A"],
        "Tools": [tool],
        "ToolChoice": "custom",
        "CustomTool": tool,
    }


def test_hunyuan_an_error_in_a_stream_is_one() -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load("hunyuan_native").adapter(0).feed(Frame('{"ErrorMsg":{"Code":2001,"Msg":"busy"}}')))
    assert (met.value.kind, met.value.code) == ("server", "2001")


# --- Spark over WebSocket --------------------------------------------------------------------------------------------


def test_spark_sends_one_message() -> None:
    body = {"messages": TWO_TURNS[:2], "tools": [TOOL], "max_tokens": 5, "temperature": 0.5, "top_k": 2, "stream": True}
    made = request(
        "spark_ws", body, secret="app1:key:sec:ret", model="4.0Ultra", endpoint="http://127.0.0.1:9/v4.0/chat"
    )
    assert made.url.startswith("ws://127.0.0.1:9/v4.0/chat?authorization=")
    assert (made.framing, made.dropped) == ("websocket", ())
    assert json.loads(made.body) == {
        "header": {"app_id": "app1"},
        "parameter": {"chat": {"domain": "4.0Ultra", "temperature": 0.5, "top_k": 2, "max_tokens": 5}},
        "payload": {
            "message": {"text": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
            "functions": {"text": [FUNCTION]},
        },
    }


def test_spark_a_model_without_an_address_is_told() -> None:
    with pytest.raises(ProviderError) as met:
        request("spark_ws", {}, model="unknown")
    assert met.value.kind == "model_not_found"


SPARK_CODES = {
    10003: "invalid_request",
    10005: "auth",
    10007: "rate_limit",
    10013: "content_filter",
    10110: "overloaded",
    10907: "context_length",
    11200: "auth",
    11201: "quota",
    11202: "rate_limit",
    99999: "server",
}


@pytest.mark.parametrize(("code", "kind"), SPARK_CODES.items())
def test_spark_an_error_is_a_frame(code: int, kind: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load("spark_ws").adapter(0).feed(Frame(json.dumps({"header": {"code": code, "message": "no"}}))))
    assert (met.value.kind, met.value.code, met.value.message) == (kind, str(code), "no")


@pytest.mark.parametrize("kind", ["cohere", "hunyuan_native", "spark_ws", "dashscope"])
def test_instructions_come_first_and_in_one_piece(kind: str) -> None:
    later = [{"role": "system", "content": "One."}, USER, {"role": "developer", "content": "Two."}]
    out = sent(kind, {"messages": later}, model="lite", secret="a:b:c")
    told = json.dumps(out)
    assert r"One.\n\nTwo." in told
    assert told.index("Two.") < told.index("Hi")


# --- all -------------------------------------------------------------------------------------------------------------

NAMED = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("cohere", {"n": 2}, "n"),
        ("cohere", {"logprobs": True}, "logprobs"),
        ("cohere", {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ("cohere", {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ("dashscope", {"logit_bias": {"1": 5}}, "logit_bias"),
        ("dashscope", {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ("baidu_v1", {"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content"),
        ("baidu_v1", {"response_format": {"type": "json_schema"}}, "response_format"),
        ("baidu_v1", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("baidu_v1", {"messages": [{"role": "assistant", "tool_calls": [CALL, CALL]}]}, "messages[0].tool_calls"),
        ("hunyuan_native", {"response_format": {"type": "json_object"}}, "response_format"),
        ("hunyuan_native", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("hunyuan_native", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ("spark_ws", {"response_format": {"type": "json_object"}}, "response_format"),
        ("spark_ws", {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ("spark_ws", {"messages": TWO_TURNS}, "messages[2].tool_calls"),
        ("spark_ws", {"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content"),
        ("spark_ws", {"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
    ],
)  # fmt: skip
def test_what_has_no_place_and_matters_is_refused_by_its_name(kind: str, body: dict[str, Any], field: str) -> None:
    with pytest.raises(ProviderError) as met:
        request(kind, body, model="lite", secret="a:b:c")
    assert (met.value.kind, met.value.param) == ("unsupported", field)


ERRORS_AT_200 = [
    ("baidu_v1", {"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, "auth"),
    ("baidu_v1", {"error_code": 336501, "error_msg": "Rate limit reached for RPM"}, "rate_limit"),
    ("dashscope", {"code": "DataInspectionFailed", "message": "m", "request_id": "r"}, "content_filter"),
    ("hunyuan_native", {"Response": {"Error": {"Code": "ResourceUnavailable.InArrears", "Message": "m"}}}, "quota"),
]


@pytest.mark.parametrize(("adapter", "body", "kind"), ERRORS_AT_200)
def test_an_error_at_status_200_is_no_answer(adapter: str, body: dict[str, Any], kind: str) -> None:
    with pytest.raises(ProviderError) as met:
        list(adapters.load(adapter).adapter(0).feed(Frame(json.dumps(body))))
    assert met.value.kind == kind


@NEEDS_RECORDINGS
@pytest.mark.parametrize(
    ("path", "adapter", "usage"),
    [
        ("cohere/text.sse", "cohere", (12, 7)),
        ("cohere/text.json", "cohere", (12, 7)),
        ("dashscope/native_text.sse", "dashscope", (26, 66)),
        ("baidu/v1_wenxinworkshop.sse", "baidu_v1", (5, 420)),
        ("hunyuan/native_stream.sse", "hunyuan_native", (4, 5)),
        ("spark/ws_frames.ndjson", "spark_ws", (37, 169)),
    ],
)
def test_recorded_answers(path: str, adapter: str, usage: tuple[int, int]) -> None:
    raw = (RECORDED / path).read_bytes()
    frames = {".sse": decoded([raw]), ".json": [Frame(raw.decode())]}.get(
        Path(path).suffix, [Frame(line) for line in raw.decode().splitlines()]
    )
    answer = played(adapter, frames)
    assert answer["choices"]["0"]["text"]
    assert answer["choices"]["0"]["finish_reason"] == "stop"
    assert (answer["usage"]["input"], answer["usage"]["output"]) == usage


@NEEDS_RECORDINGS
@pytest.mark.parametrize(
    ("path", "adapter", "kind"),
    [
        ("baidu/v1_error_200.json", "baidu_v1", "auth"),
        ("hunyuan/native_error_200.json", "hunyuan_native", "invalid_request"),
        ("dashscope/native_error_400.sse", "dashscope", "invalid_request"),
    ],
)
def test_recorded_errors(path: str, adapter: str, kind: str) -> None:
    raw = (RECORDED / path).read_bytes()
    frames = decoded([raw]) if path.endswith(".sse") else [Frame(raw.decode())]
    with pytest.raises(ProviderError) as met:
        played(adapter, frames)
    assert met.value.kind == kind
