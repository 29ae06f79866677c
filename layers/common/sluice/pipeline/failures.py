"""What a client is told when its request failed at the providers: one error, whatever and how often it was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sluice.errors import BadRequest, ProviderError, SluiceError, UpstreamFailed
from sluice.pipeline import passing
from sluice.types import Attempt

_EXHAUSTED: Mapping[str, tuple[int, str]] = {
    "rate_limit": (429, "rate_limit_exceeded"),
    "overloaded": (503, "upstream_overloaded"),
    "timeout": (504, "upstream_timeout"),
    "network": (502, "upstream_unreachable"),
    "server": (502, "upstream_failed"),
    "auth": (502, "upstream_refused"),
    "permission": (502, "upstream_refused"),
    "model_not_found": (502, "upstream_refused"),
    "quota": (503, "upstream_quota"),
}


def client_fault(error: ProviderError) -> SluiceError:
    """The request is at fault, and only the provider's words say how: all of them in the client's own format, or its sentence."""
    code = {"context_length": "context_length_exceeded", "content_filter": "content_filter"}.get(error.kind)
    message = passing.nameless(error.message) or "The provider refused the request as invalid."
    param = error.param and passing.nameless(error.param)
    fault = BadRequest(message, param=param, code=code or error.code or "invalid_request")
    fault.is_quoted = code is None and bool(error.code)
    return _as_said(fault, [error])


def broken(error: ProviderError) -> SluiceError:
    """An answer that had begun and broke off."""
    message = f"The provider broke off the answer ({error.kind}). What came of it is charged; nothing else is."
    return _as_said(UpstreamFailed(message, (), status=502, code="upstream_broken"), [error])


def out_of_time(*, begun: bool) -> SluiceError:
    """The host is about to end the process; `begun`: the client has some of the answer."""
    if begun:
        message = "The answer took longer than this gateway may run: it ends here and is charged as far as it came."
    else:
        message = "No answer came within the time this gateway may run. You were not charged."
    return UpstreamFailed(f"{message} Ask for less at once.", (), status=504, code="deadline_exceeded")


def exhausted(errors: Sequence[ProviderError], attempts: Sequence[Attempt]) -> SluiceError:
    """One error for all attempts: their kinds and statuses, not their channels' keys, endpoints or words.

    Where all of them came in the client's own format, and the last tells nothing of the account, it is that one as it was said.
    """
    kinds = {error.kind for error in errors}
    if kinds == {"unsupported"}:
        return BadRequest(errors[0].message, param=errors[0].param, code="unsupported_parameter")
    status, code = _EXHAUSTED[kinds.pop()] if len(kinds) == 1 else (502, "upstream_failed")
    met = "; ".join(
        f"attempt {number}: {attempt.kind}" + (f" ({attempt.status})" if attempt.status else "")
        for number, attempt in enumerate(attempts, 1)
    )
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    message = f"No channel could answer ({met}). You were not charged. Try again later."
    failed = UpstreamFailed(message, tuple(attempts), status=status, code=code, retry_after=min(waits, default=None))
    return _as_said(failed, errors)


def _as_said(failure: SluiceError, errors: Sequence[ProviderError]) -> SluiceError:
    """`failure`, in the last provider's own words where all of them spoke the client's format, and these may pass."""
    if errors and all(error.native for error in errors) and (said := passing.as_said(errors[-1])):
        failure.native, failure.headers = (said[0] or failure.status, said[1]), errors[-1].headers
    return failure
