from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sluice import tokens

SCRIPT = Path(__file__).parents[2] / "layers/common/fetch_encodings.py"
CONTENT = {"cl100k_base": b"one", "o200k_base": b"two"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with small tables in place of the real ones."""
    spec = importlib.util.spec_from_file_location("fetch_encodings", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_encodings", module)
    spec.loader.exec_module(module)
    module.REAL = dict(module.TABLES)
    module.TABLES.update({t: (f"name-{t}", hashlib.sha256(c).hexdigest()) for t, c in CONTENT.items()})
    return module


def good(_: Path) -> Iterator[tuple[str, bytes]]:
    yield from CONTENT.items()


def altered(_: Path) -> Iterator[tuple[str, bytes]]:
    yield "cl100k_base", b"one, but not quite"


def absent(_: Path) -> Iterator[tuple[str, bytes]]:
    raise FileNotFoundError("no npm here")


def test_tables_come_and_a_second_run_asks_nobody(script: ModuleType, tmp_path: Path) -> None:
    script.bring(tmp_path / "encodings", (good,))
    script.bring(tmp_path / "encodings", ())
    assert (tmp_path / "encodings" / "name-o200k_base").read_bytes() == b"two"
    assert not list((tmp_path / "encodings").glob("*.part"))


def test_the_next_way_is_taken_when_one_fails_or_lies(script: ModuleType, tmp_path: Path) -> None:
    script.bring(tmp_path, (absent, altered, good))
    assert script.missing(tmp_path) == []


def test_altered_bytes_are_never_kept(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cl100k_base is not the table tiktoken expects"):
        script.bring(tmp_path, (altered,))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_again(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "name-cl100k_base").write_bytes(b"o")
    script.bring(tmp_path, (good,))
    assert (tmp_path / "name-cl100k_base").read_bytes() == b"one"


def test_the_names_are_those_the_tokenizer_looks_for(script: ModuleType) -> None:
    assert {table: name for table, (name, _) in script.REAL.items()} == tokens._TABLES
