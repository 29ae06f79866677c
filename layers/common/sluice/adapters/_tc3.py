"""Tencent Cloud's TC3-HMAC-SHA256. Source: "Signature v3" of its API documentation; compared with its own SDK in the tests."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime


def authorization(
    body: bytes, *, host: str, content_type: str, service: str, secret_id: str, secret_key: str, now: int
) -> str:
    """The `authorization` of a POST to "/". `now` is the timestamp that is sent too, in epoch seconds; its day is UTC's.

    `content_type` has to be, byte for byte, what is sent.
    """
    names = "content-type;host"
    canonical = f"POST\n/\n\ncontent-type:{content_type}\nhost:{host}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{datetime.fromtimestamp(now, UTC).strftime('%Y-%m-%d')}/{service}/tc3_request"
    to_sign = f"TC3-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"TC3{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders={names}, Signature={signature}"
