"""Tables that commands put into pages."""

from pathlib import Path

import pytest

from benchmarks import page

MARKED = "before\n<!-- one: begin -->\nold\n<!-- one: end -->\nafter\n"


def test_a_table_is_as_wide_as_its_widest_cells() -> None:
    assert page.table([("a", "bb"), ("ccc", "d")]) == "| a   | bb |\n|-----|----|\n| ccc | d  |"


def test_what_was_written_is_read_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(MARKED)
    assert page.read(file, "one") == "old"
    page.write(file, "one", "new\nlines")
    once = file.read_text()
    assert page.read(file, "one") == "new\nlines"
    assert (once.startswith("before\n<!-- one"), once.endswith("end -->\nafter\n")) == (True, True)
    page.write(file, "one", "new\nlines")
    assert file.read_text() == once


@pytest.mark.parametrize(
    "text", ["", MARKED.replace("end", "END"), MARKED * 2, "<!-- one: end --> <!-- one: begin -->"]
)
def test_a_page_without_its_two_marks_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    with pytest.raises(ValueError, match="marks of one"):
        page.write(file, "one", "new")
    assert file.read_text() == text
