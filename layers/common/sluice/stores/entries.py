"""The journal: what the wallets' writes said, kept for good, with what is derived from it: receipts, daily usage, proofs.

Only the consumer of the ledger table's stream writes here. A stream delivers at least once, so everything it causes is
either the same item again or counted under the guard of a sequence number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, NamedTuple

from sluice.errors import Unavailable
from sluice.stores._calls import ConditionFailed, answers
from sluice.stores._items import Client, pack_item, unpack_item
from sluice.stores._journal import entries_of_write, fields_of_entry
from sluice.stores.wallets import wallet_id_of, wallet_pk
from sluice.types import DayUsage, Entry, Nano, Proof, Wallet

LATE_SECONDS = 900
"""A gap in the journal younger than this is the stream's lateness; older, it is a loss."""
MISSING_NAMED = 100
_BATCH = 25
_TRIES = 8


class Checkpoint(NamedTuple):
    """The books as far as they have been proven: `seq`, and the sums of all entries up to it."""

    seq: int = 0
    balance: Nano = 0
    held: Nano = 0


class Entries:
    """The journal in the ledger table. Every method raises Unavailable when DynamoDB does not answer."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    # --- what the consumer writes ---

    def put(self, entries: Sequence[Entry]) -> None:
        """Writes entries and receipts, put-if-absent. The parts of one write are given together.

        Absence needs no condition here: what an item says is determined by its key (a wallet gives a sequence number to
        one write only, a request settles once), so the put of one that is there changes nothing. That allows batches,
        and a batch is what keeps up with a wallet that is written a thousand times a second.
        """
        items: dict[tuple[str, str], dict[str, Any]] = {}
        for (wallet_id, seq), group in groupby(_each_once(entries), key=lambda entry: (entry.wallet_id, entry.seq)):
            parts = tuple(group)
            for item in (_write_item(wallet_id, seq, parts), *map(_receipt_item, filter(_has_receipt, parts))):
                items[item["pk"], item["sk"]] = item
        puts = [{"PutRequest": {"Item": pack_item(item)}} for item in items.values()]
        for start in range(0, len(puts), _BATCH):
            self._put_batch(puts[start : start + _BATCH])

    def count(self, entries: Sequence[Entry]) -> None:
        """Adds settled requests, in the order of each wallet, to its usage of that day and model; each once."""
        settled = sorted((entry for entry in _each_once(entries) if _is_usage(entry)), key=_usage_key)
        for (wallet_id, sort_key), group in groupby(settled, key=_usage_key):
            self._count_one(wallet_id, sort_key, sorted(group, key=lambda entry: entry.seq))

    def _put_batch(self, puts: list[dict[str, Any]]) -> None:
        wanted: Any = {self._table: puts}
        for _ in range(_TRIES):
            with answers(self._table):
                wanted = self._client.batch_write_item(RequestItems=wanted).get("UnprocessedItems")
            if not wanted:
                return
        raise Unavailable("The journal is too busy at the moment.", retry_after=1)

    def _count_one(self, wallet_id: str, sort_key: str, settled: list[Entry]) -> None:
        for _ in range(_TRIES):
            if not settled:
                return
            try:
                self._add_usage(wallet_id, sort_key, settled)
                return
            except ConditionFailed:
                counted = self._get(wallet_id, sort_key).get("upto", 0)
                settled = [entry for entry in settled if entry.seq > counted]
        raise Unavailable("The day's usage is too busy at the moment.", retry_after=1)

    def _add_usage(self, wallet_id: str, sort_key: str, settled: Sequence[Entry]) -> None:
        usages = [entry.receipt.usage for entry in settled if entry.receipt]
        with answers(self._table):
            self._client.update_item(
                TableName=self._table,
                Key=_key(wallet_id, sort_key),
                UpdateExpression="SET upto = :last ADD #requests :n, #input :input, #output :output, #cost :cost",
                ConditionExpression="attribute_not_exists(upto) OR upto < :first",
                ExpressionAttributeNames={f"#{name}": name for name in ("requests", "input", "output", "cost")},
                ExpressionAttributeValues=pack_item(
                    {
                        ":first": settled[0].seq,
                        ":last": settled[-1].seq,
                        ":n": len(usages),
                        ":input": sum(usage.input for usage in usages),
                        ":output": sum(usage.output for usage in usages),
                        ":cost": -sum(entry.delta for entry in settled),
                    }
                ),
            )

    # --- what is asked of it ---

    def after(self, wallet_id: str, seq: int, limit: int = 100) -> list[Entry]:
        """The entries of the next `limit` writes after `seq`, oldest first; the parts of one write stay together."""
        return list(self._entries(islice(self._query(wallet_id, _write_key(seq + 1), "E$", page=limit), limit)))

    def receipt(self, wallet_id: str, request_id: str) -> Entry | None:
        """The entry that settled or released a request."""
        return self._find(wallet_id, f"R#{request_id}")

    def credited(self, wallet_id: str, reference: str) -> Entry | None:
        """The entry that brought a credit."""
        return self._find(wallet_id, f"C#{reference}")

    def usage(self, wallet_id: str, from_day: str, to_day: str) -> list[DayUsage]:
        """What was used from day to day, both included (YYYY-MM-DD), by day and model."""
        items = self._query(wallet_id, f"D#{from_day}", f"D#{to_day}$", page=1000)
        return [_day_usage(wallet_id, item) for item in items]

    def prove(self, wallet: Wallet, now: int) -> Proof:
        """Adds up the entries since the last proof and compares. What held true is the next proof's start."""
        start = self._checkpoint(wallet.id)
        items = self._query(wallet.id, _write_key(start.seq + 1), _write_key(wallet.seq), page=1000)
        proof = prove(wallet, start, self._entries(items), now)
        if proof.holds_true and proof.seq > start.seq:
            self._put_checkpoint(wallet.id, Checkpoint(proof.seq, proof.entries_balance, proof.entries_held))
        return proof

    def _checkpoint(self, wallet_id: str) -> Checkpoint:
        item = self._get(wallet_id, "PROOF")
        return Checkpoint(item["seq"], item["balance"], item["held"]) if item else Checkpoint()

    def _put_checkpoint(self, wallet_id: str, proven: Checkpoint) -> None:
        item = {"pk": wallet_pk(wallet_id), "sk": "PROOF", **proven._asdict()}
        with answers(self._table):
            self._client.put_item(TableName=self._table, Item=pack_item(item))

    def _find(self, wallet_id: str, sort_key: str) -> Entry | None:
        item = self._get(wallet_id, sort_key)
        return next(self._entries([item]), None) if item else None

    def _get(self, wallet_id: str, sort_key: str) -> dict[str, Any]:
        with answers(self._table):
            found = self._client.get_item(TableName=self._table, Key=_key(wallet_id, sort_key), ConsistentRead=True)
        return unpack_item(found.get("Item", {}))

    def _query(self, wallet_id: str, first: str, last: str, page: int) -> Iterator[dict[str, Any]]:
        if first > last:
            return
        request = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": pack_item({":pk": wallet_pk(wallet_id), ":first": first, ":last": last}),
            "ConsistentRead": True,
            "Limit": page,
        }
        while True:
            with answers(self._table):
                answer = self._client.query(**request)
            yield from map(unpack_item, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    @staticmethod
    def _entries(items: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
        for item in items:
            yield from _entries_of_item(item)


def entries_of_image(image: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The entries that a wallet's image (DynamoDB JSON, from the table's stream) carries.

    Raises KeyError, TypeError or ValueError on an image that is no wallet's.
    """
    return _entries_of_item(unpack_item(image))


def is_wallet(keys: Mapping[str, Any]) -> bool:
    """Whether a stream record with these keys is a wallet's: the journal's own items pass by on the same stream."""
    return bool(keys["sk"] == {"S": "WALLET"})


def prove(wallet: Wallet, start: Checkpoint, entries: Iterable[Entry], now: int) -> Proof:
    """Walks the entries after `start`, oldest first, to the wallet's last write or to where the stream has come.

    Each entry says what its write left in the wallet, so the books prove true up to there even while later writes are
    still on their way: those are `behind`, and no false alarm.
    """
    seq, balance, held = start
    recorded = (balance, held)
    missing: list[int] = []
    for number, group in groupby(entries, key=lambda entry: entry.seq):
        parts = tuple(group)
        gap = range(seq + 1, number)
        if gap and parts[0].at > now - LATE_SECONDS:
            break
        missing += gap[:MISSING_NAMED]
        seq = number
        balance += sum(part.delta for part in parts)
        held += sum(part.held for part in parts)
        recorded = (parts[0].balance, parts[0].balance - parts[0].available)
    if seq >= wallet.seq:
        recorded = (wallet.balance, wallet.balance - wallet.available)
    return Proof(
        wallet_id=wallet.id,
        seq=seq,
        balance=recorded[0],
        held=recorded[1],
        entries_balance=balance,
        entries_held=held,
        behind=max(0, wallet.seq - seq),
        missing=tuple(missing[:MISSING_NAMED]),
        drift=wallet.balance - wallet.available - wallet.held,
    )


def _each_once(entries: Iterable[Entry]) -> Iterable[Entry]:
    return {(entry.wallet_id, entry.seq, entry.part): entry for entry in entries}.values()


def _key(wallet_id: str, sort_key: str) -> dict[str, Any]:
    return pack_item({"pk": wallet_pk(wallet_id), "sk": sort_key})


def _write_key(seq: int) -> str:
    return f"E#{seq:016d}"


def _write_item(wallet_id: str, seq: int, parts: Sequence[Entry]) -> dict[str, Any]:
    return {
        "pk": wallet_pk(wallet_id),
        "sk": _write_key(seq),
        "seq": seq,
        "balance": parts[0].balance,
        "available": parts[0].available,
        "entries": [fields_of_entry(part) for part in parts],
    }


def _has_receipt(entry: Entry) -> bool:
    return entry.kind in ("settle", "release", "credit")


def _receipt_item(entry: Entry) -> dict[str, Any]:
    prefix = "C#" if entry.kind == "credit" else "R#"
    return _write_item(entry.wallet_id, entry.seq, [entry]) | {"sk": prefix + entry.request_id}


def _entries_of_item(item: Mapping[str, Any]) -> tuple[Entry, ...]:
    wallet_id = wallet_id_of(item["pk"])
    return entries_of_write(wallet_id, item["seq"], item["balance"], item["available"], item["entries"])


def _is_usage(entry: Entry) -> bool:
    return entry.kind == "settle" and entry.receipt is not None


def _usage_key(entry: Entry) -> tuple[str, str]:
    model = entry.receipt.model if entry.receipt else ""
    return entry.wallet_id, f"D#{_day(entry.at)}#{model}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _day_usage(wallet_id: str, item: Mapping[str, Any]) -> DayUsage:
    _, day, model = item["sk"].split("#", 2)
    return DayUsage(wallet_id, day, model, item["requests"], item["input"], item["output"], item["cost"])
