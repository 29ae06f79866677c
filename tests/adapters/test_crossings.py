"""Every client format against every provider: what a conversation holds is there on the other side, and back.

Two properties. A conversation with an image, reasoning and parallel tool calls, as a client of any format sends it back, reaches
any provider whole, wherever the provider has a place for it; where it has none it is refused by name. And an answer read from a
stream is the answer read from a whole body.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import adapters, dialects, sse
from sluice.adapters._openai import OpenAICompatible
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.sse import SSEDecoder
from sluice.types import (
    Call,
    Channel,
    ChatRequest,
    Choice,
    Completion,
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

DIALECTS = sorted(dialects.available())
PROVIDERS = sorted(adapters.available())

IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n a picture").decode()
SCHEMA = {"type": "object", "properties": {"key": {"type": "string"}}}
MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro", "bedrock": "anthropic.claude-sonnet-4-5-v1:0"}
ENDPOINTS = {"spark_ws": "wss://upstream.test/v4.0/chat"}

ALL = frozenset({"image", "calls"})
LACKING: Mapping[str, frozenset[str]] = {"baidu_v1": ALL, "spark_ws": ALL}
"""What has no place in a provider's conversations. It has to be refused."""

FORGETS = frozenset(
    {"openai", "azure", "baichuan", "baidu_v1", "dashscope", "groq", "hunyuan", "hunyuan_native", "qianfan", "qwen", "spark"}
) | {"spark_ws", "xai"}  # fmt: skip
"""Reasoning never goes back."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of two turns. `calls` are name and arguments, `results` what came of each."""

    system: str
    question: str
    thought: str
    said: str
    calls: tuple[tuple[str, dict[str, str]], ...]
    results: tuple[str, ...]
    follow: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a provider's body holds of it: `calls` are name, arguments and result, brought together by whatever id they have."""

    texts: str
    image: bool
    thought: str
    calls: tuple[tuple[str, dict[str, str], str], ...]


WORDS = st.text('abc äß漢 \n"\\{}', min_size=1, max_size=12).map(lambda text: f"w{text}w")
NAMES = st.lists(st.from_regex(r"[a-z]{1,8}_[0-9]", fullmatch=True), min_size=2, max_size=3, unique=True)


@st.composite
def talks(draw: Callable[..., Any]) -> Talk:
    names = draw(NAMES)
    calls = tuple((name, {"key": draw(WORDS)}) for name in names)
    return Talk(
        *(draw(WORDS) for _ in range(4)),
        calls=calls,
        results=tuple(draw(WORDS) for _ in names),
        follow=draw(WORDS),
    )


def answer_of(talk: Talk, provider: str) -> Completion:
    """The first turn's answer in canonical form, its reasoning signed as this provider would."""
    events: list[Event] = [Start("answer", "m", 1)]
    events += [Reasoning(talk.thought), Reasoning("", signature(provider))]
    events += [Text(talk.said)]
    events += [ToolCall(at, f"call_{at}", name, json.dumps(sent)) for at, (name, sent) in enumerate(talk.calls)]
    buffer = Buffer()
    for event in [*events, Finish("tool_calls")]:
        buffer.add(event)
    return buffer.completion(Usage(1, 1))


def signature(provider: str) -> str:
    sealed = base64.b64encode(b"a signature of forty bytes or so, opaque").decode()
    return f"gemini:{sealed}" if provider == "gemini" else sealed


# --- as clients of each format send it -------------------------------------------------------------------------------


def spoken(dialect: str, talk: Talk, provider: str) -> Inbound:
    """The second turn's request: the answer goes back as the client got it."""
    opening = SPEAKERS[dialect](talk, None)
    chat = dialects.load(dialect).parse(inbound(opening, dialect))
    encoder = dialects.load(dialect).encoder(chat, "req_00000000000000000000000000a", 1, "")
    told = json.loads(encoder.completion(answer_of(talk, provider)))
    return inbound(SPEAKERS[dialect](talk, told), dialect)


def inbound(body: Mapping[str, Any], dialect: str) -> Inbound:
    path = {"model": "m"} if dialect == "gemini" else {}
    return Inbound(json.dumps(body).encode(), {}, path, "/v1beta/models/m:generateContent")


def openai_body(talk: Talk, told: Any) -> dict[str, Any]:
    parts = [text_part(talk.question), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}]
    messages: list[Any] = [{"role": "system", "content": talk.system}, {"role": "user", "content": parts}]
    if told:
        message = told["choices"][0]["message"]
        results = zip(message["tool_calls"], talk.results, strict=True)
        messages += [
            message,
            *({"role": "tool", "tool_call_id": call["id"], "content": text} for call, text in results),
        ]
        messages += [{"role": "user", "content": talk.follow}]
    tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name, _ in talk.calls]
    return {"model": "m", "messages": messages, "tools": tools}


def anthropic_body(talk: Talk, told: Any) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}
    messages: list[Any] = [{"role": "user", "content": [text_part(talk.question), image]}]
    if told:
        uses = [block for block in told["content"] if block["type"] == "tool_use"]
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": use["id"], "content": text}
            for use, text in zip(uses, talk.results, strict=True)
        ]
        messages += [{"role": "assistant", "content": told["content"]}]
        messages += [{"role": "user", "content": [*results, text_part(talk.follow)]}]
    tools = [{"name": name, "input_schema": SCHEMA} for name, _ in talk.calls]
    return {"model": "m", "max_tokens": 900, "system": talk.system, "messages": messages, "tools": tools}


def gemini_body(talk: Talk, told: Any) -> dict[str, Any]:
    parts = [{"text": talk.question}, {"inlineData": {"mimeType": "image/png", "data": IMAGE}}]
    contents: list[Any] = [{"role": "user", "parts": parts}]
    if told:
        content = told["candidates"][0]["content"]
        made = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        results = [
            {"functionResponse": {"name": call["name"], "id": call["id"], "response": {"result": text}}}
            for call, text in zip(made, talk.results, strict=True)
        ]
        contents += [content, {"role": "user", "parts": results}, {"role": "user", "parts": [{"text": talk.follow}]}]
    declared = [{"name": name, "parametersJsonSchema": SCHEMA} for name, _ in talk.calls]
    return {
        "contents": contents,
        "systemInstruction": {"parts": [{"text": talk.system}]},
        "tools": [{"functionDeclarations": declared}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }


def responses_body(talk: Talk, told: Any) -> dict[str, Any]:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}", "detail": "auto"}
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": talk.question}, image]}]
    if told:
        made = [item for item in told["output"] if item["type"] == "function_call"]
        items += told["output"]
        items += [
            {"type": "function_call_output", "call_id": item["call_id"], "output": text}
            for item, text in zip(made, talk.results, strict=True)
        ]
        items += [{"role": "user", "content": talk.follow}]
    tools = [{"type": "function", "name": name, "parameters": SCHEMA} for name, _ in talk.calls]
    include = ["reasoning.encrypted_content"]
    return {
        "model": "m",
        "instructions": talk.system,
        "input": items,
        "tools": tools,
        "store": False,
        "include": include,
    }


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


SPEAKERS: Mapping[str, Callable[[Talk, Any], dict[str, Any]]] = {
    "openai": openai_body,
    "anthropic": anthropic_body,
    "gemini": gemini_body,
    "responses": responses_body,
}


# --- as each provider's protocol holds it ----------------------------------------------------------------------------


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from strings(one)


def paired(
    calls: Iterable[tuple[Any, str, Any]], results: Mapping[Any, str]
) -> tuple[tuple[str, dict[str, str], str], ...]:
    return tuple(
        (name, json.loads(sent) if isinstance(sent, str) else sent, unwrapped(results[call_id]))
        for call_id, name, sent in calls
    )


def unwrapped(result: str) -> str:
    """A Gemini client's results are objects, whose JSON text is what another provider reads."""
    found = json.loads(result) if result.startswith('{"result":') else {"result": result}
    return str(found["result"])


def in_openais_words(body: Mapping[str, Any]) -> Heard:
    return in_messages(body["messages"])


def in_messages(messages: Sequence[Mapping[str, Any]]) -> Heard:
    """Messages of the OpenAI kind, as many protocols have them. Reasoning may stand in any of four places."""
    (turn,) = [message for message in messages if message["role"] == "assistant" and message.get("tool_calls")]
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in turn["tool_calls"]]
    results = {
        message["tool_call_id"]: "".join(strings_of_content(message["content"]))
        for message in messages
        if message["role"] == "tool"
    }
    parts = turn["content"] if isinstance(turn.get("content"), list) else []
    thinking = "".join(text for part in parts if part.get("type") == "thinking" for text in strings(part["thinking"]))
    details = "".join(detail.get("text", "") for detail in turn.get("reasoning_details") or ())
    thought = turn.get("reasoning_content") or turn.get("reasoning") or details or thinking.replace("text", "", 1)
    said = list(messages)
    return Heard(
        "\n".join(strings(said)), any(IMAGE in text for text in strings(said)), thought, paired(calls, results)
    )


def strings_of_content(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part.get("text", "") for part in content)


def in_anthropics_words(body: Mapping[str, Any]) -> Heard:
    blocks = [block for turn in body["messages"] for block in turn["content"] if isinstance(block, Mapping)]
    uses = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    results = {block["tool_use_id"]: "".join(strings_of_content(block["content"])) for block in blocks if block["type"] == "tool_result"}  # fmt: skip
    thoughts = [
        block["thinking"] for block in blocks if block["type"] == "thinking" and block["signature"] == signature("")
    ]
    images = [block for block in blocks if block["type"] == "image" and block["source"]["data"] == IMAGE]
    return Heard("\n".join(strings(body)), bool(images), "".join(thoughts), paired(uses, results))


def in_geminis_words(body: Mapping[str, Any]) -> Heard:
    parts = [part for content in body["contents"] for part in content["parts"]]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
    results = {answer["id"]: str(answer["response"]["result"]) for answer in answers}
    assert [answer["name"] for answer in answers] == [call["name"] for call in calls]
    thought = "".join(part["text"] for part in parts if part.get("thought"))
    image = any(part.get("inlineData", {}).get("data") == IMAGE for part in parts)
    made = paired([(call["id"], call["name"], call["args"]) for call in calls], results)
    return Heard("\n".join(strings(body)), image, thought, made)


def in_converses_words(body: Mapping[str, Any]) -> Heard:
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    uses = [(use["toolUseId"], use["name"], use["input"]) for block in blocks if (use := block.get("toolUse"))]
    results = {
        result["toolUseId"]: "".join(part["text"] for part in result["content"])
        for block in blocks
        if (result := block.get("toolResult"))
    }
    image = any(block["image"]["source"]["bytes"] == IMAGE for block in blocks if "image" in block)
    signed = [block["reasoningContent"]["reasoningText"] for block in blocks if "reasoningContent" in block]
    thought = "".join(text["text"] for text in signed if text["signature"] == signature(""))
    return Heard("\n".join(strings(body)), image, thought, paired(uses, results))


def in_coheres_words(body: Mapping[str, Any]) -> Heard:
    heard = in_messages(body["messages"])
    (turn,) = [message for message in body["messages"] if message["role"] == "assistant" and message.get("tool_calls")]
    content = turn.get("content") if isinstance(turn.get("content"), list) else []
    plan = "".join(str(part.get("thinking") or "") for part in content or ())
    return replace(heard, thought=str(turn.get("tool_plan") or "") + plan)


def in_hunyuans_words(body: Mapping[str, Any]) -> Heard:
    """PascalCase told as OpenAI's."""
    return in_messages([lowered(message) for message in body["Messages"]])


def lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [lowered(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    named = {"ToolCallId": "tool_call_id", "ToolCalls": "tool_calls", "Contents": "content"}
    return {named.get(name, name.lower()): lowered(one) for name, one in value.items()}


LISTENERS: Mapping[str, Callable[[Mapping[str, Any]], Heard]] = {
    "anthropic": in_anthropics_words,
    "gemini": in_geminis_words,
    "bedrock": in_converses_words,
    "cohere": in_coheres_words,
    "dashscope": lambda body: in_messages(body["input"]["messages"]),
    "hunyuan_native": in_hunyuans_words,
    **{name: in_openais_words for name in PROVIDERS if isinstance(adapters.load(name), OpenAICompatible)},
}


def asked(provider: str, chat: ChatRequest) -> dict[str, Any]:
    model = MODELS.get(provider, "m")
    endpoint = ENDPOINTS.get(provider, "https://upstream.test/v1")
    channel = Channel("c", provider, "c", ("m",), secret=Secret("id:key:more"), endpoint=endpoint, mapping={"m": model})
    request = adapters.load(provider).adapter(0).request(replace(chat, output_cap=4096), channel)
    body: dict[str, Any] = json.loads(request.body)
    return body


# --- the first property ----------------------------------------------------------------------------------------------


def test_every_format_has_a_speaker_and_every_provider_a_listener() -> None:
    assert set(SPEAKERS) == set(DIALECTS)
    assert {*LISTENERS, *LACKING} == set(PROVIDERS)


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name not in LACKING])
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=10)
@given(talk=talks())
def test_a_conversation_reaches_a_provider_whole(dialect: str, provider: str, talk: Talk) -> None:
    chat = dialects.load(dialect).parse(spoken(dialect, talk, provider))
    if chat.dialect == adapters.load(provider).wire and not isinstance(adapters.load(provider), OpenAICompatible):
        # Its own format: the client's body, to the letter, but for what we packed for other providers.
        assert asked(provider, chat)["tools"] == chat.raw["tools"]
        return
    heard = LISTENERS[provider](asked(provider, chat))
    assert heard.image
    assert heard.calls == tuple(
        (name, given, result) for (name, given), result in zip(talk.calls, talk.results, strict=True)
    )
    assert all(text.strip() in heard.texts for text in (talk.system, talk.question, talk.said, talk.follow))
    assert heard.thought == ("" if provider in FORGETS else talk.thought)


@pytest.mark.parametrize("provider", sorted(LACKING))
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_has_no_place_there_is_refused_by_name(dialect: str, provider: str) -> None:
    talk = Talk("s", "q", "t", "a", (("f_1", {"key": "x"}), ("g_2", {"key": "y"})), ("1", "2"), "so?")
    chat = dialects.load(dialect).parse(spoken(dialect, talk, provider))
    messages = chat.body["messages"]
    without_image = [
        {**message, "content": "q"} if isinstance(message.get("content"), list) else message for message in messages
    ]
    for told in (messages[:2], without_image):
        with pytest.raises(ProviderError) as met:
            asked(provider, replace(chat, body={**chat.body, "messages": told}))
        assert met.value.kind == "unsupported"
        assert str(met.value.param).startswith("messages[")


# --- the second property ---------------------------------------------------------------------------------------------

ANSWERS = st.builds(
    lambda thought, said, calls, cut, counts: (thought, said, calls, cut, counts),
    st.one_of(st.just(""), WORDS),
    st.one_of(st.just(""), WORDS),
    st.lists(
        st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.fixed_dictionaries({"key": WORDS})), max_size=3
    ),
    st.integers(1, 5),
    st.tuples(st.integers(1, 99), st.integers(5, 99)),
)


def cut_up(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def events_of(thought: str, said: str, calls: Any, size: int, counts: tuple[int, int]) -> list[Event]:
    """One answer in pieces of `size` characters."""
    events: list[Event] = [Start("answer", "m", 1), *(Reasoning(piece) for piece in cut_up(thought, size))]
    events += [Text(piece) for piece in cut_up(said, size)]
    for at, (name, sent) in enumerate(calls):
        pieces = cut_up(json.dumps(sent), size)
        events += [ToolCall(at, f"call_{at}", name), *(ToolCall(at, "", "", piece) for piece in pieces)]
    return [*events, Finish("tool_calls" if calls else "stop"), Usage(*counts)]


def filled(events: Iterable[Event]) -> Buffer:
    buffer = Buffer()
    for event in events:
        buffer.add(event)
    return buffer


def read(provider: str, frames: Iterable[Frame]) -> Buffer:
    adapter, buffer = adapters.load(provider).adapter(0), Buffer()
    for frame in frames:
        for event in adapter.feed(frame):
            buffer.add(event)
    for event in adapter.finish():
        buffer.add(event)
    return buffer


def shown(buffer: Buffer) -> Any:
    """What a buffer holds, arguments as the objects they are."""
    choice = buffer.choices.get(0, Choice())
    calls = [(call.id, call.name, json.loads(call.arguments or "{}")) for call in choice.tool_calls]
    return choice.text, choice.reasoning, calls, choice.finish_reason, buffer.usage


WIRES = [name for name in PROVIDERS if adapters.load(name).wire in DIALECTS] + [
    name for name in PROVIDERS if isinstance(row := adapters.load(name), OpenAICompatible) and not row.wire
]


@pytest.mark.parametrize("provider", WIRES)
@settings(max_examples=25)
@given(drawn=ANSWERS)
def test_a_streamed_answer_is_the_whole_one(provider: str, drawn: Any) -> None:
    """Written by our own encoders, as a stream and as a body; over the wire in bytes; read by the provider's adapter."""
    events = events_of(*drawn)
    dialect = adapters.load(provider).wire or "openai"
    chat = ChatRequest("m", {}, True, include_usage=True, dialect=dialect, raw=SHOWING)
    encoder = dialects.load(dialect).encoder(chat, "req_1", 1, "")
    frames = [*(frame for event in events for frame in encoder.encode(event)), *encoder.end(Usage(*drawn[4]))]
    wire = SSEDecoder().feed(b"".join(sse.encode(frame.data, frame.event) for frame in frames))
    original = filled(events)
    body = dialects.load(dialect).encoder(chat, "req_1", 1, "").completion(original.completion(Usage(*drawn[4])))
    streamed, whole = shown(read(provider, wire)), shown(read(provider, [Frame(body.decode())]))
    assert streamed == whole
    thought, said, calls, _, _ = drawn
    assert streamed[0] == said
    assert streamed[1] == thought
    assert [(name, sent) for _, name, sent in streamed[2]] == calls


SHOWING = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}


def converse(events: list[Event]) -> tuple[list[Frame], str]:
    """Bedrock: an answer as its events and as its body."""
    buffer, frames, block = filled(events), [], -1
    kind: Any = None
    for event in events:
        match event:
            case Reasoning(text):
                delta, here = {"reasoningContent": {"text": text}}, "thought"
            case Text(text):
                delta, here = {"text": text}, "text"
            case ToolCall(index, call_id, name, piece):
                delta, here = {"toolUse": {"input": piece}}, f"call {index}"
            case _:
                continue
        if here != kind:
            block, kind = block + 1, here
        if isinstance(event, ToolCall) and event.id:
            start = {"contentBlockIndex": block, "start": {"toolUse": {"toolUseId": call_id, "name": name}}}
            frames.append(Frame(json.dumps(start), "contentBlockStart"))
        else:
            frames.append(Frame(json.dumps({"contentBlockIndex": block, "delta": delta}), "contentBlockDelta"))
    choice = buffer.choices.get(0, Choice())
    stop = {"stopReason": "tool_use" if choice.calls else "end_turn"}
    assert buffer.usage is not None
    usage = {"usage": {"inputTokens": buffer.usage.input, "outputTokens": buffer.usage.output}}
    frames += [Frame(json.dumps(stop), "messageStop"), Frame(json.dumps(usage), "metadata")]
    content: list[Any] = (
        [{"reasoningContent": {"reasoningText": {"text": choice.reasoning}}}] if choice.reasoning else []
    )
    content += [{"text": choice.text}] if choice.text else []
    content += [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": json.loads(call.arguments)}}
        for call in choice.tool_calls
    ]
    return frames, json.dumps({"output": {"message": {"role": "assistant", "content": content}}, **stop, **usage})


def dashscope(events: list[Event]) -> tuple[list[Frame], str]:
    """DashScope's own protocol: messages in pieces, `finish_reason` a text until the end, usage in every frame."""
    buffer, frames = filled(events), []
    usage = {"input_tokens": buffer.usage.input, "output_tokens": buffer.usage.output} if buffer.usage else {}

    def told(message: Mapping[str, Any], reason: str) -> str:
        choice = {"message": {"role": "assistant", "content": "", **message}, "finish_reason": reason}
        return json.dumps({"output": {"choices": [choice]}, "usage": usage, "request_id": "r"})

    for event in events:
        match event:
            case Reasoning(text):
                frames.append(Frame(told({"reasoning_content": text}, "null")))
            case Text(text):
                frames.append(Frame(told({"content": text}, "null")))
            case ToolCall(index, call_id, name, piece):
                function = {"arguments": piece, **({"name": name} if name else {})}
                frames.append(
                    Frame(told({"tool_calls": [{"index": index, "id": call_id, "function": function}]}, "null"))
                )
    choice = buffer.choices.get(0, Choice())
    reason = "tool_calls" if choice.calls else "stop"
    calls = [whole_call(at, call) for at, call in enumerate(choice.tool_calls)]
    message = {
        "content": choice.text,
        "reasoning_content": choice.reasoning,
        **({"tool_calls": calls} if calls else {}),
    }
    return [*frames, Frame(told({}, reason))], told(message, reason)


def whole_call(index: int, call: Call) -> dict[str, Any]:
    return {
        "index": index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def hunyuan(events: list[Event]) -> tuple[list[Frame], str]:
    """Tencent's own protocol: the same in PascalCase, the whole one wrapped."""
    buffer = filled(events)
    assert buffer.usage is not None
    usage = {"PromptTokens": buffer.usage.input, "CompletionTokens": buffer.usage.output}
    frames = []

    def told(side: str, message: Mapping[str, Any], reason: str) -> dict[str, Any]:
        choice = {"FinishReason": reason, side: {"Role": "assistant", "Content": "", **message}}
        return {"Id": "i", "Created": 1, "Choices": [choice], "Usage": usage}

    def made(index: int, call_id: str, name: str, text: str) -> dict[str, Any]:
        return {"Index": index, "Id": call_id, "Type": "function", "Function": {"Name": name, "Arguments": text}}

    for event in events:
        match event:
            case Reasoning(text):
                frames.append(told("Delta", {"ReasoningContent": text}, ""))
            case Text(text):
                frames.append(told("Delta", {"Content": text}, ""))
            case ToolCall(index, call_id, name, piece):
                frames.append(told("Delta", {"ToolCalls": [made(index, call_id, name, piece)]}, ""))
    choice = buffer.choices.get(0, Choice())
    reason = "tool_calls" if choice.calls else "stop"
    calls = [made(at, call.id, call.name, call.arguments) for at, call in enumerate(choice.tool_calls)]
    message = {"Content": choice.text, "ReasoningContent": choice.reasoning, **({"ToolCalls": calls} if calls else {})}
    whole = {"Response": told("Message", message, reason)}
    return [Frame(json.dumps(one)) for one in [*frames, told("Delta", {}, reason)]], json.dumps(whole)


def cohere(events: list[Event]) -> tuple[list[Frame], str]:
    """Cohere v2: blocks of content, calls beside them."""
    buffer, frames, block, kind = filled(events), [], -1, ""
    assert buffer.usage is not None
    usage = {"billed_units": {"input_tokens": buffer.usage.input, "output_tokens": buffer.usage.output}}
    frames.append({"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant"}}})
    for event in events:
        match event:
            case Reasoning(text) | Text(text):
                here = "thinking" if isinstance(event, Reasoning) else "text"
                if here != kind:
                    block, kind = block + 1, here
                    opening = {"message": {"content": {"type": here, here: ""}}}
                    frames.append({"type": "content-start", "index": block, "delta": opening})
                frames.append(
                    {"type": "content-delta", "index": block, "delta": {"message": {"content": {here: text}}}}
                )
            case ToolCall(index, call_id, name, piece):
                call: dict[str, Any] = {"function": {"arguments": piece}}
                if call_id:
                    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
                told = "tool-call-start" if call_id else "tool-call-delta"
                frames.append({"type": told, "index": index, "delta": {"message": {"tool_calls": call}}})
    choice = buffer.choices.get(0, Choice())
    reason = "TOOL_CALL" if choice.calls else "COMPLETE"
    frames.append({"type": "message-end", "id": "i", "delta": {"finish_reason": reason, "usage": usage}})
    content = [{"type": "thinking", "thinking": choice.reasoning}] if choice.reasoning else []
    content += [{"type": "text", "text": choice.text}] if choice.text else []
    calls = [whole_call(at, call) for at, call in enumerate(choice.tool_calls)]
    message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
    return [Frame(json.dumps(one), str(one["type"])) for one in frames], json.dumps(
        {"id": "i", "message": message, "finish_reason": reason, "usage": usage}
    )


WRITERS: Mapping[str, Callable[[list[Event]], tuple[list[Frame], str]]] = {
    "bedrock": converse,
    "cohere": cohere,
    "dashscope": dashscope,
    "hunyuan_native": hunyuan,
}


def test_every_protocol_of_conversations_is_written_here() -> None:
    assert {*WIRES, *WRITERS, *LACKING} == set(PROVIDERS)


@pytest.mark.parametrize("provider", sorted(WRITERS))
@settings(max_examples=25)
@given(drawn=ANSWERS)
def test_a_natives_streamed_answer_is_its_whole_one(provider: str, drawn: Any) -> None:
    frames, body = WRITERS[provider](events_of(*drawn))
    streamed, whole = shown(read(provider, frames)), shown(read(provider, [Frame(body)]))
    assert streamed == whole
    thought, said, calls, _, counts = drawn
    assert (streamed[0], streamed[1]) == (said, thought)
    assert [(name, sent) for _, name, sent in streamed[2]] == calls
    assert streamed[4] is not None
    assert (streamed[4].input, streamed[4].output) == counts
