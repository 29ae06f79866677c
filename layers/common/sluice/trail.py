"""Level 1: what is known of the request under way, for its log lines, and its place in a distributed trace.

A `Trail` belongs to one request and is found by whatever runs for it, in any task or thread. W3C Trace Context is followed
(https://www.w3.org/TR/trace-context/, and `traceresponse` of its level 2); where a client sends none, AWS X-Ray's header
(`Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0|1`) says the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

Bits = Callable[[int], int]
"""`random.Random.getrandbits`, or what stands for it."""

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_XRAY_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_SAMPLED, _NOT_SAMPLED = "01", "00"
_STATE_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_STATE_MEMBER = re.compile(_STATE_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_STATE = 32
_LONGEST_STATE = 512


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request stands in a trace: 32 hex digits, 16 hex digits of this gateway's own span, 2 of flags; `state` is
    the caller's `tracestate`, "" where there is none that can be passed on."""

    trace_id: str
    span_id: str
    flags: str = _SAMPLED
    state: str = ""

    def parent(self, span_id: str) -> str:
        """`traceparent` (and `traceresponse`) naming `span_id`."""
        return f"00-{self.trace_id}-{span_id}-{self.flags}"


@dataclass(slots=True)
class Trail:
    """One request as its log lines tell it. `user` and `key_id` are ids; `model` is set once it is known to be one of ours.

    `remembered` says whether the key was known without asking the database, `taken` that its line is another's to write.
    """

    request_id: str
    trace: Trace
    bits: Bits
    user: str = ""
    key_id: str = ""
    model: str = ""
    error: str = ""
    remembered: bool | None = None
    taken: bool = False


_under_way: ContextVar[Trail | None] = ContextVar("trail", default=None)


def begin(request_id: str, headers: Mapping[str, str], bits: Bits) -> Trail:
    """The trail of a request that just came; `headers` has lower-case or case-blind names."""
    trail = Trail(request_id, trace_of(headers, bits), bits)
    _under_way.set(trail)
    return trail


def under_way() -> Trail | None:
    """The trail of the request that this runs for; None where it runs for none."""
    return _under_way.get()


def note_caller(user: str, key_id: str) -> None:
    if trail := _under_way.get():
        trail.user, trail.key_id = user, key_id


def note_remembered(remembered: bool) -> None:
    if trail := _under_way.get():
        trail.remembered = remembered


def note_model(model: str) -> None:
    if trail := _under_way.get():
        trail.model = model


def note_error(code: str) -> None:
    if trail := _under_way.get():
        trail.error = code


def note_taken() -> None:
    """From here on the request's line is written by the caller of this, once it has ended."""
    if trail := _under_way.get():
        trail.taken = True


def passed_on() -> dict[str, str]:
    """The headers that tell a provider of the trace, each time under a span of its own; none outside a request."""
    trail = _under_way.get()
    if trail is None:
        return {}
    headers = {"traceparent": trail.trace.parent(_span(trail.bits))}
    return {**headers, "tracestate": trail.trace.state} if trail.trace.state else headers


def trace_of(headers: Mapping[str, str], bits: Bits) -> Trace:
    """The caller's trace, or a new one where it named none or none that is valid."""
    return _from_w3c(headers, bits) or _from_xray(headers, bits) or Trace(f"{bits(128) or 1:032x}", _span(bits))


def _from_w3c(headers: Mapping[str, str], bits: Bits) -> Trace | None:
    found = _PARENT.fullmatch(headers.get("traceparent", "").strip())
    # Only a version that is not known yet may say more than four parts.
    if not found or (found[1] == "00" and found[5]):
        return None
    flags = _SAMPLED if int(found[4], 16) & 1 else _NOT_SAMPLED
    return Trace(found[2], _span(bits), flags, _state(headers.get("tracestate", "")))


def _from_xray(headers: Mapping[str, str], bits: Bits) -> Trace | None:
    parts = dict(part.strip().partition("=")[::2] for part in headers.get("x-amzn-trace-id", "").split(";"))
    root = _XRAY_ROOT.fullmatch(parts.get("Root", ""))
    if not root or not int(root[1] + root[2], 16):
        return None
    return Trace(root[1] + root[2], _span(bits), _NOT_SAMPLED if parts.get("Sampled") == "0" else _SAMPLED)


def _state(given: str) -> str:
    """The caller's `tracestate` where it is valid: it goes out as a header, so that nothing else may be in it."""
    members = [member.strip(" \t") for member in given.split(",")]
    told = [member for member in members if member]
    names = [member.partition("=")[0] for member in told]
    if len(told) > _MOST_STATE or len(set(names)) < len(names) or not all(map(_STATE_MEMBER.fullmatch, told)):
        return ""
    while len(",".join(told)) > _LONGEST_STATE:
        told.pop()
    return ",".join(told)


def _span(bits: Bits) -> str:
    return f"{bits(64) or 1:016x}"
