"""What passes from a provider to a client of its own format, and what never does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sluice import dialects
from sluice.errors import ErrorKind, ProviderError
from sluice.pipeline import failures, passing
from sluice.pipeline.passing import MOST_HEADER_BYTES, shown
from sluice.types import Attempt, Channel, Secret, attempts_told

CHANNEL = Channel("c", "openai", "c", ("m",), secret=Secret("sk-very-secret"), endpoint="https://in.house.example/v1")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "crossings.md").read_text()


TELLING = [
    (
        "Your organization org-SECRETORG must be verified to use Project proj_ABCDEFG.",
        "Your organization … must be verified to use Project ….",
    ),
    ("Not for user-xyz12345 (billing@acme.com): use another tool.", "Not for … (…): use another tool."),
    ("wrkspc_01ABCDEFG takes no images.", "… takes no images."),
    ("arn:aws:iam::123456789012:role/AcmeProd, say less.", "…, say less."),
    ("Account 123456789012 has no such tool: f.", "Account … has no such tool: f."),
    ("This is the rate limit for your organization (Acme Corp).", "This is the rate limit for your …."),
    ("The organization Acme Corp takes no `seed`.", "The … takes no `seed`."),
    ("The workspace 'acme prod' takes no `seed`.", "The … takes no `seed`."),
    ('{"organization_id":"Acme-Corp"} takes no `seed`.', '{"…"} takes no `seed`.'),
    ("project_id: acme-12345 takes no `seed`.", "… takes no `seed`."),
    ("The key sk-abcdef is for chat.", "The key … is for chat."),
]
"""What a provider said of a request's fault, and what of that is left where the names are taken out."""
ORDINARY = [
    'messages: roles must alternate between "user" and "assistant", but found multiple "user" roles in a row',
    "max_tokens: 200000 > 128000, which is the maximum allowed number of output tokens for the model",
    "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    "Invalid value for 'tool_choice': no tool `user_profile` or `get_account_balance` in `tools`; there is `key_lookup`.",
    "Invalid schema for function 'project_status': 'project' is not in 'properties', and 'team' is.",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 10031 tokens.",
    "Unsupported parameter: 'user-agent' is not supported with this model. See https://docs.example/key-value.",
    "The image at https://example.com/a.png could not be fetched: 404.",
    "metadata.user_id: Field required; project_id: Input should be a valid string",
    "temperature: range -1..1 (1700000000000)",
]


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
    owners += ("openai-model",)  # the name of a mapped model, which the client does not know
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
        *(told for told, _ in TELLING),
    ],
)
@pytest.mark.parametrize("kind", ["rate_limit", "invalid_request"])
def test_an_error_that_tells_of_the_operator_does_not(message: Any, kind: ErrorKind) -> None:
    assert passing.as_said(error(message, kind)) is None


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


@pytest.mark.parametrize("message", ORDINARY)
def test_an_ordinary_fault_of_the_clients_passes_to_the_byte(message: str) -> None:
    met = error(
        message, "invalid_request", type="error", request_id="req_011CSHoEeqs5C35K2UUqR7Fy", organization_id=None
    )
    assert passing.as_said(met) == (429, met.body)
    assert passing.nameless(message) == message


@pytest.mark.parametrize(("message", "left"), TELLING)
def test_a_fault_of_the_clients_is_told_without_the_names(message: str, left: str) -> None:
    met = ProviderError("invalid_request", message, body=json.dumps({"error": {"message": message}}).encode())
    met.native = True
    fault = failures.client_fault(passing.hide(met, CHANNEL))
    assert (fault.message, fault.native) == (left, None)


@pytest.mark.parametrize(
    "field",
    [
        *(
            "organization_id",
            "organization",
            "organizationId",
            "project_id",
            "project_number",
            "key_name",
            "account_id",
        ),
        *("account", "workspace_id", "tenant", "api_key_id", "user_id", "consumer", "keyName", "billing_email"),
    ],
)
@pytest.mark.parametrize("value", ["Acme", 12345, {"is": "Acme"}, ["Acme"]])
def test_a_field_of_the_accounts_is_not_passed_whatever_is_in_it(field: str, value: Any) -> None:
    assert passing.as_said(error("No.", "invalid_request", details=[{field: value}])) is None
    met = error("No.", "invalid_request", details=[{field: None}])
    assert passing.as_said(met) == (429, met.body)


def test_a_long_body_is_judged_to_its_end() -> None:
    """A pattern that goes back over what it has read would not come to it before the suite's own time is over."""
    met = error("a" * 10**6 + " at", "invalid_request")
    assert passing.as_said(met) is not None


@pytest.mark.parametrize("kind", ["rate_limit", "invalid_request"])
def test_the_secret_and_the_endpoint_are_in_nothing_that_is_left_of_an_error(kind: ErrorKind) -> None:
    said = "The key sk-very-secret is not for https://in.house.example/v1."
    met = ProviderError(kind, said, body=json.dumps({"error": {"message": said}}).encode())
    met.native = True
    hidden = passing.hide(met, CHANNEL)
    for secret in ("sk-very-secret", "in.house.example"):
        assert secret not in hidden.message
        assert secret.encode() not in hidden.body
    assert hidden.redacted
    assert failures.client_fault(hidden).native is None


def test_a_region_in_a_secret_is_none() -> None:
    secret = Secret("AKIAEXAMPLE1:very/secret/words:session-token@us-east-1")
    told = passing.telling(Channel("c", "bedrock", "c", ("m",), secret=secret))
    assert told == [secret.reveal(), "AKIAEXAMPLE1", "very/secret/words", "session-token"]
    met = ProviderError("invalid_request", "Not in us-east-1, says very/secret/words.")
    assert passing.hide(met, Channel("c", "bedrock", "c", ("m",), secret=secret)).message == "Not in us-east-1, says …."


@pytest.mark.parametrize("secret", ["ab@us-east-1-secret", "us-east-1@very-secret", "very-secret-1"])
def test_what_is_like_a_region_and_none_is_hidden(secret: str) -> None:
    told = passing.telling(Channel("c", "openai", "c", ("m",), secret=Secret(secret)))
    assert set(re.split("@", secret)) - {"ab"} <= set(told)
