from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sluice import catalog as catalog_module
from sluice.catalog import FRESH_SECONDS, CatalogEditor, LiveCatalog
from sluice.errors import BadRequest, Conflict, NotFound, Unavailable
from sluice.types import Channel, Model, SealedChannel, Secret, Snapshot
from sluice.vault import Vault
from tests.fakes_operator import Clock, FakeKms, MemoryCatalogStore

CANARY = "sk-provider-canary-0123456789"


class Desk:
    """An editor and a live catalog over one store, each with the KMS of a process of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryCatalogStore()
        self.kms = FakeKms()
        self.editor = CatalogEditor(
            self.store, self.vault(), self.clock, lambda: frozenset({"openai"}), wait=lambda _: None
        )
        self.live = self.reader()

    def vault(self) -> Vault:
        return Vault(lambda: self.kms, "alias/test")

    def reader(self) -> LiveCatalog:
        return LiveCatalog(self.store, self.vault(), self.clock, poll_seconds=2.0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def channel(given_id: str = "one", **more: Any) -> Channel:
    return Channel(**{"id": given_id, "type": "openai", "name": given_id, "models": ("m",), **more})


# --- the live catalog ---


async def test_an_empty_catalog_routes_nowhere(desk: Desk) -> None:
    catalog = await desk.live.current()
    assert (catalog.version, catalog.channels, dict(catalog.prices)) == (0, (), {})


async def test_a_cold_start_is_one_read_and_one_kms_call_however_many_wait(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        await desk.editor.create_channel(channel(name, secret=Secret(CANARY + name)))
    desk.kms.calls.clear()
    desk.store.reads = 0
    catalogs = await asyncio.gather(*(desk.live.current() for _ in range(20)))
    assert desk.store.reads == 1
    assert desk.kms.calls == ["decrypt"]
    assert all(catalog is catalogs[0] for catalog in catalogs)
    assert [one.secret.reveal() for one in catalogs[0].channels] == [CANARY + name for name in ("a", "b", "c")]


async def test_no_secret_costs_no_kms_call(desk: Desk) -> None:
    await desk.editor.create_channel(channel())
    await desk.live.current()
    assert desk.kms.calls == []


async def test_a_fresh_catalog_is_given_without_a_read_and_a_change_within_five_seconds(desk: Desk) -> None:
    await desk.live.current()
    await desk.editor.create_channel(channel())
    desk.store.reads = 0
    desk.clock.now += FRESH_SECONDS - 0.01
    assert (await desk.live.current()).version == 0
    assert desk.store.reads == 0
    desk.clock.now += 0.01
    assert (await desk.live.current()).version == 1
    assert desk.store.reads == 2


async def test_an_unchanged_version_is_not_loaded_again(desk: Desk) -> None:
    await desk.live.current()
    desk.clock.now += FRESH_SECONDS
    await desk.live.current()
    assert desk.store.loads == 1


async def test_the_loop_brings_a_change_without_any_request_and_survives_a_store_that_is_down(desk: Desk) -> None:
    turns = 0
    rounds: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(_: float) -> None:
        nonlocal turns
        turns += 1
        await rounds.get()

    live = LiveCatalog(desk.store, desk.vault(), desk.clock, 2.0, sleep)
    await live.current()
    loop = asyncio.create_task(live.run())

    async def turn() -> None:
        seen = turns
        rounds.put_nowait(None)
        while turns == seen:
            await asyncio.sleep(0)

    while not turns:
        await asyncio.sleep(0)
    desk.store.is_down = True
    await turn()
    desk.store.is_down = False
    await desk.editor.create_channel(channel())
    await turn()
    assert (await live.current()).version == 1
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_a_store_that_is_down_leaves_the_catalog_held_and_is_not_asked_by_every_request(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.editor.create_channel(channel())
    await desk.live.current()
    desk.store.is_down = True
    desk.store.reads = 0
    desk.clock.now += 60
    with caplog.at_level(logging.WARNING, "sluice.catalog"):
        for _ in range(10):
            assert (await desk.live.current()).version == 1
    assert desk.store.reads == 1
    assert "going on" in caplog.text
    desk.clock.now += 2
    await desk.live.current()
    assert desk.store.reads == 2


async def test_a_store_that_is_silent_is_not_waited_for_where_a_catalog_is_held(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "CHECK_SECONDS", 0.05)
    let_go = threading.Event()

    class Silent(MemoryCatalogStore):
        def version(self) -> int:
            assert let_go.wait(10)
            return super().version()

    store = Silent()
    live = LiveCatalog(store, desk.vault(), desk.clock, 2.0)
    assert (await live.current()).version == 0
    await desk.editor.create_channel(channel())
    store._snapshot = desk.store.rows()
    desk.clock.now += 60
    assert (await live.current()).version == 0
    let_go.set()
    assert (await live.poll()).catalog.version == 1
    assert (await live.current()).version == 1


async def test_a_store_that_is_down_at_a_cold_start_is_unavailable_and_then_recovers(desk: Desk) -> None:
    desk.store.is_down = True
    with pytest.raises(Unavailable):
        await desk.live.current()
    desk.store.is_down = False
    assert (await desk.live.current()).version == 0


async def test_a_load_outlives_a_caller_that_leaves(desk: Desk) -> None:
    let_go = threading.Event()

    class Slow(MemoryCatalogStore):
        def load(self) -> Snapshot:
            assert let_go.wait(10)
            return super().load()

    store = Slow()
    live = LiveCatalog(store, desk.vault(), desk.clock, 2.0)
    callers = [asyncio.create_task(live.current()) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    let_go.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert not isinstance(answers[1], BaseException)
    assert store.loads == 1


async def test_a_secret_that_does_not_open_costs_its_channel_and_no_other(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.editor.create_channel(channel("good", secret=Secret(CANARY)))
    await desk.editor.create_channel(channel("bad", secret=Secret(CANARY)))
    rows = desk.store.rows()
    moved = {one.channel.id: one for one in rows.channels}
    swapped = (SealedChannel(moved["bad"].channel, moved["good"].sealed), moved["good"])
    desk.store.publish(rows, replace(rows, channels=swapped))
    catalog = await desk.live.current()
    assert [one.id for one in catalog.channels] == ["good"]
    assert "does not open" in caplog.text
    assert CANARY not in caplog.text


# --- prices by the clock ---


async def test_a_price_takes_effect_by_the_clock_alone(desk: Desk) -> None:
    now = int(desk.clock())
    await desk.editor.put_price("m", Decimal(1), Decimal(2))
    await desk.editor.put_price("m", Decimal(3), Decimal(4), valid_from=now + 3)
    await desk.editor.put_price("later", Decimal(5), Decimal(6), valid_from=now + 4)
    first = await desk.live.current()
    assert {model: price.input for model, price in first.prices.items()} == {"m": 1}
    desk.clock.now += 3
    second = await desk.live.current()
    assert {model: price.input for model, price in second.prices.items()} == {"m": 3}
    desk.clock.now += 1
    third = await desk.live.current()
    assert {model: price.input for model, price in third.prices.items()} == {"m": 3, "later": 5}
    assert desk.store.loads == 1
    assert first.prices["m"].version != second.prices["m"].version


async def test_a_price_in_effect_is_never_rewritten(desk: Desk) -> None:
    one = await desk.editor.put_price("m", Decimal(1), Decimal(1))
    two = await desk.editor.put_price("m", Decimal(2), Decimal(2))
    assert two.valid_from == one.valid_from + 1
    desk.clock.now += 10
    with pytest.raises(BadRequest) as error:
        await desk.editor.put_price("m", Decimal(3), Decimal(3), valid_from=one.valid_from)
    assert error.value.param == "valid_from"
    three = await desk.editor.put_price("m", Decimal(3), Decimal(3))
    assert await desk.editor.prices() == (one, two, three)
    assert len({one.version, two.version, three.version}) == 3


async def test_a_coming_price_may_be_corrected_under_a_new_version(desk: Desk) -> None:
    coming = int(desk.clock()) + 100
    wrong = await desk.editor.put_price("m", Decimal(30), Decimal(1), valid_from=coming)
    right = await desk.editor.put_price("m", Decimal(3), Decimal(1), valid_from=coming)
    assert await desk.editor.prices() == (right,)
    assert right.version != wrong.version


@pytest.mark.parametrize("wait", [0, 50])
async def test_a_repeated_price_publishes_nothing(desk: Desk, wait: float) -> None:
    start = int(desk.clock()) + 10
    one = await desk.editor.put_price("m", Decimal("0.10"), Decimal(1))
    two = await desk.editor.put_price("n", Decimal("0.10"), Decimal(1), valid_from=start)
    desk.clock.now += wait
    assert await desk.editor.put_price("m", Decimal("0.1"), Decimal("1.0")) == one
    assert await desk.editor.put_price("n", Decimal("0.1"), Decimal("1.0"), valid_from=start) == two
    assert desk.store.version() == 2


@pytest.mark.parametrize(
    ("price", "field"),
    [
        ({"given_input": Decimal(-1)}, "input"),
        ({"given_input": Decimal("NaN")}, "input"),
        ({"given_output": Decimal("Infinity")}, "output"),
        ({"given_output": Decimal("1e999999")}, "output"),
        ({"given_output": Decimal("1e-10")}, "output"),
        ({"given_output": Decimal("1e-999999")}, "output"),
        ({"rates": {"per_image": Decimal(-1)}}, "per_image"),
        ({"rates": {"cached_input": Decimal("NaN")}}, "cached_input"),
        ({"rates": {"per_word": Decimal(1)}}, "per_word"),
        ({"max_output": -1}, "max_output"),
        ({"valid_from": -1}, "valid_from"),
        ({"model": " "}, "model"),
    ],
)
async def test_a_bad_price_is_refused_by_its_field(desk: Desk, price: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as error:
        await desk.editor.put_price(
            **{"model": "m", "given_input": Decimal(1), "given_output": Decimal(1), **price}  # type: ignore[arg-type]
        )
    assert error.value.param == field
    assert desk.store.version() == 0


# --- the editor ---


async def test_each_change_of_a_channel_is_published(desk: Desk) -> None:
    made = await desk.editor.create_channel(channel("a", secret=Secret(CANARY), groups=("vip",), mapping={"m": "x"}))
    assert made.channel.secret == Secret("")
    await desk.editor.change_channel("a", {"priority": 3})
    changed = (await desk.live.current()).channels[0]
    said = {"groups": ("vip",), "mapping": {"m": "x"}, "priority": 3, "revision": changed.revision}
    assert changed == channel("a", secret=Secret(CANARY), **said)
    await desk.editor.delete_channel("a")
    desk.clock.now += FRESH_SECONDS
    assert (await desk.live.current()).channels == ()
    assert desk.store.version() == 3


async def test_a_secret_stays_is_replaced_and_is_removed(desk: Desk) -> None:
    async def secret() -> str:
        return (await desk.reader().current()).channels[0].secret.reveal()

    await desk.editor.create_channel(channel("a", secret=Secret(CANARY)))
    await desk.editor.change_channel("a", {"weight": 2})
    assert await secret() == CANARY
    await desk.editor.change_channel("a", {"secret": Secret("another-secret")})
    assert await secret() == "another-secret"
    await desk.editor.change_channel("a", {"secret": Secret("")})
    assert await secret() == ""


async def test_a_channel_without_an_id_gets_one_and_a_taken_id_conflicts(desk: Desk) -> None:
    made = [await desk.editor.create_channel(channel("", name="n")) for _ in range(2)]
    assert len({one.channel.id for one in made}) == 2
    with pytest.raises(Conflict) as error:
        await desk.editor.create_channel(made[0].channel)
    assert error.value.param == "id"


async def test_a_channel_that_is_not_there_is_not_found(desk: Desk) -> None:
    for story in (
        desk.editor.channel("x"),
        desk.editor.change_channel("x", {"weight": 1}),
        desk.editor.delete_channel("x"),
    ):
        with pytest.raises(NotFound):
            await story


async def test_a_change_that_says_nothing_new_makes_a_new_revision_of_its_channel_alone(desk: Desk) -> None:
    first = await desk.editor.create_channel(channel("a"))
    other = await desk.editor.create_channel(channel("b"))
    second = await desk.editor.change_channel("a", {"weight": 1})
    assert desk.store.version() == 3
    assert first.channel.revision != second.channel.revision
    assert replace(first.channel, revision="") == replace(second.channel, revision="")
    assert await desk.editor.channel("b") == other


async def test_saying_the_same_of_a_model_or_a_price_again_publishes_nothing(desk: Desk) -> None:
    for _ in range(2):
        await desk.editor.put_model(Model("m", tools=False))
        await desk.editor.put_price("m", Decimal(1), Decimal(2))
    assert desk.store.version() == 2


async def test_no_change_is_lost_among_many_at_once(desk: Desk) -> None:
    editors = [desk.editor] * 4
    await asyncio.gather(*(one.create_channel(channel(f"c{number}")) for number, one in enumerate(editors)))
    await asyncio.gather(
        desk.editor.change_channel("c0", {"weight": 7}), desk.editor.change_channel("c0", {"priority": 9})
    )
    found = await desk.editor.channel("c0")
    assert (found.channel.weight, found.channel.priority) == (7, 9)
    assert len(await desk.editor.channels()) == 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "nonsense"}, "type"),
        ({"id": "a/b"}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"name": " "}, "name"),
        ({"models": ()}, "models"),
        ({"models": ("a", "")}, "models"),
        ({"models": ("a\nb",)}, "models"),
        ({"groups": ("",)}, "groups"),
        ({"mapping": {"a": ""}}, "mapping"),
        ({"priority": True}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"weight": -1}, "weight"),
        ({"retry": 11}, "retry"),
        ({"retry": -1}, "retry"),
        ({"state": "on"}, "state"),
        ({"endpoint": "ftp://host"}, "endpoint"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"endpoint": "host/v1"}, "endpoint"),
        ({"endpoint": "https://user:pass@host"}, "endpoint"),
        ({"endpoint": "https://host?key=1"}, "endpoint"),
        ({"endpoint": "https://host?api-version=1&key=1"}, "endpoint"),
        ({"proxy": "https://host?api-version=1"}, "proxy"),
        ({"endpoint": "https://host/#a"}, "endpoint"),
        ({"endpoint": "https://host:99999"}, "endpoint"),
        ({"endpoint": "https://ho st"}, "endpoint"),
        ({"endpoint": "https://host/\r\nx: y"}, "endpoint"),
        ({"proxy": "socks4://host:1"}, "proxy"),
        ({"proxy": "http://user:pass@host:1"}, "proxy"),
        ({"secret": Secret("two\nlines")}, "secret"),
        ({"secret": Secret(" spaces ")}, "secret"),
        ({"secret": Secret("ключ")}, "secret"),
    ],
)
async def test_a_bad_channel_is_refused_by_its_field(desk: Desk, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as error:
        await desk.editor.create_channel(channel("a", **changes))
    assert error.value.param == field
    assert desk.store.version() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "http://127.0.0.1:8095/v1"},
        {"endpoint": "https://[::1]:1/v1/"},
        {"endpoint": "https://host/openai?api-version=2024-10-21"},
        {"proxy": "socks5://proxy:1080"},
        {"proxy": "http://proxy"},
        {"weight": 0},
        {"retry": 10},
        {"models": ("deepseek/deepseek-chat:free",)},
    ],
)
async def test_a_good_channel_is_taken(desk: Desk, changes: dict[str, Any]) -> None:
    made = await desk.editor.create_channel(channel("a", **changes))
    assert made.channel == channel("a", **changes, revision=made.channel.revision)


async def test_kms_that_is_down_publishes_nothing(desk: Desk) -> None:
    def no_kms() -> FakeKms:
        raise Unavailable("no key service")

    editor = CatalogEditor(desk.store, Vault(no_kms, "k"), desk.clock, lambda: frozenset({"openai"}))
    with pytest.raises(Unavailable):
        await editor.create_channel(channel("a", secret=Secret(CANARY)))
    assert desk.store.version() == 0
