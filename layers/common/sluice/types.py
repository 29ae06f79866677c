"""Level 0: the data every room of the house speaks in. No behaviour beyond its own shape, no I/O.

Money is `Nano`: an integer number of nano-dollars (1 USD = 10**9). Times are integer epoch seconds unless a name says
otherwise. The canonical chat request is OpenAI's chat.completions body; the canonical answer is a sequence of `Event`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

Nano = int
NANO_PER_USD = 10**9

Role = Literal["user", "admin"]
ChannelState = Literal["enabled", "disabled"]
UsageSource = Literal["provider", "counted", "none"]
EndReason = Literal["done", "client_gone", "upstream_cut", "upstream_error", "quota", "timeout", "deadline", "failed"]
EntryKind = Literal["credit", "hold", "extend", "settle", "release", "sweep"]
RateKind = Literal[
    "cached_input",
    "cache_write",
    "audio_input",
    "image_input",
    "audio_output",
    "per_image",
    "per_call",
    "per_second",
    "per_search",
    "per_million_characters",
]
RATE_KINDS: tuple[RateKind, ...] = get_args(RateKind)


class Secret:
    """A string that never prints itself: `str()` and `repr()` give `sk-…abcd`. Read it with `.reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        if len(self._value) < 12:
            return "…" if self._value else ""
        return f"{self._value[:3]}…{self._value[-4:]}"

    __str__ = __repr__


# --- who -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    """An account. `id` is also its tenant and the name of its wallet."""

    id: str
    username: str
    group: str = "default"
    role: Role = "user"
    state: Literal["active", "suspended"] = "active"
    created: int = 0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client key as stored: the SHA-256 of the key (hex) and a masked form, never the key itself.

    `models` empty means every model; `expires` 0 means never.
    """

    id: str
    user_id: str
    sha256: str
    masked: str
    name: str = ""
    models: frozenset[str] = frozenset()
    expires: int = 0
    state: Literal["active", "revoked"] = "active"
    created: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: what `identity.identify` makes of a bearer token."""

    user_id: str
    key_id: str
    username: str
    group: str
    role: Role
    models: frozenset[str] = frozenset()

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models


# --- where to --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to a provider. Smaller `priority` is tried first; `weight` 0 means drained.

    `type` names the adapter file; `retry` is how often the same channel is asked again after its first try;
    `groups` empty means every group; `mapping` turns the client's model name into the provider's.
    """

    id: str
    type: str
    name: str
    models: tuple[str, ...]
    priority: int = 0
    weight: int = 1
    state: ChannelState = "enabled"
    retry: int = 0
    secret: Secret = Secret("")
    endpoint: str = ""
    proxy: str = ""
    groups: tuple[str, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    """Another one after each change by an operator, which so lifts every mark: marks name it."""

    def serves(self, model: str, group: str) -> bool:
        return (
            self.state == "enabled"
            and self.weight > 0
            and model in self.models
            and (not self.groups or group in self.groups)
        )

    def upstream_model(self, model: str) -> str:
        return self.mapping.get(model, model)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens as decimals, valid from `valid_from`. `version` names this row in every receipt.

    `max_output` is the model's own cap on output tokens, 0 where unknown. `rates` hold what is not priced as plain text
    tokens: kinds of tokens in USD per million (a missing one costs as input or output do), and units in USD each
    (characters per million; a missing one is free).
    """

    model: str
    input: Decimal
    output: Decimal
    version: str = ""
    valid_from: int = 0
    max_output: int = 0
    rates: Mapping[RateKind, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a model. 0, "", () and None mean that it is not known.

    `context` and `max_output` are tokens; `input` and `output` name modalities: text, image, audio, video, file, embedding. `prices` is the
    provider's list, "input", "output" and the kinds of `Price.rates`: for an operator to look at, nothing is charged by it.
    """

    id: str
    name: str = ""
    owner: str = ""
    created: int = 0
    context: int = 0
    max_output: int = 0
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    tools: bool | None = None
    structured: bool | None = None
    reasoning: bool | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """One published version of everything routing needs: read whole, never half-changed.

    `described` holds what the operator says of models, by the name clients use.
    """

    version: int
    channels: tuple[Channel, ...]
    prices: Mapping[str, Price]
    described: Mapping[str, Model] = field(default_factory=dict)

    def serving(self, model: str, group: str) -> tuple[Channel, ...]:
        return tuple(c for c in self.channels if c.serves(model, group))

    def models(self, group: str) -> tuple[str, ...]:
        return tuple(sorted({m for c in self.channels for m in c.models if c.serves(m, group)}))


@dataclass(frozen=True, slots=True)
class SealedChannel:
    """A channel at rest: `channel.secret` is empty, `sealed` is what the vault made of it (empty: there is none)."""

    channel: Channel
    sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalog as stored. `prices` holds every row, past and coming; `data_key` is the vault's, wrapped by KMS."""

    version: int = 0
    channels: tuple[SealedChannel, ...] = ()
    prices: tuple[Price, ...] = ()
    data_key: bytes = b""
    models: tuple[Model, ...] = ()


# --- the request and its answer --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inbound:
    """A client's request as it came: body, headers (lower-case names), what its path and query said, and the path itself.

    A key that came in the query is not among it. `deadline` is when the host ends all work on it, in epoch seconds; None: never.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request in canonical form.

    `body` is an OpenAI chat.completions body with every unknown field kept. `dialect` names the client's format and `raw`
    is the client's own body in it: an adapter whose wire is that dialect sends `raw` and `headers` on untranslated.

    Beyond OpenAI's own fields the canonical body knows: on an assistant message `reasoning_content` (text) and
    `reasoning_details` (a list of {"type": "reasoning.text", "text", "signature"} and {"type": "reasoning.encrypted",
    "data"}, in the provider's order), on a tool call `extra_content.google.thought_signature` (as Google's own compatible
    endpoint has it), and on any part or tool `cache_control`.
    """

    model: str
    body: Mapping[str, Any]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    n: int = 1
    dialect: str = "openai"
    raw: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """The client's headers that belong to its dialect (its betas, say), never its credentials."""
    native: tuple[str, ...] = ()
    """Fields only a provider of the client's own dialect can honour: losing them would change the meaning."""
    dropped: tuple[str, ...] = ()
    """Fields of `raw` that `body` has no place for: lost, and told to the client, on a provider of another dialect."""
    output_cap: int = 0
    """Output tokens the hold covers: for a provider that demands a cap where the client named none. 0: nobody said."""
    framing: Literal["events", "bare", "array"] = "events"
    """How the client wants a stream: as server-sent events, as such without comments, or as one JSON array that grows."""
    recalls: tuple[str, ...] = ()
    """Ids of kept answers the client goes on from: `body` is not whole before its dialect has been given them."""
    said: tuple[Mapping[str, Any], ...] = ()
    """What was said in those answers, in the dialect's own form: it comes before what `raw` says."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer kept for its user, in the client's own format, to be asked for again and gone on from.

    `body` is the answer as it was given, `input` what was asked in this turn, `said` everything before it. `cuts` is how a
    streamed answer came: for each of its pieces the output item and the number of characters.
    """

    id: str
    body: Mapping[str, Any]
    input: tuple[Mapping[str, Any], ...] = ()
    said: tuple[Mapping[str, Any], ...] = ()
    cuts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part of a multipart form: a field's value, or a file where it has a `filename`."""

    name: str
    data: bytes
    filename: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A request that is no chat, in canonical form: OpenAI's body for it (rerank, which it has not: the one that is common).

    `kind` is what providers offer it by. `form` holds the parts of a multipart body, and then `body` its plain fields.
    `answer` says how the client is answered: by a whole body, by server-sent events, or by bytes as they come. `raw` is the
    client's own body where `dialect`, its format, is another; `dropped` what of that has no place in `body`.
    """

    kind: str
    model: str
    body: Mapping[str, Any]
    form: tuple[FormPart, ...] = ()
    answer: Literal["whole", "events", "bytes"] = "whole"
    dialect: str = "openai"
    raw: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


UNITS = ("call", "character", "image", "search", "second")
"""What is counted and is no token."""

MOST_COUNTED = 10**7
"""More tokens, characters or seconds than any answer has."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer used. `cached`, `cache_write`, `audio_input` and `image_input` are part of `input`, `reasoning` and
    `audio_output` are part of `output` (OpenAI's way).

    `units` counts what is no token, by kind: "image", "second", "character", "search", "call" (one where it is not told).
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    source: UsageSource = "provider"
    cache_write: int = 0
    units: Mapping[str, int] = field(default_factory=dict)
    audio_input: int = 0
    image_input: int = 0
    audio_output: int = 0

    @property
    def plausible(self) -> bool:
        """Whether an answer can have used that much: what cannot be is as good as never said."""
        tokens = (self.input, self.output, self.cached, self.reasoning, self.cache_write)
        kinds = (self.audio_input, self.image_input, self.audio_output, *self.units.values())
        return all(0 <= count <= MOST_COUNTED for count in (*tokens, *kinds))

    def within(self, most: Usage) -> bool:
        """Whether it is plausible, and no count above that of `most`: kinds of tokens are parts of input and output."""
        given = max(self.input, self.cached, self.cache_write, self.audio_input, self.image_input)
        made = max(self.output, self.reasoning, self.audio_output)
        units = all(count <= most.units.get(kind, 0) for kind, count in self.units.items())
        return self.plausible and given <= most.input and made <= most.output and units


@dataclass(frozen=True, slots=True)
class Start:
    """The provider answered: nothing a client would miss yet."""

    id: str = ""
    model: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A delta of reasoning. `signature` closes a block and must be sent back with it; `data` is a block shown encrypted."""

    text: str
    signature: str = ""
    choice: int = 0
    data: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A delta of one tool call: `id` and `name` come once (or again, empty); `arguments` is a piece of JSON text."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    reason: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Raw:
    """Content that has no canonical event (audio, annotations): it commits the answer and is passed through."""

    data: Mapping[str, Any]
    choice: int = 0


Event = Start | Text | Reasoning | ToolCall | Usage | Finish | Raw
CONTENT = (Text, Reasoning, ToolCall, Finish, Raw)
"""Events that commit an answer to its channel. A provider's error is raised as `ProviderError`, not yielded."""


@dataclass(slots=True)
class Call:
    """A tool call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str = ""


@dataclass(slots=True)
class Choice:
    """One of an answer's `n` choices as far as it has come. `calls` is by the provider's index.

    `details` are the reasoning blocks that must be sent back as they came, in the form of `reasoning_details`.
    """

    text: str = ""
    reasoning: str = ""
    details: list[dict[str, str]] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    extras: list[Raw] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def tool_calls(self) -> list[Call]:
        return [self.calls[index] for index in sorted(self.calls)]


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer in canonical form: what a buffer holds at the end."""

    start: Start
    choices: Mapping[int, Choice]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event: `event` is its type ("" for the default), `data` the joined data lines."""

    data: str
    event: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What an adapter wants sent. `headers` hold the secret: never log them."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"
    proxy: str = ""
    framing: Literal["sse", "eventstream", "websocket"] = "sse"
    """How the answer is cut into frames: server-sent events, AWS's binary event stream, or one frame a message."""
    dropped: tuple[str, ...] = ()
    """Fields of the client's request that this provider has no place for, for `x-sluice-dropped`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a channel, or one model of it, is left out until when (epoch seconds). `kind` is a `ProviderError.kind`."""

    kind: str
    until: float
    model: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What a channel answered to one small call: `kind` is "ok" or a `ProviderError.kind`, times are in milliseconds."""

    model: str
    kind: str
    latency_ms: int
    ttft_ms: int = 0
    status: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a channel's provider offers (`offered`, by its own names), against what the channel serves (by ours):
    `added` and `gone` are what would change, `models` what it would serve then."""

    offered: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one channel, for the operator: `kind` is "ok" or a `ProviderError.kind`."""

    channel_id: str
    kind: str
    status: int = 0
    message: str = ""

    def __str__(self) -> str:
        return f"{self.channel_id}={self.kind}" + (f"/{self.status}" if self.status else "")


MOST_TOLD_ATTEMPTS = 30
"""All headers of an answer have to fit into 16,000 bytes on AWS. The receipt has every attempt."""


def attempts_told(attempts: Sequence[Attempt]) -> str:
    """`x-sluice-attempts`: the last of them, "..." before those where there were more."""
    last = ",".join(map(str, attempts[-MOST_TOLD_ATTEMPTS:]))
    return last if len(attempts) <= MOST_TOLD_ATTEMPTS else f"...,{last}"


# --- money -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    """An open reservation on a wallet. `request_id` names it; `expires` is when a sweep may drop it.

    `stale` names ended holds that the write of this one saw in the wallet: its settle tidies them away, unread.
    """

    wallet_id: str
    request_id: str
    amount: Nano
    expires: int
    stale: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Why a charge is what it is: carried by the settle's journal entry. No prompt, answer or key."""

    model: str
    channel_id: str
    key_id: str
    usage: Usage
    end_reason: EndReason
    price_version: str
    attempts: tuple[str, ...] = ()
    duration_ms: int = 0
    ttft_ms: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a wallet. Sum of `delta` is the balance; sum of `held` is what is held.

    `seq` is the wallet's sequence number of the write that made it, `part` tells entries of one write apart.
    `loss` is what the provider counted and the wallet could not cover: the operator's, never a debt.
    `balance` and `available` are the wallet's right after the write.
    """

    wallet_id: str
    seq: int
    part: int
    kind: EntryKind
    request_id: str
    delta: Nano
    held: Nano
    at: int
    loss: Nano = 0
    receipt: Receipt | None = None
    balance: Nano = 0
    available: Nano = 0


@dataclass(frozen=True, slots=True)
class Wallet:
    """`available` is `balance` less the open holds. Never negative, either of them."""

    id: str
    balance: Nano
    available: Nano
    seq: int
    holds: Mapping[str, Hold] = field(default_factory=dict)

    @property
    def held(self) -> Nano:
        return sum(h.amount for h in self.holds.values())


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What one wallet spent on one model on one UTC day (`day` is YYYY-MM-DD)."""

    wallet_id: str
    day: str
    model: str
    requests: int
    input: int
    output: int
    cost: Nano


@dataclass(frozen=True, slots=True)
class Proof:
    """The daily proof of one wallet: the books at `seq`, the last write whose entries are there without a gap.

    `balance` and `held` are what that write recorded of the wallet, `entries_*` the sums of all entries up to it.
    `behind` counts later writes whose entries the stream has not delivered yet, `missing` names those it lost.
    `drift` is what the wallet holds back now less the sum of its open holds: anything but 0 is wrong.
    """

    wallet_id: str
    seq: int
    balance: Nano
    held: Nano
    entries_balance: Nano
    entries_held: Nano
    behind: int = 0
    missing: tuple[int, ...] = ()
    drift: Nano = 0

    @property
    def holds_true(self) -> bool:
        sums_agree = self.balance == self.entries_balance and self.held == self.entries_held
        return sums_agree and not self.missing and self.drift == 0
