"""What a catalog store does, said once: the fake of the tests and the real one on moto and MiniStack."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sluice.catalog import CatalogEditor, CatalogRows, LiveCatalog
from sluice.errors import Conflict, TooLarge, Unavailable
from sluice.stores import catalog as catalog_store
from sluice.stores.catalog import CatalogStore
from sluice.types import Channel, Model, Price, SealedChannel, Secret, Snapshot
from sluice.vault import Vault
from tests.contract.conftest import Tables
from tests.fakes_operator import Clock, MemoryCatalogStore

CHANNEL = Channel(
    "a", "openai", "A", ("m", "x/y"), 2, 3, "disabled", 1, Secret(""), "https://host/v1", "", ("vip",), {"m": "n"}
)
PRICE = Price("x/y", Decimal("0.15"), Decimal(10), "x/y@5.1", 5, 4096)
KINDS = Price(
    "z", Decimal(0), Decimal(0), "z@5.1", 5, rates={"cached_input": Decimal("0.10"), "per_image": Decimal("0.04")}
)
MODEL = Model("x/y", "Why", context=1000, input=("text", "image"), output=("text",), tools=False, reasoning=True)
FULL = Snapshot(0, (SealedChannel(CHANNEL, b"\x00sealed\xff"),), (PRICE, KINDS), b"\x01wrapped\xfe", (MODEL,))


@pytest.fixture(params=["memory", "moto", "ministack"])
def store(request: pytest.FixtureRequest) -> CatalogRows:
    if request.param == "memory":
        return MemoryCatalogStore()
    tables: Tables = request.getfixturevalue(f"{request.param}_tables")
    return CatalogStore(tables.client, tables.catalog)


def test_nothing_is_published_at_first(store: CatalogRows) -> None:
    assert store.version() == 0
    assert store.load() == store.rows() == Snapshot()


def test_what_is_published_is_read_back_whole(store: CatalogRows) -> None:
    published = store.publish(store.rows(), FULL)
    assert published == replace(FULL, version=1)
    assert store.version() == 1
    assert store.load() == store.rows() == published


def test_rows_that_are_gone_are_gone_from_both(store: CatalogRows) -> None:
    first = store.publish(Snapshot(), FULL)
    second = store.publish(first, replace(first, channels=()))
    assert store.load() == store.rows() == second
    assert second.channels == ()
    assert second.prices == (PRICE, KINDS)


def test_a_change_on_top_of_an_older_version_conflicts_and_changes_nothing(store: CatalogRows) -> None:
    first = store.publish(Snapshot(), FULL)
    second = store.publish(first, replace(first, prices=()))
    for stale in (Snapshot(), first):
        with pytest.raises(Conflict):
            store.publish(stale, replace(stale, channels=()))
    assert store.load() == store.rows() == second


# Not on moto: inside one process its transactions do not keep each other out.
@pytest.mark.parametrize("store", ["memory", "ministack"], indirect=True)
def test_of_many_who_publish_at_once_one_wins_each_version(store: CatalogRows) -> None:
    start = store.publish(Snapshot(), FULL)

    def attempt(number: int) -> int:
        try:
            new = replace(start, prices=(replace(PRICE, model=f"m{number}"),))
            return store.publish(start, new).version
        except Conflict:
            return 0

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(attempt, range(6)))
    assert sorted(versions) == [0, 0, 0, 0, 0, 2]
    assert store.load() == store.rows()
    assert len(store.load().prices) == 1


# --- the real store's own shape ---


@pytest.fixture
def table(dynamodb: Tables) -> CatalogStore:
    return CatalogStore(dynamodb.client, dynamodb.catalog)


def items(dynamodb: Tables) -> list[dict[str, Any]]:
    pages = dynamodb.client.get_paginator("scan").paginate(TableName=dynamodb.catalog)
    return [item for page in pages for item in page["Items"]]


def test_two_versions_are_kept_and_no_more(dynamodb: Tables, table: CatalogStore) -> None:
    snapshot = Snapshot()
    for number in range(5):
        snapshot = table.publish(snapshot, replace(FULL, channels=FULL.channels * (number % 2)))
    names = [item["sk"]["S"] for item in items(dynamodb) if item["pk"]["S"] == "SNAPSHOT"]
    assert sorted(names) == ["DATA#0000000004#000", "DATA#0000000005#000", "HEAD"]


def test_a_catalog_of_several_parts_is_read_back(dynamodb: Tables, table: CatalogStore) -> None:
    noise = random.Random(1)
    channels = tuple(SealedChannel(replace(CHANNEL, id=f"c{number}"), noise.randbytes(40_000)) for number in range(30))
    published = table.publish(Snapshot(), replace(FULL, channels=channels))
    names = [item["sk"]["S"] for item in items(dynamodb) if item["sk"]["S"].startswith("DATA#")]
    assert len(names) > 3
    loaded = table.load()
    assert {one.channel.id: one for one in loaded.channels} == {one.channel.id: one for one in channels}
    assert loaded.version == published.version


def test_a_catalog_that_does_not_fit_is_refused_whole(
    dynamodb: Tables, table: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TooLarge):
        table.publish(Snapshot(), replace(FULL, prices=tuple(replace(PRICE, valid_from=at) for at in range(120))))
    monkeypatch.setattr(catalog_store, "SNAPSHOT_BYTES", 10)
    with pytest.raises(TooLarge):
        table.publish(Snapshot(), FULL)
    assert items(dynamodb) == []


def test_a_version_whose_parts_were_taken_away_meanwhile_is_not_half_read(
    dynamodb: Tables, table: CatalogStore
) -> None:
    table.publish(Snapshot(), FULL)
    key = {"pk": {"S": "SNAPSHOT"}, "sk": {"S": "DATA#0000000001#000"}}
    dynamodb.client.delete_item(TableName=dynamodb.catalog, Key=key)
    with pytest.raises(Unavailable):
        table.load()


def test_a_row_of_a_newer_release_is_read(dynamodb: Tables, table: CatalogStore) -> None:
    published = table.publish(Snapshot(), FULL)
    dynamodb.client.update_item(
        TableName=dynamodb.catalog,
        Key={"pk": {"S": "CHANNEL"}, "sk": {"S": "a"}},
        UpdateExpression="SET novelty = :value",
        ExpressionAttributeValues={":value": {"S": "new"}},
    )
    assert table.rows() == published


def test_a_cold_start_is_one_call_of_dynamodb(ministack_tables: Tables) -> None:
    table = CatalogStore(ministack_tables.client, ministack_tables.catalog)
    table.publish(Snapshot(), FULL)
    calls: list[str] = []
    ministack_tables.client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    table.load()
    assert calls == ["Query"]


async def test_a_secret_goes_through_kms_and_back_and_lies_nowhere_in_the_clear(dynamodb: Tables) -> None:
    store = CatalogStore(dynamodb.client, dynamodb.catalog)
    clock = Clock()

    def vault() -> Vault:
        return Vault(lambda: dynamodb.kms, dynamodb.vault_key)

    editor = CatalogEditor(store, vault(), clock, lambda: frozenset({"openai"}))
    await editor.create_channel(replace(CHANNEL, secret=Secret("sk-canary-of-the-contract")))
    catalog = await LiveCatalog(store, vault(), clock, 2.0).current()
    assert catalog.channels[0].secret.reveal() == "sk-canary-of-the-contract"
    assert b"canary" not in repr(items(dynamodb)).encode()
    assert b"canary" not in repr(store.load()).encode()


def test_a_table_that_is_not_there_is_unavailable(dynamodb: Tables) -> None:
    missing = CatalogStore(dynamodb.client, "no-such-table")
    for attempt in (missing.version, missing.load, missing.rows, lambda: missing.publish(Snapshot(), FULL)):
        with pytest.raises(Unavailable):
            attempt()
