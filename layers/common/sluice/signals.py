"""Level 1: what is told of the gateway to those who watch it: log lines, and the metrics that they move.

A line that carries metrics is a document in CloudWatch's embedded metric format: CloudWatch reads them out of the log by
itself, so that nothing on the way of a request waits for them, and a request costs one line
(Amazon CloudWatch User Guide, "Specification: Embedded metric format"). docs/observability.md has the same table for people.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sluice.errors import SluiceError, UpstreamFailed
from sluice.types import Attempt, Nano, Proof, Receipt

log = logging.getLogger(__name__)
"""Its lines carry metrics, so that no level set for the others silences it."""

NAMESPACE = "Sluice"
PREFIX = "Prefix"
Dimension = Literal["Model", "Channel", "ErrorKind"]
Unit = Literal["Count", "Milliseconds"]

_LONGEST_VALUE = 250
_CODE = re.compile(r"[a-z]{1,32}(?:_[a-z]{1,32}){0,7}")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: kept for the environment as a whole, and once more by each dimension in `by`."""

    name: str
    moved_by: str
    by: tuple[Dimension, ...] = ()
    unit: Unit = "Count"


REQUESTS = Metric("Requests", "every request to the relay but /health", ("Model", "Channel"))
FAULTS = Metric(
    "Faults",
    "1 for a request that failed by our fault or the providers' (5xx, or every channel refused), 0 for another",
    ("Model", "Channel"),
)
ERRORS = Metric("Errors", "a request that ended in an error, whoever's fault it is", ("ErrorKind",))
FAILED_ATTEMPTS = Metric(
    "FailedAttempts",
    "a try of a channel that failed, also where another channel answered in its place",
    ("Channel", "ErrorKind"),
)
LATENCY = Metric(
    "Latency", "a request that had its hold, from there to its settlement", ("Model", "Channel"), "Milliseconds"
)
TIME_TO_FIRST_TOKEN = Metric(
    "TimeToFirstToken", "the first content of a streamed answer", ("Model", "Channel"), "Milliseconds"
)
TOKENS_IN = Metric("TokensIn", "the input of an answered request, as it is charged", ("Model",))
TOKENS_OUT = Metric("TokensOut", "the output of an answered request, as it is charged", ("Model",))
TOKENS_CACHED = Metric("TokensCached", "the part of the input that the provider read from its own cache", ("Model",))
NANO_CHARGED = Metric("NanoCharged", "a settlement; nano-dollars", ("Model",))
UNSETTLED = Metric("Unsettled", "an answer whose settlement failed: its hold is left to the sweep")
IDENTITY_CACHE_HITS = Metric(
    "IdentityCacheHits", "1 for a key known from this process's memory, 0 for one that the database was asked for"
)
HOLDS_SWEPT = Metric("HoldsSwept", "a run of the sweep: how many holds it gave back")
NANO_SWEPT = Metric("NanoSwept", "a run of the sweep: nano-dollars it gave back")
WALLETS_PROVED = Metric("WalletsProved", "a proof of every wallet: how many there are")
PROOF_DIFFERENCES = Metric("ProofDifferences", "a proof of every wallet: how many do not add up")
PROOF_BEHIND = Metric("ProofBehind", "a proof of every wallet: writes whose entries the stream has not delivered yet")
ENTRIES_WRITTEN = Metric("EntriesWritten", "a batch of the ledger's stream: journal entries written")
NANO_LOST = Metric("NanoLost", "a batch of the ledger's stream: nano-dollars that no wallet could cover")
RECORDS_UNREADABLE = Metric(
    "RecordsUnreadable", "a record of the ledger's stream that cannot be read, at every delivery"
)

METRICS = (
    *(REQUESTS, FAULTS, ERRORS, FAILED_ATTEMPTS, LATENCY, TIME_TO_FIRST_TOKEN),
    *(TOKENS_IN, TOKENS_OUT, TOKENS_CACHED, NANO_CHARGED, UNSETTLED, IDENTITY_CACHE_HITS),
    *(HOLDS_SWEPT, NANO_SWEPT, WALLETS_PROVED, PROOF_DIFFERENCES, PROOF_BEHIND),
    *(ENTRIES_WRITTEN, NANO_LOST, RECORDS_UNREADABLE),
)

KINDS: frozenset[str] = frozenset(
    {
        *("invalid_request", "invalid_api_key", "insufficient_quota", "forbidden", "not_found", "model_not_found"),
        *("conflict", "request_too_large", "rate_limit_exceeded", "unavailable", "internal_error"),
        *("upstream_failed", "upstream_broken", "upstream_overloaded", "upstream_timeout", "upstream_unreachable"),
        *("upstream_refused", "upstream_quota", "deadline_exceeded"),
    }
)
"""What `ErrorKind` may be of a request. Of an attempt it is `ProviderError.kind`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one event moved, and by which labels. A label without a value leaves its dimension out."""

    values: Mapping[Metric, int]
    labels: Mapping[Dimension, str] = field(default_factory=dict)


def document(prefix: str, at: int, measured: Measured) -> dict[str, Any]:
    """The members that make a line an embedded metric document of `at` (epoch milliseconds)."""
    labels: dict[str, str] = {name: _value(value) for name, value in measured.labels.items() if value}
    grouped: dict[tuple[tuple[str, ...], ...], list[dict[str, str]]] = {}
    for metric in measured.values:
        by = ((PREFIX,), *((PREFIX, one) for one in metric.by if one in labels))
        grouped.setdefault(by, []).append({"Name": metric.name, "Unit": metric.unit})
    directives = [{"Namespace": NAMESPACE, "Dimensions": by, "Metrics": metrics} for by, metrics in grouped.items()]
    values = {metric.name: value for metric, value in measured.values.items()}
    return {"_aws": {"Timestamp": at, "CloudWatchMetrics": directives}, PREFIX: prefix, **labels, **values}


def tell(message: str, fields: Mapping[str, Any], measured: Measured, level: int = logging.INFO) -> None:
    """Writes one line with the metrics that it moved."""
    log.log(level, message, extra={"fields": fields, "measured": measured})


# --- the relay's events ------------------------------------------------------------------------------------------------


def refused(error: SluiceError | None, remembered: bool | None, model: str = "") -> Measured:
    """A request that came to no hold: it was refused, or asked for something that costs nothing."""
    return _request(error, remembered, {"Model": model})


def answered(
    receipt: Receipt, charged: Nano, error: SluiceError | None, remembered: bool | None, *, streamed: bool
) -> Measured:
    """A request that had its hold, at its end."""
    asked = _request(error, remembered, {"Model": receipt.model, "Channel": receipt.channel_id})
    usage = receipt.usage
    values: dict[Metric, int] = {**asked.values, LATENCY: receipt.duration_ms}
    if usage.source != "none":
        values |= {TOKENS_IN: usage.input, TOKENS_OUT: usage.output, NANO_CHARGED: charged}
        values |= {TOKENS_CACHED: usage.cached}
    if streamed and receipt.ttft_ms:
        values[TIME_TO_FIRST_TOKEN] = receipt.ttft_ms
    return Measured(values, asked.labels)


def failed_attempt(attempt: Attempt) -> Measured:
    return Measured({FAILED_ATTEMPTS: 1}, {"Channel": attempt.channel_id, "ErrorKind": attempt.kind})


def unsettled() -> Measured:
    return Measured({UNSETTLED: 1})


def _request(error: SluiceError | None, remembered: bool | None, labels: dict[Dimension, str]) -> Measured:
    values: dict[Metric, int] = {REQUESTS: 1, FAULTS: int(error is not None and is_fault(error))}
    if error is not None:
        values[ERRORS] = 1
        labels["ErrorKind"] = kind_of(error)
    if remembered is not None:
        values[IDENTITY_CACHE_HITS] = int(remembered)
    return Measured(values, labels)


def is_fault(error: SluiceError) -> bool:
    """Whether it is us or the providers who failed, and not the client who asked for what it cannot have."""
    return isinstance(error, UpstreamFailed) or error.status >= 500


def kind_of(error: SluiceError) -> str:
    """One of KINDS: an error's code may be a provider's own word, of which there is no end."""
    if isinstance(error, UpstreamFailed) and error.code in KINDS:
        return error.code
    return type(error).code if type(error).code in KINDS else SluiceError.code


def code_of(error: SluiceError | None) -> str:
    """The code of an error as a line may tell it: its kind where the code is a provider's own word, which may quote a prompt."""
    if error is None:
        return ""
    return kind_of(error) if error.is_quoted or not _CODE.fullmatch(error.code) else error.code


# --- the jobs' events --------------------------------------------------------------------------------------------------


def swept(holds: int, amount: Nano) -> Measured:
    return Measured({HOLDS_SWEPT: holds, NANO_SWEPT: amount})


def proved(proofs: Iterable[Proof]) -> Measured:
    told = tuple(proofs)
    wrong, behind = sum(not one.holds_true for one in told), sum(one.behind for one in told)
    return Measured({WALLETS_PROVED: len(told), PROOF_DIFFERENCES: wrong, PROOF_BEHIND: behind})


def consumed(entries: int, lost: Nano, unreadable: int) -> Measured:
    return Measured({ENTRIES_WRITTEN: entries, NANO_LOST: lost, RECORDS_UNREADABLE: unreadable})


def _value(text: str) -> str:
    """A dimension's value as CloudWatch takes it: printable ASCII, no colon in front, not too long."""
    plain = text.encode("ascii", "backslashreplace").decode().lstrip(":")[:_LONGEST_VALUE]
    return "".join(one if one.isprintable() else "_" for one in plain).strip() or "_"
