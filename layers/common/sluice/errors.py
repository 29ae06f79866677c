"""Level 0: everything that can go wrong, as one tree.

SluiceError                      status, code, type, message, param, retry_after
 ├─ BadRequest              400  the client's body or parameters; names the field
 ├─ Unauthorized            401  no key, unknown, revoked or expired key
 ├─ InsufficientQuota       402  the wallet does not cover the request
 ├─ Forbidden               403  this key may not do that
 ├─ NotFound                404  no such thing, or not yours
 │   └─ ModelNotFound       404  no channel serves this model for this group
 ├─ Conflict                409  the thing exists already, or changed under you
 ├─ TooLarge                413  a body over the cap
 ├─ RateLimited             429  a limit of ours
 ├─ UpstreamFailed          4xx/5xx  every channel was tried; says what each attempt met
 └─ Unavailable             503  a part of ours is down (the ledger): never free, never 401

ProviderError                    what one attempt met at a provider; never leaves by itself
 └─ Unreadable                   a frame of no known shape
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sluice.types import Attempt


class SluiceError(Exception):
    """An error a client sees. `code` is stable; `type` is OpenAI's; `retry_after` is in seconds."""

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.attempts: tuple[Attempt, ...] = ()
        self.native: tuple[int, bytes] | None = None
        """Status and body as the provider said them, where the client speaks that provider's own format."""
        self.headers: Mapping[str, str] = {}
        """What the client may see of the provider's headers, where it speaks that format."""
        self.is_quoted = False
        """Whether `code` is a provider's own word, which may quote what it was asked: for the client, and no log line."""
        if code:
            self.code = code


class BadRequest(SluiceError):
    status, code, type = 400, "invalid_request", "invalid_request_error"


class Unauthorized(SluiceError):
    status, code, type = 401, "invalid_api_key", "invalid_request_error"


class InsufficientQuota(SluiceError):
    status, code, type = 402, "insufficient_quota", "insufficient_quota"


class Forbidden(SluiceError):
    status, code, type = 403, "forbidden", "invalid_request_error"


class NotFound(SluiceError):
    status, code, type = 404, "not_found", "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(SluiceError):
    status, code, type = 409, "conflict", "invalid_request_error"


class TooLarge(SluiceError):
    status, code, type = 413, "request_too_large", "invalid_request_error"


class RateLimited(SluiceError):
    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class Unavailable(SluiceError):
    status, code, type = 503, "unavailable", "server_error"


ErrorKind = Literal[
    "invalid_request",
    "unsupported",
    "context_length",
    "content_filter",
    "auth",
    "permission",
    "model_not_found",
    "quota",
    "rate_limit",
    "overloaded",
    "server",
    "timeout",
    "network",
]

CLIENT_FAULT: frozenset[str] = frozenset({"invalid_request", "context_length", "content_filter"})
RETRY_SAME: frozenset[str] = frozenset({"rate_limit", "network", "overloaded", "server", "timeout"})
MARKS_CHANNEL: frozenset[str] = frozenset({"auth", "quota", "permission", "model_not_found"})


class ProviderError(Exception):
    """What one attempt met. `kind` alone decides retry, failover, the mark on the channel and the client's status.

    "unsupported" is an adapter's own: this provider has no place for a field whose loss would change the meaning; another
    channel may have one.

    `message` may be the provider's own sentence and may only reach the client for `CLIENT_FAULT` kinds. `retry_after` is
    in seconds. `status` is the provider's, 0 where there was none. `body` is the provider's own error body, for the
    same-dialect pass-through: `native` is whether the client speaks the format it is in, `headers` what of the provider's it may
    see then, and `redacted` whether the body told what only the operator may know.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str = "",
        *,
        status: int = 0,
        code: str = "",
        param: str | None = None,
        retry_after: float | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind: ErrorKind = kind
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.body = body
        self.headers: Mapping[str, str] = {}
        self.native = False
        self.redacted = False


class Unreadable(ProviderError):
    """A frame whose values have other types than its protocol says. `__cause__` is what tripped over them."""

    def __init__(self) -> None:
        super().__init__("server", "the provider's answer could not be read")


class UpstreamFailed(SluiceError):
    """No channel gave an answer. `attempts` says what each one met."""

    status, code, type = 502, "upstream_failed", "server_error"

    def __init__(
        self, message: str, attempts: tuple[Attempt, ...], *, status: int, code: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
        self.attempts = attempts
        self.status = status
        if status == 429:
            self.type = "rate_limit_error"
