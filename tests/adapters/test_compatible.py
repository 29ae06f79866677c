"""What each provider of the compatible family is sent: its address, its words for OpenAI's fields, what is left out or refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import adapters
from sluice.adapters._openai import OpenAICompatible
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.types import Channel, ChatRequest, Frame, Secret, UpstreamRequest, Usage

ROWS = {
    name: provider
    for name in sorted(adapters.available())
    if isinstance(provider := adapters.load(name), OpenAICompatible)
}
OWN_VENDOR = frozenset({"openai", "azure"})
HELLO = [{"role": "user", "content": "hi"}]
ENDPOINT = "https://gateway.test/v1"


def sent(
    name: str, body: dict[str, Any], model: str = "m", dialect: str = "openai", now: float = 0, **channel: Any
) -> tuple[UpstreamRequest, dict[str, Any]]:
    body = {"model": model, "messages": HELLO, **body}
    chat = ChatRequest(model, body, stream=bool(body.get("stream")), dialect=dialect)
    if not urlless(name):
        channel.setdefault("endpoint", ENDPOINT)
    request = adapters.load(name).adapter(now).request(chat, Channel("c", name, "c", (model,), **channel))
    return request, json.loads(request.body)


def urlless(name: str) -> bool:
    """Whether the provider has an address of its own, so that a channel needs none."""
    return "://" in ROWS[name].base_url


def refused(name: str, body: dict[str, Any], model: str = "m") -> str | None:
    with pytest.raises(ProviderError) as met:
        sent(name, body, model)
    assert met.value.kind == "unsupported"
    return met.value.param


@pytest.mark.parametrize("name", ROWS)
def test_every_row_asks_its_own_address_with_its_own_key(name: str) -> None:
    request, body = sent(name, {"stream": True}, secret=Secret("sk-upstream-123456"))
    assert request.url.endswith("/chat/completions")
    assert urlless(name) or request.url.startswith(ENDPOINT)
    assert "sk-upstream-123456" in (request.headers.get("authorization", "") + request.headers.get("api-key", ""))
    assert body["model"] == "m"
    assert body["messages"] == HELLO
    assert body.get("stream_options", {"include_usage": True}) == {"include_usage": True}


@pytest.mark.parametrize("name", [name for name in ROWS if not urlless(name)])
def test_a_row_without_an_address_needs_the_channels(name: str) -> None:
    with pytest.raises(ProviderError) as met:
        sent(name, {}, endpoint="")
    assert met.value.kind == "permission"


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_what_a_client_tells_of_its_users_is_for_its_own_vendor_only(name: str, dialect: str) -> None:
    told = {"user": "u-1", "metadata": {"person": "Ada"}, "safety_identifier": "s", "store": True}
    request, body = sent(name, told, dialect=dialect)
    own = name in OWN_VENDOR and dialect == "openai"
    assert {field for field in told if field in body} == (set(told) if own else set())
    assert set(request.dropped) == (set() if own else set(told))


@pytest.mark.parametrize("name", ROWS)
def test_a_developer_is_a_system_but_to_openai(name: str) -> None:
    _, body = sent(name, {"messages": [{"role": "developer", "content": "be brief"}, *HELLO]})
    assert body["messages"][0]["role"] == ("developer" if name in OWN_VENDOR else "system")


@pytest.mark.parametrize("name", ROWS)
def test_what_goes_out_unchanged_is_not_called_dropped(name: str) -> None:
    body = {"temperature": 0.5, "tools": [{"type": "function", "function": {"name": "f"}}], "a_field_of_tomorrow": 1}
    request, out = sent(name, body)
    assert request.dropped == ()
    assert {field: out[field] for field in body} == body


@pytest.mark.parametrize(
    ("name", "model", "body", "out", "absent"),
    [
        ("openai", "o3", {"max_tokens": 5}, {"max_completion_tokens": 5}, ["max_tokens"]),
        ("openai", "gpt-4o", {"max_tokens": 5}, {"max_tokens": 5}, ["max_completion_tokens"]),
        ("openai", "gpt-5-mini", {"max_tokens": 5, "max_completion_tokens": 4}, {"max_completion_tokens": 4}, ["max_tokens"]),
        ("azure", "gpt-5", {"max_tokens": 5}, {"max_completion_tokens": 5}, ["max_tokens"]),
        ("deepseek", "m", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, ["thinking"]),
        ("deepseek", "m", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ["reasoning_effort"]),
        ("deepseek", "m", {"max_completion_tokens": 9, "n": 1}, {"max_tokens": 9}, ["max_completion_tokens"]),
        ("moonshot", "m", {"temperature": 1.7}, {"temperature": 1.0}, []),
        ("groq", "m", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, []),
        ("groq", "m", {"top_logprobs": 3}, {}, ["top_logprobs"]),
        ("xai", "grok-4-0709", {"presence_penalty": 1, "reasoning_effort": "high"}, {}, ["presence_penalty", "reasoning_effort"]),
        ("xai", "grok-4.3", {"reasoning_effort": "medium"}, {"reasoning_effort": "medium"}, []),
        ("xai", "grok-3-mini", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, []),
        ("xai", "grok-4-fast-non-reasoning", {"stop": ["."], "presence_penalty": 1}, {"stop": ["."], "presence_penalty": 1}, []),
        ("mistral", "m", {"seed": 7, "stream": True}, {"random_seed": 7}, ["seed", "stream_options"]),
        ("mistral", "mistral-small-2603", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}, []),
        ("mistral", "magistral-medium-2509", {"reasoning_effort": "low"}, {}, ["reasoning_effort"]),
        ("qwen", "m", {"reasoning_effort": "none"}, {"enable_thinking": False}, ["reasoning_effort"]),
        ("qwen", "m", {"reasoning_effort": "low", "enable_thinking": False}, {"enable_thinking": False}, []),
        ("qwen", "m", {"stream": False}, {"stream": True, "stream_options": {"include_usage": True}}, []),
        ("hunyuan", "m", {"reasoning_effort": "high"}, {"enable_thinking": True}, ["reasoning_effort"]),
        ("qianfan", "m", {"reasoning_effort": "high"}, {"enable_thinking": True}, ["reasoning_effort"]),
        ("baichuan", "m", {"temperature": 2, "stream": True}, {"temperature": 1.0}, ["stream_options"]),
        ("zhipu", "m", {"temperature": 0}, {"temperature": 0.01, "do_sample": False}, []),
        ("zhipu", "m", {"temperature": 1, "top_p": 1.0}, {"temperature": 0.99, "top_p": 0.99}, ["do_sample"]),
        ("zhipu", "m", {"temperature": 0.5, "top_p": 0}, {"temperature": 0.5, "top_p": 0.01}, []),
        ("zhipu", "m", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ["reasoning_effort"]),
        ("ark", "m", {"reasoning_effort": "max"}, {"reasoning_effort": "high"}, []),
        ("ark", "m", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ["reasoning_effort"]),
        ("minimax", "m", {}, {"reasoning_split": True}, []),
        ("minimax", "m", {"reasoning_split": False, "max_tokens": 4}, {"reasoning_split": False, "max_completion_tokens": 4}, ["max_tokens"]),
        ("minimax", "m", {"temperature": 0}, {"temperature": 0.01}, []),
        ("ollama", "m", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, []),
    ],
)  # fmt: skip
def test_a_field_in_the_providers_words(
    name: str, model: str, body: dict[str, Any], out: dict[str, Any], absent: list[str]
) -> None:
    request, told = sent(name, body, model)
    assert {field: told.get(field) for field in out} == out
    assert not set(absent) & set(told)
    gone = {field for field in absent if field in body and field in ROWS[name].drop}
    assert gone - {"stream_options"} <= set(request.dropped)


@pytest.mark.parametrize(
    ("name", "model", "body", "param"),
    [
        *((name, "m", {"n": 2}, "n") for name in ("deepseek", "groq", "qianfan", "baichuan", "hunyuan", "spark", "zhipu", "ark", "minimax", "ollama")),
        ("qwen", "m", {"n": 5}, "n"),
        ("xai", "grok-4", {"stop": ["."]}, "stop"),
        ("groq", "m", {"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ("zhipu", "m", {"stop": ["a", "b"]}, "stop"),
        ("mistral", "m", {"audio": {"voice": "x"}}, "audio"),
        ("ollama", "m", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]}, "messages[].content[].image_url"),
    ],
)  # fmt: skip
def test_what_would_change_the_meaning_is_refused_by_name(
    name: str, model: str, body: dict[str, Any], param: str
) -> None:
    assert refused(name, body, model) == param


def test_an_image_that_is_sent_along_is_no_address() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    _, body = sent("ollama", {"messages": [{"role": "user", "content": [part]}]})
    assert body["messages"][0]["content"] == [part]


# Reasoning that goes back, or does not.

LOOP = [
    {"role": "user", "content": "weather?"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I look it up.",
        "reasoning_details": [{"type": "reasoning.text", "text": "I look it up.", "signature": "c2ln"}],
        "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_a", "content": "sun"},
]


@pytest.mark.parametrize("name", ["deepseek", "moonshot", "zhipu", "ark", "vllm", "compatible"])
def test_reasoning_goes_back_where_the_next_step_needs_it(name: str) -> None:
    _, body = sent(name, {"messages": LOOP})
    assert body["messages"][1]["reasoning_content"] == "I look it up."


@pytest.mark.parametrize("name", ["openai", "azure", "hunyuan", "groq", "xai", "qwen", "qianfan", "baichuan", "spark"])
def test_reasoning_stays_here_where_it_is_an_error_or_nothing(name: str) -> None:
    request, body = sent(name, {"messages": LOOP})
    assert not {"reasoning_content", "reasoning_details", "reasoning"} & set(body["messages"][1])
    assert "messages[].reasoning_content" in request.dropped


@pytest.mark.parametrize("name", ["deepseek", "moonshot", "zhipu", "ark", "ollama", "minimax", "mistral"])
def test_reasoning_that_a_client_kept_as_blocks_is_the_same_reasoning(name: str) -> None:
    blocks = [{field: value for field, value in message.items() if field != "reasoning_content"} for message in LOOP]
    _, whole = sent(name, {"messages": LOOP})
    _, by_blocks = sent(name, {"messages": blocks})
    assert by_blocks["messages"] == whole["messages"]


def test_without_tools_deepseeks_reasoner_must_not_see_its_reasoning_again() -> None:
    _, body = sent(
        "deepseek", {"messages": [{"role": "assistant", "content": "4", "reasoning_content": "2+2"}, *HELLO]}
    )
    assert "reasoning_content" not in body["messages"][0]


def test_a_client_that_kept_no_reasoning_still_gets_through_a_tool_loop() -> None:
    plain = [{field: value for field, value in message.items() if "reasoning" not in field} for message in LOOP]
    _, body = sent("deepseek", {"messages": plain})
    assert body["messages"][1]["reasoning_content"] == ""
    _, body = sent("moonshot", {"messages": plain})
    assert body["messages"][1]["reasoning_content"] == " "
    assert "reasoning_content" not in sent("zhipu", {"messages": plain})[1]["messages"][1]


BLOCK = {
    "type": "reasoning.text",
    "text": "hm",
    "signature": "c2ln",
    "format": "anthropic-claude-v1",
    "index": 0,
    "id": "r",
}
SEALED = {"type": "reasoning.encrypted", "data": "b3BhcXVl", "format": "openai-responses-v1", "index": 1, "id": "rs_1"}


def openrouter_sent(**message: Any) -> dict[str, Any]:
    _, body = sent("openrouter", {"messages": [*HELLO, {"role": "assistant", "content": "x", **message}]})
    told: dict[str, Any] = body["messages"][1]
    return told


def test_openrouters_blocks_go_back_unchanged() -> None:
    assert openrouter_sent(reasoning="hm", reasoning_details=[BLOCK, SEALED])["reasoning_details"] == [BLOCK, SEALED]


def test_openrouters_blocks_go_back_unchanged_by_a_client_that_only_knows_their_seals() -> None:
    frame = {"choices": [{"index": 0, "delta": {"reasoning": "hm", "reasoning_details": [BLOCK, SEALED]}}]}
    buffer = Buffer()
    for event in adapters.load("openrouter").adapter(0).feed(Frame(json.dumps(frame))):
        buffer.add(event)
    kept = buffer.choices[0]
    assert openrouter_sent(reasoning_details=kept.details)["reasoning_details"] == [BLOCK, SEALED]
    gathered = [{**detail, "text": ""} if "text" in detail else detail for detail in kept.details]
    told = openrouter_sent(reasoning_content="hm", reasoning_details=gathered)
    assert told["reasoning_details"] == [BLOCK, SEALED]
    assert "reasoning_content" not in told


def test_openrouter_is_sent_no_block_that_another_signed() -> None:
    foreign = {"type": "reasoning.text", "text": "hm", "signature": "c2ln"}
    assert openrouter_sent(reasoning_details=[foreign]) == {"role": "assistant", "content": "x", "reasoning": "hm"}
    assert openrouter_sent(reasoning_content="hm") == {"role": "assistant", "content": "x", "reasoning": "hm"}


def test_minimax_gets_its_blocks_and_mistral_its_parts() -> None:
    _, body = sent("minimax", {"messages": LOOP})
    (detail,) = body["messages"][1]["reasoning_details"]
    assert (detail["type"], detail["text"]) == ("reasoning.text", "I look it up.")
    _, body = sent("mistral", {"messages": LOOP})
    (part,) = body["messages"][1]["content"]
    assert part["thinking"] == [{"type": "text", "text": "I look it up."}]


@pytest.mark.parametrize("name", ROWS)
def test_marks_for_a_cache_reach_only_who_reads_them(name: str) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", **mark}]}],
        "tools": [{"type": "function", "function": {"name": "f"}, **mark}],
    }
    request, out = sent(name, body)
    kept = "cache_control" in json.dumps(out)
    assert kept == (name in {"openrouter", "qwen", "compatible"})
    assert ("tools[].cache_control" in request.dropped) == (not kept)


# Addresses and credentials that take code.


def azure(endpoint: str, secret: str = "key-1234567890") -> UpstreamRequest:
    return sent("azure", {}, "gpt 4", endpoint=endpoint, secret=Secret(secret))[0]


def test_azures_two_styles_are_told_apart_by_the_endpoint() -> None:
    host = "https://res.openai.azure.com"
    assert azure(host).url == f"{host}/openai/v1/chat/completions"
    assert azure(f"{host}?api-version=preview").url == f"{host}/openai/v1/chat/completions?api-version=preview"
    dated = "api-version=2024-10-21"
    assert azure(f"{host}/?{dated}").url == f"{host}/openai/deployments/gpt%204/chat/completions?{dated}"
    own = f"{host}/openai/deployments/mine?{dated}"
    assert azure(own).url == f"{host}/openai/deployments/mine/chat/completions?{dated}"


def test_azure_takes_a_key_or_a_token_of_entra() -> None:
    assert azure("https://r.test").headers["api-key"] == "key-1234567890"
    token = azure("https://r.test", "eyJhbGciOi.x.y").headers
    assert (token["authorization"], "api-key" in token) == ("Bearer eyJhbGciOi.x.y", False)


@pytest.mark.parametrize(("model", "path"), [("4.0Ultra", "/v1"), ("x1", "/v2"), ("spark-x", "/x2")])
def test_sparks_newer_models_live_under_their_own_path(model: str, path: str) -> None:
    request, _ = sent("spark", {}, model)
    assert request.url == f"https://spark-api-open.xf-yun.com{path}/chat/completions"
    request, _ = sent("spark", {}, model, endpoint="https://mirror.test/v9")
    assert request.url == "https://mirror.test/v9/chat/completions"


def test_mistrals_ids_are_nine_letters_and_always_the_same() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [{**LOOP[1]["tool_calls"][0], "id": "call_of_another"}]}
    messages = [
        turn,
        {"role": "tool", "tool_call_id": "call_of_another", "content": "1"},
        {"role": "user", "content": "so?"},
    ]
    _, body = sent("mistral", {"messages": messages})
    short = body["messages"][0]["tool_calls"][0]["id"]
    assert len(short) == 9
    assert short.isalnum()
    assert body["messages"][1]["tool_call_id"] == short
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "assistant", "user"]
    own = {"role": "tool", "tool_call_id": "gSIMJiOkT", "content": "1"}
    assert sent("mistral", {"messages": [own]})[1]["messages"][0]["tool_call_id"] == "gSIMJiOkT"


def test_strict_providers_are_not_sent_what_openais_sdk_adds_to_a_message() -> None:
    echoed = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "name": "bot"}
    for name in ("groq", "mistral"):
        _, body = sent(name, {"messages": [echoed, *HELLO]})
        assert body["messages"][0] == {"role": "assistant", "content": "x"}


# What is counted in more kinds than two.


def test_kinds_of_tokens_are_told_apart() -> None:
    given = {"cached_tokens": 2, "cache_creation_input_tokens": 3, "audio_tokens": 4, "image_tokens": 5}
    usage = {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": given}
    usage["completion_tokens_details"] = {"reasoning_tokens": 1, "audio_tokens": 6}
    (told,) = [
        event
        for event in adapters.load("qwen").adapter(0).feed(Frame(json.dumps({"choices": [], "usage": usage})))
        if isinstance(event, Usage)
    ]
    assert told == Usage(20, 9, 2, 1, cache_write=3, audio_input=4, image_input=5, audio_output=6)


# docs/crossings.md


def ticked(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "—"


def line_of(name: str, row: OpenAICompatible) -> str:
    """A row as docs/crossings.md has it. Fields that only some models lack stand in brackets."""
    some = frozenset().union(*(rule.drop for rule in row.rules)) - row.drop
    never = frozenset().union(*(rule.refuse for rule in row.rules)) - row.refused
    most = {f"{field} > {limit}" for field, limit in row.most.items()}
    names = {**{old: new for rule in row.rules for old, new in rule.rename.items()}, **row.rename}
    cells = (
        f"`{name}`",
        "as they are" if row.wire else "written anew",
        ", ".join(f"`{old}` → `{new}`" for old, new in sorted(names.items())) or "—",
        ticked(row.drop - row.refused - {"stream_options"}) + (f" ({ticked(some)})" if some else ""),
        ticked({*row.refused, *most}) + (f" ({ticked(never)})" if never else ""),
        {"never": "no", "tools": "in conversations with tool calls", "always": "yes"}[row.replay]
        if "reasoning_content" in row.strip
        else "as it is",
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", ROWS)
def test_the_page_of_crossings_says_what_the_row_says(name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()
    assert line_of(name, ROWS[name]) in page.splitlines()


# Odd answers.


def read(name: str, *chunks: dict[str, Any]) -> Buffer:
    adapter, buffer = adapters.load(name).adapter(0), Buffer()
    for chunk in chunks:
        for event in adapter.feed(Frame(json.dumps(chunk))):
            buffer.add(event)
    return buffer


def piece(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta}], **more}


def test_a_call_that_says_its_id_and_name_again_is_the_same_call() -> None:
    def call(text: str) -> dict[str, Any]:
        return piece({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": text}}]})

    assert [(one.id, one.arguments) for one in read("compatible", call('{"x"'), call(":1}")).tool_calls] == [
        ("a", '{"x":1}')
    ]


def test_a_placeholder_of_zeros_is_no_usage() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert read("minimax", piece({"content": "x"}), piece({}, usage=zeros)).usage is None
    told = {"prompt_tokens": 3, "completion_tokens": 2}
    assert read("minimax", piece({"content": "x"}, usage=told), {"choices": [], "usage": zeros}).usage == Usage(3, 2)


def test_a_code_beside_an_answer_is_an_error_only_where_the_provider_says_so() -> None:
    assert read("compatible", piece({"content": "x"}, code=200, message="ok")).text == "x"
    assert read("spark", piece({"content": "x"}, code=0, message="Success")).text == "x"
    with pytest.raises(ProviderError) as met:
        read("spark", piece({"content": ""}, code=10110, message="busy"))
    assert met.value.kind == "overloaded"


NAMES_IN_A_CHUNK = [
    "id",
    "choices",
    "index",
    "delta",
    "message",
    "content",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "logprobs",
    "error",
    "code",
    "type",
    "text",
    "thinking",
    "base_resp",
    "status_code",
    "x_groq",
    "object",
    "created",
    "model",
    "signature",
    "data",
    "output_sensitive",
    "extra_content",
    "google",
    "audio",
]
ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 2**40),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(["stop", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES_IN_A_CHUNK), inner, max_size=5)
    ),
    max_leaves=8,
)
FIELDS = dict.fromkeys(("content", "tool_calls", "reasoning_details", "reasoning_content", "tool_call_id"), ODD)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": ODD,
        "usage": ODD,
        "code": ODD,
        "error": ODD,
        "base_resp": ODD,
        "x_groq": ODD,
        "choices": st.one_of(
            ODD,
            st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "index": ODD,
                        "finish_reason": ODD,
                        "logprobs": ODD,
                        "message": ODD,
                        "delta": st.one_of(
                            ODD,
                            st.fixed_dictionaries(
                                {},
                                optional=dict.fromkeys(
                                    ("content", "tool_calls", "reasoning_details", "reasoning"), ODD
                                ),
                            ),
                        ),
                    },
                ),
                max_size=2,
            ),
        ),
    },
)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=25)
@given(chunks=st.lists(CHUNKS, max_size=3), status=st.sampled_from([400, 429, 500]))
def test_nothing_a_provider_sends_is_more_than_its_own_error(
    name: str, chunks: list[dict[str, Any]], status: int
) -> None:
    adapter, buffer = adapters.load(name).adapter(0), Buffer()
    try:
        for one in chunks:
            for event in adapter.feed(Frame(json.dumps(one))):
                buffer.add(event)
        list(adapter.finish())
    except ProviderError:
        pass
    for one in chunks:
        assert adapter.error(status, {}, json.dumps(one).encode()).status == status


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=25)
@given(
    body=st.fixed_dictionaries(
        {
            "messages": st.lists(
                st.one_of(ODD, st.fixed_dictionaries({"role": st.just("assistant")}, optional=FIELDS)), min_size=1
            )
        },
        optional={
            "tools": ODD,
            "stop": ODD,
            "n": ODD,
            "temperature": ODD,
            "reasoning_effort": ODD,
            "stream_options": ODD,
        },
    )
)
def test_nothing_a_client_sends_is_more_than_its_own_error(name: str, body: dict[str, Any]) -> None:
    kind = "sent"
    try:
        sent(name, {**body, "stream": True})
    except ProviderError as error:
        kind = error.kind
    assert kind in ("sent", "invalid_request", "unsupported")
