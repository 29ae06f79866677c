"""In-memory stores with the real signatures. The contract tests hold them to the real thing: a fake cannot drift."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sluice.errors import Conflict, InsufficientQuota, NotFound, RateLimited
from sluice.stores._items import pack_item
from sluice.stores._journal import entry_fields
from sluice.stores.entries import Checkpoint, prove
from sluice.stores.wallets import MOST_HOLDS, credit_mark, refuse_correction, refuse_other_amount, wallet_of, wallet_pk
from sluice.types import DayUsage, Entry, EntryKind, Hold, Nano, Proof, Receipt, Wallet

# --- the ledger ------------------------------------------------------------------------------------------------------


class MemoryWallets:
    """Wallets in a dict. `records` is the table's stream: one record per write, as Lambda hands it on."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._images: dict[str, dict[str, Any]] = {}
        self._one_at_a_time = threading.RLock()

    def get(self, wallet_id: str) -> Wallet | None:
        image = self._images.get(wallet_id)
        return wallet_of(image) if image else None

    def hold(self, wallet_id: str, request_id: str, amount: Nano, now: int, expires: int) -> Hold:
        with self._one_at_a_time:
            holds = self._images.get(wallet_id, {"holds": {}})["holds"]
            if request_id in holds:
                if holds[request_id]["s"] != "open":
                    raise Conflict("settled already")
                return Hold(wallet_id, request_id, holds[request_id]["a"], holds[request_id]["e"])
            parts = self._make_room(wallet_id, amount, now)
            if len(holds) >= MOST_HOLDS:
                raise RateLimited("too many open", retry_after=1)
            holds[request_id] = {"a": amount, "e": expires, "s": "open"}
            self._write(wallet_id, [*parts, entry_fields("hold", request_id, now, held=amount)])
            return Hold(wallet_id, request_id, amount, expires)

    def extend(self, hold: Hold, total: Nano, now: int, expires: int) -> Hold:
        with self._one_at_a_time:
            row = self._images[hold.wallet_id]["holds"].get(hold.request_id)
            if total <= hold.amount:
                return hold
            if row is None or row["s"] == "done":
                raise Conflict("has ended")
            if row["s"] == "open" and row["a"] >= total:
                return replace(hold, amount=row["a"], expires=row["e"])
            more = total - row["a"]
            parts = self._make_room(hold.wallet_id, more, now, but=hold.request_id)
            self._images[hold.wallet_id]["holds"][hold.request_id] = {"a": total, "e": expires, "s": "open"}
            self._write(hold.wallet_id, [*parts, entry_fields("extend", hold.request_id, now, held=more)])
            return replace(hold, amount=total, expires=expires)

    def settle(
        self, hold: Hold, cost: Nano, now: int, receipt: Receipt | None = None, kind: EntryKind = "settle"
    ) -> Nano | None:
        with self._one_at_a_time:
            if hold.wallet_id not in self._images:
                raise NotFound("no such wallet")
            image = self._images[hold.wallet_id]
            row = image["holds"].get(hold.request_id, {"s": "done", "c": None})
            if row["s"] == "done":
                charged: Nano | None = row["c"]
                return charged
            amount = row["a"]
            taken = min(cost, amount + image["available"])
            image["holds"][hold.request_id] = {"a": 0, "e": now + 300, "s": "done", "c": taken}
            fields = entry_fields(kind, hold.request_id, now, -taken, -amount, cost - taken, receipt)
            self._write(hold.wallet_id, [fields])
            return taken

    def credit(self, wallet_id: str, amount: Nano, reference: str, now: int) -> Wallet:
        with self._one_at_a_time:
            image = self._images.get(wallet_id, {"available": 0, "holds": {}})
            mark = credit_mark(reference)
            if mark in image["holds"]:
                refuse_other_amount(image["holds"][mark]["c"], amount)
            else:
                refuse_correction(image["available"], -amount)
                new = {"pk": wallet_pk(wallet_id), "sk": "WALLET", "balance": 0, "available": 0, "seq": 0, "holds": {}}
                image = self._images.setdefault(wallet_id, new)
                image["holds"][mark] = {"a": 0, "e": now + 100_000, "s": "credit", "c": amount}
                self._write(wallet_id, [entry_fields("credit", reference, now, delta=amount)])
            return wallet_of(image)

    def sweep(self, wallet_id: str, now: int) -> list[Hold]:
        with self._one_at_a_time:
            lapsed = self._lapsed(wallet_id, now)
            if lapsed:
                self._write(wallet_id, self._drop(lapsed, now))
            return lapsed

    def pages(self) -> Iterator[list[Wallet]]:
        yield [wallet_of(image) for image in self._images.values()]

    def _make_room(self, wallet_id: str, amount: Nano, now: int, but: str = "") -> list[dict[str, Any]]:
        available = self._images[wallet_id]["available"] if wallet_id in self._images else -1
        if available >= amount:
            return []
        lapsed = [hold for hold in self._lapsed(wallet_id, now) if hold.request_id != but]
        if available + sum(hold.amount for hold in lapsed) < amount:
            raise InsufficientQuota("not enough")
        return self._drop(lapsed, now)

    def _lapsed(self, wallet_id: str, now: int) -> list[Hold]:
        wallet = self.get(wallet_id)
        return [hold for hold in wallet.holds.values() if hold.expires < now] if wallet else []

    def _drop(self, lapsed: Sequence[Hold], now: int) -> list[dict[str, Any]]:
        for hold in lapsed:
            self._images[hold.wallet_id]["holds"][hold.request_id] = {"a": 0, "e": now + 3600, "s": "swept"}
        return [entry_fields("sweep", hold.request_id, now, held=-hold.amount) for hold in lapsed]

    def _write(self, wallet_id: str, parts: list[dict[str, Any]]) -> None:
        image = self._images[wallet_id]
        image["seq"] += 1
        image["balance"] += sum(part["delta"] for part in parts)
        image["available"] += sum(part["delta"] - part["held"] for part in parts)
        image["entries"] = parts
        new = pack_item(image)
        change = {"Keys": {"pk": new["pk"], "sk": new["sk"]}, "NewImage": new, "SequenceNumber": str(len(self.records))}
        self.records.append({"eventName": "MODIFY" if image["seq"] > 1 else "INSERT", "dynamodb": change})


class MemoryEntries:
    """The journal in dicts, put-if-absent."""

    def __init__(self) -> None:
        self._writes: dict[tuple[str, int], tuple[Entry, ...]] = {}
        self._usage: dict[tuple[str, str, str], tuple[int, DayUsage]] = {}
        self._proven: dict[str, Checkpoint] = {}

    def put(self, entries: Sequence[Entry]) -> None:
        for key in {(entry.wallet_id, entry.seq): None for entry in entries}:
            parts = {entry.part: entry for entry in entries if (entry.wallet_id, entry.seq) == key}
            self._writes.setdefault(key, tuple(parts.values()))

    def count(self, entries: Sequence[Entry]) -> None:
        for entry in sorted(entries, key=lambda entry: entry.seq):
            if entry.kind == "settle" and entry.receipt:
                self._count(entry, entry.receipt)

    def after(self, wallet_id: str, seq: int, limit: int = 100) -> list[Entry]:
        return [entry for number in self._numbers(wallet_id, seq)[:limit] for entry in self._writes[wallet_id, number]]

    def receipt(self, wallet_id: str, request_id: str) -> Entry | None:
        return self._find(wallet_id, request_id, ("settle", "release"))

    def credited(self, wallet_id: str, reference: str) -> Entry | None:
        return self._find(wallet_id, reference, ("credit",))

    def usage(self, wallet_id: str, from_day: str, to_day: str) -> list[DayUsage]:
        found = [(key, usage) for key, (_, usage) in self._usage.items() if key[0] == wallet_id]
        return [usage for (_, day, _), usage in sorted(found, key=lambda one: one[0]) if from_day <= day <= to_day]

    def prove(self, wallet: Wallet, now: int) -> Proof:
        start = self._proven.get(wallet.id, Checkpoint())
        numbers = [number for number in self._numbers(wallet.id, start.seq) if number <= wallet.seq]
        proof = prove(wallet, start, (entry for one in numbers for entry in self._writes[wallet.id, one]), now)
        if proof.holds_true:
            self._proven[wallet.id] = Checkpoint(proof.seq, proof.entries_balance, proof.entries_held)
        return proof

    def _numbers(self, wallet_id: str, after: int) -> list[int]:
        return sorted(seq for owner, seq in self._writes if owner == wallet_id and seq > after)

    def _find(self, wallet_id: str, request_id: str, kinds: tuple[str, ...]) -> Entry | None:
        entries = (entry for (owner, _), parts in self._writes.items() if owner == wallet_id for entry in parts)
        return next((entry for entry in entries if entry.request_id == request_id and entry.kind in kinds), None)

    def _count(self, entry: Entry, receipt: Receipt) -> None:
        from datetime import UTC, datetime

        key = (entry.wallet_id, datetime.fromtimestamp(entry.at, UTC).date().isoformat(), receipt.model)
        upto, known = self._usage.get(key, (0, DayUsage(*key, requests=0, input=0, output=0, cost=0)))
        if entry.seq > upto:
            grown = replace(
                known,
                requests=known.requests + 1,
                input=known.input + receipt.usage.input,
                output=known.output + receipt.usage.output,
                cost=known.cost - entry.delta,
            )
            self._usage[key] = (entry.seq, grown)
