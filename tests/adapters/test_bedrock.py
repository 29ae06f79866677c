"""What Bedrock's adapter sends, and what only its streams have. The recorded traffic is read where the shared folder is present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Finish, Frame, Reasoning, Secret, UpstreamRequest
from tests.adapters.aws_frames import event, exception
from tests.adapters.test_every_adapter import decoded, played

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bedrock"
NEEDS_RECORDINGS = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded traffic is kept outside the repository"
)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Hi"}


def request(body: dict[str, Any], *, secret: str = "ABSKkey", endpoint: str = "", model: str = "m") -> UpstreamRequest:
    channel = Channel("c", "bedrock", "c", (model,), secret=Secret(secret), endpoint=endpoint)
    chat = ChatRequest(model, {"model": model, "messages": [USER], **body}, stream=bool(body.get("stream")))
    return adapters.load("bedrock").adapter(1_440_938_160).request(chat, channel)


def sent(body: dict[str, Any]) -> Any:
    return json.loads(request(body).body)


def test_a_models_arn_is_one_segment_of_the_path_and_the_region_is_the_endpoints() -> None:
    arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-v1:0"
    made = request(
        {"stream": True},
        secret="AKIDEXAMPLE:secret/with+signs:session",
        endpoint="https://bedrock-runtime.eu-west-1.amazonaws.com/",
        model=arn,
    )
    encoded = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.anthropic.claude-v1%3A0"
    assert made.url == f"https://bedrock-runtime.eu-west-1.amazonaws.com/model/{encoded}/converse-stream"
    assert made.framing == "eventstream"
    assert "/20150830/eu-west-1/bedrock/aws4_request" in made.headers["authorization"]
    assert made.headers["x-amz-security-token"] == "session"


@pytest.mark.parametrize(
    ("secret", "endpoint", "region"),
    [
        ("A:b", "", "us-east-1"),
        ("A:b@ap-south-1", "", "ap-south-1"),
        ("A:b@ap-south-1", "http://127.0.0.1:9", "ap-south-1"),
        ("A:b", "https://vpce-1-2.bedrock-runtime.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ("A:b", "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ],
)
def test_the_region_is_the_endpoints_or_the_secrets(secret: str, endpoint: str, region: str) -> None:
    made = request({}, secret=secret, endpoint=endpoint)
    assert f"/{region}/bedrock/" in made.headers["authorization"]
    assert made.url.startswith(endpoint or f"https://bedrock-runtime.{region}.amazonaws.com/")


def test_an_api_key_goes_out_as_it_is() -> None:
    made = request({})
    assert made.headers == {"content-type": "application/json", "authorization": "Bearer ABSKkey"}
    assert made.framing == "sse"


def test_a_whole_conversation_in_converses_words() -> None:
    body = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}},
                {"type": "file", "file": {"filename": "the  report_1.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": "d2F2"}},
            ]},
            {
                "role": "assistant",
                "content": "",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln"},
                    {"type": "reasoning.encrypted", "data": "ZGF0YQ=="},
                ],
                "tool_calls": [
                    {"id": "a1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}},
                    {"id": "x" * 70, "type": "function", "function": {"name": "look", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "a1", "content": "one"},
            {"role": "tool", "tool_call_id": "x" * 70, "content": [
                {"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": "data:image/webp;base64,d2VicA=="}}
            ]},
            {"role": "user", "content": "Go on."},
        ],
        "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": "required",
        "max_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "stop": "END",
        "top_k": 4,
        "reasoning_effort": "high",
        "requestMetadata": {"team": "x"},
        "user": "somebody",
        "parallel_tool_calls": False,
    }  # fmt: skip
    out = sent(body)
    assert request(body).dropped == ("user", "parallel_tool_calls")
    long_id = out["messages"][1]["content"][3]["toolUse"]["toolUseId"]
    assert len(long_id) <= 64
    assert out == {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": "aW1n"}}},
                {"document": {"format": "pdf", "name": "the report 1", "source": {"bytes": "cGRm"}}},
                {"audio": {"format": "wav", "source": {"bytes": "d2F2"}}},
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "ZGF0YQ=="}},
                {"toolUse": {"toolUseId": "a1", "name": "look", "input": {"at": 1}}},
                {"toolUse": {"toolUseId": long_id, "name": "look", "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a1", "content": [{"text": "one"}]}},
                {"toolResult": {"toolUseId": long_id, "content": [
                    {"text": "two"}, {"image": {"format": "webp", "source": {"bytes": "d2VicA=="}}}
                ]}},
                {"text": "Go on."},
            ]},
        ],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0, "topP": 0.5, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"any": {}},
        },
        "outputConfig": {"effort": "high"},
        "additionalModelRequestFields": {"top_k": 4},
        "requestMetadata": {"team": "x"},
    }  # fmt: skip


def test_a_schema_for_the_answer_is_sent_as_text() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    out = sent({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}})
    told = out["outputConfig"]["textFormat"]
    assert told["type"] == "json_schema"
    assert told["structure"]["jsonSchema"]["name"] == "answer"
    assert isinstance(told["structure"]["jsonSchema"]["schema"], str)
    assert json.loads(told["structure"]["jsonSchema"]["schema"]) == schema


def test_a_choice_of_no_tool_leaves_the_tools_out() -> None:
    assert "toolConfig" not in sent({"tools": [TOOL], "tool_choice": "none"})


def test_one_function_can_be_demanded() -> None:
    out = sent({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}})
    assert out["toolConfig"]["toolChoice"] == {"tool": {"name": "look"}}


CALLED = [
    USER,
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "look", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "a", "content": "x"},
]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"messages": CALLED, "tools": [TOOL], "tool_choice": "none"}, "tool_choice"),
        ({"messages": CALLED}, "tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]},
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "s3://private/a.png"}}]}]},
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}]}]},
            "messages[0].tool_calls",
        ),
    ],
)  # fmt: skip
def test_what_has_no_place_and_matters_is_refused_by_its_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ProviderError) as met:
        request(body)
    assert (met.value.kind, met.value.param) == ("unsupported", field)


def test_unsigned_reasoning_is_not_sent_back() -> None:
    body = {"messages": [USER, {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}, USER]}
    assert request(body).dropped == ("messages[].reasoning_content",)
    assert sent(body)["messages"][1] == {"role": "assistant", "content": [{"text": "Yes."}]}


@pytest.mark.parametrize(
    "seal", [{"signature": "maker:c2ln"}, {"signature": "c2ln", "format": "maker-v1"}, {"data": "a b"}]
)
def test_reasoning_that_another_maker_sealed_is_not_sent_back(seal: dict[str, str]) -> None:
    body = {
        "messages": [
            USER,
            {"role": "assistant", "content": "Yes.", "reasoning_details": [{"text": "Hm.", **seal}]},
            USER,
        ]
    }
    assert request(body).dropped == ("messages[].reasoning_content",)
    assert sent(body)["messages"][1]["content"] == [{"text": "Yes."}]


def test_usage_comes_after_the_stop_and_only_then_nothing_can_follow() -> None:
    adapter = adapters.load("bedrock").adapter(0)
    raw = event("messageStop", b'{"stopReason":"end_turn"}') + event(
        "metadata", b'{"usage":{"inputTokens":1,"outputTokens":2}}'
    )
    stop, usage = decoded([raw], ".bin")
    list(adapter.feed(stop))
    assert not adapter.done
    list(adapter.feed(usage))
    assert adapter.done


def test_reasoning_keeps_its_signature_and_what_is_encrypted() -> None:
    adapter = adapters.load("bedrock").adapter(0)
    deltas = [{"text": "Hm."}, {"signature": "c2ln"}, {"redactedContent": "ZGF0YQ=="}]
    frames = [
        Frame(json.dumps({"contentBlockIndex": 0, "delta": {"reasoningContent": delta}}), "contentBlockDelta")
        for delta in deltas
    ]
    assert [one for frame in frames for one in adapter.feed(frame)] == [
        Reasoning("Hm."),
        Reasoning("", "c2ln"),
        Reasoning("", data="ZGF0YQ=="),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", "rate_limit"),
        ("modelStreamErrorException", "server"),
        ("validationException", "invalid_request"),
        ("serviceUnavailableException", "overloaded"),
        ("internalServerException", "server"),
        ("someNewException", "server"),
    ],
)
def test_an_exception_inside_a_stream_is_raised_with_its_kind(name: str, kind: str) -> None:
    adapter = adapters.load("bedrock").adapter(0)
    (frame,) = decoded([exception(name, b'{"message":"no"}')], ".bin")
    with pytest.raises(ProviderError) as met:
        list(adapter.feed(frame))
    assert (met.value.kind, met.value.message) == (kind, "no")


def test_a_malformed_answer_is_no_success() -> None:
    adapter = adapters.load("bedrock").adapter(0)
    with pytest.raises(ProviderError, match="malformed"):
        list(adapter.feed(Frame('{"stopReason":"malformed_tool_use"}', "messageStop")))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("new_one", "stop"),
    ],
)
def test_a_reason_to_stop(reason: str, said: str) -> None:
    streamed, whole = adapters.load("bedrock").adapter(0), adapters.load("bedrock").adapter(0)
    told = {"stopReason": reason, "output": {"message": {"content": []}}}
    assert list(streamed.feed(Frame(json.dumps(told), "messageStop"))) == [Finish(said)]
    assert Finish(said) in whole.feed(Frame(json.dumps(told)))


@NEEDS_RECORDINGS
@pytest.mark.parametrize(("name", "output"), [("text", 32), ("reasoning", 73)])
def test_recorded_streams(name: str, output: int) -> None:
    raw = (RECORDED / f"converse_stream_{name}.eventstream.bin").read_bytes()
    whole = decoded([raw], ".bin")
    assert decoded([raw[at : at + 1] for at in range(len(raw))], ".bin") == whole
    answer = played("bedrock", whole)
    assert answer["choices"]["0"]["finish_reason"] == "stop"
    assert answer["choices"]["0"]["text"]
    assert bool(answer["choices"]["0"]["reasoning"]) == (name == "reasoning")
    assert answer["usage"]["output"] == output


@NEEDS_RECORDINGS
def test_recorded_bodies() -> None:
    answer = played("bedrock", [Frame((RECORDED / "converse_text.json").read_text())])
    assert answer["usage"] == {"input": 22, "output": 57, "cached": 0, "reasoning": 0}
    error = adapters.load("bedrock").adapter(0).error(400, {}, (RECORDED / "error_400.json").read_bytes())
    assert error.kind == "model_not_found"
