"""Level 3: the story of money. A request's cost is held before it is asked, and settled once after.

docs/billing.md is the rule this follows, in words for those who pay by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sluice.errors import NotFound, Unavailable
from sluice.stores.entries import Entries
from sluice.stores.wallets import Wallets, refuse_other_amount
from sluice.types import DayUsage, Entry, Hold, Nano, Receipt, Wallet

log = logging.getLogger(__name__)

T = TypeVar("T")

SETTLE_AGAIN_AFTER = (0.1, 0.4, 1.6, 5.0)
"""Seconds between tries to settle: an answer was given, so its charge is not lost to one throttle."""

HOLD_SECONDS = 5.0
"""The longest a request waits to hear of its hold: then it is refused, since without one nothing is asked."""
LOOK_AGAIN_AFTER = 5.0
"""Seconds between looks for holds that were refused so and may stand."""
UNSURE_KEPT = 1000
"""More of them are left to the sweep."""


class Ledger:
    """Wallets and their journal. Amounts are nano-dollars, days YYYY-MM-DD. Every method raises Unavailable when the
    ledger cannot be reached: then nothing is given away and nobody is told that his key is wrong.
    """

    def __init__(
        self,
        wallets: Wallets,
        entries: Entries,
        clock: Callable[[], float],
        hold_seconds: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._wallets = wallets
        self._entries = entries
        self._clock = clock
        self._hold_seconds = hold_seconds
        self._sleep = sleep
        self._unsure: dict[Hold, int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def hold(self, wallet_id: str, request_id: str, amount: Nano) -> Hold:
        """Sets aside the most a request can cost. Sent again for a request whose hold is open, it is the same hold.

        Raises InsufficientQuota, RateLimited (too many requests are open), Conflict (the request has ended before).
        Where it raises Unavailable the hold may stand nevertheless: the request id must not be used again, and what stands
        is given back as soon as the ledger answers.
        """
        now = self._now()
        wanted = Hold(wallet_id, request_id, amount, now + self._hold_seconds)
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                return await asyncio.to_thread(self._wallets.hold, wallet_id, request_id, amount, now, wanted.expires)
        except TimeoutError:
            self._give_back_later(wanted)
            raise Unavailable("The ledger did not answer in time. Try again in a moment.", retry_after=1) from None
        except Unavailable:
            self._give_back_later(wanted)
            raise

    async def extend(self, hold: Hold, amount: Nano) -> Hold:
        """Raises a hold to `amount` in all. Raises InsufficientQuota, Conflict (the request has ended)."""
        now = self._now()
        return await asyncio.to_thread(self._wallets.extend, hold, amount, now, now + self._hold_seconds)

    async def settle(self, hold: Hold, cost: Nano, receipt: Receipt) -> Nano:
        """Charges what a request cost, once, and gives the rest of its hold back. Returns what was charged: `cost`, or
        less where the wallet does not cover what the provider counted over the hold.
        """
        charged = await self._insist(lambda: self._wallets.settle(hold, cost, self._now(), receipt))
        return await self._charged_before(hold) if charged is None else charged

    async def release(self, hold: Hold, receipt: Receipt | None = None) -> None:
        """Gives a whole hold back: nothing was received, nothing is charged."""
        await self._insist(lambda: self._wallets.settle(hold, 0, self._now(), receipt, "release"))

    async def credit(self, wallet_id: str, amount: Nano, reference: str) -> Wallet:
        """Adds `amount` to a wallet, once per `reference` for ever, and makes the wallet where there is none.

        A negative amount is a correction, nothing opens a wallet that is empty. Raises InsufficientQuota when a correction
        takes more than is available, Conflict when the reference has brought another amount.
        """
        if before := await asyncio.to_thread(self._entries.credited, wallet_id, reference):
            refuse_other_amount(before.delta, amount)
            return await self.wallet(wallet_id)
        return await asyncio.to_thread(self._wallets.credit, wallet_id, amount, reference, self._now())

    async def wallet(self, wallet_id: str) -> Wallet:
        """The wallet as it is now; an empty one for a user who never had credit."""
        found = await asyncio.to_thread(self._wallets.get, wallet_id)
        return found or Wallet(wallet_id, balance=0, available=0, seq=0)

    async def entries(self, wallet_id: str, after_seq: int = 0, limit: int = 100) -> list[Entry]:
        """The journal's entries of the next `limit` writes after `after_seq`, oldest first."""
        return await asyncio.to_thread(self._entries.after, wallet_id, after_seq, limit)

    async def usage(self, wallet_id: str, from_day: str, to_day: str) -> list[DayUsage]:
        """What was used per day and model, both days included (UTC)."""
        return await asyncio.to_thread(self._entries.usage, wallet_id, from_day, to_day)

    async def receipt(self, wallet_id: str, request_id: str) -> Entry | None:
        """The entry that ended a request, seconds after it did; None for one that is open, unknown or not yours."""
        return await asyncio.to_thread(self._entries.receipt, wallet_id, request_id)

    async def _charged_before(self, hold: Hold) -> Nano:
        entry = await self.receipt(hold.wallet_id, hold.request_id)
        return -entry.delta if entry else 0

    async def _insist(self, change: Callable[[], T]) -> T:
        for seconds in SETTLE_AGAIN_AFTER:
            try:
                return await asyncio.to_thread(change)
            except Unavailable:
                log.warning("the ledger did not answer; settling again", extra={"fields": {"after": seconds}})
                await self._sleep(seconds)
        return await asyncio.to_thread(change)

    def _give_back_later(self, hold: Hold) -> None:
        if len(self._unsure) < UNSURE_KEPT:
            # Twice, because a write that was on its way may come in after the first look.
            self._unsure[hold] = 2
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_unsure())

    async def _look_for_unsure(self) -> None:
        """Gives back what stands of the holds nobody heard of. The first shows whether the ledger answers again."""
        while self._unsure:
            await self._sleep(LOOK_AGAIN_AFTER)
            try:
                for hold in list(self._unsure):
                    await self._give_back(hold)
            except Unavailable:
                continue

    async def _give_back(self, hold: Hold) -> None:
        """Releases a hold if it stands; one that does not stand changes nothing, and one that expired is the sweep's."""
        left = self._unsure[hold] - 1
        if hold.expires >= self._now():
            try:
                found = await asyncio.to_thread(self._wallets.settle, hold, 0, self._now(), None, "release")
            except NotFound:
                found = None
            if found is None and left:
                self._unsure[hold] = left
                return
        del self._unsure[hold]

    def _now(self) -> int:
        return int(self._clock())
