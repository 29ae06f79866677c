"""The numbers of one process in Prometheus' text form, added up from the same events that CloudWatch reads out of the log.

Text exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). A count is a counter; what takes
time is a histogram in seconds. Series are as many as there are models times channels, which an operator has set up.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sluice.signals import METRICS, Measured, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Upper bounds in seconds: a first token takes tenths of a second, a long answer minutes."""

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    milliseconds: int = 0

    def add(self, milliseconds: int) -> None:
        self.counts[bisect_left(BUCKETS, milliseconds / 1000)] += 1
        self.milliseconds += milliseconds


class Registry:
    """Everything measured since the process began. Safe to use from several threads."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._counters: dict[Metric, dict[Labels, int]] = {}
        self._histograms: dict[Metric, dict[Labels, _Histogram]] = {}

    def add(self, measured: Measured) -> None:
        with self._one_at_a_time:
            for metric, value in measured.values.items():
                labels = tuple((_snake(one), measured.labels.get(one, "")) for one in metric.by)
                if metric.unit == "Milliseconds":
                    self._histograms.setdefault(metric, {}).setdefault(labels, _Histogram()).add(value)
                else:
                    series = self._counters.setdefault(metric, {})
                    series[labels] = series.get(labels, 0) + value

    def text(self) -> str:
        with self._one_at_a_time:
            lines = [line for metric in METRICS for line in self._lines(metric)]
        return "".join(f"{line}\n" for line in lines)

    def _lines(self, metric: Metric) -> Iterator[str]:
        """A metric that nothing has moved yet is told by its name only, so that it can be found."""
        name = name_of(metric)
        yield f"# HELP {name} {_help(metric.moved_by)}"
        yield f"# TYPE {name} {'histogram' if metric.unit == 'Milliseconds' else 'counter'}"
        for labels, value in sorted(self._counters.get(metric, {}).items()):
            yield f"{name}{_labels(labels)} {value}"
        for labels, found in sorted(self._histograms.get(metric, {}).items(), key=lambda item: item[0]):
            yield from _histogram(name, labels, found)


def name_of(metric: Metric) -> str:
    return f"sluice_{_snake(metric.name)}_{'seconds' if metric.unit == 'Milliseconds' else 'total'}"


def _histogram(name: str, labels: Labels, found: _Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*map(_number, BUCKETS), "+Inf"), found.counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels((*labels, ('le', bound)))} {total}"
    yield f"{name}_sum{_labels(labels)} {_number(found.milliseconds / 1000)}"
    yield f"{name}_count{_labels(labels)} {total}"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{told}}}" if told else ""


_ESCAPES: Mapping[str, str] = {"\\": r"\\", '"': r"\"", "\n": r"\n"}


def _escaped(value: str) -> str:
    return "".join(_ESCAPES.get(one, one) for one in value)


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value != int(value) else str(int(value))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
