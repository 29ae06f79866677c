"""Every adapter that exists, against its cases: whole, cut at every byte, with other line ends, with comments between events.

A case is `cases/<adapter>/<case>.sse` (`.eventstream.bin` in AWS's framing, `.ndjson` for WebSocket messages, one a line,
`.json` for a whole body) with `<case>.expected.json` beside it; `errors.json` lists error answers and their kinds. Adapters are
discovered: one without cases fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.buffer import Buffer
from sluice.errors import ProviderError
from sluice.eventstream import EventStreamDecoder
from sluice.sse import SSEDecoder
from sluice.types import Channel, ChatRequest, Frame, Secret, UpstreamRequest, Usage

CASES = Path(__file__).parent / "cases"
TEXTS = sorted(CASES.glob("*/*.sse"))
BYTES = sorted([*TEXTS, *CASES.glob("*/*.eventstream.bin")])
STREAMS = sorted([*BYTES, *CASES.glob("*/*.ndjson")])
WHOLES = sorted(path for path in CASES.glob("*/*.json") if path.name != "errors.json" and ".expected" not in path.name)
ERRORS = [
    (path.parent.name, row) for path in sorted(CASES.glob("*/errors.json")) for row in json.loads(path.read_text())
]


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.name.partition('.')[0]}"


def expected(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.with_name(f"{path.name.partition('.')[0]}.expected.json").read_text())
    return told


def decoded(pieces: list[bytes], suffix: str = ".sse") -> list[Frame]:
    decoder = EventStreamDecoder() if suffix == ".bin" else SSEDecoder()
    return [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.finish()


def frames_of(path: Path) -> list[Frame]:
    if path.suffix == ".ndjson":
        return [Frame(line) for line in path.read_text().splitlines()]
    return decoded([path.read_bytes()], path.suffix)


def played(adapter_name: str, frames: list[Frame]) -> dict[str, Any]:
    """What a buffer holds after an adapter has read `frames`, in the form of an expected file."""
    adapter, buffer = adapters.load(adapter_name).adapter(0), Buffer()
    for frame in frames:
        for event in adapter.feed(frame):
            buffer.add(event)
    for event in adapter.finish():
        buffer.add(event)
    usage = buffer.usage or Usage()
    return {
        "choices": {
            str(index): {
                "text": choice.text,
                "reasoning": choice.reasoning,
                "tool_calls": [[call.id, call.name, call.arguments] for call in choice.tool_calls],
                "finish_reason": choice.finish_reason,
            }
            for index, choice in sorted(buffer.choices.items())
        },
        "usage": {"input": usage.input, "output": usage.output, "cached": usage.cached, "reasoning": usage.reasoning},
    }


def test_every_adapter_has_a_stream_a_whole_body_and_errors() -> None:
    assert {path.parent.name for path in STREAMS} == adapters.available()
    assert {path.parent.name for path in WHOLES} == adapters.available()
    assert {name for name, _ in ERRORS} == adapters.available()


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_a_stream_gives_the_expected_answer(path: Path) -> None:
    assert played(path.parent.name, frames_of(path)) == expected(path)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_a_stream_gives_the_expected_answer_with_any_line_end(path: Path, end: bytes) -> None:
    raw = path.read_bytes().replace(b"\n", end)
    assert played(path.parent.name, decoded([raw])) == expected(path)


@pytest.mark.parametrize("path", BYTES, ids=name_of)
def test_a_stream_cut_at_every_byte_gives_the_same(path: Path) -> None:
    raw = path.read_bytes()
    whole = decoded([raw], path.suffix)
    for at in range(len(raw)):
        assert decoded([raw[:at], raw[at:]], path.suffix) == whole
    bytewise = decoded([raw[at : at + 1] for at in range(len(raw))], path.suffix)
    assert played(path.parent.name, bytewise) == expected(path)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_comments_between_events_change_nothing(path: Path) -> None:
    raw = path.read_bytes().replace(b"\n\n", b"\n\n: keep-alive\n\n")
    assert played(path.parent.name, decoded([raw])) == expected(path)


@pytest.mark.parametrize("path", STREAMS, ids=name_of)
def test_a_stream_that_ends_before_its_answer_does_is_never_a_success(path: Path) -> None:
    frames = frames_of(path)
    for kept in range(len(frames)):
        kind, answer = "", {}
        try:
            answer = played(path.parent.name, frames[:kept])
        except ProviderError as met:
            kind = met.kind
        assert kind == "network" or answer["choices"] == expected(path)["choices"], kept


@pytest.mark.parametrize("path", WHOLES, ids=name_of)
def test_a_whole_body_gives_the_expected_answer(path: Path) -> None:
    assert played(path.parent.name, [Frame(path.read_text())]) == expected(path)


@pytest.mark.parametrize(("adapter_name", "row"), ERRORS, ids=[f"{n}-{r['status']}-{r['kind']}" for n, r in ERRORS])
def test_an_error_answer_has_its_kind(adapter_name: str, row: dict[str, Any]) -> None:
    body = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    error = adapters.load(adapter_name).adapter(0).error(row["status"], row.get("headers", {}), body.encode())
    assert (error.kind, error.status, error.retry_after) == (row["kind"], row["status"], row.get("retry_after"))


@pytest.mark.parametrize("name", sorted(adapters.available()))
@pytest.mark.parametrize(
    ("field", "asks", "asks_nothing"), [("logprobs", True, False), ("logit_bias", {"1": -100}, {})]
)
def test_what_cannot_be_done_without_is_carried_or_refused_and_never_dropped(
    name: str, field: str, asks: Any, asks_nothing: Any
) -> None:
    def sent(value: Any) -> UpstreamRequest:
        body = {"model": "lite", "messages": [{"role": "user", "content": "Hi"}], field: value}
        channel = Channel("c", name, "c", ("lite",), secret=Secret("a:b:c"), endpoint="https://up.example/v1")
        return adapters.load(name).adapter(0).request(ChatRequest("lite", body), channel)

    assert field not in sent(asks_nothing).dropped
    fate = ""
    try:
        made = sent(asks)
        fate = "carried" if field in made.body.decode().lower() and field not in made.dropped else "dropped"
    except ProviderError as met:
        fate = f"{met.kind} {met.param}"
    assert fate in ("carried", f"unsupported {field}")


def test_a_type_that_does_not_exist_is_named() -> None:
    with pytest.raises(LookupError, match="no adapter 'nobody'"):
        adapters.load("nobody")
