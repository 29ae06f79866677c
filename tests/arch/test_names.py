"""A provider's name stands in its own file, its data, its tests and the docs, and nowhere else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sluice import adapters

ROOT = Path(__file__).parents[2]
CODE = ("layers", "functions", "infra", "template.yaml", "Makefile")
DATA = frozenset({"models.json"})
# OpenAI's name is the canonical format's too; the other is a word.
WORDS = frozenset({"openai", "compatible"})
# One vendor's several interfaces.
SIBLINGS = (frozenset({"qwen", "dashscope"}), frozenset({"qianfan", "baidu"}))
NAMES = sorted({name.partition("_")[0] for name in adapters.available()} - WORDS)


def own(path: str, name: str) -> bool:
    """Whether `path` is the file of a provider, or of a client format, of that name."""
    file = Path(path)
    names = next((vendor for vendor in SIBLINGS if name in vendor), {name})
    return file.name in DATA or (
        file.parent.name in ("adapters", "dialects", "endpoints") and file.stem.partition("_")[0] in names
    )


def standing_in(name: str, folder: Path, paths: tuple[str, ...]) -> list[str]:
    """The files under `paths` that hold the name, as `git grep` finds it."""
    command = ["git", "grep", "-iIlwE", "--no-index", "--exclude-standard", rf"({name})[a-z0-9]*", "--", *paths]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    whole = re.compile(rf"(?<![a-z]){name}(?![a-z])", re.IGNORECASE)
    return [path for path in found.stdout.splitlines() if whole.search((folder / path).read_text("utf-8"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_providers_name_stands_only_in_its_own_files(name: str) -> None:
    assert [path for path in standing_in(name, ROOT, CODE) if not own(path, name)] == []


def test_a_name_that_strays_is_found(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "pipeline.py").write_text("if channel.type == 'groq':\n    pass\n")
    assert standing_in("groq", tmp_path, ("layers",)) == ["layers/pipeline.py"]
    assert not own("layers/pipeline.py", "groq")
