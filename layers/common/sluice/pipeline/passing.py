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

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}")
"""What a secret may say after its "@" of where to ask: no secret, and a word of many sentences."""

_OWNERS = r"(?:organi[sz]ation|org|account|billing account|project|workspace|team|tenant|subscription)"
_NAMES = re.compile(
    # An identifier by its beginning; where that also begins ordinary words, only with a digit or a capital in it.
    r"\b(?:org-|acct[-_]|wrkspc[-_])\w{5,}"
    r"|\b(?:org|proj|project|user|key|team|workspace|tenant|account)[-_](?=\w*(?-i:[A-Z0-9]))[A-Za-z0-9]{5,}"
    # A name after what it is the name of.
    rf"|\b{_OWNERS}s? ?\([^()]*\)"
    rf"|\b{_OWNERS}:? (?-i:[A-Z])[\w&.-]*(?: (?-i:[A-Z])[\w&.-]*)*"
    rf"|\b{_OWNERS}(?:\s*[:=]\s*|\s)(?:'[^']+'|\"[^\"]+\"|`[^`]+`)"
    rf"|\b(?:{_OWNERS}|user|key|customer)[_ ](?:id|name|number)"
    r"(?:\\?['\"]\s*:\s*\\?['\"][^'\"\\]+|(?:\s?[:=]\s?|\s)(?=\S*\d)[\w.-]+)"
    r"|\bproject\w*[ :/'=]+\d{5,}|\b\d{12}\b|\barn:[\w-]+:[^\s'\"<>,;()]+"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|[\w.+-]{0,64}@[\w-]+(?:\.\w[\w-]*)+"
    # Keys, and machines.
    r"|\bsk-\S+|\bAIza\S+|\b(?-i:A[KS]IA[A-Z0-9]{12,})\b|\bBearer \S+"
    r"|\b(?:10|127|192\.168|172\.\d+)(?:\.\d+){2,3}(?::\d+)?\b|\blocalhost\b(?::\d+)?|\bTraceback\b.*|File \"[^\"]*",
    re.IGNORECASE | re.DOTALL,
)
"""Forms of names by which an account, or a machine, is told."""
_WORDS = re.compile(r"\b(?:account|billing|credits?|balance|subscription|invoice|pricing tier)\b", re.IGNORECASE)
"""Words that are about an account, whosever."""
_OF_THE_ACCOUNT = re.compile(
    r"(?:org(?:ani[sz]ation)?|project|account|acct|workspace|team|tenant|subscription|customer|owner|consumer|user|billing)"
    r"(?:_?(?:id|name|number|slug|title|email|arn))?"
    r"|(?:api_?)?key_?(?:id|name|hint|alias)|api_?key|email|principal|arn",
    re.IGNORECASE,
)
"""Fields whose names mean an account, whatever is in them."""
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

    It has to be an object, not about the channel's key, quota or models, and tell nothing of the account: a fault of the
    client's is held to that as any other.
    """
    if error.redacted or error.kind in MARKS_CHANNEL:
        return None
    try:
        told = orjson.loads(error.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(told, Mapping):
        return None
    tells = any(_NAMES.search(text) or _WORDS.search(text) for text in _texts(told))
    return None if tells or _owned(told) else (error.status, error.body)


def nameless(sentence: str) -> str:
    """A provider's sentence without the names of its account: what it says of the request is left."""
    return _NAMES.sub("…", sentence)


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
    parts = [secret, *(part for part in re.split(r"[:@\s]", _placeless(secret)) if len(part) >= _TELLING_LENGTH)]
    address = channel.endpoint.partition("?")[0]
    places = [address, address.replace("/", "\\/"), urlsplit(address).netloc]
    return [text for text in (*parts, *places) if text]


def is_object(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _placeless(secret: str) -> str:
    """The secret without the region it may end in."""
    before, _, place = secret.rpartition("@")
    return before if _REGION.fullmatch(place) else secret


def _owned(value: Any) -> bool:
    """Whether a field of the account's says anything."""
    if isinstance(value, list):
        return any(map(_owned, value))
    if not isinstance(value, Mapping):
        return False
    return any((_says(inner) and _OF_THE_ACCOUNT.fullmatch(name)) or _owned(inner) for name, inner in value.items())


def _says(value: Any) -> bool:
    return bool(value) and not isinstance(value, bool)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from () if name in _OF_THE_REQUEST else _texts(inner)
