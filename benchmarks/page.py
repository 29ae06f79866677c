"""What a command printed, held in a page between two marks: the page never says what the command does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def read(page: Path, name: str) -> str:
    """What stands between the marks of `name`. Raises ValueError where there are none."""
    return _parts(page, name)[1].strip("\n")


def write(page: Path, name: str, text: str) -> None:
    """Puts `text` there in its place."""
    before, _, after = _parts(page, name)
    page.write_text(f"{before}\n\n{text}\n\n{after}", encoding="utf-8")


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    whole, begin, end = page.read_text(encoding="utf-8"), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise ValueError(f"{page} has not the two marks of {name}: {begin} and {end}")
    before, rest = whole.split(begin)
    between, after = rest.split(end)
    return before + begin, between, end + after
