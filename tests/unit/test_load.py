"""What `make load` makes of what it saw: a leak, growth or an unproved wallet is a fault, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import page
from benchmarks.load import GROWTH, GROWTH_PER_STREAM, PAGE, SPARE, Outcome, Sample, Streams, report, slope, unwrapped

SECONDS = 60
IDLE = {"readers": 0, "tasks": 5, "threads": 34, "files": 60, "resident": 80 * 2**20, "processor_seconds": 10.0}


def outcome(grown: float = 0.0, early: float = 0.0) -> Outcome:
    """A minute of load; memory grows by `early` in the first half, and by `grown` in the second."""

    def resident(second: int) -> float:
        half = SECONDS / 2
        return IDLE["resident"] + early * min(second / half, 1) + grown * max(0.0, second / half - 1)

    busy = [Sample(s, {**IDLE, "tasks": 600, "readers": 200, "resident": resident(s)}) for s in range(SECONDS + 1)]
    ends = [n / 10 for n in range(SECONDS * 10)]
    steady = Streams(first_bytes=[0.01] * len(ends), durations=[4.0] * len(ends), ends=ends)
    return Outcome(Streams(), steady, Sample(0, IDLE), busy, Sample(SECONDS + 5, IDLE), (), 1.0)


def test_a_clean_run_has_no_fault() -> None:
    assert outcome().faults() == []


def test_what_the_first_half_takes_is_no_leak() -> None:
    assert outcome(early=50 * 2**20).faults() == []


def test_memory_that_grows_on_is_a_fault() -> None:
    allowed = GROWTH + GROWTH_PER_STREAM * 300
    assert outcome(grown=allowed * 0.9).faults() == []
    (fault,) = outcome(grown=allowed * 1.2).faults()
    assert "memory grew" in fault


@pytest.mark.parametrize("name", ["readers", "tasks", "threads", "files"])
def test_one_thing_left_over_is_a_fault(name: str) -> None:
    most = IDLE[name] + SPARE[name]
    assert replace(outcome(), ended=Sample(70, {**IDLE, name: most})).faults() == []
    (fault,) = replace(outcome(), ended=Sample(70, {**IDLE, name: most + 1})).faults()
    assert fault == f"{name}: {IDLE[name]:.0f} before, {most + 1:.0f} after"


def test_an_error_and_a_book_that_is_wrong_are_faults() -> None:
    clean = outcome()
    failed = replace(clean, burst=Streams(errors=["OSError: reset"] * 3), books=("wallet w: short of 1",))
    assert failed.faults() == ["3 times OSError: reset", "wallet w: short of 1"]
    assert "| 3 " in report(failed, 200, 60, 20)
    assert "no, 1 s after" in report(failed, 200, 60, 20)


def test_the_report_says_the_load_in_numbers() -> None:
    told = report(outcome(), 200, 60, 20)
    assert "600 (10 a second)" in told
    assert "10 / 10 / 10 ms" in told
    assert "5 / 600 / 5" in told


def test_the_page_holds_a_run_of_this_report() -> None:
    def labels(table: str) -> list[str]:
        return [line.split("|")[1].strip() for line in table.splitlines()[2:]]

    assert labels(page.read(PAGE, "load")) == labels(report(outcome(), 200, 60, 20)), "make load LOAD=--write"


@pytest.mark.parametrize(
    ("points", "expected"), [([], 0.0), ([(1, 5)], 0.0), ([(0, 1), (1, 3), (2, 5)], 2.0), ([(0, 4), (9, 4)], 0.0)]
)
def test_the_slope_of_a_line(points: list[tuple[float, float]], expected: float) -> None:
    assert slope(points) == pytest.approx(expected)


def test_an_answer_is_unwrapped_whatever_its_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert unwrapped(head + b"5\r\nhello\r\na\r\n and on...\r\n0\r\n\r\n") == (200, b"hello and on...")
    assert unwrapped(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno") == (503, b"no")
    assert unwrapped(b"") == (0, b"")


@pytest.mark.parametrize("cut", range(1, 22))
def test_an_answer_that_is_cut_is_told_from_a_whole_one(cut: int) -> None:
    head, body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
    assert len(body) == 23
    with pytest.raises(ValueError, match="cut"):
        unwrapped(head + body[: len(body) - 2 - cut])
