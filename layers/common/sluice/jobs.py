"""Level 3: what is done behind the requests: the journal's writing, the sweep of expired holds, the daily proof."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice import signals
from sluice.stores.entries import Entries, entries_of_image, is_wallet
from sluice.stores.wallets import Wallets
from sluice.types import Entry, Nano, Proof, Wallet

log = logging.getLogger(__name__)

StreamRecord = Mapping[str, Any]
"""A record of the ledger table's stream, as Lambda hands it on."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep gave back: how many holds, and their sum."""

    holds: int
    amount: Nano


class Jobs:
    """Every method raises Unavailable when the ledger cannot be reached; what was done until then is not undone, and
    doing it again does nothing twice.
    """

    def __init__(self, wallets: Wallets, entries: Entries, clock: Callable[[], float]) -> None:
        self._wallets = wallets
        self._entries = entries
        self._clock = clock

    async def consume(self, records: Sequence[StreamRecord]) -> list[str]:
        """Writes the journal and the daily usage of the wallets' writes, which come in each wallet's order.

        Returns the sequence number of the first record that cannot be read, if there is one: those before it are
        written, it and those after it are to be delivered again.
        """
        readable, unreadable = _read(records)
        await asyncio.to_thread(self._write, readable)
        lost, failed = sum(entry.loss for entry in readable), len(unreadable)
        fields = {"records": len(records), "entries": len(readable), "lost_nano": lost, "unreadable": failed}
        signals.tell("the stream was read", fields, signals.consumed(len(readable), lost, failed))
        return unreadable

    async def sweep(self) -> Swept:
        """Gives back every hold that outlived its expiry: its request was killed before it could settle."""
        swept = await asyncio.to_thread(self._sweep)
        fields = {"holds": swept.holds, "amount_nano": swept.amount}
        signals.tell("expired holds were swept", fields, signals.swept(swept.holds, swept.amount))
        return swept

    async def prove(self, wallet_id: str) -> Proof:
        """Whether one wallet's entries add up to what it says. Changes no money."""
        return await asyncio.to_thread(self._prove, wallet_id)

    async def prove_all(self) -> list[Proof]:
        proofs = await asyncio.to_thread(self._prove_all)
        signals.tell("the books were proved", {"wallets": len(proofs)}, signals.proved(proofs))
        return proofs

    def _write(self, entries: Sequence[Entry]) -> None:
        # The journal first: usage is derived from it, and can be made again from it.
        self._entries.put(entries)
        self._entries.count(entries)

    def _sweep(self) -> Swept:
        now = int(self._clock())
        swept = [
            hold
            for page in self._wallets.pages()
            for wallet in page
            if any(hold.expires < now for hold in wallet.holds.values())
            for hold in self._wallets.sweep(wallet.id, now)
        ]
        return Swept(len(swept), sum(hold.amount for hold in swept))

    def _prove(self, wallet_id: str) -> Proof:
        wallet = self._wallets.get(wallet_id) or Wallet(wallet_id, balance=0, available=0, seq=0)
        return self._entries.prove(wallet, int(self._clock()))

    def _prove_all(self) -> list[Proof]:
        # Each wallet is read again, consistently: a page may show it as it was before its last writes.
        return [self._prove(wallet.id) for page in self._wallets.pages() for wallet in page]


def _read(records: Sequence[StreamRecord]) -> tuple[list[Entry], list[str]]:
    entries: list[Entry] = []
    for record in records:
        change = record["dynamodb"]
        try:
            if record["eventName"] != "REMOVE" and is_wallet(change["Keys"]):
                entries += entries_of_image(change["NewImage"])
        except (KeyError, TypeError, ValueError) as error:
            fields = {"sequence_number": change["SequenceNumber"], "error": repr(error)}
            log.error("a record of the ledger's stream cannot be read", extra={"fields": fields})
            return entries, [change["SequenceNumber"]]
    return entries, []
