"""What `make build` made, looked over: how large each function is with its layer, and that nothing came along that has no place.

    python -m infra.deploy.built FOLDER RUNTIME

Standard library only: it runs in whatever venv the build has.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

FUNCTIONS = ("Relay", "Auth", "Admin", "Jobs")
LAYER = "Common"
MOST_BYTES = 80_000_000
"""Of a function and its layer, unzipped. Lambda takes 250 MB; what is larger starts later."""

STRANGERS = ("trio", "boto3", "s3transfer", "aws_xray_sdk", "numpy", "pandas", "pip", "pytest")
"""Packages that must not get into the layer by way of somebody's requirements."""

_WASTE = re.compile(r"(^|/)(tests?|testing|trio|\.\w+_cache|\.git|node_modules)/|trio\.py$|\.(pyi|pxd|pyx|c|h|lock)$")
_BYTECODE = re.compile(r"(^|/)__pycache__/[^/]+\.([\w-]+)\.pyc$")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def size(folder: Path) -> int:
    """In bytes, as they are unzipped."""
    return sum(path.stat().st_size for path in files(folder))


def faults(build: Path, runtime: str) -> Iterator[str]:
    """One sentence for each thing that is not as it must be."""
    layer = build / LAYER / "python"
    for folder in (build / LAYER, *(build / name for name in FUNCTIONS)):
        if not folder.is_dir():
            yield f"{folder} was not built"
            return
        yield from _misplaced(folder, "cpython-" + runtime.removeprefix("python").replace(".", ""))
    for name in FUNCTIONS:
        if (together := size(build / name) + size(build / LAYER)) > MOST_BYTES:
            yield f"{name} with its layer has {together:,} bytes unzipped; {MOST_BYTES:,} is the bound"
    present = {path.name.partition(".")[0] for path in layer.iterdir()}
    yield from (f"the layer carries {name}" for name in STRANGERS if name in present)
    sources = [*files(layer / "sluice"), *(path for name in FUNCTIONS for path in files(build / name))]
    for name in sorted(_imported(path for path in sources if path.suffix == ".py") - present):
        yield f"the code imports {name}, which the layer does not carry"


def _misplaced(folder: Path, tag: str) -> Iterator[str]:
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        if _WASTE.search(name):
            yield f"{folder.name} carries {name}"
        elif path.suffix == ".pyc" and ((found := _BYTECODE.search(name)) is None or found[2] != tag):
            yield f"{folder.name} carries bytecode of another interpreter: {name}"


def _imported(sources: Iterable[Path]) -> set[str]:
    """The packages that the sources import, but for the standard library and the doors' own modules."""
    names: set[str] = set()
    own = set()
    for path in sources:
        own.add(path.stem)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - own - set(sys.stdlib_module_names)


def main(build: Path, runtime: str) -> int:
    wrong = list(faults(build, runtime))
    for line in wrong:
        print(f"sluice: {line}", file=sys.stderr)
    if wrong:
        return 1
    layer, bytecode = size(build / LAYER), any(path.suffix == ".pyc" for path in files(build / LAYER))
    for name in FUNCTIONS:
        print(
            f"{name:<8}{size(build / name) / 1e6:7.2f} MB, with its layer {(size(build / name) + layer) / 1e6:5.1f} MB unzipped"
        )
    print(f"the bound is {MOST_BYTES / 1e6:.0f} MB; {'with' if bytecode else 'WITHOUT'} bytecode of {runtime}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
