"""What passes from a provider to a client of its own format, and what never does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice import dialects
from sluice.errors import ErrorKind, ProviderError
from sluice.pipeline import passing
from sluice.pipeline.passing import MOST_HEADER_BYTES, shown
from sluice.types import Attempt, Channel, Secret, attempts_told

CHANNEL = Channel("c", "openai", "c", ("m",), secret=Secret("sk-very-secret"), endpoint="https://in.house.example/v1")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()


def error(message: Any, kind: ErrorKind = "rate_limit", **beside: Any) -> ProviderError:
    body = json.dumps({"error": {"message": message}, **beside}).encode()
    return passing.hide(ProviderError(kind, status=429, body=body), CHANNEL)


@pytest.mark.parametrize("name", sorted(dialects.available()))
def test_the_page_lists_the_headers_a_dialect_shows(name: str) -> None:
    shows = dialects.shown_by(dialects.load(name))
    line = f"| `{name}` | {', '.join(f'`{one}`' for one in shows)} |"
    assert (line in PAGE.splitlines()) == bool(shows)


def test_only_listed_headers_are_shown_and_none_that_hold_a_secret() -> None:
    told = {"a-limit": "1", "a-key": "sk-very-secret", "b": "2", "bb": "3", "set-cookie": "x"}
    assert passing.shown(told, ("a-*", "b"), passing.telling(CHANNEL)) == {"a-limit": "1", "b": "2"}
    assert passing.shown(told, (), ()) == {}


@pytest.mark.parametrize("name", sorted(dialects.available()))
def test_no_dialect_shows_whose_account_it_is(name: str) -> None:
    owners = ("anthropic-organization-id", "openai-organization", "openai-project", "set-cookie", "x-request-id")
    assert passing.shown(dict.fromkeys(owners, "x"), dialects.shown_by(dialects.load(name)), ()) == {}


@pytest.mark.parametrize(
    "message",
    [
        "Overloaded",
        "This request would exceed your organization's rate limit of 20,000 input tokens per minute.",
        "Resource has been exhausted (e.g. check quota).",
        "Please retry after 7 seconds. See https://docs.example/rate-limits.",
        "The model is at capacity; projects that can wait should.",
    ],
)
def test_an_error_that_tells_nothing_of_the_account_passes_to_the_byte(message: str) -> None:
    met = error(message, request_id="3f2b9c1e-aaaa-4bbb-8ccc-1234567890ab")
    assert passing.as_said(met) == (429, met.body)


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached in organization org-Ab12Cd34 on tokens per min.",
        "Limit of 3f2b9c1e-aaaa-4bbb-8ccc-1234567890ab reached.",
        "Quota exceeded for consumer 'project_number:123456789012'.",
        "Your account is too new.",
        "Add credits at our site.",
        "Ask ops@in.house.example.",
        "The key sk-…cret is too fast.",
        "sk-very-secret",
        "https://in.house.example/v1/chat/completions did not answer",
        "connect to 10.1.2.3:8000 failed",
        'Traceback (most recent call last): File "/srv/a.py"',
        ["nested", {"user": "user_2aBcDeFgH"}],
    ],
)
def test_an_error_that_tells_of_the_operator_does_not(message: Any) -> None:
    assert passing.as_said(error(message)) is None


@pytest.mark.parametrize("kind", ["auth", "quota", "permission", "model_not_found"])
def test_what_is_about_the_channel_does_not_pass(kind: ErrorKind) -> None:
    assert passing.as_said(error("No.", kind)) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"{", b'"x"'])
def test_what_is_no_object_does_not_pass(body: bytes) -> None:
    assert passing.as_said(ProviderError("server", status=500, body=body)) is None


def test_a_provider_cannot_make_the_headers_larger_than_a_host_takes() -> None:
    given = {
        "openai-version": "9" * 20_000,
        **{f"x-ratelimit-{n:03}": "v" * 900 for n in range(60)},
        "x-ratelimit-z": "1",
    }
    passed = shown(given, ("openai-version", "x-ratelimit-*"), ())
    assert sum(len(name) + len(value) for name, value in passed.items()) <= MOST_HEADER_BYTES
    assert "openai-version" not in passed
    assert 2 < len(passed) < 60


def test_many_attempts_are_told_by_their_last() -> None:
    told = attempts_told([Attempt(f"channel-{n}", "overloaded", 503) for n in range(100)])
    assert told.startswith("...,channel-70=overloaded/503,")
    assert told.endswith(",channel-99=overloaded/503")
    assert attempts_told([Attempt("a", "ok")]) == "a=ok"
