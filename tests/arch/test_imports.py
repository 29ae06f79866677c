"""Imports go down only; and the contracts that say so can fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def lint_imports(layer: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` over the package as it stands in `layer`."""
    command = [str(BIN / "lint-imports"), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    environment = {**os.environ, "PYTHONPATH": str(layer)}
    return subprocess.run(command, env=environment, cwd=layer, capture_output=True, text=True, check=False)


def test_the_contracts_hold() -> None:
    result = lint_imports(ROOT / "layers" / "common")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("room", "statement", "contract"),
    [
        ("ticker.py", "from sluice import pipeline", "Imports go down only"),
        ("ledger.py", "from sluice.identity import bearer", "Imports go down only"),
        ("types.py", "from sluice import errors", "Imports go down only"),
        ("a_room_nobody_placed.py", "", "Imports go down only"),
        ("tokens.py", "import time", "Level 1 is pure"),
        ("adapters/_openai.py", "import httpx", "Level 1 is pure"),
        ("identity.py", "import botocore.session", "The stories do their I/O"),
        ("vault.py", "import boto3", "Nothing heavy"),
    ],
)
def test_a_deliberate_breach_fails(tmp_path: Path, room: str, statement: str, contract: str) -> None:
    shutil.copytree(ROOT / "layers" / "common" / "sluice", tmp_path / "sluice")
    file = tmp_path / "sluice" / room
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(f"{before}\n{statement}\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode != 0, result.stdout
    if statement:
        assert any(line.startswith(contract) and line.endswith("BROKEN") for line in result.stdout.splitlines()), (
            result.stdout
        )


@pytest.mark.parametrize(
    "statement", ["from sluice.stores.wallets import Wallets", "import botocore.session", "import boto3"]
)
def test_a_door_may_not_reach_below(statement: str) -> None:
    command = [str(BIN / "ruff"), "check", "--stdin-filename", "functions/relay/deliberate.py", "-"]
    result = subprocess.run(command, cwd=ROOT, input=f"{statement}\n", capture_output=True, text=True, check=False)
    assert "TID251" in result.stdout, result.stdout + result.stderr
