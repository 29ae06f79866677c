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
from tests.adapters.test_every_adapter import decoded, frames_of, played

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
RECORDED = {
    path.name.removesuffix(".expected.json"): json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "recorded").glob("*.expected.json"))
}
ANSWERS = [name for name, row in RECORDED.items() if "kind" not in row]
TEXTS = [name for name in ANSWERS if RECORDED[name]["fixture"].endswith(".sse")]
BYTES = [name for name in ANSWERS if RECORDED[name]["fixture"].endswith((".sse", ".bin"))]
ERRORS = [name for name, row in RECORDED.items() if "kind" in row]

ELSEWHERE = {
    "responses": "no provider is asked in the format of OpenAI's Responses",
    "decoded": "the same stream as its .bin, with its framing taken off",
    "native_reasoning_head": "the first frame alone",
}
"""Streams that are no answer of a chat adapter's, by a word of their names, and why."""

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded traffic is kept outside the repository")


def path_of(name: str) -> Path:
    return FIXTURES / str(RECORDED[name]["fixture"])


def answer_of(name: str) -> dict[str, Any]:
    return {field: RECORDED[name][field] for field in ("choices", "usage")}


def test_every_recorded_stream_is_read_here() -> None:
    streams = {
        str(path.relative_to(FIXTURES)) for kind in ("sse", "bin", "ndjson") for path in FIXTURES.glob(f"*/*.{kind}")
    }
    left = streams - {row["fixture"] for row in RECORDED.values()}
    assert not [path for path in left if not any(word in path for word in ELSEWHERE)]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_is_read(name: str) -> None:
    path = path_of(name)
    frames = [Frame(path.read_text())] if path.suffix == ".json" else frames_of(path)
    assert played(RECORDED[name]["adapter"], frames) == answer_of(name)


@pytest.mark.parametrize("name", TEXTS)
def test_a_recorded_stream_is_read_with_other_line_ends_and_comments(name: str) -> None:
    lines = path_of(name).read_bytes().replace(b"\r\n", b"\n")
    for raw in (lines, lines.replace(b"\n", b"\r\n"), lines.replace(b"\n\n", b"\n\n: keep-alive\n\n")):
        assert played(RECORDED[name]["adapter"], decoded([raw])) == answer_of(name)


@pytest.mark.parametrize("name", BYTES)
def test_a_recorded_stream_is_read_in_any_cut(name: str) -> None:
    path = path_of(name)
    raw, whole = path.read_bytes(), frames_of(path)
    for at in range(len(raw)):
        assert decoded([raw[:at], raw[at:]], path.suffix) == whole
    bytewise = decoded([raw[at : at + 1] for at in range(len(raw))], path.suffix)
    assert played(RECORDED[name]["adapter"], bytewise) == answer_of(name)


@pytest.mark.parametrize("name", ERRORS)
def test_a_recorded_error_has_its_kind(name: str) -> None:
    """An error with status 200 stands where an answer should."""
    row = RECORDED[name]
    if row["status"] >= 400:
        error = adapters.load(row["adapter"]).adapter(0).error(row["status"], {}, path_of(name).read_bytes())
    else:
        path = path_of(name)
        frames = frames_of(path) if path.suffix == ".sse" else [Frame(path.read_text())]
        with pytest.raises(ProviderError) as met:
            played(row["adapter"], frames)
        error = met.value
    assert error.kind == row["kind"]
