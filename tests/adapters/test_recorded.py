"""Recorded traffic of real providers, read where the shared folder is present, against the answers written down here.

`recorded/<adapter>-<recording>.expected.json` names its `fixture` and `adapter` and has the answer in the form of a case, or the
`status` and `kind` of an error. The recordings themselves are not in the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import adapters
from sluice.errors import ProviderError
from sluice.types import Frame
from tests.adapters.test_every_adapter import decoded, played

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
RECORDED = {
    path.name.removesuffix(".expected.json"): json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "recorded").glob("*.expected.json"))
}
ANSWERS = [name for name, row in RECORDED.items() if "kind" not in row]
STREAMS = [name for name in ANSWERS if RECORDED[name]["fixture"].endswith(".sse")]
ERRORS = [name for name, row in RECORDED.items() if "kind" in row]

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded traffic is kept outside the repository")


def raw_of(name: str) -> bytes:
    return (FIXTURES / RECORDED[name]["fixture"]).read_bytes()


def frames_of(name: str, raw: bytes) -> list[Frame]:
    return decoded([raw]) if name in STREAMS else [Frame(raw.decode())]


def answer_of(name: str) -> dict[str, Any]:
    return {field: RECORDED[name][field] for field in ("choices", "usage")}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_is_read(name: str) -> None:
    assert played(RECORDED[name]["adapter"], frames_of(name, raw_of(name))) == answer_of(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_read_with_other_line_ends_and_comments(name: str) -> None:
    lines = raw_of(name).replace(b"\r\n", b"\n")
    for raw in (lines, lines.replace(b"\n", b"\r\n"), lines.replace(b"\n\n", b"\n\n: keep-alive\n\n")):
        assert played(RECORDED[name]["adapter"], frames_of(name, raw)) == answer_of(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_read_in_any_cut(name: str) -> None:
    raw = raw_of(name)
    whole = decoded([raw])
    for at in range(len(raw)):
        assert decoded([raw[:at], raw[at:]]) == whole
    bytewise = decoded([raw[at : at + 1] for at in range(len(raw))])
    assert played(RECORDED[name]["adapter"], bytewise) == answer_of(name)


@pytest.mark.parametrize("name", ERRORS)
def test_a_recorded_error_has_its_kind(name: str) -> None:
    """An error with status 200 stands where an answer should."""
    row = RECORDED[name]
    if row["status"] >= 400:
        error = adapters.load(row["adapter"]).adapter(0).error(row["status"], {}, raw_of(name))
    else:
        raw = raw_of(name)
        frames = decoded([raw]) if row["fixture"].endswith(".sse") else [Frame(raw.decode())]
        with pytest.raises(ProviderError) as met:
            played(row["adapter"], frames)
        error = met.value
    assert error.kind == row["kind"]
