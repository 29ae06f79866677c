"""Channels, prices and what is published of them. docs/data-model.md, "catalog", has the key formats.

The rows are the truth an operator edits; the snapshot is everything routing needs, compressed, under one version. Both
change in one transaction, so no version ever shows half a change and none is lost between the two.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from sluice import models
from sluice.errors import Conflict, TooLarge, Unavailable
from sluice.stores._calls import ConditionFailed, answers, transact
from sluice.stores._items import Client, Item, pack, pack_item, unpack_item
from sluice.types import RATE_KINDS, Channel, Model, Price, RateKind, SealedChannel, Snapshot

log = logging.getLogger(__name__)

PART_BYTES = 350_000
"""An item holds 400 KB at most."""
SNAPSHOT_BYTES = 3_500_000
"""A transaction holds 4 MB and 100 items at most."""

_CHANNEL_FIELDS = tuple(field.name for field in fields(Channel) if field.name != "secret")
_MODEL_FIELDS = tuple(field.name for field in fields(Model) if field.name != "prices")
_PRICE_FIELDS = tuple(field.name for field in fields(Price) if field.name != "rates")


class CatalogStore:
    """The catalog table. Every method raises Unavailable when DynamoDB does not answer."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def version(self) -> int:
        """The published version, 0 before the first."""
        return int(self._head().get("version", 0))

    def load(self) -> Snapshot:
        """What is published, in one Query (a second page only where it is larger than 1 MB)."""
        # Read from the end: HEAD comes first, and the version it names is kept until two more have been published.
        for _ in range(3):
            found: dict[str, Any] = {}
            for item in self._query("SNAPSHOT", ScanIndexForward=False):
                found[item["sk"]] = item
                if (snapshot := _assemble(found)) is not None:
                    return snapshot
            if "HEAD" not in found:
                return Snapshot()
        raise Unavailable("The catalog changes faster than it can be read. Try again in a moment.", retry_after=1)

    def rows(self) -> Snapshot:
        """The rows as they are, and the version a change of them is published on top of."""
        # The version first: a change that comes between these reads then fails the publication's condition.
        version = self.version()
        channels = tuple(_sealed_channel(item) for item in self._query("CHANNEL"))
        prices = tuple(_price(item) for item in self._query("PRICE"))
        described = tuple(_model(item) for item in self._query("MODEL"))
        key = self._get("VAULT", "KEY")
        return Snapshot(version, channels, prices, key.get("wrapped", b""), described)

    def publish(self, old: Snapshot, new: Snapshot) -> Snapshot:
        """Writes the rows in which `new` differs from `old`, and the snapshot, as one version more than `old`'s.

        Raises Conflict when another version has been published since `old` was read, TooLarge when it does not fit.
        """
        published = replace(new, version=old.version + 1)
        writes = [*self._head_and_parts(published), *self._changed_rows(old, published)]
        if len(writes) > 100:
            raise TooLarge("One publication changes at most about 90 channels and prices. Make it several.")
        try:
            transact(self._client, self._table, writes)
        except ConditionFailed:
            raise Conflict("The catalog was changed by someone else. Read it again and repeat the change.") from None
        self._forget_before(old.version)
        return published

    # --- pieces ---

    def _head_and_parts(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        body = zlib.compress(_encode(snapshot))
        if len(body) > SNAPSHOT_BYTES:
            raise TooLarge(f"The catalog has {len(body)} bytes compressed; {SNAPSHOT_BYTES} can be published.")
        parts = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]
        head = self._put({"pk": "SNAPSHOT", "sk": "HEAD", "version": snapshot.version, "parts": len(parts)})
        head["Put"]["ConditionExpression"] = "version = :before"
        if snapshot.version == 1:
            head["Put"]["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            head["Put"]["ExpressionAttributeValues"] = {":before": pack(snapshot.version - 1)}
        data = [
            {"pk": "SNAPSHOT", "sk": _part_sk(snapshot.version, part), "data": piece}
            for part, piece in enumerate(parts)
        ]
        return [head, *map(self._put, data)]

    def _changed_rows(self, old: Snapshot, new: Snapshot) -> list[dict[str, Any]]:
        before, after = _row_items(old), _row_items(new)
        puts = [self._put(item) for key, item in after.items() if before.get(key) != item]
        return puts + [self._delete(*key) for key in before.keys() - after.keys()]

    def _put(self, values: Item) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": pack_item(values)}}

    def _delete(self, pk: str, sk: str) -> dict[str, Any]:
        return {"Delete": {"TableName": self._table, "Key": pack_item({"pk": pk, "sk": sk})}}

    def _head(self) -> dict[str, Any]:
        return self._get("SNAPSHOT", "HEAD")

    def _get(self, pk: str, sk: str) -> dict[str, Any]:
        with answers(self._table):
            answer = self._client.get_item(
                TableName=self._table, Key=pack_item({"pk": pk, "sk": sk}), ConsistentRead=True
            )
        return unpack_item(answer.get("Item", {}))

    def _query(self, pk: str, **more: Any) -> Any:
        with answers(self._table):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": pack(pk)},
                ConsistentRead=True,
                **more,
            )
            for page in pages:
                yield from map(unpack_item, page["Items"])

    def _forget_before(self, version: int) -> None:
        """Removes what is older than `version`. What cannot be removed now is removed by the next publication."""
        try:
            with answers(self._table):
                old = self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk AND sk < :first",
                    ExpressionAttributeValues={":pk": pack("SNAPSHOT"), ":first": pack(_part_sk(version, 0))},
                    ProjectionExpression="pk, sk",
                )
                for key in old["Items"]:
                    self._client.delete_item(TableName=self._table, Key=key)
        except Unavailable:
            log.warning("old snapshots stay until the next publication", extra={"fields": {"before": version}})


def _part_sk(version: int, part: int) -> str:
    return f"DATA#{version:010d}#{part:03d}"


def _assemble(found: Mapping[str, Any]) -> Snapshot | None:
    """The snapshot that HEAD names, once all of its parts are in `found`."""
    head = found.get("HEAD")
    if head is None:
        return None
    names = [_part_sk(head["version"], part) for part in range(head["parts"])]
    if not all(name in found for name in names):
        return None
    return _decode(head["version"], zlib.decompress(b"".join(found[name]["data"] for name in names)))


def _encode(snapshot: Snapshot) -> bytes:
    channels = [
        {**_channel_values(one.channel), "sealed": base64.b64encode(one.sealed).decode()} for one in snapshot.channels
    ]
    prices = [_price_values(price) for price in snapshot.prices]
    key = base64.b64encode(snapshot.data_key).decode()
    values = {"channels": channels, "prices": prices, "data_key": key, "models": [*map(_model_values, snapshot.models)]}
    return json.dumps(values, separators=(",", ":")).encode()


def _decode(version: int, body: bytes) -> Snapshot:
    values = json.loads(body)
    channels = [{**one, "sealed": base64.b64decode(one["sealed"])} for one in values["channels"]]
    return Snapshot(
        version,
        tuple(map(_sealed_channel, channels)),
        tuple(map(_price, values["prices"])),
        base64.b64decode(values["data_key"]),
        tuple(map(_model, values.get("models", ()))),
    )


def _row_items(snapshot: Snapshot) -> dict[tuple[str, str], dict[str, Any]]:
    """Every row of a snapshot by its key."""
    items = [
        {"pk": "CHANNEL", "sk": one.channel.id, **_channel_values(one.channel), "sealed": one.sealed}
        for one in snapshot.channels
    ]
    items += [
        {"pk": "PRICE", "sk": f"{price.model}#{price.valid_from:012d}", **_price_values(price)}
        for price in snapshot.prices
    ]
    items += [{"pk": "MODEL", "sk": model.id, **_model_values(model)} for model in snapshot.models]
    if snapshot.data_key:
        items.append({"pk": "VAULT", "sk": "KEY", "wrapped": snapshot.data_key})
    return {(item["pk"], item["sk"]): item for item in items}


def _channel_values(channel: Channel) -> dict[str, Any]:
    return {name: getattr(channel, name) for name in _CHANNEL_FIELDS}


def _sealed_channel(values: Item) -> SealedChannel:
    # What a newer release has added to a row is left out, so that both can read while a deployment is under way.
    known = {name: values[name] for name in _CHANNEL_FIELDS if name in values}
    for name in ("models", "groups"):
        known[name] = tuple(known.get(name, ()))
    return SealedChannel(Channel(**known), values["sealed"])


def _model_values(model: Model) -> dict[str, Any]:
    """What the operator has said; what is not known is left out."""
    values = models.said(model)
    return {name: values[name] for name in _MODEL_FIELDS if name in values}


def _model(values: Item) -> Model:
    known = {name: values[name] for name in _MODEL_FIELDS if name in values}
    for name in ("input", "output"):
        known[name] = tuple(known.get(name, ()))
    return Model(**known)


def _price_values(price: Price) -> dict[str, Any]:
    values = {name: getattr(price, name) for name in _PRICE_FIELDS}
    values |= {"input": format(price.input, "f"), "output": format(price.output, "f")}
    # Left off where there are none, so that a row of before is the row of now.
    rates = {kind: format(rate, "f") for kind, rate in sorted(price.rates.items())}
    return {**values, "rates": rates} if rates else values


def _price(values: Item) -> Price:
    known = {name: values[name] for name in _PRICE_FIELDS if name in values}
    told = values.get("rates", {})
    rates: dict[RateKind, Decimal] = {kind: Decimal(told[kind]) for kind in RATE_KINDS if kind in told}
    return Price(**{**known, "input": Decimal(known["input"]), "output": Decimal(known["output"]), "rates": rates})
