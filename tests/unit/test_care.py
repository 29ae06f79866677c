"""Care of channels, on real HTTP: what a test tells, what a provider offers, and which marks a channel has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local.scripted_upstream import ScriptedUpstream
from sluice import adapters
from sluice import care as care_room
from sluice.cache import Marks, mark_names
from sluice.care import Care
from sluice.errors import BadRequest, NotFound, UpstreamFailed
from sluice.types import Channel, Secret, UpstreamRequest
from sluice.upstream import Upstream
from tests.fakes_operator import Clock

CANARY = "sk-provider-canary-0123456789"


class Editor:
    """One channel, and what was changed about it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.changes: list[Any] = []

    async def opened(self, channel_id: str) -> Channel:
        if channel_id != self.channel.id:
            raise NotFound("none")
        return self.channel

    async def change_channel(self, channel_id: str, changes: Any) -> None:
        self.changes.append(changes)


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("demo", "demo-2", "demo-3")) as up:
        yield up
        up.release()


def channel(up: ScriptedUpstream, script: str = "ok", **more: Any) -> Channel:
    fields = {"models": ("demo", "ours"), "mapping": {"ours": "demo-2"}, "secret": Secret(CANARY), **more}
    return Channel(**{"id": "a", "type": "openai", "name": "a", "endpoint": f"{up.url}/{script}/v1", **fields})


def caring(one: Channel, clock: Clock | None = None) -> tuple[Care, Editor]:
    editor, time = Editor(one), clock or Clock()
    return Care(editor, Marks(lambda: None, time), lambda: Upstream(2, 2), time), editor


# --- test ---


async def test_a_channel_that_answers_is_ok_and_was_asked_once_by_the_providers_name(up: ScriptedUpstream) -> None:
    care, editor = caring(channel(up))
    told = await care.test("a", "ours")
    assert (told.model, told.kind, told.status, told.message) == ("ours", "ok", 200, "")
    (call,) = up.calls
    assert call.body["model"] == "demo-2"
    assert call.body["max_tokens"] == 64
    assert call.headers["authorization"] == f"Bearer {CANARY}"
    assert editor.changes == []


async def test_its_times_are_of_the_first_content_and_of_the_end(up: ScriptedUpstream) -> None:
    clock = Clock()

    class Ticking(Clock):
        def __call__(self) -> float:
            clock.now += 0.25
            return clock.now

    care, _ = caring(channel(up), Ticking())
    told = await care.test("a")
    assert told.kind == "ok"
    assert 0 < told.ttft_ms < told.latency_ms


@pytest.mark.parametrize(
    ("script", "kind", "status"),
    [
        ("status=401", "auth", 401),
        ("status=404", "model_not_found", 404),
        ("status=429,code=insufficient_quota", "quota", 429),
        ("status=503", "overloaded", 503),
        ("refuse", "network", 0),
        ("cut=2", "network", 0),
        ("empty", "server", 0),
        ("error=1", "server", 0),
    ],
)
async def test_what_a_channel_met_is_told_by_its_kind(
    up: ScriptedUpstream, script: str, kind: str, status: int
) -> None:
    told = await caring(channel(up, script))[0].test("a")
    assert (told.kind, told.status, told.ttft_ms) == (kind, status, 0)


async def test_a_channel_that_never_answers_is_given_up_on(
    up: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care_room, "_PATIENCE_SECONDS", 0.1)
    told = await caring(channel(up, "hang"))[0].test("a")
    assert (told.kind, told.status) == ("timeout", 0)


async def test_a_key_that_the_provider_quotes_is_not_told(up: ScriptedUpstream) -> None:
    told = await caring(channel(up, "status=401"))[0].test("a")
    assert told.message
    assert CANARY not in repr(told)


async def test_a_channel_whose_provider_wants_a_token_buys_one_first(
    up: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seller:
        name = "seller"
        wire = ""

        def adapter(self, now: float) -> Any:
            return adapters.load("openai").adapter(now)

        def exchange(self, channel: Channel) -> UpstreamRequest:
            return UpstreamRequest(f"{up.url}/v1/models", {"authorization": channel.secret.reveal()}, b"", "GET")

        def exchanged(self, status: int, body: bytes) -> tuple[str, float]:
            return f"token-{status}", 60.0

    seller = Seller()
    monkeypatch.setattr(care_room, "adapters", SimpleNamespace(load=lambda _: seller))
    care, _ = caring(channel(up))
    assert (await care.test("a")).kind == "ok"
    assert (await care.offer("a")).offered == ("demo", "demo-2", "demo-3")
    bought = [CANARY, "Bearer token-200"]
    assert [call.headers["authorization"] for call in up.calls] == bought + bought


async def test_a_model_the_channel_does_not_serve_is_a_bad_request(up: ScriptedUpstream) -> None:
    with pytest.raises(BadRequest) as refused:
        await caring(channel(up))[0].test("a", "other")
    assert refused.value.param == "model"
    assert not up.calls


# --- sync ---


async def test_an_offer_is_compared_by_the_providers_names_and_changes_nothing(up: ScriptedUpstream) -> None:
    care, editor = caring(channel(up, models=("demo", "ours", "old")))
    offer = await care.offer("a")
    assert offer.offered == ("demo", "demo-2", "demo-3")
    assert (offer.added, offer.gone) == (("demo-3",), ("old",))
    assert offer.models == ("demo", "ours", "demo-3")
    assert editor.changes == []
    (call,) = up.calls
    assert (call.method, call.path.removeprefix("/ok")) == ("GET", "/v1/models")
    assert call.headers["authorization"] == f"Bearer {CANARY}"


async def test_an_offer_is_adopted_once(up: ScriptedUpstream) -> None:
    care, editor = caring(channel(up))
    offer = await care.adopt("a")
    assert editor.changes == [{"models": ("demo", "ours", "demo-3")}]
    editor.channel = replace(editor.channel, models=offer.models)
    await care.adopt("a")
    assert len(editor.changes) == 1


@pytest.mark.parametrize(("path", "kind"), [("nowhere", "model_not_found"), ("chat", "model_not_found")])
async def test_a_provider_without_a_list_says_so_and_changes_nothing(
    up: ScriptedUpstream, path: str, kind: str
) -> None:
    care, editor = caring(channel(up, endpoint=f"{up.url}/v1/{path}"))
    with pytest.raises(UpstreamFailed) as failed:
        await care.adopt("a")
    assert (failed.value.status, failed.value.attempts[0].kind) == (502, kind)
    assert CANARY not in failed.value.message
    assert editor.changes == []


# --- marks ---


async def test_a_channels_marks_are_its_own_and_of_its_models_until_they_end_or_it_is_changed() -> None:
    clock = Clock(1000.0)
    marks = Marks(lambda: None, clock)
    one = Channel("a", "openai", "a", ("m",), revision="r1")
    other = Channel("ab", "openai", "ab", ("m",), revision="r1")
    whole, with_model = mark_names(one, "m")
    await marks.mark(with_model, 30, "model_not_found")
    await marks.mark(whole, 60, "quota")
    await marks.mark(mark_names(other, "m")[0], 60, "auth")
    assert [(mark.kind, mark.until, mark.model) for mark in marks.of(one)] == [
        ("quota", 1060.0, ""),
        ("model_not_found", 1030.0, "m"),
    ]
    assert marks.of(replace(one, revision="r2")) == ()
    clock.now += 40
    assert [mark.kind for mark in marks.of(one)] == ["quota"]
    clock.now += 40
    assert marks.of(one) == ()
    assert not marks.active(whole)


async def test_a_shorter_mark_does_not_end_a_longer_one() -> None:
    clock = Clock(0.0)
    marks = Marks(lambda: None, clock)
    await marks.mark("a:r", 60, "quota")
    await marks.mark("a:r", 5, "rate_limit")
    assert [(mark.kind, mark.until) for mark in marks.of(Channel("a", "", "", (), revision="r"))] == [("quota", 60.0)]
