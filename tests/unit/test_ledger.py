"""The story of money, on stores in memory: what the ledger adds to what its stores promise."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import ledger as ledger_module
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


class Unheard(MemoryWallets):
    """Wallets whose holds are not heard of: `fate` is when the next one lands, in looks from now (0: at once), or never.

    `is_down` keeps every look from finding anything out.
    """

    fate: int | None = 0
    is_down = False

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self._coming: list[tuple[int, tuple[Any, ...]]] = []

    def hold(self, *given: Any) -> Hold:
        if self.fate is not None:
            self._coming.append((self.looks + self.fate, given))
        self._land()
        raise Unavailable("no answer")

    def settle(self, *given: Any) -> int | None:
        if self.is_down:
            raise Unavailable("no answer")
        self._land()
        return super().settle(*given)

    def _land(self) -> None:
        for one in [one for one in self._coming if one[0] <= self.looks]:
            self._coming.remove(one)
            super().hold(*one[1])


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


# --- holds nobody heard of ---


class Doubt:
    """A ledger over wallets whose holds are unheard of; its looks happen when the test says so."""

    def __init__(self) -> None:
        self.wallets = Unheard()
        self.now = 1_000_000
        self.rounds: asyncio.Queue[None] = asyncio.Queue()
        self.asleep = asyncio.Event()
        self.ledger = Ledger(self.wallets, MemoryEntries(), lambda: self.now, 1200, self._sleep)  # type: ignore[arg-type]

    async def _sleep(self, _: float) -> None:
        self.asleep.set()
        await self.rounds.get()
        self.asleep.clear()

    async def refused(self, request_id: str, fate: int | None, amount: int = 10, wallet: str = "ann") -> None:
        self.wallets.fate = fate
        with pytest.raises(Unavailable):
            await self.ledger.hold(wallet, request_id, amount)

    async def look(self) -> bool:
        """One look; whether another will follow."""
        looking = self.ledger._looking
        if looking is None or looking.done():
            return False
        await asyncio.wait_for(self.asleep.wait(), 5)
        self.wallets.looks += 1
        self.asleep.clear()
        self.rounds.put_nowait(None)
        again = asyncio.create_task(self.asleep.wait())
        await asyncio.wait({looking, again}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        return not looking.done()

    async def end(self) -> None:
        if looking := self.ledger._looking:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


@settings(deadline=None)
@given(fates=st.lists(st.sampled_from([0, 1, 2, None]), max_size=6), down=st.integers(0, 2))
async def test_what_stands_of_holds_nobody_heard_of_is_given_back_and_nothing_else_changes(
    fates: list[int | None], down: int
) -> None:
    doubt = Doubt()
    await doubt.ledger.credit("ann", 100, "ref")
    for number, fate in enumerate(fates):
        await doubt.refused(f"r{number}", fate)
    doubt.wallets.is_down = True
    for _ in range(down):
        assert await doubt.look() == bool(fates)
    doubt.wallets.is_down = False
    for _ in range(2):
        await doubt.look()
    assert not await doubt.look(), "two looks at each are enough"
    wallet = await doubt.ledger.wallet("ann")
    assert (wallet.balance, wallet.available, wallet.holds) == (100, 100, {})
    landed = sum(fate is not None for fate in fates)
    assert wallet.seq == 1 + 2 * landed, "a hold that never landed has written nothing"
    await doubt.end()


async def test_the_look_is_not_at_what_has_expired_or_at_a_wallet_that_is_not_there() -> None:
    doubt = Doubt()
    await doubt.ledger.credit("ann", 100, "ref")
    await doubt.refused("r1", 0)
    await doubt.refused("r2", None, wallet="nobody")
    doubt.now += 1201
    assert not await doubt.look()
    assert list((await doubt.ledger.wallet("ann")).holds) == ["r1"], "it is the sweep's"
    await doubt.refused("r3", None, wallet="nobody")
    assert await doubt.look()
    assert not await doubt.look()
    assert doubt.wallets.get("nobody") is None
    await doubt.end()


async def test_a_refusal_leaves_no_doubt(desk: Desk) -> None:
    with pytest.raises(InsufficientQuota):
        await desk.ledger.hold("ann", "r1", 40)
    assert desk.ledger._looking is None


async def test_a_hold_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "HOLD_SECONDS", 0.05)
    let_go = threading.Event()

    class Frozen(Unheard):
        def hold(self, *given: Any) -> Hold:
            assert let_go.wait(10)
            return MemoryWallets.hold(self, *given)

    doubt = Doubt()
    doubt.wallets = doubt.ledger._wallets = Frozen()  # type: ignore[assignment]
    await doubt.ledger.credit("ann", 100, "ref")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await doubt.ledger.hold("ann", "r1", 40)
    assert time.monotonic() - began < 2
    let_go.set()
    while not (doubt.wallets.get("ann") or Wallet("", 0, 0, 0)).holds:
        await asyncio.sleep(0)
    await doubt.look()
    assert (await doubt.ledger.wallet("ann")).available == 100
    await doubt.end()
