"""The jobs' door and what stands behind it: the stream's records, the sweep, the daily proof."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import jobs_app
from sluice.errors import Unavailable
from sluice.jobs import Jobs
from sluice.types import Receipt, Usage, Wallet
from tests.emf import Told
from tests.fakes import MemoryEntries, MemoryWallets

NOW = 1_763_700_000
RECEIPT = Receipt("gpt", "c1", "k1", Usage(5, 7), "done", "p1")


class Desk:
    """Jobs on stores in memory, and a wallet "ann" with a credit, one settled request and one that is open."""

    def __init__(self) -> None:
        self.wallets = MemoryWallets()
        self.entries = MemoryEntries()
        self.now = float(NOW)
        self.jobs = Jobs(self.wallets, self.entries, lambda: self.now)  # type: ignore[arg-type]
        self.wallets.credit("ann", 100, "ref", NOW)
        self.wallets.settle(self.wallets.hold("ann", "r1", 40, NOW, NOW + 1200), 30, NOW, RECEIPT)
        self.wallets.hold("ann", "r2", 20, NOW, NOW + 1200)

    async def stream(self, records: list[dict[str, Any]]) -> list[str]:
        answer = await jobs_app.handle(self.jobs, {"Records": records})
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    async def task(self, name: str) -> dict[str, Any]:
        return await jobs_app.handle(self.jobs, {"task": name})


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_the_stream_becomes_journal_and_usage(desk: Desk) -> None:
    assert await desk.stream(desk.wallets.records) == []
    assert await desk.stream(desk.wallets.records[2:]) == []
    assert [entry.kind for entry in desk.entries.after("ann", 0)] == ["credit", "hold", "settle", "hold"]
    (usage,) = desk.entries.usage("ann", "2025-11-21", "2025-11-21")
    assert (usage.requests, usage.input, usage.output, usage.cost) == (1, 5, 7, 30)


async def test_what_is_no_wallets_write_passes_by(desk: Desk) -> None:
    keys = {"pk": {"S": "W#ann"}, "sk": {"S": "E#0000000000000001"}}
    journal = {"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": keys, "SequenceNumber": "9"}}
    keys = {"pk": {"S": "W#ann"}, "sk": {"S": "WALLET"}}
    removed = {"eventName": "REMOVE", "dynamodb": {"Keys": keys, "SequenceNumber": "10"}}
    assert await desk.stream([journal, removed]) == []
    assert desk.entries.after("ann", 0) == []


async def test_a_record_that_cannot_be_read_comes_again_with_all_after_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    records = [dict(record) for record in desk.wallets.records]
    change = records[2]["dynamodb"]
    records[2] = {**records[2], "dynamodb": {**change, "NewImage": {**change["NewImage"], "seq": {"N": "what"}}}}
    with caplog.at_level(logging.ERROR, "sluice"):
        assert await desk.stream(records) == ["2"]
    assert "cannot be read" in caplog.text
    assert [entry.seq for entry in desk.entries.after("ann", 0)] == [1, 2]
    assert await desk.stream(desk.wallets.records[2:]) == []
    assert [entry.seq for entry in desk.entries.after("ann", 0)] == [1, 2, 3, 4]


async def test_a_journal_that_is_down_fails_the_whole_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(entries: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(desk.entries, "put", down)
    with pytest.raises(Unavailable):
        await desk.stream(desk.wallets.records)


async def test_the_sweep_gives_back_what_a_killed_process_left(desk: Desk) -> None:
    assert await desk.task("sweep") == {"holds": 0, "amount": 0}
    desk.now += 1201
    assert await desk.task("sweep") == {"holds": 1, "amount": 20}
    assert desk.wallets.get("ann") == Wallet("ann", 70, 70, 5)
    await desk.stream(desk.wallets.records)
    assert (await desk.jobs.prove("ann")).holds_true


async def test_the_proof_of_every_wallet(desk: Desk) -> None:
    desk.wallets.credit("bob", 5, "ref", NOW)
    await desk.stream(desk.wallets.records)
    desk.wallets.credit("bob", 5, "late", NOW)
    assert await desk.task("prove") == {"wallets": 2, "behind": 1}


async def test_a_proof_that_fails_names_the_wallet_and_rings(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.stream(desk.wallets.records[:1] + desk.wallets.records[2:])
    desk.now += 5000
    with caplog.at_level(logging.ERROR, "sluice"), pytest.raises(RuntimeError, match="1 of 1 wallets do not add up"):
        await desk.task("prove")
    (named,) = [record.__dict__["fields"] for record in caplog.records if record.levelno == logging.ERROR]
    assert (named["wallet_id"], named["missing"]) == ("ann", (2,))


async def test_an_unknown_wallet_proves_empty(desk: Desk) -> None:
    proof = await desk.jobs.prove("nobody")
    assert proof.holds_true
    assert proof.seq == 0


@pytest.mark.parametrize("event", [{}, {"task": "drop"}, {"source": "aws.events"}])
async def test_an_event_that_is_nothing_of_ours_fails_loudly(desk: Desk, event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such task"):
        await jobs_app.handle(desk.jobs, event)


async def test_each_task_tells_what_it_moved(desk: Desk, told: Told) -> None:
    # Of 70 the open request holds 20: of a charge of 90 the wallet covers 50.
    desk.wallets.settle(desk.wallets.hold("ann", "r3", 10, NOW, NOW + 1200), 90, NOW, RECEIPT)
    await desk.stream(desk.wallets.records)
    odd = {**desk.wallets.records[0], "dynamodb": {**desk.wallets.records[0]["dynamodb"], "NewImage": {}}}
    await desk.stream([odd])
    desk.now += 1201
    await desk.task("sweep")
    await desk.task("prove")
    names = ("EntriesWritten", "NanoLost", "RecordsUnreadable", "HoldsSwept", "NanoSwept", "ProofDifferences")
    assert [told.sum(name) for name in names] == [6, 40, 1, 1, 20, 0]
    assert told.values("ProofBehind") == [1]
