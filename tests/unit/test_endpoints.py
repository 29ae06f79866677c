"""The calls that are no chat, without a network: forms, what answers say they used, and what is made up for."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import adapters, endpoints
from sluice.adapters._openai_calls import OpenAICalls, _form
from sluice.endpoints import _forms, _sound
from sluice.endpoints._base import Answer, tokens_told
from sluice.endpoints.embeddings import floats, packed
from sluice.errors import BadRequest, ProviderError
from sluice.types import CallRequest, Channel, FormPart, Frame, Inbound, Secret, Usage

CHANNEL = Channel("c", "openai", "c", ("m",), secret=Secret("sk-secret"), mapping={"m": "theirs"})


def call(name: str, **fields: Any) -> CallRequest:
    return endpoints.load(name).parse(Inbound(orjson.dumps({"model": "m", **fields})))


def answer(name: str, alias: str = "", **fields: Any) -> Answer:
    return endpoints.load(name).answer(call(name, **fields), alias)


def form_of(parts: tuple[FormPart, ...]) -> Inbound:
    body, content_type = _form(parts, "m", frozenset())
    return Inbound(body, {"content-type": content_type})


def heard(*parts: FormPart) -> CallRequest:
    given = (FormPart("model", b"m"), FormPart("file", b"12345678" * 1000, "talk.mp3", "audio/mpeg"), *parts)
    return endpoints.load("transcriptions").parse(form_of(given))


# --- what there is ---


def test_each_endpoint_is_a_kind_some_provider_has_and_each_kind_a_provider_has_is_an_endpoint() -> None:
    kinds = {endpoints.load(name).kind for name in endpoints.available()}
    offered = {
        kind
        for name in adapters.available()
        for kind in kinds | set(getattr(adapters.load(name), "endpoints", {}))
        if adapters.endpoint(name, kind, 0)
    }
    assert offered == kinds
    with pytest.raises(LookupError, match="embeddings"):
        endpoints.load("nothing")


def test_a_provider_that_has_only_chat_offers_nothing() -> None:
    assert adapters.endpoint("deepseek", "embeddings", 0) is None
    assert adapters.endpoint("anthropic", "embeddings", 0) is None


# --- forms ---

NAMES = st.text(st.characters(exclude_characters='\\"\r\n', codec="utf-8"), min_size=1, max_size=20)
PARTS = st.builds(FormPart, NAMES, st.binary(max_size=300), st.just(""), st.just(""))
FILES = st.builds(FormPart, NAMES, st.binary(max_size=300), NAMES, st.sampled_from(["", "audio/wav"]))


@given(st.lists(PARTS | FILES, max_size=6).map(tuple))
def test_a_form_written_is_read_back(parts: tuple[FormPart, ...]) -> None:
    kept = tuple(part for part in parts if part.name != "model")
    assert _forms.parts(form_of(kept)) == kept


def test_a_part_holds_what_looks_like_a_boundary_and_names_are_escaped() -> None:
    body, content_type = _form((FormPart("a", b"x"),), "m", frozenset())
    boundary = content_type.partition("boundary=")[2].encode()
    tricky = (FormPart("a", b"\r\n--" + boundary + b"--\r\n"), FormPart("f", b"", 'a"b\r\n.png'))
    read = _forms.parts(form_of(tricky))
    assert read[0] == tricky[0]
    assert read[1].filename == "a%22b%0D%0A.png"
    assert body.endswith(boundary + b"--\r\n")


@pytest.mark.parametrize("cut", range(5, 300, 7))
def test_a_form_that_is_cut_is_no_form(cut: int) -> None:
    whole = form_of((FormPart("file", bytes(range(256)), "a.mp3"), FormPart("model", b"m")))
    with pytest.raises(BadRequest):
        _forms.parts(Inbound(whole.body[:-cut], whole.headers))


def test_fields_named_twice_are_lists_and_too_many_parts_are_refused() -> None:
    form = (FormPart("a[]", b"1"), FormPart("a[]", b"2"), FormPart("b", b"3"), FormPart("f", b"4", "f"))
    assert _forms.fields(form) == {"a": ["1", "2"], "b": "3"}
    with pytest.raises(BadRequest, match="more than 200 parts"):
        _forms.parts(form_of(tuple(FormPart("a", b"") for _ in range(201))))
    with pytest.raises(BadRequest) as met:
        _forms.fields((FormPart("prompt", b"\xff"),))
    assert met.value.param == "prompt"


def test_a_form_goes_out_with_the_providers_name_of_the_model_and_no_private_field() -> None:
    sent = heard(FormPart("user", b"me"), FormPart("language", b"de"))
    adapter = adapters.endpoint("groq", "transcriptions", 0)
    assert adapter is not None
    request = adapter.request(sent, CHANNEL)
    assert request.url == "https://api.groq.com/openai/v1/audio/transcriptions"
    assert request.dropped == ("user",)
    read = _forms.parts(Inbound(request.body, request.headers))
    assert _forms.fields(read) == {"model": "theirs", "language": "de"}
    assert read[1] == sent.form[1]


# --- embeddings ---


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_and_base64_are_the_same_numbers(vector: list[float]) -> None:
    assert floats(packed(vector)) == vector
    assert base64.b64decode(packed(vector)) == struct.pack(f"<{len(vector)}f", *vector)


@pytest.mark.parametrize("asked", ["float", "base64"])
@pytest.mark.parametrize("given_as", ["float", "base64"])
def test_embeddings_come_as_they_were_asked_for(asked: str, given_as: str) -> None:
    vector: Any = [0.5, -2.0] if given_as == "float" else packed([0.5, -2.0])
    told = {
        "object": "list",
        "data": [{"index": 0, "embedding": vector}],
        "model": "theirs",
        "usage": {"total_tokens": 3},
    }
    reader = answer("embeddings", input="a", encoding_format=asked)
    whole = json.loads(reader.whole(json.dumps(told).encode()))
    shown = whole["data"][0]["embedding"]
    assert shown == ([0.5, -2.0] if asked == "float" else packed([0.5, -2.0]))
    assert (whole["model"], reader.usage) == ("theirs", Usage(3))


def test_embeddings_that_need_nothing_are_the_providers_own_bytes() -> None:
    body = b'{"data": [ {"embedding": [1]} ],  "more": 1, "usage": {"prompt_tokens": 0, "total_tokens": 0}}'
    reader = answer("embeddings", input=[1, 2, 3])
    assert reader.whole(body) == body
    assert reader.usage is None
    assert reader.counted() == Usage(3, source="counted")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"data": 5}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"embedding": "!"}]}',
        b'{"data": [{"embedding": {"a": 1}}]}',
        b'{"data": [{"embedding": []}]}',
        b'{"data": [{"embedding": ""}]}',
        b'{"data": [{"embedding": "QUJD"}]}',
        b'{"data": [{"embedding": [null]}]}',
        b'{"data": [{"embedding": ["0.5"]}]}',
        b'{"data": [{"embedding": [[0.5]]}]}',
        b'{"data": [{"embedding": [0.5]}, {"embedding": [0.5]}]}',
        b'{"data": [{"embedding": [0.5], "index": 1}]}',
        b'{"data": [{"embedding": [0.5], "index": []}]}',
    ],
)
def test_what_is_no_embedding_is_the_providers_failure(body: bytes) -> None:
    with pytest.raises(ProviderError) as met:
        answer("embeddings", input="a").whole(body)
    assert met.value.kind == "server"


def test_a_row_says_what_its_provider_calls_things() -> None:
    asked = call("embeddings", input="a", dimensions=3, encoding_format="base64", user="me")
    for name, body, dropped in (
        ("openai", {"dimensions": 3, "encoding_format": "base64", "user": "me"}, ()),
        ("mistral", {"output_dimension": 3, "encoding_format": "base64"}, ("user",)),
        ("qwen", {"dimensions": 3}, ("user",)),
    ):
        adapter = adapters.endpoint(name, "embeddings", 0)
        assert adapter is not None
        request = adapter.request(asked, CHANNEL)
        assert orjson.loads(request.body) == {"model": "theirs", "input": "a", **body}
        assert (request.dropped, request.url.endswith("/embeddings")) == (dropped, True)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://n.openai.azure.com", "https://n.openai.azure.com/openai/v1/audio/speech"),
        (
            "https://n.openai.azure.com?api-version=2024-10-21",
            "https://n.openai.azure.com/openai/deployments/theirs/audio/speech?api-version=2024-10-21",
        ),
    ],
)
def test_azures_addresses_hold_for_every_endpoint(endpoint: str, url: str) -> None:
    adapter = adapters.endpoint("azure", "speech", 0)
    assert adapter is not None
    channel = Channel("c", "azure", "c", ("m",), secret=Secret("k"), endpoint=endpoint, mapping={"m": "theirs"})
    request = adapter.request(call("speech", input="a", voice="alloy"), channel)
    assert (request.url, request.headers["api-key"]) == (url, "k")


# --- what answers say they used ---


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 12, "total_tokens": 12}, Usage(12)),
        ({"total_tokens": 12}, Usage(12)),
        ({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}, Usage(5, 7)),
        (
            {"input_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}, "output_tokens": 9},
            Usage(50, 9, image_input=40),
        ),
        ({"type": "tokens", "input_tokens": 5, "input_token_details": {"audio_tokens": 4}}, Usage(5, audio_input=4)),
        ({"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 6}}, Usage(8, cached=6)),
        ({"prompt_tokens": 0, "total_tokens": 0}, None),
        ({"type": "duration", "seconds": 7}, None),
        ({"generated_images": 1, "output_tokens": 9, "total_tokens": 9}, Usage(0, 9)),
        (None, None),
        ("much", None),
    ],
)
def test_tokens_by_any_of_their_names(usage: Any, expected: Usage | None) -> None:
    assert tokens_told({"usage": usage}) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"usage": {"total_tokens": 12}}, Usage(12, units={"search": 1})),
        ({"meta": {"billed_units": {"search_units": 3}}}, Usage(units={"search": 3})),
        (
            {"meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 9}}},
            Usage(9, units={"search": 1}),
        ),
        ({"meta": {"api_version": {"version": "2"}}}, None),
    ],
)
def test_rerank_by_tokens_or_searches(told: dict[str, Any], expected: Usage | None) -> None:
    reader = answer("rerank", query="a", documents=["b"])
    body = json.dumps({"results": [{"index": 0, "relevance_score": 1}], **told}).encode()
    assert reader.whole(body) == body
    assert reader.usage == expected


def test_a_search_is_a_query_with_a_hundred_documents_and_a_long_one_is_several() -> None:
    def searches(documents: list[str]) -> int:
        most = endpoints.load("rerank").most(call("rerank", query="a", documents=documents), 0)
        return most.units["search"]

    assert (searches(["b"] * 100), searches(["b"] * 101), searches(["word " * 60_000])) == (1, 2, 3)


def test_pictures_refused_one_by_one_are_not_counted() -> None:
    reader = answer("image_generations", prompt="a", n=2)
    reader.whole(b'{"data": [{"url": "u"}, {"error": {"code": "sensitive"}}], "usage": {"output_tokens": 5}}')
    assert reader.usage == Usage(0, 5, units={"image": 1})


def test_a_picture_event_is_read_only_where_it_counts() -> None:
    reader = answer("image_generations", prompt="a", stream=True, partial_images=1)
    partial = Frame('{"type": "image_generation.partial_image", "b64_json": "no JSON', "image_generation.partial_image")
    assert list(reader.frame(partial)) == [partial]
    with pytest.raises(ProviderError, match="before the picture"):
        reader.finish()
    made = {"type": "image_generation.completed", "b64_json": "QUJD", "usage": {"input_tokens": 1, "output_tokens": 2}}
    list(reader.frame(Frame(json.dumps(made))))
    reader.finish()
    assert reader.usage == Usage(1, 2, units={"image": 1})


# --- sound ---


def wav(seconds: float, rate: int = 8_000) -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(int(4 * rate * seconds)))
    return sound.getvalue()


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(2.5), 3),
        (wav(0), 1),
        (wav(1)[:20], 1),
        (b"RIFF" + bytes(40_000), 3),
        (bytes(16_000 * 60), 60),
        (b"", 1),
    ],
)
def test_how_long_sound_is(data: bytes, seconds: int) -> None:
    assert _sound._length(data, 16_000) == seconds


@pytest.mark.parametrize(
    ("form", "body", "expected"),
    [
        ("json", b'{"text": "a", "usage": {"type": "duration", "seconds": 7.2}}', Usage(units={"second": 8})),
        ("verbose_json", b'{"text": "a", "duration": 36.7}', Usage(units={"second": 37})),
        ("verbose_json", b'{"text": "a", "duration": "8.47"}', Usage(units={"second": 9})),
        ("json", b'{"text": "a", "usage": {"input_tokens": 9, "output_tokens": 2}}', Usage(9, 2, units={"second": 1})),
        ("json", b'{"text": "hello world"}', Usage(0, 2, source="counted", units={"second": 1})),
        ("srt", b"1\n00:00:00,000 --> 01:01:02,500\na\n\n", Usage(units={"second": 3663})),
        ("vtt", b"WEBVTT\n\n00:00.000 --> 00:04.200\na\n\n", Usage(units={"second": 5})),
        ("text", b"hello world", Usage(0, 2, source="counted", units={"second": 1})),
    ],
)
def test_what_a_transcription_used(form: str, body: bytes, expected: Usage) -> None:
    sent = heard(FormPart("response_format", form.encode()))
    reader = endpoints.load("transcriptions").answer(sent, "")
    assert reader.whole(body) == body
    assert (reader.usage or reader.counted()) == expected
    held = endpoints.load("transcriptions").most(sent, 0)
    assert held.units["second"] == 4


def test_a_body_is_made_the_events_that_were_asked_for() -> None:
    reader = endpoints.load("transcriptions").answer(heard(FormPart("stream", b"true")), "")
    frames = [json.loads(frame.data) for frame in reader.streamed(b'{"text": "a b", "usage": {"seconds": 3}}')]
    assert frames == [
        {"type": "transcript.text.delta", "delta": "a b"},
        {"type": "transcript.text.done", "text": "a b", "usage": {"seconds": 3}},
    ]
    reader.finish()
    with pytest.raises(ProviderError, match="a stream was asked for"):
        answer("speech", input="a", stream_format="sse").streamed(b"{}")


# --- completions ---


def test_a_completion_stream_ends_after_the_settlement_and_tells_usage_to_who_asked() -> None:
    for options, ends in (({}, 1), ({"stream_options": {"include_usage": True}}, 2)):
        reader = answer("completions", alias="m", prompt="a", stream=True, **options)
        chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "theirs"}
        piece = {**chunk, "choices": [{"text": "b", "index": 0, "finish_reason": "stop"}], "usage": None}
        last = {**chunk, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        (shown,) = reader.frame(Frame(json.dumps(piece)))
        assert json.loads(shown.data)["model"] == "m"
        assert list(reader.frame(Frame(json.dumps(last)))) == []
        assert not reader.done
        assert list(reader.frame(Frame("[DONE]"))) == []
        assert reader.done
        frames = list(reader.end(Usage(1, 1)))
        assert (len(frames), frames[-1].data) == (ends, "[DONE]")


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"prompt": "abc"}, Usage(1, 4096)),
        ({"prompt": [1, 2, 3], "max_tokens": 0}, Usage(3, 0)),
        ({"prompt": ["abc", "abc"], "max_tokens": 10, "n": 2, "best_of": 3}, Usage(2, 60)),
        ({"prompt": [[1, 2], [3]], "max_tokens": 10}, Usage(3, 20)),
        ({"max_tokens": 10}, Usage(0, 10)),
    ],
)
def test_the_most_a_completion_can_use(fields: dict[str, Any], most: Usage) -> None:
    assert endpoints.load("completions").most(call("completions", **fields), 4096) == most


# --- errors told in good answers ---


def test_an_error_in_a_good_answer_is_an_error() -> None:
    adapter = adapters.endpoint("openai", "image_generations", 0)
    assert isinstance(adapter, OpenAICalls)
    for told in (
        {"error": {"message": "no", "code": "rate_limit_exceeded"}},
        {"type": "error", "error": {"code": "429"}},
    ):
        with pytest.raises(ProviderError) as met:
            adapter.whole(json.dumps(told).encode())
        assert met.value.kind == "rate_limit"
        with pytest.raises(ProviderError):
            list(adapter.feed(Frame(json.dumps(told))))
    fine = b'{"data": [], "note": "the word \\"error\\" alone is none"}'
    assert adapter.whole(fine) == fine
    assert adapter.whole(b'an "error" in a text') == b'an "error" in a text'
