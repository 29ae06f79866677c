"""/metrics: the text form as Prometheus reads it, from the same events that the log lines carry."""

from __future__ import annotations

import logging
import math
import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local import prometheus
from infra.local.gateway import Counted, metrics_app
from infra.local.prometheus import BUCKETS, Registry
from sluice import signals
from sluice.signals import Measured
from sluice.types import Receipt, Usage

LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.]+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"')

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Series:
    """The samples of an exposition. Raises AssertionError where it is none."""
    assert text.endswith("\n")
    found: Series = {}
    told: set[str] = set()
    for line in text.split("\n")[:-1]:
        if line.startswith("# "):
            _, what, name, _ = line.split(" ", 3)
            assert what in ("HELP", "TYPE")
            told.add(f"{what} {name}")
            continue
        sample = LINE.fullmatch(line)
        assert sample, line
        base = re.sub(r"_(bucket|sum|count)$", "", sample[1]) if "seconds" in sample[1] else sample[1]
        assert {f"HELP {base}", f"TYPE {base}"} <= told, f"{line} comes before what it is"
        labels = frozenset((name, plain(value)) for name, value in LABEL.findall(sample[2] or ""))
        assert (sample[1], labels) not in found, f"{line} twice"
        found[sample[1], labels] = float(sample[3])
    return found


def plain(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), value)


def answer(model: str = "gpt", channel: str = "ch", ttft: int = 300, duration: int = 1500) -> Measured:
    receipt = Receipt(model, channel, "key", Usage(5, 7), "done", "p", duration_ms=duration, ttft_ms=ttft)
    return signals.answered(receipt, 70, None, True, streamed=True)


def test_counters_and_histograms_add_up() -> None:
    registry = Registry()
    for measured in (answer(), answer(ttft=50), answer(ttft=2_000_000), answer(model="other")):
        registry.add(measured)
    found = read(registry.text())
    by = frozenset({("model", "gpt"), ("channel", "ch")})
    assert found["sluice_requests_total", by] == 3
    assert found["sluice_tokens_in_total", frozenset({("model", "gpt")})] == 15
    assert found["sluice_identity_cache_hits_total", frozenset()] == 4
    first = "sluice_time_to_first_token_seconds"
    buckets = [found[f"{first}_bucket", by | {("le", f"{bound:g}")}] for bound in BUCKETS]
    assert buckets == [1 if bound < 0.3 else 2 for bound in BUCKETS]
    assert found[f"{first}_bucket", by | {("le", "+Inf")}] == found[f"{first}_count", by] == 3
    assert math.isclose(found[f"{first}_sum", by], 2000.35)


def test_a_bound_belongs_to_its_bucket() -> None:
    registry = Registry()
    registry.add(answer(ttft=100))
    by = frozenset({("model", "gpt"), ("channel", "ch")})
    found = read(registry.text())
    first = "sluice_time_to_first_token_seconds_bucket"
    assert (found[first, by | {("le", "0.05")}], found[first, by | {("le", "0.1")}]) == (0, 1)


def test_every_metric_is_there_before_anything_moved() -> None:
    text = Registry().text()
    assert read(text) == {}
    assert text.count("# TYPE ") == len(signals.METRICS)
    names = [prometheus.name_of(metric) for metric in signals.METRICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"sluice_[a-z_]+_(total|seconds)", name) for name in names)


@given(model=st.text(min_size=1), channel=st.text(min_size=1))
def test_whatever_a_model_is_called_the_text_is_read_back(model: str, channel: str) -> None:
    registry = Registry()
    registry.add(answer(model, channel))
    assert read(registry.text())["sluice_requests_total", frozenset({("model", model), ("channel", channel)})] == 1


async def test_it_is_told_of_what_the_log_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    monkeypatch.setattr(signals.log, "handlers", [Counted(registry)])
    signals.log.setLevel(logging.INFO)
    signals.tell("request", {}, answer())
    signals.log.info("a line without")
    transport = httpx.ASGITransport(metrics_app(registry))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert read(response.text)["sluice_requests_total", frozenset({("model", "gpt"), ("channel", "ch")})] == 1
