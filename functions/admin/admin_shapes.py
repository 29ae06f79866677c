"""What the operator's API takes and gives, as the OpenAPI page shows it. Times are epoch seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    StrictStr,
)
from pydantic_core import PydanticCustomError

from sluice.catalog import Described
from sluice.envelope import Amount
from sluice.types import (
    RATE_KINDS,
    ApiKey,
    Channel,
    Checkup,
    DayUsage,
    Entry,
    Mark,
    Model,
    Offer,
    Price,
    Proof,
    RateKind,
    SealedChannel,
    Secret,
    User,
)

_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _plain(given: Any) -> Any:
    """Of texts only what everybody reads as the same number: `Decimal` also takes "1_000", blanks and other scripts' digits."""
    if isinstance(given, str) and not _PLAIN.fullmatch(given):
        raise PydanticCustomError("plain_decimal", "Input should be a number, as text in plain digits such as 12.5")
    return given


def _each_once(given: list[str]) -> list[str]:
    return list(dict.fromkeys(given))


Plain = Annotated[Decimal, BeforeValidator(_plain)]
Rate = Annotated[Plain, Field(ge=0, le=1_000_000, decimal_places=9, description="USD per million tokens")]
Each = Annotated[Plain, Field(ge=0, le=1_000_000, decimal_places=9, description="USD for one")]
Words = Annotated[list[StrictStr], Field(max_length=1000), AfterValidator(_each_once)]


class Given(BaseModel):
    # A field nobody knows is a field somebody misspelt. Values are kept out of messages: one may be a secret.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


# --- channels ---


class ChannelChanges(Given):
    """Every field may be left out, and then stays as it is."""

    type: StrictStr = Field(default="", description="the adapter: which protocol the provider speaks")
    name: StrictStr = ""
    models: Words = Field(default=[], description="the models it serves, by the name clients use")
    priority: StrictInt = Field(default=0, description="smaller is tried first")
    weight: StrictInt = Field(default=1, description="share of the draw inside one priority; 0 drains the channel")
    state: Literal["enabled", "disabled"] = "enabled"
    retry: StrictInt = Field(default=0, description="how often it is asked again after its first try")
    secret: SecretStr = Field(default=SecretStr(""), description="the provider's key: written, never read back")
    endpoint: StrictStr = Field(default="", description="base URL; empty for the adapter's own")
    proxy: StrictStr = Field(default="", description="http, https or socks5 URL; empty for none")
    groups: Words = Field(default=[], description="user groups it serves; empty for every group")
    mapping: dict[StrictStr, StrictStr] = Field(
        default={}, max_length=1000, description="the client's model name -> the provider's"
    )

    def given(self) -> dict[str, Any]:
        """The fields that were sent, as a Channel holds them."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("models", "groups"):
            if name in values:
                values[name] = tuple(values[name])
        if "secret" in values:
            values["secret"] = Secret(self.secret.get_secret_value())
        return values


class NewChannel(ChannelChanges):
    id: StrictStr = Field(default="", description="a name of your own for it; empty for a random one")
    type: StrictStr
    name: StrictStr
    models: Words

    def channel(self) -> Channel:
        return Channel(**{"id": "", **self.given()})


class MarkShape(BaseModel):
    """The channel, or only `model` of it, is left out until then because of an error of this kind."""

    kind: str
    until: int
    model: str | None


class ChannelShape(BaseModel):
    id: str
    type: str
    name: str
    models: list[str]
    priority: int
    weight: int
    state: str
    retry: int
    has_secret: bool
    endpoint: str
    proxy: str
    groups: list[str]
    mapping: dict[str, str]
    marks: list[MarkShape]

    @classmethod
    def of(cls, sealed: SealedChannel, marks: Iterable[Mark]) -> ChannelShape:
        one = sealed.channel
        return cls(
            id=one.id,
            type=one.type,
            name=one.name,
            models=list(one.models),
            priority=one.priority,
            weight=one.weight,
            state=one.state,
            retry=one.retry,
            has_secret=bool(sealed.sealed),
            endpoint=one.endpoint,
            proxy=one.proxy,
            groups=list(one.groups),
            mapping=dict(one.mapping),
            marks=[MarkShape(kind=mark.kind, until=int(mark.until), model=mark.model or None) for mark in marks],
        )


class Channels(BaseModel):
    data: list[ChannelShape]


class NewTest(Given):
    model: StrictStr = Field(default="", description="one of the channel's models; empty for its first")


class CheckupShape(BaseModel):
    """`kind` is `ok` or what the provider's error means; times are in milliseconds, `status` is the provider's."""

    ok: bool
    model: str
    kind: str
    latency_ms: int
    ttft_ms: int
    status: int
    message: str

    @classmethod
    def of(cls, checkup: Checkup) -> CheckupShape:
        return cls(ok=checkup.kind == "ok", **asdict(checkup))


class NewSync(Given):
    apply: StrictBool = Field(default=False, description="make the channel serve what the provider offers")


class OfferShape(BaseModel):
    """`offered` by the provider's own names; `added` and `gone` are the change, `models` what the channel serves with it."""

    offered: list[str]
    added: list[str]
    gone: list[str]
    models: list[str]
    applied: bool

    @classmethod
    def of(cls, offer: Offer, applied: bool) -> OfferShape:
        return cls(**asdict(offer), applied=applied)


# --- prices ---


class NewPrice(Given):
    """`input` and `output`, and each kind of token that has a price of its own, in USD per million; units in USD each."""

    input: Rate
    output: Rate
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    audio_input: Rate | None = None
    image_input: Rate | None = None
    audio_output: Rate | None = None
    per_image: Each | None = None
    per_call: Each | None = None
    per_second: Each | None = None
    per_search: Each | None = None
    per_million_characters: Each | None = None
    max_output: StrictInt = Field(default=0, description="the model's own cap on output tokens; 0 where unknown")
    valid_from: StrictInt = Field(default=0, description="when it takes effect; 0 for now")

    def rates(self) -> dict[RateKind, Decimal]:
        return {kind: rate for kind in RATE_KINDS if (rate := getattr(self, kind)) is not None}


class PriceShape(BaseModel):
    """Prices are decimal texts, in the units they were put in; null where this kind has none of its own."""

    model: str
    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None
    audio_input: str | None = None
    image_input: str | None = None
    audio_output: str | None = None
    per_image: str | None = None
    per_call: str | None = None
    per_second: str | None = None
    per_search: str | None = None
    per_million_characters: str | None = None
    max_output: int
    valid_from: int
    version: str

    @classmethod
    def of(cls, price: Price) -> PriceShape:
        return cls(
            model=price.model,
            input=format(price.input, "f"),
            output=format(price.output, "f"),
            max_output=price.max_output,
            valid_from=price.valid_from,
            version=price.version,
            **{kind: format(rate, "f") for kind, rate in price.rates.items()},
        )


class Prices(BaseModel):
    data: list[PriceShape]


# --- models ---

Modalities = Annotated[
    list[Literal["text", "image", "audio", "video", "file", "embedding"]],
    Field(max_length=100),
    AfterValidator(_each_once),
]


class NewModel(Given):
    """What is said of a model. A field that is left out stays what the default catalogue knows, or unknown."""

    name: StrictStr = Field(default="", description="a name to show")
    owner: StrictStr = Field(default="", description="who made it")
    created: StrictInt = Field(default=0, ge=0, description="when it came out")
    context: StrictInt = Field(default=0, ge=0, description="tokens of input and output together; 0 where unknown")
    max_output: StrictInt = Field(default=0, ge=0, description="tokens of one answer at most; 0 where unknown")
    input: Modalities = Field(default=[], description="what it takes; a request with anything else is refused")
    output: Modalities = Field(default=[], description="what it gives")
    tools: StrictBool | None = Field(default=None, description="false: a request with tools is refused")
    structured: StrictBool | None = Field(default=None, description="false: a request for json_schema is refused")
    reasoning: StrictBool | None = None

    def model(self, name: str) -> Model:
        given = self.model_dump()
        return Model(name, **{**given, "input": tuple(self.input), "output": tuple(self.output)})


class ModelShape(BaseModel):
    """`said` are the fields that stand here because an operator said so; the others are the default catalogue's, of `as_of`.

    `list_prices` are the provider's, as decimal texts by the kinds of `PUT /prices`: nothing is charged by them.
    """

    id: str
    name: str
    owner: str
    created: int
    context: int
    max_output: int
    input: list[str]
    output: list[str]
    tools: bool | None
    structured: bool | None
    reasoning: bool | None
    list_prices: dict[str, str]
    said: list[str]
    as_of: str

    @classmethod
    def of(cls, described: Described) -> ModelShape:
        model = described.model
        return cls(
            id=model.id,
            name=model.name,
            owner=model.owner,
            created=model.created,
            context=model.context,
            max_output=model.max_output,
            input=list(model.input),
            output=list(model.output),
            tools=model.tools,
            structured=model.structured,
            reasoning=model.reasoning,
            list_prices={kind: format(usd, "f") for kind, usd in model.prices.items()},
            said=list(described.said),
            as_of=described.as_of,
        )


class Models(BaseModel):
    data: list[ModelShape]


# --- users and keys ---


class NewUser(Given):
    username: StrictStr
    group: StrictStr = "default"
    role: Literal["user", "admin"] = "user"


class UserChanges(Given):
    """Every field may be left out, and then stays as it is."""

    group: StrictStr = ""
    role: Literal["user", "admin"] = "user"
    state: Literal["active", "suspended"] = "active"

    def given(self) -> dict[str, Any]:
        """The fields that were sent."""
        return self.model_dump(exclude_unset=True)


class UserShape(BaseModel):
    id: str
    username: str
    group: str
    role: str
    state: str
    created: int

    @classmethod
    def of(cls, user: User) -> UserShape:
        return cls(
            id=user.id,
            username=user.username,
            group=user.group,
            role=user.role,
            state=user.state,
            created=user.created,
        )


class Users(BaseModel):
    """`next` is what to send as `after` for the next page, null on the last one."""

    data: list[UserShape]
    next: str | None


class NewKey(Given):
    name: StrictStr = ""
    models: list[Annotated[StrictStr, Field(min_length=1, max_length=200)]] = Field(
        default=[], max_length=500, description="the only models it may use; empty for every model"
    )
    expires: StrictInt = Field(default=0, ge=0, le=10**11, description="when it ends; 0 for never")


class KeyShape(BaseModel):
    id: str
    user_id: str
    masked: str
    name: str
    models: list[str]
    expires: int
    state: str
    created: int

    @classmethod
    def of(cls, key: ApiKey) -> KeyShape:
        return cls(
            id=key.id,
            user_id=key.user_id,
            masked=key.masked,
            name=key.name,
            models=sorted(key.models),
            expires=key.expires,
            state=key.state,
            created=key.created,
        )


class IssuedKey(KeyShape):
    """`key` is shown in this answer and never again."""

    key: str


class Keys(BaseModel):
    data: list[KeyShape]


# --- money ---


class NewCredit(Given):
    usd: Annotated[
        Plain,
        Field(
            ge=-1_000_000_000,
            le=1_000_000_000,
            decimal_places=9,
            description="USD, a number or a text; below zero a correction, zero only opens the wallet",
        ),
    ]
    reference: StrictStr | None = Field(
        default=None, min_length=1, max_length=128, description="credits once, however often it is sent"
    )


class UsageCounts(BaseModel):
    input: int
    output: int
    cached: int
    cache_write: int
    audio_input: int
    image_input: int
    reasoning: int
    audio_output: int
    units: dict[str, int]
    source: str


class ReceiptShape(BaseModel):
    model: str
    channel_id: str
    key_id: str
    usage: UsageCounts
    end_reason: str
    price_version: str
    attempts: list[str]
    duration_ms: int
    ttft_ms: int


class EntryShape(BaseModel):
    """One change of a wallet, and what it left there: the sum of `delta` is its balance, of `held` what is held."""

    seq: int
    part: int
    kind: str
    request_id: str
    delta: Amount
    held: Amount
    loss: Amount
    balance: Amount
    available: Amount
    at: int
    receipt: ReceiptShape | None

    @classmethod
    def of(cls, entry: Entry) -> EntryShape:
        return cls(
            seq=entry.seq,
            part=entry.part,
            kind=entry.kind,
            request_id=entry.request_id,
            delta=Amount.of(entry.delta),
            held=Amount.of(entry.held),
            loss=Amount.of(entry.loss),
            balance=Amount.of(entry.balance),
            available=Amount.of(entry.available),
            at=entry.at,
            receipt=ReceiptShape.model_validate(entry.receipt, from_attributes=True) if entry.receipt else None,
        )


class Entries(BaseModel):
    """`next` is what to send as `after` for the next page, null when there are no more for now."""

    data: list[EntryShape]
    next: int | None


class DayUsageShape(BaseModel):
    day: str
    model: str
    requests: int
    input: int
    output: int
    cost: Amount

    @classmethod
    def of(cls, usage: DayUsage) -> DayUsageShape:
        return cls(
            day=usage.day,
            model=usage.model,
            requests=usage.requests,
            input=usage.input,
            output=usage.output,
            cost=Amount.of(usage.cost),
        )


class UsageDays(BaseModel):
    data: list[DayUsageShape]


class ProofShape(BaseModel):
    """`holds_true`: the sum of the wallet's entries is its balance, and their open holds are what it holds."""

    wallet_id: str
    holds_true: bool
    seq: int
    balance: Amount
    held: Amount
    entries_balance: Amount
    entries_held: Amount
    behind: int
    missing: list[int]
    drift: Amount

    @classmethod
    def of(cls, proof: Proof) -> ProofShape:
        return cls(
            wallet_id=proof.wallet_id,
            holds_true=proof.holds_true,
            seq=proof.seq,
            balance=Amount.of(proof.balance),
            held=Amount.of(proof.held),
            entries_balance=Amount.of(proof.entries_balance),
            entries_held=Amount.of(proof.entries_held),
            behind=proof.behind,
            missing=list(proof.missing),
            drift=Amount.of(proof.drift),
        )


class ProofOfAll(BaseModel):
    holds_true: bool
    data: list[ProofShape]
