"""What one event tells: its metrics as CloudWatch takes them, by names that nobody outside can make up."""

from __future__ import annotations

import json
import logging
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import errors, signals, wiring
from sluice.errors import BadRequest, ModelNotFound, SluiceError, Unavailable, UpstreamFailed
from sluice.settings import Settings
from sluice.signals import Measured
from sluice.types import Attempt, Proof, Receipt, Usage
from tests.emf import PREFIX, Told, points

RECEIPT = Receipt("gpt", "ch", "key", Usage(5, 7, cached=2), "done", "p", duration_ms=900, ttft_ms=30)


def upstream(code: str, status: int = 502) -> UpstreamFailed:
    return UpstreamFailed("no", (), status=status, code=code)


def moved(measured: Measured) -> dict[str, float]:
    """The values kept for the whole environment."""
    whole = frozenset({("Prefix", PREFIX)})
    return {
        name: value
        for (name, by), value in points(signals.document(PREFIX, 10**12 + 1, measured)).items()
        if by == whole
    }


def test_an_answer_is_kept_as_a_whole_by_model_and_by_channel() -> None:
    found = points(signals.document(PREFIX, 10**12 + 1, signals.answered(RECEIPT, 70, None, True, streamed=True)))
    whole, model, channel = (
        frozenset({("Prefix", PREFIX), *more}) for more in ([], [("Model", "gpt")], [("Channel", "ch")])
    )
    for dimensions in (whole, model, channel):
        assert found["Requests", dimensions] == 1
        assert found["Faults", dimensions] == 0
        assert found["Latency", dimensions] == 900
        assert found["TimeToFirstToken", dimensions] == 30
    for dimensions in (whole, model):
        tokens = [found[name, dimensions] for name in ("TokensIn", "TokensOut", "TokensCached", "NanoCharged")]
        assert tokens == [5, 7, 2, 70]
    assert ("TokensIn", channel) not in found
    assert found["IdentityCacheHits", whole] == 1
    assert not any(name == "Errors" for name, _ in found)


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    assert "TimeToFirstToken" not in moved(signals.answered(RECEIPT, 70, None, None, streamed=False))


def test_what_was_never_answered_has_no_tokens() -> None:
    nothing = Receipt("gpt", "", "key", Usage(source="none"), "failed", "p", duration_ms=5)
    found = signals.document(
        PREFIX, 10**12 + 1, signals.answered(nothing, 0, upstream("upstream_timeout"), False, streamed=True)
    )
    assert moved(signals.answered(nothing, 0, upstream("upstream_timeout"), False, streamed=True)) == {
        "Requests": 1,
        "Faults": 1,
        "Errors": 1,
        "Latency": 5,
        "IdentityCacheHits": 0,
    }
    assert "Channel" not in found
    assert found["ErrorKind"] == "upstream_timeout"


@pytest.mark.parametrize(
    ("error", "kind", "fault"),
    [
        (BadRequest("no", code="a word of a provider"), "invalid_request", False),
        (ModelNotFound("no"), "model_not_found", False),
        (errors.InsufficientQuota("no"), "insufficient_quota", False),
        (errors.Unauthorized("no", code="revoked_api_key"), "invalid_api_key", False),
        (errors.RateLimited("no"), "rate_limit_exceeded", False),
        (upstream("rate_limit_exceeded", 429), "rate_limit_exceeded", True),
        (upstream("upstream_broken"), "upstream_broken", True),
        (upstream("what a provider says"), "upstream_failed", True),
        (Unavailable("no"), "unavailable", True),
        (SluiceError("no"), "internal_error", True),
    ],
)
def test_an_error_has_one_of_a_few_kinds(error: SluiceError, kind: str, fault: bool) -> None:
    assert (signals.kind_of(error), signals.is_fault(error)) == (kind, fault)
    assert signals.kind_of(error) in signals.KINDS


def test_every_class_of_error_has_a_kind_of_its_own() -> None:
    def below(one: type[SluiceError]) -> list[type[SluiceError]]:
        return [one, *(each for child in one.__subclasses__() for each in below(child))]

    assert {one.code for one in below(SluiceError) if one.__module__ == errors.__name__} <= signals.KINDS


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("string_above_max_length", "string_above_max_length"),
        ("Incorrect key sk-abcdef", "invalid_request"),
        ("sk-abcdefghijkl", "invalid_request"),
        ("1f00a9", "invalid_request"),
        ("x" * 40, "invalid_request"),
    ],
)
def test_a_providers_own_code_is_told_only_where_it_is_a_code(code: str, told: str) -> None:
    assert signals.code_of(BadRequest("no", code=code)) == told
    assert signals.code_of(None) == ""


def test_a_failed_attempt_is_kept_by_channel_and_by_kind() -> None:
    found = points(signals.document(PREFIX, 10**12 + 1, signals.failed_attempt(Attempt("ch", "overloaded", 503))))
    assert {by - {("Prefix", PREFIX)} for _, by in found} == {
        frozenset(),
        frozenset({("Channel", "ch")}),
        frozenset({("ErrorKind", "overloaded")}),
    }


@given(model=st.text(), channel=st.text(), prefix=st.from_regex(r"[a-z][a-z0-9-]{1,40}", fullmatch=True))
def test_whatever_a_model_is_called_the_document_is_one(model: str, channel: str, prefix: str) -> None:
    receipt = Receipt(model, channel, "key", Usage(5, 7), "done", "p", duration_ms=900, ttft_ms=30)
    measured = signals.answered(receipt, 70, upstream("upstream_broken"), True, streamed=True)
    line = json.loads(json.dumps(signals.document(prefix, 10**12 + 1, measured)))
    assert points(line)["Requests", frozenset({("Prefix", prefix)})] == 1


def test_no_field_of_a_line_is_hidden_by_a_metric_or_a_dimension() -> None:
    names = {signals.PREFIX, *(metric.name for metric in signals.METRICS), *get_args(signals.Dimension)}
    assert len(names) == 1 + len(signals.METRICS) + len(get_args(signals.Dimension))
    assert all(name[0].isupper() for name in names)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "CRITICAL"])
def test_no_level_silences_a_line_that_carries_metrics(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    wiring.start_logging(Settings(log_level=level, prefix="mine"))
    signals.tell("expired holds were swept", {"holds": 2}, signals.swept(2, 50))
    logging.getLogger("sluice.other").debug("told", extra={"fields": {"a": 1}})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"] for line in lines] == ["expired holds were swept", "told"][: 2 if level == "DEBUG" else 1]
    assert lines[0] | {"holds": 2, "HoldsSwept": 2, "NanoSwept": 50, "Prefix": "mine"} == lines[0]
    assert points(lines[0])["HoldsSwept", frozenset({("Prefix", "mine")})] == 2
    assert "_aws" not in lines[-1] or len(lines) == 1


def test_lines_are_heard_as_cloudwatch_would(told: Told) -> None:
    signals.log.setLevel(logging.INFO)
    signals.tell("a", {}, signals.swept(2, 50))
    signals.tell("b", {}, signals.swept(3, 0))
    assert (told.values("HoldsSwept"), told.sum("NanoSwept"), told.last("b")["NanoSwept"]) == ([2, 3], 50, 0)


def test_every_metric_that_is_declared_is_told_by_something() -> None:
    proof = Proof("w", 1, 5, 0, 4, 0, behind=2)
    told = [
        signals.answered(RECEIPT, 70, upstream("upstream_broken"), True, streamed=True),
        signals.failed_attempt(Attempt("ch", "server")),
        signals.unsettled(),
        signals.swept(1, 5),
        signals.proved([proof, Proof("v", 1, 5, 0, 5, 0)]),
        signals.consumed(1, 0, 0),
    ]
    assert {metric for measured in told for metric in measured.values} == set(signals.METRICS)
    assert moved(told[4]) == {"WalletsProved": 2, "ProofDifferences": 1, "ProofBehind": 2}
