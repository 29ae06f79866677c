"""The canary sings: a leak that is planted fails the run, with workers and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import Canary

ROOT = Path(__file__).parents[2]
PLANTED = """
import logging

import pytest

from sluice.types import Secret
from tests.canary import CANARY

logging.getLogger("sluice").setLevel(logging.DEBUG)
log = logging.getLogger("sluice.planted")
BIRD = "bird-of-paradise/7"


def test_a_secret_among_the_fields():
    log.debug("told", extra={"fields": {"deep": [Secret(BIRD).reveal()]}})


def test_a_key_by_its_shape():
    log.info("a caller with %s", "sk-" + "Zq9" * 12)


def test_a_prompt_in_an_exception():
    CANARY.forbid_sentences({"messages": [{"role": "user", "content": "Fly, my azure bird"}]})
    try:
        raise ValueError("cannot read: Fly, my azure bird")
    except ValueError:
        log.exception("failed")


def test_an_answer_of_a_script():
    CANARY.forbid_script("stall=1,text=An%20azure%20answer")
    log.info("An azure answer")


def test_a_warning_of_another_package():
    Secret(BIRD)
    logging.getLogger("asyncio").warning("what about %s", BIRD)


def test_what_is_forbidden_only_later():
    log.info("The last azure bird")


def test_nothing():
    log.info("The first bird", extra={"fields": {"key": str(Secret(BIRD))}})
    CANARY.forbid("The last azure bird")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_planted_leak_fails_the_run(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED, encoding="utf-8")
    options = [
        "-q",
        "-p",
        "tests.canary",
        "-c",
        ROOT / "pyproject.toml",
        "-p",
        "no:cacheprovider",
        "--dist",
        "loadfile",
    ]
    command = [sys.executable, "-m", "pytest", *map(str, options), "-n", workers, str(tmp_path / "test_planted.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "layers" / "common")))}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "7 passed, 6 errors" in done.stdout, done.stdout + done.stderr


def test_what_cannot_be_told_from_chance_is_let_pass() -> None:
    canary = Canary()
    canary.forbid("secret")
    canary.forbid("0" * 40)
    canary.forbid_sentences({"role": "user", "content": ["gpt-4o-mini-2024", {"type": "input_text_delta"}]})
    canary.hear("here", '{"secret":"gpt-4o-mini-2024 input_text_delta ' + "0" * 50)
    assert canary.leaks() == []
