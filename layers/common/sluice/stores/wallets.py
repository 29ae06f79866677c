"""The wallet: one item, every change of it one conditional UpdateItem. docs/data-model.md, "ledger", has the formats.

A change is first sent blind, on the condition that it is allowed. When the condition fails, the answer brings the item
as it was, and that decides: the change is there already (a retry recognises itself), it is not allowed, or it is tried
again on what was seen. So a busy wallet costs one write per change and nobody ever sees a conflict.

In the item's map of holds a request is `open` (its money is set aside), or it has left a mark: `done` (settled or
released), `swept` (its hold outlived its expiry) or `credit`. A request that is not there was done long ago: only a
`swept` mark lets a late settle charge, so a mark tidied away early can lose an entry, and never charge one twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from zlib import crc32

from sluice.errors import Conflict, InsufficientQuota, NotFound, RateLimited, Unavailable
from sluice.prices import nano_to_usd
from sluice.stores._calls import answers
from sluice.stores._items import Client, pack, pack_item, unpack_item
from sluice.stores._journal import entry_fields
from sluice.types import EntryKind, Hold, Nano, Receipt, Wallet

OPEN, DONE, SWEPT, CREDIT = "open", "done", "swept", "credit"

MOST_HOLDS = 512
"""Rows in one wallet's map, open and ended: some 35 KB. Beyond that a bigger tenant wants several wallets."""
MARKS_KEPT = 16
"""Marks that stay although they are young. More would make each write of a busy wallet cost more than its first KB."""
TIDIED_AT_ONCE = 8
DROPPED_AT_ONCE = 25
"""Holds dropped by one write: an expression has 4 KB."""
DONE_SECONDS = 300
SWEPT_SECONDS = 3600
"""How long after its sweep a request may still settle; the longest request lives a quarter of that."""
CREDIT_SECONDS = 26 * 3600
"""A credit's mark outlives the table's stream (24 h), so it stays until the journal remembers the reference."""

_TRIES = 10

Image = Mapping[str, Any]
"""The wallet's item with plain values."""


class Wallets:
    """The wallets of the ledger table. Every method raises Unavailable when DynamoDB does not answer."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, wallet_id: str) -> Wallet | None:
        """The wallet as it is now, by a consistent read."""
        image = self._read(wallet_id)
        return wallet_of(image) if image else None

    def hold(self, wallet_id: str, request_id: str, amount: Nano, now: int, expires: int) -> Hold:
        """Sets `amount` aside; sent again while it is open, it is the same hold.

        Raises InsufficientQuota, RateLimited (too many holds are open), Conflict (the request has ended before).
        """
        _refuse_negative(amount)
        image: Image = {}
        for _ in range(_TRIES):
            stale = _stale(image, now, request_id)
            write = _Write(wallet_id).cover(amount, image, now).without(request_id).with_room(image, stale)
            write.row(request_id, {"a": amount, "e": expires, "s": OPEN})
            write.enter(entry_fields("hold", request_id, now, held=amount), available=-amount)
            applied, image = self._send(write, answer="ALL_NEW")
            if applied:
                return Hold(wallet_id, request_id, amount, expires, stale=_stale(image, now, request_id))
            if row := image.get("holds", {}).get(request_id):
                return _same_hold(wallet_id, request_id, row)
            _refuse_hold(image, amount, now)
        raise _busy()

    def extend(self, hold: Hold, total: Nano, now: int, expires: int) -> Hold:
        """Raises the hold to `total` and its expiry. A hold that was swept meanwhile is set aside anew.

        Raises InsufficientQuota, Conflict (the request has ended).
        """
        if total <= hold.amount:
            return hold
        others: Image = {}
        known: Image = {"a": hold.amount, "s": OPEN}
        for _ in range(_TRIES):
            more = total - known["a"]
            write = _Write(hold.wallet_id).with_row(hold.request_id, known).cover(more, others, now)
            write.row(hold.request_id, {"a": total, "e": expires, "s": OPEN})
            write.enter(entry_fields("extend", hold.request_id, now, held=more), available=-more)
            applied, image = self._send(write)
            if applied:
                return replace(hold, amount=total, expires=expires)
            known, others = _apart(image, hold.request_id)
            if known["s"] == DONE:
                raise Conflict(f"Request {hold.request_id} has ended: its hold cannot grow.")
            if known["s"] == OPEN and known["a"] >= total:
                return replace(hold, amount=known["a"], expires=known["e"])
            _refuse_uncovered(others, total - known["a"], now)
        raise _busy()

    def settle(
        self, hold: Hold, cost: Nano, now: int, receipt: Receipt | None = None, kind: EntryKind = "settle"
    ) -> Nano | None:
        """Charges `cost` once and gives the rest of the hold back. Returns what was charged, now or the first time;
        None where the request ended so long ago that only the journal knows.

        What passes the hold comes out of what is available; what that does not cover is the entry's loss. A settle
        that comes after the sweep took its hold charges what is available: the answer was given, and its price is owed
        as far as it can be paid without touching the holds of others.
        """
        _refuse_negative(cost)
        known: Image = {"a": hold.amount, "s": OPEN}
        charged, stale = cost, hold.stale
        for _ in range(_TRIES):
            amount = known["a"]
            write = _Write(hold.wallet_id).with_row(hold.request_id, known).needing(charged - amount).tidy(stale)
            write.row(hold.request_id, {"a": 0, "e": now + DONE_SECONDS, "s": DONE, "c": charged})
            fields = entry_fields(kind, hold.request_id, now, -charged, -amount, cost - charged, receipt)
            write.enter(fields, available=amount - charged, balance=-charged)
            applied, image = self._send(write)
            if applied:
                return charged
            if not image:
                raise NotFound(f"There is no wallet {hold.wallet_id}.")
            known = image["holds"].get(hold.request_id, {"s": DONE, "c": None})
            if known["s"] == DONE:
                return cast("Nano | None", known["c"])
            # Judged by what was seen: a release that comes between would cover more, and is not waited for.
            charged, stale = min(cost, known["a"] + image["available"]), ()
        raise _busy()

    def credit(self, wallet_id: str, amount: Nano, reference: str, now: int) -> Wallet:
        """Adds `amount` (negative: a correction) once per `reference`, and makes the wallet where there is none.

        The reference is remembered here for a day; for longer the caller asks the journal. Raises InsufficientQuota
        when a correction takes more than is available, Conflict when the reference has brought another amount.
        """
        mark_id = credit_mark(reference)
        mark = {"a": 0, "e": now + CREDIT_SECONDS, "s": CREDIT, "c": amount}
        fields = entry_fields("credit", reference, now, delta=amount)
        for _ in range(_TRIES):
            write = _Write(wallet_id).existing().without(mark_id).needing(-amount)
            write.row(mark_id, mark).enter(fields, available=amount, balance=amount)
            applied, image = self._send(write, answer="ALL_NEW")
            if not applied and not image:
                refuse_correction(0, -amount)
                applied, image = self._create(wallet_id, amount, {mark_id: mark}, fields)
            if there := image.get("holds", {}).get(mark_id):
                refuse_other_amount(there.get("c", amount), amount)
                return wallet_of(image)
            if image:
                refuse_correction(image["available"], -amount)
        raise _busy()

    def sweep(self, wallet_id: str, now: int) -> list[Hold]:
        """Drops the wallet's expired holds, and returns them. A hold that is extended or settled meanwhile stays."""
        swept: list[Hold] = []
        image, tries = self._read(wallet_id), 0
        while lapsed := _lapsed(image, now)[:DROPPED_AT_ONCE]:
            applied, image = self._send(
                _Write(wallet_id).drop(lapsed, now).tidy(_stale(image, now, wallet_id)), answer="ALL_NEW"
            )
            if applied:
                swept += lapsed
            elif (tries := tries + 1) == _TRIES:
                raise _busy()
        return swept

    def pages(self) -> Iterator[list[Wallet]]:
        """All wallets, a hundred at a time, as lately as an eventually consistent read sees them."""
        query = {
            "TableName": self._table,
            "IndexName": "wallets",
            "KeyConditionExpression": "kind = :kind",
            "ExpressionAttributeValues": {":kind": pack("wallet")},
            "Limit": 100,
        }
        while True:
            with answers(self._table):
                page = self._client.query(**query)
            yield self._get_many([{"pk": item["pk"], "sk": item["sk"]} for item in page["Items"]])
            if "LastEvaluatedKey" not in page:
                return
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _get_many(self, keys: list[dict[str, Any]]) -> list[Wallet]:
        wallets: list[Wallet] = []
        wanted: Any = {self._table: {"Keys": keys}} if keys else {}
        while wanted:
            with answers(self._table):
                answer = self._client.batch_get_item(RequestItems=wanted)
            wallets += [wallet_of(unpack_item(item)) for item in answer["Responses"].get(self._table, [])]
            wanted = answer.get("UnprocessedKeys")
        return wallets

    def _read(self, wallet_id: str) -> Image:
        with answers(self._table):
            found = self._client.get_item(TableName=self._table, Key=_key(wallet_id), ConsistentRead=True)
        return unpack_item(found.get("Item", {}))

    def _create(
        self, wallet_id: str, amount: Nano, holds: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> tuple[bool, Image]:
        start = {
            "kind": "wallet",
            "balance": amount,
            "available": amount,
            "seq": 1,
            "holds": holds,
            "entries": [fields],
        }
        return self._update(
            _key(wallet_id),
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in start),
            ConditionExpression="attribute_not_exists(pk)",
            ExpressionAttributeValues={f":{name}": pack(value) for name, value in start.items()},
            ReturnValues="ALL_NEW",
        )

    def _send(self, write: _Write, answer: str = "NONE") -> tuple[bool, Image]:
        return self._update(_key(write.wallet_id), **write.request(), ReturnValues=answer)

    def _update(self, key: Mapping[str, Any], **request: Any) -> tuple[bool, Image]:
        """True and the new image (where it was asked for), or False and the image that the condition failed on."""
        exceptions = self._client.exceptions
        with answers(self._table):
            for _ in range(_TRIES):
                try:
                    answer = self._client.update_item(
                        TableName=self._table, Key=key, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request
                    )
                    return True, unpack_item(answer.get("Attributes", {}))
                except exceptions.ConditionalCheckFailedException as refused:
                    return False, unpack_item(refused.response.get("Item", {}))
                except exceptions.TransactionConflictException:
                    continue  # a rare change across items had this one in its hands: nothing was written
        raise _busy()


class _Write:
    """One conditional UpdateItem in the making. Amounts are gathered, since an expression adds one number, not two."""

    def __init__(self, wallet_id: str) -> None:
        self.wallet_id = wallet_id
        self._conditions: list[str] = []
        self._set: list[str] = []
        self._remove: list[str] = []
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {":one": 1}
        self._entries: list[Mapping[str, Any]] = []
        self._available = 0
        self._balance = 0

    # --- on which conditions ---

    def existing(self) -> _Write:
        self._conditions.append("attribute_exists(pk)")
        return self

    def without(self, request_id: str) -> _Write:
        self._conditions.append(f"attribute_not_exists({self._path(request_id)})")
        return self

    def with_row(self, request_id: str, known: Image) -> _Write:
        path = self._path(request_id)
        self._conditions.append(f"{path}.s = {self._value(known['s'])} AND {path}.a = {self._value(known['a'])}")
        return self

    def with_room(self, image: Image, stale: Sequence[str]) -> _Write:
        """Needs a free row, or room made by what is tidied: that shrinks a map that is full, however full it is."""
        most = max(MOST_HOLDS, len(image["holds"]) + len(stale)) if stale else MOST_HOLDS
        self._conditions.append(f"size(holds) < {self._value(most)}")
        return self.tidy(stale)

    def needing(self, amount: Nano) -> _Write:
        if amount > 0:
            self._conditions.append(f"available >= {self._value(amount)}")
        return self

    def cover(self, amount: Nano, image: Image, now: int) -> _Write:
        """Needs `amount`, and drops the expired holds that were seen, where it takes them to cover it."""
        lapsed = _lapsed(image, now)[:DROPPED_AT_ONCE] if image and image["available"] < amount else []
        self.drop(lapsed, now)
        # A zero is needed too: it is what tells a wallet from none.
        self._conditions.append(f"available >= {self._value(max(0, amount - sum(hold.amount for hold in lapsed)))}")
        return self

    # --- what it does ---

    def row(self, request_id: str, row: Mapping[str, Any]) -> _Write:
        self._set.append(f"{self._path(request_id)} = {self._value(row)}")
        return self

    def enter(self, fields: Mapping[str, Any], available: Nano = 0, balance: Nano = 0) -> _Write:
        self._entries.append(fields)
        self._available += available
        self._balance += balance
        return self

    def drop(self, lapsed: Sequence[Hold], now: int) -> _Write:
        """Gives expired holds back, each on the condition that it is still the hold that was seen."""
        for hold in lapsed:
            seen = {"a": hold.amount, "e": hold.expires, "s": OPEN}
            self._conditions.append(f"{self._path(hold.request_id)} = {self._value(seen)}")
            self.row(hold.request_id, {"a": 0, "e": now + SWEPT_SECONDS, "s": SWEPT})
            self.enter(entry_fields("sweep", hold.request_id, now, held=-hold.amount), available=hold.amount)
        return self

    def tidy(self, marks: Sequence[str]) -> _Write:
        """Removes marks. One may be gone by now, but must not have become an open hold again."""
        for request_id in marks:
            path = self._path(request_id)
            self._conditions.append(f"(attribute_not_exists({path}) OR {path}.s <> {self._value(OPEN)})")
            self._remove.append(path)
        return self

    def request(self) -> dict[str, Any]:
        self._set.append(f"seq = seq + :one, entries = {self._value(self._entries)}")
        self._set.append(f"available = available + {self._value(self._available)}")
        if self._balance:
            self._set.append(f"balance = balance + {self._value(self._balance)}")
        update = "SET " + ", ".join(self._set)
        if self._remove:
            update += " REMOVE " + ", ".join(self._remove)
        return {
            "UpdateExpression": update,
            "ConditionExpression": " AND ".join(self._conditions),
            "ExpressionAttributeNames": self._names,
            "ExpressionAttributeValues": pack_item(self._values),
        }

    def _path(self, request_id: str) -> str:
        for name, known in self._names.items():
            if known == request_id:
                return f"holds.{name}"
        name = f"#r{len(self._names)}"
        self._names[name] = request_id
        return f"holds.{name}"

    def _value(self, value: Any) -> str:
        name = f":v{len(self._values)}"
        self._values[name] = value
        return name


def wallet_of(image: Image) -> Wallet:
    wallet_id = wallet_id_of(image["pk"])
    holds = {
        request_id: Hold(wallet_id, request_id, row["a"], row["e"])
        for request_id, row in image["holds"].items()
        if row["s"] == OPEN
    }
    return Wallet(wallet_id, image["balance"], image["available"], image["seq"], holds)


def wallet_pk(wallet_id: str) -> str:
    return f"W#{wallet_id}"


def wallet_id_of(pk: str) -> str:
    return pk.removeprefix("W#")


def credit_mark(reference: str) -> str:
    """A reference as a row of the map: it shares the map with request ids, so it is kept apart from them."""
    return f"credit#{reference}"


def _key(wallet_id: str) -> dict[str, Any]:
    return pack_item({"pk": wallet_pk(wallet_id), "sk": "WALLET"})


def _apart(image: Image, request_id: str) -> tuple[Image, Image]:
    """A request's own row, and the image without it: a hold that grows must not be dropped for its own sake."""
    rows: Mapping[str, Any] = image.get("holds", {})
    others = {name: row for name, row in rows.items() if name != request_id}
    return rows.get(request_id, {"s": DONE}), {**image, "holds": others}


def _lapsed(image: Image, now: int) -> list[Hold]:
    """The open holds whose time is over, the biggest first."""
    if not image:
        return []
    expired = [hold for hold in wallet_of(image).holds.values() if hold.expires < now]
    return sorted(expired, key=lambda hold: (-hold.amount, hold.request_id))


def _stale(image: Image, now: int, reader: str) -> tuple[str, ...]:
    """Marks that may go: those past their time, and those that are too many; a few, for the next write to remove.

    Which few depends on who reads: all the requests of a crowd see the same marks, and would remove the same ones.
    """
    rows: Mapping[str, Any] = image.get("holds", {})
    marks = sorted((row["s"] == SWEPT, row["e"], name) for name, row in rows.items() if row["s"] in (DONE, SWEPT))
    surplus = [name for _, _, name in marks[: max(0, len(marks) - MARKS_KEPT)]]
    expired = [name for name, row in rows.items() if row["s"] != OPEN and row["e"] < now]
    going = list(dict.fromkeys(expired + surplus))
    start = crc32(reader.encode()) % len(going) if len(going) > TIDIED_AT_ONCE else 0
    return tuple((going + going)[start : start + min(len(going), TIDIED_AT_ONCE)])


def _same_hold(wallet_id: str, request_id: str, row: Image) -> Hold:
    if row["s"] != OPEN:
        raise Conflict(f"Request {request_id} has been settled already.")
    return Hold(wallet_id, request_id, row["a"], row["e"])


def _refuse_hold(image: Image, amount: Nano, now: int) -> None:
    if not image:
        raise InsufficientQuota("Your account has no credit yet. Add credit, then send the request again.")
    _refuse_uncovered(image, amount, now)
    if len(image["holds"]) >= MOST_HOLDS and not _stale(image, now, ""):
        raise RateLimited("Too many requests of yours are open at once. Wait for some to end.", retry_after=1)


def _refuse_uncovered(image: Image, amount: Nano, now: int) -> None:
    free = sum(hold.amount for hold in _lapsed(image, now)[:DROPPED_AT_ONCE]) if "holds" in image else 0
    if (covered := image["available"] + free) < amount:
        raise InsufficientQuota(
            f"Your balance has ${nano_to_usd(covered)} available and this needs ${nano_to_usd(amount)}. "
            "Add credit, or ask for fewer tokens (a lower max_tokens)."
        )


def refuse_correction(available: Nano, amount: Nano) -> None:
    """Raises InsufficientQuota where a correction takes more than is available."""
    if available < amount:
        raise InsufficientQuota(
            f"The correction takes ${nano_to_usd(amount)} and the wallet has ${nano_to_usd(available)} available: "
            "it takes no more than that, and what open requests hold is not available."
        )


def refuse_other_amount(before: Nano, amount: Nano) -> None:
    """A reference counts once, so one that comes with another amount is a mistake. Raises Conflict."""
    if before != amount:
        raise Conflict(
            f"This reference has brought ${nano_to_usd(before)} already, and now says ${nano_to_usd(amount)}: nothing was "
            "changed. Send another credit under a reference of its own.",
            param="reference",
        )


def _refuse_negative(amount: Nano) -> None:
    if amount < 0:
        raise ValueError("an amount to hold or to charge is not negative")


def _busy() -> Unavailable:
    return Unavailable("Your wallet is too busy at the moment. Try again.", retry_after=1)
