"""No log line of the whole test run holds a key, a prompt or an answer: a plugin of the tests that hears every line and greps it.

Heard is what would leave a process: the package's own lines at every level, as they are written, and others' warnings. Looked for
is whatever has the shape of a key of ours, every `Secret` that a test makes, and what was said to `forbid`.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sluice.types import Secret
from sluice.wiring import JsonLines

KEY_SHAPE = re.compile(r"sk-[A-Za-z0-9_-]{20,}")
_SHORTEST = 12
_PART = 20
_OWN = ("sluice", "runner")


class Canary:
    """What was heard so far, and what must not be in it. A text too short or too plain to be told from chance is let pass."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, str]] = []
        self._always: set[str] = set()
        """What modules and fixtures of a session forbade."""
        self._forbidden = self._always
        self._before: tuple[set[str], list[tuple[str, str]]] = set(), []
        """What the test before forbade and heard: a task of its may speak late, and a word be forbidden late. Everybody's words
        against everybody's lines would take hours."""

    def forbid(self, text: str) -> None:
        if len(text) >= _SHORTEST and len(set(text)) > 5 and not KEY_SHAPE.fullmatch(text):
            self._forbidden |= {
                json.dumps(one, ensure_ascii=False)[1:-1] for one in (text, *_ends(text), _encoded(text))
            }
            self._forbidden.add(text)

    def forbid_sentences(self, said: Any) -> None:
        """Every text in a JSON value that is more than a word: of a prompt or an answer, and not a name or a type."""
        if isinstance(said, str):
            if " " in said.strip():
                self.forbid(said)
        elif isinstance(said, dict | list | tuple):
            for one in said.values() if isinstance(said, dict) else said:
                self.forbid_sentences(one)

    def forbid_script(self, script: str) -> None:
        """The text that a script of the scripted upstream answers with."""
        for part in script.split(","):
            if part.startswith("text="):
                self.forbid(unquote(part.removeprefix("text=")))

    def hear(self, where: str, line: str) -> None:
        self._heard.append((where, line))

    def hear_file(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            self.hear(path.name, line)

    def leaks(self) -> list[str]:
        words, lines = self._before
        late = _found(self._forbidden - words, lines)
        everything = "\n".join(line for _, line in self._heard)
        keys = set(KEY_SHAPE.findall(everything))
        return [*late, *_found(self._always | self._forbidden | words | keys, self._heard)]

    def new_leaks(self) -> list[str]:
        """The leaks of what was heard since this was asked last, which is then forgotten."""
        found = self.leaks()
        self._before = self._forbidden, self._heard
        self._heard, self._forbidden = [], self._always
        return found

    def begin(self) -> None:
        """A test begins: what is forbidden from here on is its own."""
        self._forbidden = set()


def _found(words: Iterable[str], lines: list[tuple[str, str]]) -> list[str]:
    everything = "\n".join(line for _, line in lines)
    found = [word for word in words if word in everything] if everything else []
    return [f"{where}: {word!r} is in {line}" for where, line in lines for word in found if word in line]


def _ends(text: str) -> tuple[str, ...]:
    """The beginning and the end of a long text: a line may hold a part of it."""
    parts = (text[:_PART], text[-_PART:]) if len(text) >= 2 * _PART else ()
    return tuple(one for one in parts if len(set(one)) > 8)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode().rstrip("=")[:-2]


CANARY = Canary()


def _hear_all() -> None:
    handle, written = logging.Logger.handle, JsonLines("canary")

    @wraps(handle)
    def heard(self: logging.Logger, record: logging.LogRecord) -> None:
        if record.name.startswith(_OWN) or record.levelno >= logging.WARNING:
            CANARY.hear(record.name, written.format(record))
        handle(self, record)

    logging.Logger.handle = heard  # type: ignore[method-assign]


def _watch_secrets() -> None:
    make = Secret.__init__

    @wraps(make)
    def made(self: Secret, value: str) -> None:
        make(self, value)
        CANARY.forbid(value)

    Secret.__init__ = made  # type: ignore[method-assign]


def pytest_configure() -> None:
    _hear_all()
    _watch_secrets()


@pytest.fixture(scope="session", autouse=True)
def canary() -> Iterator[Canary]:
    """At the end, what no test waited for."""
    yield CANARY
    _fail_for(CANARY.leaks())


@pytest.fixture(autouse=True)
def _no_line_leaks(canary: Canary) -> Iterator[None]:
    canary.begin()
    yield
    _fail_for(canary.new_leaks())


def _fail_for(leaks: list[str]) -> None:
    if leaks:
        pytest.fail("a log line holds what it must not:\n" + "\n".join(leaks[:10]), pytrace=False)
