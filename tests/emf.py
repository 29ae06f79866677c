"""CloudWatch's embedded metric format, checked as its specification has it, and read as CloudWatch would read it.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from sluice.wiring import JsonLines

PREFIX = "sluice-test"
UNITS = frozenset(
    f"{amount}{per}"
    for amount in (
        *("Seconds", "Microseconds", "Milliseconds", "Count", "Percent", "None"),
        *(f"{size}{what}" for size in ("", "Kilo", "Mega", "Giga", "Tera") for what in ("bytes", "bits")),
    )
    for per in ("", "/Second")
)
MOST_DIMENSIONS, MOST_METRICS = 30, 100

Point = tuple[str, frozenset[tuple[str, str]]]
"""A metric's name and its dimensions."""


def points(line: Mapping[str, Any]) -> dict[Point, float]:
    """What CloudWatch makes of a document. Raises AssertionError where it would not take it."""
    meta = line["_aws"]
    assert set(meta) == {"Timestamp", "CloudWatchMetrics"}
    assert type(meta["Timestamp"]) is int
    assert 10**12 < meta["Timestamp"] < 10**13, "epoch milliseconds"
    found: dict[Point, float] = {}
    for directive in meta["CloudWatchMetrics"]:
        for point, value in _directive(directive, line):
            assert point not in found, f"{point} twice in one document"
            found[point] = value
    return found


def _directive(directive: Mapping[str, Any], line: Mapping[str, Any]) -> Iterator[tuple[Point, float]]:
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 1024
    assert 1 <= len(directive["Metrics"]) <= MOST_METRICS
    for metric in directive["Metrics"]:
        assert set(metric) <= {"Name", "Unit", "StorageResolution"}
        assert metric["Unit"] in UNITS
        assert 1 <= len(metric["Name"]) <= 1024
        value = line[metric["Name"]]
        assert isinstance(value, int | float), metric["Name"]
        assert not isinstance(value, bool)
        for names in directive["Dimensions"]:
            yield (metric["Name"], frozenset(_dimensions(names, line))), value


def _dimensions(names: list[str], line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    assert len(names) == len(set(names)) <= MOST_DIMENSIONS
    for name in names:
        value = line[name]
        assert isinstance(value, str), name
        assert value.strip(), name
        assert len(value) <= 1024
        assert value.isascii(), name
        assert value.isprintable(), name
        assert not value.startswith(":")
        yield name, value


class Told(logging.Handler):
    """Hears a logger, and keeps its lines as they would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self._written = JsonLines(PREFIX)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self._written.format(record)))

    def of(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == message]

    def last(self, message: str = "request") -> dict[str, Any]:
        return self.of(message)[-1]

    def values(self, metric: str, **labels: str) -> list[float]:
        """Every value that `metric` took under exactly these dimensions beside the environment's own."""
        point = (metric, frozenset({"Prefix": PREFIX, **labels}.items()))
        told = [points(line) for line in self.lines]
        return [one[point] for one in told if point in one]

    def sum(self, metric: str, **labels: str) -> float:
        return sum(self.values(metric, **labels))

    def names(self) -> set[str]:
        """Every metric that was moved at all, to whatever value."""
        return {name for line in self.lines for name, _ in points(line)}
