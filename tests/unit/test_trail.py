"""A request's place in a trace: the caller's where it names one that is valid, else a new one; and what goes on from there."""

from __future__ import annotations

import asyncio
import random

import pytest

from sluice import trail

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROOT = "1-4bf92f35-77b34da6a3ce929d0e0e4736"


def bits() -> trail.Bits:
    return random.Random(1).getrandbits


def traced(parent: str = "", state: str = "", xray: str = "") -> trail.Trace:
    headers = {"traceparent": parent, "tracestate": state, "x-amzn-trace-id": xray}
    return trail.trace_of({name: value for name, value in headers.items() if value}, bits())


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (f"00-{ID}-{SPAN}-01", "01"),
        (f"00-{ID}-{SPAN}-00", "00"),
        (f"00-{ID}-{SPAN}-03", "01"),
        (f" 00-{ID}-{SPAN}-01 ", "01"),
        (f"cc-{ID}-{SPAN}-01", "01"),
        (f"cc-{ID}-{SPAN}-01-what-comes-later", "01"),
    ],
)
def test_a_valid_parent_is_gone_on_from(parent: str, flags: str) -> None:
    found = traced(parent)
    assert (found.trace_id, found.flags) == (ID, flags)
    assert found.span_id != SPAN
    assert found.parent(found.span_id) == f"00-{ID}-{found.span_id}-{flags}"


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID[1:]}-{SPAN}-01",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}-01-more",
        f"cc-{ID}-{SPAN}-01more",
        f"00-{ID}-{SPAN}-01, 00-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01\r\nx: y",
    ],
)
def test_an_invalid_parent_makes_a_new_trace_and_its_state_is_dropped(parent: str) -> None:
    found = traced(parent, state="vendor=1")
    assert found.trace_id != ID
    assert (len(found.trace_id), len(found.span_id), found.state) == (32, 16, "")
    assert traced(found.parent(found.span_id)).trace_id == found.trace_id


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("a=1 , \t b=2,,", "a=1,b=2"),
        ("tenant@system=x:y", "tenant@system=x:y"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=", ""),
        ("a=1\nx-evil: 1", ""),
        ("a=ключ", ""),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        (",".join(f"k{n}={'v' * 250}" for n in range(3)), ",".join(f"k{n}={'v' * 250}" for n in range(2))),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(given: str, passed: str) -> None:
    assert traced(f"00-{ID}-{SPAN}-01", given).state == passed


@pytest.mark.parametrize(
    ("xray", "flags"),
    [
        (f"Root={ROOT};Parent={SPAN};Sampled=1", "01"),
        (f"Sampled=0; Root={ROOT}", "00"),
        (f"Self=1-00000000-{'1' * 24};Root={ROOT}", "01"),
    ],
)
def test_x_rays_header_says_the_same_where_there_is_no_other(xray: str, flags: str) -> None:
    found = traced(xray=xray)
    assert (found.trace_id, found.flags) == (ID, flags)
    assert traced(f"00-{'a' * 32}-{SPAN}-01", xray=xray).trace_id == "a" * 32


@pytest.mark.parametrize("xray", ["Root=", "Root=1-zz", f"Root=1-{'0' * 8}-{'0' * 24}", "=;=;", f"Root={ROOT}x"])
def test_a_broken_header_of_x_ray_makes_a_new_trace(xray: str) -> None:
    assert traced(xray=xray).trace_id not in (ID, "0" * 32)


async def test_what_runs_for_a_request_finds_its_trail() -> None:
    async def asked(number: int) -> dict[str, str]:
        trail.begin(f"req_{number}", {"traceparent": f"00-{number:032x}-{SPAN}-01", "tracestate": "a=1"}, bits())
        await asyncio.sleep(0)
        await asyncio.create_task(noted(number))
        here = trail.under_way()
        assert here is not None
        assert (here.user, here.remembered, here.taken) == (f"user_{number}", True, True)
        return await asyncio.to_thread(trail.passed_on)

    async def noted(number: int) -> None:
        trail.note_caller(f"user_{number}", "key")
        trail.note_remembered(True)
        trail.note_taken()

    first, second = await asyncio.gather(asked(1), asked(2))
    assert first["traceparent"].startswith(f"00-{1:032x}-")
    assert second["traceparent"].startswith(f"00-{2:032x}-")
    assert first["tracestate"] == "a=1"


async def test_each_attempt_is_a_span_of_its_own() -> None:
    here = trail.begin("req", {}, bits())
    spans = {trail.passed_on()["traceparent"] for _ in range(3)} | {here.trace.parent(here.trace.span_id)}
    assert len(spans) == 4


def test_outside_a_request_nothing_is_noted_and_nothing_passed_on() -> None:
    trail.note_caller("user", "key")
    trail.note_model("gpt")
    assert trail.under_way() is None
    assert trail.passed_on() == {}
