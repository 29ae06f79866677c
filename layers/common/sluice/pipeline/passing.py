"""What passes from a provider to a client of its own format, beside the answer: some headers, and errors as they were said.

The gateway asks with the operator's account. Nothing passes that tells whose that is, where it is asked, or with what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from sluice.errors import MARKS_CHANNEL, ProviderError
from sluice.types import Channel

_TELLING_LENGTH = 8
"""A part of a secret shorter than this is no secret, and may stand in any sentence."""

MOST_HEADER_BYTES = 8_192
"""All headers of an answer have to fit into 16,000 bytes on AWS, ours among them."""

_ACCOUNT = re.compile(
    r"\b(?:account|billing|credits?|balance|subscription|invoice|pricing tier)\b"
    r"|\b(?:org|proj|project|acct|user|key|team|wrkspc|workspace|tenant)[-_][A-Za-z0-9]{5,}"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|\bproject\w*[ :/]+\d{5,}|\bsk-\S|\bAIza\S|@[\w-]+\.\w"
    r"|\b(?:10|127|192\.168|172\.\d+)(?:\.\d+){2,3}\b|\blocalhost\b|\bTraceback\b|File \"",
    re.IGNORECASE,
)
"""Words and forms of names by which an account, or a machine, is told."""
_OF_THE_REQUEST = frozenset({"request_id", "requestId", "id", "event_id", "@type"})
"""Fields whose names mean one request and nobody's account."""


def shown(headers: Mapping[str, str], allowed: Sequence[str], hidden: Iterable[str]) -> dict[str, str]:
    """The provider's headers that `allowed` names, "name" or "beginning-*", but for those that hold a `hidden` text or do not fit."""
    secrets, room, passed = tuple(hidden), MOST_HEADER_BYTES, {}
    for name, value in headers.items():
        is_allowed = any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in allowed)
        fits = len(name) + len(value) <= room
        if is_allowed and fits and not any(text in value for text in secrets):
            passed[name] = value
            room -= len(name) + len(value)
    return passed


def as_said(error: ProviderError) -> tuple[int, bytes] | None:
    """Status (0 where it came inside a stream) and body of an error that may pass as it is; None of any other.

    It has to be an object, not about the channel's key, quota or models, and tell nothing of the account.
    """
    if error.redacted or error.kind in MARKS_CHANNEL:
        return None
    try:
        told = orjson.loads(error.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(told, Mapping):
        return None
    return None if any(map(_ACCOUNT.search, _texts(told))) else (error.status, error.body)


def hide(error: ProviderError, channel: Channel) -> ProviderError:
    """`error` without the channel's secret and address, which some providers repeat."""
    for text in telling(channel):
        error.redacted = error.redacted or text.encode() in error.body
        error.message = error.message.replace(text, "…")
        error.body = error.body.replace(text.encode(), "…".encode())
    return error


def telling(channel: Channel) -> list[str]:
    """The secret, whole and in its parts, and the endpoint, as it is and as JSON may escape it."""
    secret = channel.secret.reveal()
    parts = [secret, *(part for part in re.split(r"[:@\s]", secret) if len(part) >= _TELLING_LENGTH)]
    address = channel.endpoint.partition("?")[0]
    places = [address, address.replace("/", "\\/"), urlsplit(address).netloc]
    return [text for text in (*parts, *places) if text]


def is_object(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from () if name in _OF_THE_REQUEST else _texts(inner)
