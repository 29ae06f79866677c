"""Calls that are no chat, through everything: OpenAI's own SDK on one side, real HTTP on the other, money in between."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from google import genai
from google.genai import types as genai_types

from sluice.settings import Settings
from sluice.types import Entry, Usage
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording


async def priced(house: House, *scripts: str, given_input: str = "0", output: str = "0", **rates: str) -> str:
    """A model on one channel per script, with a price of these kinds."""
    kinds: dict[Any, Decimal] = {kind: Decimal(rate) for kind, rate in rates.items()}
    return await house.model(*scripts, given_input=given_input, output=output, rates=kinds)


async def charged(house: House, caller: Caller) -> tuple[int, Usage, Entry]:
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    return -entry.delta, entry.receipt.usage, entry


# --- embeddings ---


@pytest.mark.parametrize("script", ["ok", "floats"])
async def test_embeddings_as_the_sdk_asks_for_them_base64_by_default(house: House, script: str) -> None:
    caller, model = await house.caller(), await house.model(script)
    answer = await caller.sdk.embeddings.create(model=model, input=["one two", "three"], dimensions=4)
    assert house.up.calls[-1].body["encoding_format"] == "base64"
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.data[1].embedding == pytest.approx([2, 1, 2 / 3, 0.5])
    raw = await caller.http.post(
        "/v1/embeddings", json={"model": model, "input": "one", "dimensions": 4, "encoding_format": "base64"}
    )
    text = raw.json()["data"][0]["embedding"]
    assert struct.unpack("<4f", base64.b64decode(text)) == pytest.approx((1, 0.5, 1 / 3, 0.25))


async def test_embeddings_as_floats_and_of_tokens(house: House) -> None:
    caller, model = await house.caller(), await house.model("prompt=5")
    answer = await caller.sdk.embeddings.create(model=model, input=[[1, 2, 3], [4, 5]], encoding_format="float")
    assert len(answer.data) == 2
    assert answer.data[0].embedding[:2] == [1.0, 0.5]
    assert house.up.calls[-1].body["input"] == [[1, 2, 3], [4, 5]]
    cost, usage, entry = await charged(house, caller)
    assert (cost, usage) == (5_000, Usage(5))
    assert entry.receipt is not None
    assert entry.receipt.end_reason == "done"


async def test_embeddings_without_usage_are_counted_by_the_tokenizer(house: House) -> None:
    caller, model = await house.caller(), await house.model("nousage")
    await caller.sdk.embeddings.create(model=model, input=["hello world", "hello world"])
    assert (await charged(house, caller))[:2] == (4_000, Usage(4, source="counted"))


async def test_a_mapped_model_is_the_clients_name_again(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    await house.channel(model, mapping={model: "the-providers-own"})
    answer = await caller.sdk.embeddings.create(model=model, input="a")
    assert (house.up.calls[-1].body["model"], answer.model) == ("the-providers-own", model)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": [True]}, "input"),
        ("embeddings", {"input": ["a", ""]}, "input"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("moderations", {"input": ""}, "input"),
        ("rerank", {"query": "a", "documents": []}, "documents"),
        ("rerank", {"query": "a", "documents": ["a", {"title": "b"}]}, "documents[1]"),
        ("rerank", {"query": "", "documents": ["a"]}, "query"),
        ("images/generations", {"prompt": ""}, "prompt"),
        ("images/generations", {"prompt": "a", "n": "2"}, "n"),
        ("images/edits", {"prompt": "a"}, "images"),
        ("audio/speech", {"input": ""}, "input"),
        ("audio/speech", {"input": "a", "stream_format": "wav"}, "stream_format"),
        ("completions", {"prompt": 5}, "prompt"),
        ("completions", {"prompt": "a", "stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
async def test_a_bad_body_is_named(house: House, path: str, body: dict[str, Any], param: str) -> None:
    caller, model = await house.caller(), await house.model("ok")
    answer = await caller.http.post(f"/v1/{path}", json={"model": model, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not house.up.calls


async def test_bad_forms_are_named(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")
    path, head = "/v1/audio/transcriptions", {"content-type": "multipart/form-data; boundary=b"}
    for answer, param in (
        (await caller.http.post(path, json={"model": model}), None),
        (await caller.http.post(path, files={"file": ("a.mp3", b"1234")}), "model"),
        (await caller.http.post(path, data={"model": model}, files={"other": ("a.mp3", b"1")}), "file"),
        (await caller.http.post(path, content=b"--b\r\nnonsense", headers=head), None),
        (await caller.http.post(path, content=b"", headers=head), None),
        (
            await caller.http.post(path, data={"model": model, "stream": "maybe"}, files={"file": ("a.mp3", b"1")}),
            "stream",
        ),
    ):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert not house.up.calls


# --- moderations, rerank, completions ---


async def test_moderations(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "ok", per_call="0.001")
    answer = await caller.sdk.moderations.create(model=model, input=["good", "bad"])
    assert [result.flagged for result in answer.results] == [False, True]
    cost, usage, _ = await charged(house, caller)
    assert (cost, usage.source) == (1_000_000, "counted")


async def test_rerank_with_the_documents_put_back(house: House) -> None:
    caller, model = await house.caller(), await house.model("prompt=8")
    documents = ["nothing", {"text": "a blue whale"}, "whale"]
    body = {"model": model, "query": "blue whale", "documents": documents, "top_n": 2, "return_documents": True}
    answer = (await caller.http.post("/v1/rerank", json=body)).json()
    assert [(row["index"], row["document"]["text"]) for row in answer["results"]] == [(1, "a blue whale"), (2, "whale")]
    assert (await charged(house, caller))[:2] == (8_000, Usage(8, units={"search": 1}))


async def test_rerank_by_searches(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "searches=2", per_search="0.002")
    body = {"model": model, "query": "a", "documents": ["b"]}
    assert (await caller.http.post("/v1/rerank", json=body)).status_code == 200
    assert (await charged(house, caller))[:2] == (4_000_000, Usage(units={"search": 2}))


async def test_completions_whole_and_streamed(house: House) -> None:
    caller, model = await house.caller(), await house.model("prompt=3,text=once%20upon")
    whole = await caller.sdk.completions.create(model=model, prompt=["a", "b"], max_tokens=5)
    assert [choice.text for choice in whole.choices] == ["once upon", "once upon"]
    assert (await charged(house, caller))[0] == 3_000 + 4 * 10_000
    options: Any = {"stream_options": {"include_usage": True}}
    stream = await caller.sdk.completions.create(model=model, prompt="a", max_tokens=5, stream=True, extra_body=options)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "once upon"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5
    stream = await caller.sdk.completions.create(model=model, prompt="a", max_tokens=5, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in [chunk async for chunk in stream])
    assert house.up.calls[-1].body["stream_options"] == {"include_usage": True}
    assert (await charged(house, caller))[0] == 3_000 + 2 * 10_000


async def test_completions_without_usage_are_counted_as_far_as_they_came(house: House) -> None:
    caller, model = await house.caller(), await house.model("nousage,text=hello%20world%20hello,cut=2")
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in await caller.sdk.completions.create(
            model=model, prompt="hello world", max_tokens=9, stream=True
        ):
            pass
    cost, usage, entry = await charged(house, caller)
    assert entry.receipt is not None
    assert (usage.source, usage.input, entry.receipt.end_reason) == ("counted", 2, "upstream_cut")
    assert 2_000 + 10_000 < cost <= 2_000 + 3 * 10_000


# --- pictures ---


async def test_pictures_by_number_and_by_tokens(house: House) -> None:
    caller = await house.caller()
    model = await priced(house, "prompt=10,completion=500,cached=4", given_input="5", output="40", image_input="10")
    answer = await caller.sdk.images.generate(model=model, prompt="a cat", n=2)
    assert answer.data is not None
    assert [base64.b64decode(image.b64_json or "") for image in answer.data] == [b"picture 0", b"picture 1"]
    cost, usage, _ = await charged(house, caller)
    assert cost == 6 * 5_000 + 4 * 10_000 + 500 * 40_000
    assert usage.units == {"image": 2}
    flat = await priced(house, "nousage", per_image="0.04")
    await caller.sdk.images.generate(model=flat, prompt="a cat", n=3)
    assert (await charged(house, caller))[0] == 120_000_000


async def test_pictures_streamed_with_partial_ones(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "stall=1", per_image="0.04")
    stream = await caller.sdk.images.generate(model=model, prompt="a cat", stream=True, partial_images=2)
    first = await anext(aiter(stream))
    assert first.type == "image_generation.partial_image"
    assert not house.up.calls[-1].ended.is_set()
    house.up.release()
    rest = [event async for event in stream]
    assert [event.type for event in rest] == ["image_generation.partial_image", "image_generation.completed"]
    assert (await charged(house, caller))[0] == 40_000_000


async def test_a_picture_that_never_comes_is_an_error_and_costs_no_picture(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "end=1", per_image="0.04")
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in await caller.sdk.images.generate(model=model, prompt="a", stream=True, partial_images=2):
            pass
    cost, _, entry = await charged(house, caller)
    assert entry.receipt is not None
    assert (cost, entry.receipt.end_reason) == (0, "upstream_cut")


async def test_a_provider_that_does_not_stream_pictures_is_made_to(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "nostream", per_image="0.04")
    stream = await caller.sdk.images.generate(model=model, prompt="a", stream=True, partial_images=2)
    (event,) = [event async for event in stream]
    assert (event.type, base64.b64decode(event.b64_json)) == ("image_generation.completed", b"picture 0")
    assert (await charged(house, caller))[0] == 40_000_000


async def test_pictures_changed(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    await house.channel(model, mapping={model: "the-providers-own"})
    given: Any = [("a.png", b"\x89PNG\r\n--b\r\n", "image/png"), ('b "2".png', b"more", "image/png")]
    answer = await caller.sdk.images.edit(model=model, image=given, prompt="with a hat", n=1)
    assert answer.data is not None
    assert answer.data[0].b64_json
    body = house.up.calls[-1].body
    assert (body["model"], body["prompt"], body["n"]) == ("the-providers-own", "with a hat", "1")
    assert body["image[].filename"] == "b %222%22.png"
    stream = await caller.sdk.images.edit(model=model, image=given[0], prompt="hat", stream=True, partial_images=1)
    assert [event.type async for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


# --- sound ---


async def test_sound_arrives_before_the_provider_has_sent_it_all(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "stall=1,chunks=3", per_million_characters="15")
    async with caller.sdk.audio.speech.with_streaming_response.create(
        model=model, voice="alloy", input="hello world"
    ) as sound:
        pieces = sound.iter_bytes()
        assert await anext(pieces) == b"sound 0;"
        assert not house.up.calls[-1].ended.is_set()
        house.up.release()
        assert b"".join([piece async for piece in pieces]) == b"sound 1;sound 2;"
        assert sound.headers["content-type"] == "audio/mpeg"
        assert sound.headers["x-sluice-attempts"].endswith("=ok")
    cost, usage, _ = await charged(house, caller)
    assert (cost, usage.units, usage.source) == (11 * 15_000, {"character": 11}, "counted")


async def test_sound_that_breaks_off_breaks_the_connection(house: House) -> None:
    caller, model = await house.caller(), await house.model("cut=2,chunks=4")
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.http.post("/v1/audio/speech", json={"model": model, "input": "a", "voice": "alloy"})
    _, _, entry = await charged(house, caller)
    assert entry.receipt is not None
    assert entry.receipt.end_reason == "upstream_cut"


async def test_sound_in_events_is_charged_by_its_tokens(house: House) -> None:
    caller, model = (
        await house.caller(),
        await priced(house, "chunks=2", given_input="1", output="2", audio_output="12"),
    )
    answer = await caller.http.post(
        "/v1/audio/speech", json={"model": model, "input": "a b", "voice": "alloy", "stream_format": "sse"}
    )
    assert answer.text.count("speech.audio.delta") == 2
    assert "speech.audio.done" in answer.text
    assert (await charged(house, caller))[0] == 2 * 1_000 + 20 * 12_000


def wav(seconds: int) -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(16_000 * seconds))
    return sound.getvalue()


async def test_transcriptions_by_seconds(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "ok", per_second="0.0001")
    answer = await caller.sdk.audio.transcriptions.create(model=model, file=("talk.mp3", bytes(range(256)) * 8))
    assert answer.text == "what talk.mp3 says in 2048 bytes"
    assert (await charged(house, caller))[:2] == (700_000, Usage(units={"second": 7}))
    verbose = await caller.sdk.audio.transcriptions.create(
        model=model, file=("talk.mp3", b"1234"), response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert verbose.duration == pytest.approx(8.47)
    assert house.up.calls[-1].body["timestamp_granularities[]"] == "word"
    assert (await charged(house, caller))[0] == 900_000
    subtitles = await caller.sdk.audio.transcriptions.create(
        model=model, file=("talk.mp3", b"1234"), response_format="srt"
    )
    assert "-->" in str(subtitles)
    assert (await charged(house, caller))[0] == 6_500_000


async def test_transcriptions_as_text_are_charged_by_the_sounds_own_length(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "ok", per_second="0.0001")
    files = {"file": ("talk.wav", wav(3))}
    answer = await caller.http.post(
        "/v1/audio/transcriptions", data={"model": model, "response_format": "text"}, files=files
    )
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("what talk.wav says")
    cost, usage, _ = await charged(house, caller)
    assert (cost, usage.source) == (400_000, "counted")


async def test_transcriptions_streamed(house: House) -> None:
    caller = await house.caller()
    model = await priced(house, "prompt=50,completion=6", given_input="1", output="2", audio_input="6")
    stream: Any = await caller.sdk.audio.transcriptions.create(model=model, file=("a.mp3", b"1234"), stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert (await charged(house, caller))[0] == 50 * 6_000 + 6 * 2_000
    whole = await house.model("nostream")
    stream = await caller.sdk.audio.transcriptions.create(model=whole, file=("a.mp3", b"1234"), stream=True)
    assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]


async def test_translations(house: House) -> None:
    caller, model = await house.caller(), await house.model("text=in%20English")
    # The SDK has the method, and warns of its end.
    answer = await caller.http.post("/v1/audio/translations", data={"model": model}, files={"file": ("a.mp3", b"1234")})
    assert answer.json()["text"] == "in English"
    assert house.up.calls[-1].path.endswith("/audio/translations")


# --- kinds of price, for a chat too ---


async def test_a_chats_cached_tokens_have_their_own_price_and_its_hold_the_dearest(house: House) -> None:
    rates = {"cached_input": "0.5", "cache_write": "6", "per_call": "0.00001"}
    model = await priced(house, "prompt=10,cached=8,completion=2", given_input="4", output="8", **rates)
    caller = await house.caller()
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, max_tokens=5)
    cost, usage, entry = await charged(house, caller)
    assert cost == 2 * 4_000 + 8 * 500 + 2 * 8_000 + 10_000
    assert usage.cached == 8
    held = next(one for one in await house.entries(caller) if one.kind == "hold" and one.request_id == entry.request_id)
    assert (held.held - 5 * 8_000 - 10_000) % 6_000 == 0


# --- the same way as a chat's ---


async def speak(caller: Caller, model: str) -> httpx.Response:
    return await caller.http.post("/v1/audio/speech", json={"model": model, "input": "a", "voice": "alloy"})


async def embed(caller: Caller, model: str) -> httpx.Response:
    return await caller.http.post("/v1/embeddings", json={"model": model, "input": "a"})


async def draw(caller: Caller, model: str) -> httpx.Response:
    return await caller.http.post("/v1/images/generations", json={"model": model, "prompt": "a", "stream": True})


@pytest.mark.parametrize("ask", [speak, embed, draw])
async def test_what_fails_before_its_first_byte_fails_over(house: House, ask: Any) -> None:
    caller, model = await house.caller(), await house.model("status=500", "cut=0", "refuse", "ok")
    answer = await ask(caller, model)
    assert answer.status_code == 200, answer.text
    kinds = [attempt.partition("=")[2] for attempt in answer.headers["x-sluice-attempts"].split(",")]
    assert kinds == ["server/500", "network", "network", "ok"]
    _, _, entry = await charged(house, caller)
    assert entry.receipt is not None
    assert len(entry.receipt.attempts) == 4


@pytest.mark.parametrize("ask", [speak, embed, draw])
@pytest.mark.parametrize(
    ("second", "status", "code"), [("refuse", 502, "upstream_failed"), ("status=503", 503, "server_overloaded")]
)
async def test_where_no_channel_answers_nothing_is_charged(
    house: House, ask: Any, second: str, status: int, code: str
) -> None:
    """The last error as it was said, where all of them came in the client's own format."""
    caller, model = await house.caller(), await house.model("status=429", second)
    answer = await ask(caller, model)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    cost, _, entry = await charged(house, caller)
    assert (cost, entry.kind) == (0, "release")


@pytest.mark.parametrize("ask", [speak, embed, draw])
async def test_an_empty_wallet_asks_nobody(house: House, ask: Any) -> None:
    caller, model = await house.caller(nano=10), await priced(house, "ok", given_input="9", output="9", per_call="1")
    answer = await ask(caller, model)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_quota")
    assert not house.up.calls


@pytest.mark.parametrize("ask", [speak, embed, draw])
async def test_the_clients_own_fault_is_told_in_the_providers_words(house: House, ask: Any) -> None:
    caller, model = await house.caller(), await house.model("status=400", "ok")
    answer = await ask(caller, model)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The scripted upstream answers 400."
    assert len(house.up.calls) == 1


async def test_an_error_told_in_a_good_answer_fails_over(house: House) -> None:
    caller, model = await house.caller(), await house.model("error=0", "ok")
    assert (await embed(caller, model)).headers["x-sluice-attempts"].endswith("=ok")
    assert (await draw(caller, model)).headers["x-sluice-attempts"].endswith("=ok")


async def test_a_body_over_the_cap_is_refused(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")
    most = house.relay.deps.settings.max_upload_bytes
    answer = await caller.http.post(
        "/v1/audio/transcriptions", data={"model": model}, files={"file": ("a.mp3", bytes(most))}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    good = await caller.http.post(
        "/v1/audio/transcriptions", data={"model": model}, files={"file": ("a.mp3", bytes(most - 10_000))}
    )
    assert good.status_code == 200
    long = await caller.http.post("/v1/embeddings", json={"model": model, "input": "a" * 11_000_000})
    assert long.status_code == 413


async def test_a_model_whose_channels_lack_the_endpoint_is_a_clear_400(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    await house.channel(model, type="deepseek", priority=0)
    answer = await embed(caller, model)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "endpoint_unsupported")
    assert f"`{model}` cannot be asked for embeddings" in answer.json()["error"]["message"]
    assert (await house.wallet(caller)).held == 0
    await house.channel(model, priority=1)
    assert (await embed(caller, model)).headers["x-sluice-attempts"].count("=") == 1


# --- other protocols ---


VECTORS = b'{"embeddings": [{"values": [0.5, 1]}, {"values": [2, 0.25]}]}'


async def test_embeddings_on_a_gemini_channel(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    tape = playback.tape(model, VECTORS)
    await house.channel(model, type="gemini", endpoint=f"{tape.url}/v1beta")
    answer = await caller.sdk.embeddings.create(model=model, input=["hello world", "hello"], dimensions=2)
    assert [row.embedding for row in answer.data] == [[0.5, 1.0], [2.0, 0.25]]
    assert tape.calls[0].path == f"/v1beta/models/{model}:batchEmbedContents"
    asked = tape.calls[0].body["requests"]
    assert asked[1] == {
        "model": f"models/{model}",
        "content": {"parts": [{"text": "hello"}]},
        "outputDimensionality": 2,
    }
    assert (await charged(house, caller))[:2] == (3_000, Usage(3, source="counted"))
    with pytest.raises(openai.BadRequestError, match="embeds texts") as met:
        await caller.sdk.embeddings.create(model=model, input=[1, 2])
    assert met.value.param == "input"


async def test_geminis_client_gets_embeddings_of_any_channel(house: House, playback: Playback) -> None:
    caller, native, other = await house.caller(), await house.model(), await house.model("prompt=4")
    usage = b'{"embeddings": [{"values": [0.5]}], "usageMetadata": {"promptTokenCount": 7}, "more": 1}'
    tape = playback.tape(native, usage)
    await house.channel(native, type="gemini", endpoint=f"{tape.url}/v1beta")
    client = genai.Client(api_key=caller.key, http_options=genai_types.HttpOptions(base_url=house.url))
    config = genai_types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=4)
    embedded = await client.aio.models.embed_content(model=native, contents=["one"], config=config)
    assert embedded.embeddings is not None
    assert embedded.embeddings[0].values == [0.5]
    assert tape.calls[0].body["requests"][0]["taskType"] == "RETRIEVAL_QUERY"
    assert (await charged(house, caller))[0] == 7_000
    embedded = await client.aio.models.embed_content(model=other, contents=["one two", "three"], config=config)
    assert embedded.embeddings is not None
    assert embedded.embeddings[1].values == pytest.approx([2, 1, 2 / 3, 0.5])
    assert (house.up.calls[-1].body["input"], house.up.calls[-1].body["dimensions"]) == (["one two", "three"], 4)
    assert (await charged(house, caller))[0] == 4_000
    await client.aio.aclose()
    client.close()


async def test_geminis_embeddings_over_plain_http(house: House) -> None:
    caller, model = await house.caller(), await house.model("prompt=4")
    url = f"/v1beta/models/{model}:embedContent"
    body = {"content": {"parts": [{"text": "one"}]}, "taskType": "CLUSTERING", "outputDimensionality": 2}
    answer = await caller.http.post(url, json=body)
    assert answer.json() == {"embedding": {"values": [1.0, 0.5]}, "usageMetadata": {"promptTokenCount": 4}}
    assert answer.headers["x-sluice-dropped"] == "taskType"
    picture = {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}
    for wrong in (picture, {"content": "one"}, {**body, "outputDimensionality": "2"}):
        refused = await caller.http.post(url, json=wrong)
        assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    both = [{**body, "outputDimensionality": size} for size in (2, 3)]
    refused = await caller.http.post(f"/v1/models/{model}:batchEmbedContents", json={"requests": both})
    assert refused.status_code == 400


async def test_rerank_on_a_cohere_channel(house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await priced(house, per_search="0.002")
    recorded = {
        "id": "b44f",
        "results": [{"index": 1, "relevance_score": 0.1}],
        "meta": {"billed_units": {"search_units": 1}},
    }
    tape = playback.tape(model, Recording(b'{"message": "slow down"}', status=429), json.dumps(recorded).encode())
    await house.channel(model, type="cohere", endpoint=tape.url, retry=1)
    body = {
        "model": model,
        "query": "a",
        "documents": ["b", {"text": "c"}],
        "return_documents": True,
        "rank_fields": ["x"],
    }
    answer = await caller.http.post("/v1/rerank", json=body)
    assert answer.json()["results"] == [{"index": 1, "relevance_score": 0.1, "document": {"text": "c"}}]
    assert answer.headers["x-sluice-dropped"] == "rank_fields"
    assert answer.headers["x-sluice-attempts"].count("=") == 2
    assert tape.calls[-1].path == "/v2/rerank"
    assert tape.calls[-1].body == {"model": model, "query": "a", "documents": ["b", "c"]}
    assert (await charged(house, caller))[0] == 2_000_000


async def test_a_listener_who_leaves_pays_what_was_spoken(house: House) -> None:
    caller, model = await house.caller(), await priced(house, "stall=1,chunks=3", per_million_characters="15")
    async with caller.http.stream(
        "POST", "/v1/audio/speech", json={"model": model, "input": "hello", "voice": "alloy"}
    ) as answer:
        assert await anext(answer.aiter_raw()) == b"sound 0;"
    house.up.release()
    cost, _, entry = await charged(house, caller)
    assert entry.receipt is not None
    assert (cost, entry.receipt.end_reason) == (5 * 15_000, "client_gone")


class TestImpatient:
    """A gateway whose heart beats ten times a second."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, heartbeat_seconds=0.1)

    async def test_a_picture_that_takes_long_keeps_the_connection_open(self, house: House) -> None:
        caller, model = await house.caller(), await house.model("stall=0")
        async with caller.http.stream(
            "POST", "/v1/images/generations", json={"model": model, "prompt": "a", "stream": True}
        ) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == ": keep-alive"
            house.up.release()
            assert "image_generation.completed" in "".join([line async for line in lines])

    async def test_sound_that_takes_long_has_no_heartbeat_in_it(self, house: House) -> None:
        caller, model = await house.caller(), await house.model("slowheaders=0.3,pace=0.3,chunks=2")
        assert (await speak(caller, model)).content == b"sound 0;sound 1;"
