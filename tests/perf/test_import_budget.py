"""What a cold start pays before the first byte. The one timed test that may fail the build.

Counted is the child's processor time: importing waits for nothing, so on an idle machine that is the time on the clock, and on
a busy one it is not the neighbours' time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUDGET_SECONDS = 0.450
ROUNDS = 10
KEPT_OUT = (
    "trio",
    "aws_xray_sdk",
    "tiktoken_ext",
    "openai",
    "anthropic",
    "litellm",
    "pandas",
    "numpy",
    "boto3",
    "websockets",
    "aws_lambda_powertools",
)
IMPORT = "import relay_lambda"
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "COV_", "SLUICE_")) and not name.endswith("_proxy")
} | {"PYTHONPATH": f"{ROOT / 'layers/common'}{os.pathsep}{ROOT / 'functions/relay'}"}


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)


def processor_seconds(code: str) -> float:
    before = os.times()
    fresh(code)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.fixture(scope="module", autouse=True)
def bytecode() -> None:
    """An installer may leave bytecode out; the layer's build does not. The first run writes it."""
    fresh(IMPORT)


def loaded(code: str) -> set[str]:
    return set(json.loads(fresh(f"{code}; import json, sys; print(json.dumps(list(sys.modules)))").stdout))


def test_nothing_heavy_is_imported() -> None:
    modules = loaded(IMPORT)
    assert "relay_app" in modules
    assert "sluice.pipeline" in modules
    assert {name for name in KEPT_OUT if name in modules} == set()


def test_no_tokenizer_table_is_loaded() -> None:
    code = f"{IMPORT}; import sys; r = sys.modules.get('tiktoken.registry'); print(len(r.ENCODINGS) if r else 0)"
    assert fresh(code).stdout.strip() == "0"


@pytest.mark.parametrize("name", ["boto3", "openai"])
def test_the_check_sees_what_is_imported(name: str) -> None:
    assert name in loaded(f"{IMPORT}; import {name}")


def test_the_app_is_imported_within_its_budget() -> None:
    pairs = [(processor_seconds("pass"), processor_seconds(IMPORT)) for _ in range(ROUNDS)]
    taken = statistics.median(app - bare for bare, app in pairs)
    assert taken <= BUDGET_SECONDS, f"importing the relay took {taken * 1000:.0f} ms over a bare interpreter"
