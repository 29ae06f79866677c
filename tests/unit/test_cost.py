"""The cost model's arithmetic, and that docs/cost.md says what it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cost, page, prices
from benchmarks.cost import Assumed, Kind
from benchmarks.counting import Call, Counted, calls_of, item_bytes, noted, read_units, write_units

COUNTED = Counted.read(cost.COUNTED)
ASSUMED = Assumed()
KINDS = st.builds(
    Kind, st.floats(0.1, 800), st.sampled_from([256, 512, 1024, 2048]), st.sampled_from(["arm64", "x86_64"])
)


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"pk": {"S": "W#1"}}, 5),
        ({"é": {"S": "né"}}, 5),
        ({"n": {"N": "0"}}, 2),
        ({"n": {"N": "12345"}}, 5),
        ({"n": {"N": "-1200"}}, 4),
        ({"b": {"B": b"1234"}}, 5),
        ({"t": {"BOOL": True}, "z": {"NULL": True}}, 4),
        ({"l": {"L": [{"S": "ab"}, {"S": "c"}]}}, 1 + 3 + 2 + 3),
        ({"m": {"M": {"a": {"S": "bc"}}}}, 1 + 3 + 1 + 3),
    ],
)
def test_an_item_weighs_its_names_and_values(item: dict[str, Any], size: int) -> None:
    assert item_bytes(item) == size


def test_a_type_that_no_table_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="SS"):
        item_bytes({"set": {"SS": ["a"]}})


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (5814, 6)])
def test_a_write_is_billed_by_the_kilobyte(size: int, units: int) -> None:
    assert write_units(size) == units


@pytest.mark.parametrize(("size", "consistent", "units"), [(0, True, 1), (4096, True, 1), (4097, True, 2), (4097, False, 1), (9, False, 0.5)])  # fmt: skip
def test_a_read_is_billed_by_four_and_half_without_consistency(size: int, consistent: bool, units: float) -> None:
    assert read_units(size, consistent) == units


def test_a_call_is_noted_with_what_it_asked() -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.GetItem"}
    notes = [noted("/", headers, b'{"TableName": "t", "Key": {}}'), noted("/", headers, b"")]
    assert list(calls_of(notes)) == [Call("GetItem", {"TableName": "t", "Key": {}}), Call("GetItem", {})]
    assert [call.table for call in calls_of(notes)] == ["t", ""]


def test_lambda_bills_whole_milliseconds_by_memory() -> None:
    assert cost.gb_seconds(1000, 1024) == 1
    assert cost.gb_seconds(1000.2, 1024) == pytest.approx(1.001)
    assert cost.gb_seconds(1000, 512) == 0.5


def test_a_request_by_hand() -> None:
    parts = cost.request(Kind(1, 1024), COUNTED, replace(ASSUMED, aws_ms=0, json_cpu_ms=0, cold_share=0))
    assert parts["Lambda, relay: time"] == pytest.approx(1.0 * prices.of("lambda arm64"))
    assert parts["API Gateway"] == pytest.approx(3.5e-6)
    written = COUNTED.hold_units + COUNTED.settle_units
    assert parts["DynamoDB: hold and settle"] == pytest.approx(written * 0.625e-6)
    assert parts["Valkey"] == parts["KMS"] == parts["Lambda, relay: cold starts"] == 0


@given(KINDS, st.floats(1.01, 10))
def test_more_of_anything_costs_more(kind: Kind, times: float) -> None:
    bill = cost.total(cost.request(kind, COUNTED, ASSUMED))
    longer = replace(kind, seconds=kind.seconds * times)
    assert cost.total(cost.request(longer, COUNTED, ASSUMED)) > bill
    heavier = replace(COUNTED, log_bytes=COUNTED.log_bytes * times, settle_units=COUNTED.settle_units * times)
    assert cost.total(cost.request(kind, heavier, ASSUMED)) > bill
    assert cost.total(cost.request(replace(kind, cache=True), COUNTED, ASSUMED)) >= bill


@given(st.floats(1, 800), st.sampled_from([256, 512, 1024]))
def test_a_stream_that_waits_is_cheaper_on_less_memory(seconds: float, memory: int) -> None:
    """Because it hardly computes: what a smaller share of a processor adds is less than what the memory saves."""
    small, large = (cost.total(cost.request(Kind(seconds, size), COUNTED, ASSUMED)) for size in (memory, 2 * memory))
    assert small < large


def test_an_answer_of_more_than_ten_megabytes_is_another_request() -> None:
    huge = replace(COUNTED, chunk_bytes=11 * 1024**2 / 50)
    assert cost.request(Kind(1), huge, ASSUMED)["API Gateway"] == pytest.approx(2 * 3.5e-6)


def test_littles_law() -> None:
    assert cost.at_once(cost.MONTH * 10, 5, replace(ASSUMED, peak=1)) == pytest.approx(50)


def test_there_are_enough_tasks_for_the_busiest_hour() -> None:
    assumed = replace(ASSUMED, peak=2.0, busy=0.5, other_json_cpu_ms=100, other_stream_cpu_ms=100)
    assert cost.tasks(0, 5, assumed) == assumed.least_tasks
    assert cost.tasks(cost.MONTH * 10, 5, assumed) == 4
    assert cost.tasks(cost.MONTH * 11, 5, assumed) == 5


def test_a_task_has_to_hold_a_worker() -> None:
    with pytest.raises(ValueError, match="less memory"):
        cost.servers(1, Kind(1), COUNTED, replace(ASSUMED, task_gb=0.25))


@pytest.mark.parametrize("seconds", cost.SECONDS)
@pytest.mark.parametrize("memory", [256, 512, 1024])
@pytest.mark.parametrize("nat", [False, True])
def test_the_curves_meet_where_they_are_said_to(seconds: int, memory: int, nat: bool) -> None:
    kind, assumed = Kind(seconds, memory), replace(ASSUMED, nat=nat)

    def both(requests: float) -> tuple[float, float]:
        bill = cost.sluice(requests, kind, COUNTED, assumed)
        return bill, cost.total(cost.servers(requests, kind, COUNTED, assumed))

    found = cost.meets(kind, COUNTED, assumed)
    ours, theirs = both(found)
    assert ours >= theirs
    assert ours == pytest.approx(theirs, rel=0.001)
    ours, theirs = both(found - 2)
    assert ours < theirs


def test_a_crossover_that_is_none_is_infinite() -> None:
    assert cost.crossover(lambda _: -1.0) == math.inf
    assert cost.crossover(lambda _: 1.0) == 1
    assert cost.crossover(lambda requests: requests - 12_345.5) == pytest.approx(12_345.5, abs=1)


def test_every_rate_says_where_it_is_from() -> None:
    assert all(rate.dollars > 0 and rate.per and rate.source for rate in prices.RATES.values())


@pytest.mark.parametrize("name", cost.sections(COUNTED, ASSUMED))
def test_the_page_says_what_the_command_prints(name: str) -> None:
    assert page.read(cost.PAGE, name) == cost.sections(COUNTED, ASSUMED)[name], "make cost COST=--write"


def test_the_page_is_not_written_with_other_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cost.main(["--write", "--peak", "9"])
    assert "by default" in capsys.readouterr().err
