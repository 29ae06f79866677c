"""What breaks on the way: the client sees one clean answer or one clear end, and the wallet pays by the written rule."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest

from sluice import tokens
from sluice.settings import Settings
from sluice.types import Secret
from tests.e2e.conftest import MESSAGES, Caller, House

WORDS = "one two three four five six"
CHUNKS = 6
TEXT = f"text={WORDS.replace(' ', '%20')},chunks={CHUNKS},prompt=30,completion=6"
PRICE_IN, PRICE_OUT = 1_000, 10_000
"""Nano-dollars a token, as `House.model` prices by default: 1 and 10 USD per million."""


async def streamed(caller: Caller, model: str, **more: Any) -> tuple[str, list[dict[str, Any]], bool]:
    """The text, the error events and whether the terminator came; every byte of the stream is checked for its form."""
    body = {"model": model, "messages": MESSAGES, "stream": True, **more}
    response = await caller.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("\n\n")
    events = [event for event in response.text.split("\n\n")[:-1] if not event.startswith(":")]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    data = [event.removeprefix("data: ") for event in events]
    done = data[-1] == "[DONE]"
    chunks = [json.loads(one) for one in (data[:-1] if done else data)]
    text = "".join(choice["delta"].get("content") or "" for c in chunks for choice in c.get("choices", ()))
    return text, [chunk["error"] for chunk in chunks if "error" in chunk], done


async def counted_cost(model: str, text: str) -> int:
    """What the written rule charges for an answer whose provider never said: the tokenizer's count of what was received."""
    prompt = tokens.count_prompt({"messages": MESSAGES}, model)
    return prompt * PRICE_IN + tokens.count(text, model) * PRICE_OUT


# --- failing over ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("status=500", "status=429"),
        ("status=401", "refuse"),
        ("status=429,code=insufficient_quota", "cut=0"),
        ("status=403", "empty"),
        ("error=0", "status=404"),
        ("status=503", "end=0"),
    ],
)
async def test_two_failing_siblings_and_a_good_tier_make_one_clean_answer(
    house: House, first: str, second: str, stream: bool
) -> None:
    if not stream:  # the scripts that mean another thing for a whole body, or a good answer
        whole = {"cut=0": "cut=1", "end=0": "reset=0", "empty": "status=500"}
        first, second = whole.get(first, first), whole.get(second, second)
    caller, model = await house.caller(), await house.model()
    siblings = [await house.channel(model, first, priority=1), await house.channel(model, second, priority=1)]
    good = await house.channel(model, TEXT, priority=2)
    if stream:
        response = await caller.http.post(
            "/v1/chat/completions", json={"model": model, "messages": MESSAGES, "stream": True}
        )
        assert "error" not in response.text
        assert response.text.endswith("data: [DONE]\n\n")
    else:
        response = await caller.http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
        assert response.json()["choices"][0]["message"]["content"] == WORDS
    assert response.status_code == 200
    assert [len(house.asked(channel)) for channel in (*siblings, good)] == [1, 1, 1]
    attempts = response.headers["x-sluice-attempts"].split(",")
    assert [attempt.split("=")[0] for attempt in attempts[2:]] == [good]
    assert {attempt.split("=")[0] for attempt in attempts[:2]} == set(siblings)
    assert attempts[2] == f"{good}=ok"
    entry = await house.last_charge(caller)
    assert entry.delta == -(30 * PRICE_IN + 6 * PRICE_OUT)
    assert (await house.wallet(caller)).held == 0


async def test_siblings_share_by_weight_over_http(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    heavy = await house.channel(model, "text=a,prompt=1,completion=1", weight=9)
    light = await house.channel(model, "text=a,prompt=1,completion=1", weight=1)
    for _ in range(60):
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    # 60 draws at 9:1. Fewer than 40 or all 60 on the heavy one would each be less than one chance in 500.
    assert 40 <= len(house.asked(heavy)) < 60
    assert len(house.asked(heavy)) + len(house.asked(light)) == 60


async def test_the_clients_own_fault_is_told_in_the_providers_words_and_tried_once(house: House) -> None:
    caller, model = await house.caller(), await house.model("status=400,code=context_length_exceeded", "ok")
    with pytest.raises(openai.BadRequestError, match="scripted upstream answers 400") as met:
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert met.value.code == "context_length_exceeded"
    assert len(house.up.calls) == 1
    assert (await house.last_charge(caller)).delta == 0


async def test_rate_limited_waits_as_told_and_asks_the_same_channel_again(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    channel = await house.channel(model, "status=429,retry-after=0.2,times=2," + TEXT, retry=2)
    other = await house.channel(model, TEXT, priority=1)
    text, errors, done = await streamed(caller, model)
    assert (text, errors, done) == (WORDS, [], True)
    calls = house.asked(channel)
    assert len(calls) == 3
    assert all(later.at - earlier.at >= 0.2 for earlier, later in pairwise(calls))
    assert house.asked(other) == []


async def test_refused_keys_are_not_retried_and_mark_the_channel(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    refused = await house.channel(model, "status=401", retry=5)
    good = await house.channel(model, TEXT, priority=1)
    for _ in range(3):
        assert (await streamed(caller, model))[2]
    assert (len(house.asked(refused)), len(house.asked(good))) == (1, 3)


async def test_a_mark_reaches_other_environments_and_a_new_key_lifts_it(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    refused = await house.channel(model, "status=401,times=1," + TEXT)
    good = await house.channel(model, TEXT, priority=1)
    await streamed(caller, model)
    house.relay.marks._marks.clear()  # another environment: it knows only what Valkey tells it
    assert await house.relay.marks.refresh()
    await streamed(caller, model)
    assert (len(house.asked(refused)), len(house.asked(good))) == (1, 2)
    await house.admin.catalog.change_channel(refused, {"secret": Secret(f"sk-new-{refused}-secret")})
    await house.relay.catalog.poll()
    await streamed(caller, model)
    assert (len(house.asked(refused)), len(house.asked(good))) == (2, 2)


@pytest.mark.parametrize(
    ("scripts", "error", "status", "code"),
    [
        (["status=429,retry-after=7", "refuse", "status=429"], openai.InternalServerError, 502, "upstream_failed"),
        (["status=500", "refuse"], openai.InternalServerError, 502, "upstream_failed"),
        (["status=401", "status=401"], openai.InternalServerError, 502, "upstream_refused"),
        (["cut=0"], openai.InternalServerError, 502, "upstream_unreachable"),
    ],
)
async def test_exhausted_is_one_error_that_tells_each_attempt_and_no_secret(
    house: House, scripts: list[str], error: type[openai.APIStatusError], status: int, code: str
) -> None:
    caller, model = await house.caller(), await house.model(*scripts)
    with pytest.raises(error) as met:
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    told = met.value.response
    assert (told.status_code, met.value.code) == (status, code)
    assert all(f"attempt {number}" in told.text for number in range(1, len(scripts) + 1))
    assert "sk-upstream" not in told.text + str(told.headers)
    assert "127.0.0.1" not in told.text + str(told.headers)
    assert told.headers.get("retry-after") == ("7" if "429" in scripts[0] else None)
    assert (await house.last_charge(caller)).delta == 0


@pytest.mark.parametrize(
    ("scripts", "error", "status"),
    [
        (["status=429,retry-after=7", "status=429,retry-after=3"], openai.RateLimitError, 429),
        (["status=429", "status=503"], openai.InternalServerError, 503),
        (["status=500"], openai.InternalServerError, 500),
    ],
)
async def test_exhausted_by_the_clients_own_format_is_the_last_error_as_it_was_said(
    house: House, scripts: list[str], error: type[openai.APIStatusError], status: int
) -> None:
    caller, model = await house.caller(), await house.model(*scripts)
    with pytest.raises(error, match=f"The scripted upstream answers {status}") as met:
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    told = met.value.response.headers
    assert told["x-sluice-attempts"].count("ch-") == len(scripts)
    assert told.get("retry-after") == ("3" if status == 429 else None)
    assert (await house.last_charge(caller)).delta == 0


# --- breaking off ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "reset", "end", "error"])
@pytest.mark.parametrize("after", range(CHUNKS + 1))
async def test_an_answer_broken_after_k_chunks(house: House, how: str, after: int) -> None:
    caller, model = await house.caller(), await house.model(f"{how}={after},{TEXT}")
    if after == 0:
        words = "The scripted upstream failed" if how == "error" else "No channel could answer"
        with pytest.raises(openai.InternalServerError, match=words):
            await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        assert (await house.last_charge(caller)).delta == 0
        return
    text, errors, done = await streamed(caller, model)
    assert not done
    assert [error["code"] for error in errors] == [None if how == "error" else "upstream_broken"]
    if how == "reset":  # what a reset connection had still in its buffers is the kernel's to drop
        assert WORDS.startswith(text)
    else:
        assert text == WORDS[: round(len(WORDS) * after / CHUNKS)]
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert entry.receipt.usage.source == "counted"
    assert entry.receipt.end_reason == ("upstream_error" if how == "error" else "upstream_cut")
    assert entry.delta == -await counted_cost(model, text)


async def test_the_stream_says_the_same_as_an_sdk_error(house: House) -> None:
    caller, model = await house.caller(), await house.model(f"cut=2,{TEXT}")
    stream = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="broke off the answer"):
        async for _ in stream:
            pass


async def test_a_whole_answer_cut_in_half_fails_over_and_is_not_charged(house: House) -> None:
    caller, model = await house.caller(), await house.model(f"cut=1,{TEXT}", TEXT)
    answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert answer.choices[0].message.content == WORDS
    assert (await house.last_charge(caller)).delta == -(30 * PRICE_IN + 6 * PRICE_OUT)


@pytest.mark.parametrize("wire", ["split=1", "crlf", "cr", "nospace", "comments", "bom", "multiline", "split=3,crlf"])
async def test_any_wire_form_gives_the_same_clean_stream(house: House, wire: str) -> None:
    caller, model = (
        await house.caller(),
        await house.model(f"{wire},text=Gr%C3%BC%C3%9Fe%20%E4%B8%96%E7%95%8C%20%F0%9F%8C%8D,chunks=4"),
    )
    text, errors, done = await streamed(caller, model)
    assert (text, errors, done) == ("Grüße 世界 🌍", [], True)


async def test_a_missing_terminator_after_a_finish_is_no_error(house: House) -> None:
    caller, model = await house.caller(), await house.model(f"nodone,{TEXT}")
    assert await streamed(caller, model) == (WORDS, [], True)


async def test_a_line_of_megabytes_goes_through(house: House) -> None:
    caller, model = await house.caller(10**12), await house.model("huge=3000000,prompt=1,completion=1")
    text, errors, done = await streamed(caller, model)
    assert (len(text), errors, done) == (3_000_000, [], True)


class TestImpatient:
    """A gateway that waits 0.4 s for a silent provider, and sends a heartbeat after 0.1 s."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, read_timeout_seconds=0.4, heartbeat_seconds=0.1, drain_seconds=0.3)

    async def test_a_stall_after_content_ends_with_an_error_event(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"stall=3,{TEXT}")
        text, errors, done = await streamed(caller, model)
        assert (text, len(errors), done) == (WORDS[: round(len(WORDS) / 2)], 1, False)
        entry = await house.last_charge(caller)
        assert entry.receipt is not None
        assert entry.receipt.end_reason == "timeout"
        assert entry.delta == -await counted_cost(model, text)

    async def test_a_heartbeat_keeps_the_client_while_failing_over_goes_on(self, house: House) -> None:
        caller, model = await house.caller(), await house.model("hang", TEXT)
        body = {"model": model, "messages": MESSAGES, "stream": True}
        response = await caller.http.post("/v1/chat/completions", json=body)
        assert response.text.startswith(": keep-alive\n\n")
        assert (await streamed(caller, model))[0] == WORDS
        assert response.text.endswith("data: [DONE]\n\n")

    async def test_an_error_after_a_heartbeat_is_an_event(self, house: House) -> None:
        caller, model = await house.caller(), await house.model("hang")
        text, errors, done = await streamed(caller, model)
        assert (text, done) == ("", False)
        assert errors[0]["code"] == "upstream_timeout"
        assert (await house.last_charge(caller)).delta == 0

    async def test_a_client_that_left_is_drained_for_a_bounded_time(self, house: House) -> None:
        caller, model = await house.caller(), await house.model(f"pace=0.2,{TEXT.replace('chunks=6', 'chunks=20')}")
        await leave_after(caller, model, 1)
        entry = await house.last_charge(caller)
        assert entry.receipt is not None
        assert (entry.receipt.end_reason, entry.receipt.usage.source) == ("client_gone", "counted")
        assert house.up.calls[0].hung_up


async def leave_after(caller: Caller, model: str, chunks: int) -> None:
    """Reads `chunks` content chunks and hangs up."""
    body = {"model": model, "messages": MESSAGES, "stream": True}
    async with (
        httpx.AsyncClient(base_url=caller.http.base_url, headers=caller.http.headers) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        seen = 0
        async for line in response.aiter_lines():
            seen += line.startswith("data: ") and '"content":"' in line and '"content":""' not in line
            if seen >= chunks:
                return


@pytest.mark.parametrize("after", range(1, CHUNKS))
async def test_when_the_client_leaves_the_reader_goes_on_to_the_usage(house: House, after: int) -> None:
    caller, model = await house.caller(), await house.model(f"stall={after},{TEXT}")
    await leave_after(caller, model, after)
    while not any(not task.done() for task in house.relay.deps.running):
        await asyncio.sleep(0.01)
    house.up.release()
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert (entry.receipt.end_reason, entry.receipt.usage.source) == ("client_gone", "provider")
    assert entry.delta == -(30 * PRICE_IN + 6 * PRICE_OUT)
    assert not house.up.calls[0].hung_up


# --- money under pressure --------------------------------------------------------------------------------------------


async def test_a_hundred_parallel_requests_on_a_wallet_for_ten(house: House) -> None:
    model = await house.model("prompt=0,completion=100,text=spent", given_input="0")
    caller = await house.caller(nano=10 * 100 * PRICE_OUT)
    lowest = 10**18

    async def watch() -> None:
        nonlocal lowest
        while True:
            wallet = await house.wallet(caller)
            lowest = min(lowest, wallet.balance, wallet.available)
            await asyncio.sleep(0)

    async def ask() -> httpx.Response:
        body = {"model": model, "messages": MESSAGES, "max_tokens": 100}
        return await caller.http.post("/v1/chat/completions", json=body)

    watcher = asyncio.create_task(watch())
    answers = await asyncio.gather(*(ask() for _ in range(100)))
    watcher.cancel()
    assert Counter(answer.status_code for answer in answers) == {200: 10, 402: 90}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 402} == {"insufficient_quota"}
    proof = await house.proof(caller)
    assert (proof.balance, proof.held, lowest) == (0, 0, 0)


async def test_a_stream_extends_its_hold_while_the_wallet_covers_it(house: House) -> None:
    model = await house.model("chunks=300,completion=300,prompt=10", max_output=20)
    caller = await house.caller()
    text, errors, done = await streamed(caller, model)
    assert (len(text.split()), errors, done) == (300, [], True)
    assert (await house.last_charge(caller)).delta == -(10 * PRICE_IN + 300 * PRICE_OUT)
    assert "extend" in {entry.kind for entry in await house.entries(caller)}


async def test_a_stream_is_ended_cleanly_before_the_wallet_goes_below_zero(house: House) -> None:
    model = await house.model("chunks=3000,completion=6000,prompt=10", max_output=20)
    caller = await house.caller(nano=200 * PRICE_OUT)
    text, errors, done = await streamed(caller, model)
    assert not done
    assert [error["code"] for error in errors] == ["insufficient_quota"]
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    assert entry.receipt.end_reason == "quota"
    assert -entry.delta == min(await counted_cost(model, text), 200 * PRICE_OUT)
    wallet = await house.wallet(caller)
    assert 0 <= wallet.balance < 40 * PRICE_OUT
    assert wallet.held == 0


async def test_what_the_provider_counted_over_the_wallet_is_the_operators_loss(house: House) -> None:
    model = await house.model("text=short,prompt=10,completion=5000")
    caller = await house.caller(nano=100 * PRICE_OUT)
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, max_tokens=50)
    entry = await house.last_charge(caller)
    assert entry.delta == -100 * PRICE_OUT
    assert entry.loss == 10 * PRICE_IN + 4_900 * PRICE_OUT
    assert (await house.wallet(caller)).balance == 0


async def test_a_channel_changed_by_the_operator_is_used_within_five_seconds(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    channel = await house.channel(model, "text=old")
    assert (await streamed(caller, model))[0] == "old"
    script = f"text=new,name={channel}"
    await house.admin.catalog.change_channel(channel, {"endpoint": f"{house.up.url}/{script}/v1"})
    async with asyncio.timeout(5):
        while (await streamed(caller, model))[0] != "new":
            await asyncio.sleep(0.1)
