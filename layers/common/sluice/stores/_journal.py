"""A journal entry as the wallet's item carries it and as the journal keeps it: the one place that knows its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.types import Entry, EntryKind, Nano, Receipt, Usage


def entry_fields(
    kind: EntryKind,
    request_id: str,
    at: int,
    delta: Nano = 0,
    held: Nano = 0,
    loss: Nano = 0,
    receipt: Receipt | None = None,
) -> dict[str, Any]:
    """What a write says of one change. Nothing of the wallet itself: its image, beside it in the item, says that."""
    fields: dict[str, Any] = {"kind": kind, "request": request_id, "at": at, "delta": delta, "held": held}
    if loss:
        fields["loss"] = loss
    if receipt:
        fields["receipt"] = _receipt_fields(receipt)
    return fields


def entries_of_write(
    wallet_id: str, seq: int, balance: Nano, available: Nano, parts: Sequence[Mapping[str, Any]]
) -> tuple[Entry, ...]:
    """The entries of the write that left the wallet with these numbers. Raises KeyError on a part without its fields."""
    return tuple(
        Entry(
            wallet_id=wallet_id,
            seq=seq,
            part=number,
            kind=part["kind"],
            request_id=part["request"],
            delta=part["delta"],
            held=part["held"],
            at=part["at"],
            loss=part.get("loss", 0),
            receipt=_receipt(part["receipt"]) if "receipt" in part else None,
            balance=balance,
            available=available,
        )
        for number, part in enumerate(parts)
    )


def fields_of_entry(entry: Entry) -> dict[str, Any]:
    return entry_fields(entry.kind, entry.request_id, entry.at, entry.delta, entry.held, entry.loss, entry.receipt)


def _usage_fields(usage: Usage) -> list[Any]:
    """In the order of `Usage`. What came later than its first five is left off where it is nothing: most is plain text."""
    fields: list[Any] = [usage.input, usage.output, usage.cached, usage.reasoning, usage.source]
    later = [usage.cache_write, dict(usage.units), usage.audio_input, usage.image_input, usage.audio_output]
    while later and not later[-1]:
        later.pop()
    return fields + later


def _receipt_fields(receipt: Receipt) -> dict[str, Any]:
    usage = receipt.usage
    return {
        "model": receipt.model,
        "channel": receipt.channel_id,
        "key": receipt.key_id,
        "usage": _usage_fields(usage),
        "end": receipt.end_reason,
        "price": receipt.price_version,
        "attempts": list(receipt.attempts),
        "ms": receipt.duration_ms,
        "ttft": receipt.ttft_ms,
    }


def _receipt(fields: Mapping[str, Any]) -> Receipt:
    return Receipt(
        model=fields["model"],
        channel_id=fields["channel"],
        key_id=fields["key"],
        usage=Usage(*fields["usage"]),
        end_reason=fields["end"],
        price_version=fields["price"],
        attempts=tuple(fields["attempts"]),
        duration_ms=fields["ms"],
        ttft_ms=fields["ttft"],
    )
