"""AWS's Signature Version 4: in an `authorization` header, for a body that is signed whole, or in the query of an address.

Source: "Create a signed AWS API request" in the IAM user guide, and its published test suite; compared with botocore's signers
in the tests. The path is given as it is sent, already percent-encoded, and is encoded once more to be signed: every service but
S3 does that, and a model's ARN shows who forgot it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_PLAIN = "-_.~"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str
    session_token: str = ""


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: Credentials,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """`headers`, lower-case names, with those that sign the request. `now` is in epoch seconds."""
    at, scope = _when(now), _scope(now, region, service)
    out = {**headers, "host": urlsplit(url).netloc, "x-amz-date": at}
    if credentials.session_token:
        out["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(out))
    canonical = "\n".join((method, *_target(url), _headers(out), names, hashlib.sha256(body).hexdigest()))
    signature = _signature(canonical, at, scope, credentials)
    out["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return out


def presigned(url: str, *, credentials: Credentials, region: str, service: str, now: float, seconds: int) -> str:
    """`url` with what signs a GET of it, without a body, for `seconds` from `now`, which is in epoch seconds.

    The host alone is signed beside path and query.
    """
    at, scope = _when(now), _scope(now, region, service)
    split = urlsplit(url)
    parameters = [
        *_query(split.query),
        ("X-Amz-Algorithm", _ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key}/{scope}"),
        ("X-Amz-Date", at),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if credentials.session_token:
        parameters.append(("X-Amz-Security-Token", credentials.session_token))
    whole = urlunsplit(split._replace(query=urlencode(parameters, safe=_PLAIN, quote_via=quote)))
    host = _headers({"host": split.netloc})
    canonical = "\n".join(("GET", *_target(whole), host, "host", hashlib.sha256(b"").hexdigest()))
    return f"{whole}&X-Amz-Signature={_signature(canonical, at, scope, credentials)}"


def _when(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def _scope(now: float, region: str, service: str) -> str:
    return f"{_when(now)[:8]}/{region}/{service}/aws4_request"


def _signature(canonical: str, at: str, scope: str, credentials: Credentials) -> str:
    to_sign = "\n".join((_ALGORITHM, at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _target(url: str) -> tuple[str, str]:
    """Canonical path and query."""
    split = urlsplit(url)
    pairs = sorted((quote(name, safe=_PLAIN), quote(value, safe=_PLAIN)) for name, value in _query(split.query))
    return quote(split.path or "/", safe=f"/{_PLAIN}"), "&".join(f"{name}={value}" for name, value in pairs)


def _query(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _headers(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
