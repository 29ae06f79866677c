"""The story of money, on stores in memory: what the ledger adds to what its stores promise."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.errors import Conflict, InsufficientQuota, Unavailable
from sluice.ledger import SETTLE_AGAIN_AFTER, Ledger
from sluice.stores.entries import entries_of_image
from sluice.types import Hold, Receipt, Usage, Wallet
from tests.fakes import MemoryEntries, MemoryWallets

RECEIPT = Receipt("gpt", "c1", "k1", Usage(5, 7), "done", "p1")


class Shaky(MemoryWallets):
    """Wallets that do not answer the next `failures` settles: before they are written, or after."""

    failures = 0
    written_first = False

    def settle(self, *given: Any) -> int | None:
        if not self.failures:
            return super().settle(*given)
        self.failures -= 1
        if self.written_first:
            super().settle(*given)
        raise Unavailable("no answer")


class Desk:
    """A ledger with its stores, a clock that is set by hand and the waits it asked for."""

    def __init__(self) -> None:
        self.wallets = Shaky()
        self.entries = MemoryEntries()
        self.now = 1_000_000.5
        self.waits: list[float] = []
        self.ledger = Ledger(self.wallets, self.entries, lambda: self.now, 1200, self._sleep)  # type: ignore[arg-type]

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def deliver(self) -> None:
        for record in self.wallets.records:
            self.entries.put(entries_of_image(record["dynamodb"]["NewImage"]))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_request_from_hold_to_receipt(desk: Desk) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    hold = await desk.ledger.hold("ann", "r1", 40)
    assert hold == Hold("ann", "r1", 40, 1_001_200)
    desk.now += 60
    hold = await desk.ledger.extend(hold, 50)
    assert hold.expires == 1_001_260
    assert await desk.ledger.settle(hold, 45, RECEIPT) == 45
    assert await desk.ledger.wallet("ann") == Wallet("ann", 55, 55, 4)
    assert await desk.ledger.receipt("ann", "r1") is None, "the journal is written behind the request"
    desk.deliver()
    entry = await desk.ledger.receipt("ann", "r1")
    assert entry
    assert (entry.receipt, entry.delta, entry.at) == (RECEIPT, -45, 1_000_060)
    assert [one.kind for one in await desk.ledger.entries("ann")] == ["credit", "hold", "extend", "settle"]


async def test_a_user_without_credit_has_an_empty_wallet(desk: Desk) -> None:
    assert await desk.ledger.wallet("new") == Wallet("new", 0, 0, 0)
    with pytest.raises(InsufficientQuota):
        await desk.ledger.hold("new", "r1", 1)


@pytest.mark.parametrize("written_first", [False, True])
async def test_a_charge_is_not_lost_to_a_throttle_nor_made_twice(desk: Desk, written_first: bool) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    hold = await desk.ledger.hold("ann", "r1", 40)
    desk.wallets.failures, desk.wallets.written_first = 3, written_first
    assert await desk.ledger.settle(hold, 30, RECEIPT) == 30
    assert desk.waits == list(SETTLE_AGAIN_AFTER[:3])
    assert (await desk.ledger.wallet("ann")).balance == 70


async def test_a_ledger_that_stays_down_says_so_and_the_hold_stays(desk: Desk) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    hold = await desk.ledger.hold("ann", "r1", 40)
    desk.wallets.failures = len(SETTLE_AGAIN_AFTER) + 1
    with pytest.raises(Unavailable):
        await desk.ledger.release(hold)
    assert (await desk.ledger.wallet("ann")).available == 60
    await desk.ledger.release(hold)
    assert (await desk.ledger.wallet("ann")).available == 100


async def test_a_settle_that_comes_long_after_the_first_says_what_the_journal_says(desk: Desk) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    hold = await desk.ledger.hold("ann", "r1", 40)
    await desk.ledger.settle(hold, 30, RECEIPT)
    desk.deliver()
    del desk.wallets._images["ann"]["holds"]["r1"]  # its mark is tidied away
    assert await desk.ledger.settle(hold, 30, RECEIPT) == 30
    assert (await desk.ledger.wallet("ann")).balance == 70


async def test_a_credit_counts_once_for_ever(desk: Desk) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    desk.deliver()
    desk.wallets._images["ann"]["holds"].clear()  # its mark is tidied away, days later
    assert (await desk.ledger.credit("ann", 100, "ref")).balance == 100
    assert (await desk.ledger.credit("bob", 100, "ref")).balance == 100, "a reference is the wallet's own"


async def test_a_replayed_hold_changes_nothing(desk: Desk) -> None:
    await desk.ledger.credit("ann", 100, "ref")
    hold = await desk.ledger.hold("ann", "r1", 40)
    assert await desk.ledger.hold("ann", "r1", 40) == hold
    await desk.ledger.settle(hold, 40, RECEIPT)
    before = await desk.ledger.wallet("ann")
    with pytest.raises(Conflict):
        await desk.ledger.hold("ann", "r1", 40)
    assert await desk.ledger.wallet("ann") == before
