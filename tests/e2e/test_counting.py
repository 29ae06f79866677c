"""What docs/cost.md rests on can be counted again: on real parts, with fewer requests and a shorter stream than the page's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cost
from benchmarks.counting import Counted

ROOT = Path(__file__).parents[2]
FEWER = """
import sys
from pathlib import Path
from benchmarks import counting
counting.REQUESTS, counting.LONG_CHUNKS, counting.LONG_PACE = 4, 40, 0.1
counting.count().write(Path(sys.argv[1]))
"""
SAME = (
    *("identity_reads", "start_kms", "journal_items", "journal_units", "journal_calls", "usage_units", "log_lines"),
    *("wallet_bytes_by_open_holds", "resources"),
)
"""What depends neither on how many requests came before nor on the machine."""


def test_what_was_counted_is_counted_again(tmp_path: Path) -> None:
    file = tmp_path / "counted.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "layers" / "common"), str(ROOT)])}
    subprocess.run([sys.executable, "-c", FEWER, str(file)], cwd=ROOT, env=environment, check=True, timeout=150)
    found, known = Counted.read(file), Counted.read(cost.COUNTED)
    renew = "make cost COST='--count --write'"
    assert {name: getattr(found, name) for name in SAME} == {name: getattr(known, name) for name in SAME}, renew
    assert found.log_bytes == pytest.approx(known.log_bytes, rel=0.1), renew
    assert found.chunk_bytes == pytest.approx(known.chunk_bytes, rel=0.1), renew
    assert 1 <= found.hold_units <= 2
    assert 0 < found.polls_per_second < 2
