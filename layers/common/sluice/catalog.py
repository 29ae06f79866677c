"""Level 3: the catalog as routing sees it, and as an operator changes it.

Readers hold a whole published version and exchange it for the next one; they never see half a change. A price takes
effect by the clock, without anybody publishing anything at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlsplit

from sluice import models
from sluice.errors import BadRequest, Conflict, NotFound, Unavailable
from sluice.types import RATE_KINDS, Catalog, Channel, Model, Price, RateKind, SealedChannel, Secret, Snapshot
from sluice.vault import NotOpened, Vault

log = logging.getLogger(__name__)

MODALITIES = ("text", "image", "audio", "video", "file", "embedding")
_VERSION = re.compile(r"api-version=[\w.-]{1,40}")
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

FRESH_SECONDS = 5.0
"""A catalog that was checked longer ago is checked again before it is used: a change is seen within this time."""
CHECK_SECONDS = 1.0
"""How long a request waits for that check. Of a store that is silent for longer the catalog held is better."""


class CatalogRows(Protocol):
    """What this story asks of the catalog store; `stores.catalog.CatalogStore` says what each raises."""

    def version(self) -> int: ...
    def load(self) -> Snapshot: ...
    def rows(self) -> Snapshot: ...
    def publish(self, old: Snapshot, new: Snapshot) -> Snapshot: ...


# --- as routing sees it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    catalog: Catalog
    prices: tuple[Price, ...]
    until: float
    """When a coming price takes effect and `catalog.prices` must be chosen anew."""


class LiveCatalog:
    """The published catalog, kept up to date. Belongs to one event loop; times are in seconds."""

    def __init__(
        self,
        store: CatalogRows,
        vault: Vault,
        clock: Callable[[], float],
        poll_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._held: _Held | None = None
        self._checked = float("-inf")
        self._tried = float("-inf")
        self._flight: asyncio.Task[_Held] | None = None

    async def current(self) -> Catalog:
        """The catalog to route by. At once while the last check is fresh; raises Unavailable only when none is held."""
        if self._held is None:
            self._held = await self.poll()
        elif self._is_due():
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self.poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, the catalog held is better than none
                log.warning("going on with the catalog held", extra={"fields": {"error": type(error).__name__}})
        return self._effective(self._held)

    async def poll(self) -> _Held:
        """One check of the version, and a reload where it changed. Parallel callers share one. Raises Unavailable."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._refresh())
            self._flight.add_done_callback(self._landed)
        # Shielded: a caller that leaves must not take the load away from those who wait for it.
        return await asyncio.shield(self._flight)

    async def run(self) -> None:
        """Polls for as long as it is let run. Survives every error, because the catalog held is better than none."""
        while True:
            try:
                await self.poll()
            except Exception as error:  # noqa: BLE001 - one bad poll must not end the polling
                log.warning("the catalog could not be checked", extra={"fields": {"error": type(error).__name__}})
            await self._sleep(self._poll_seconds)

    def _is_due(self) -> bool:
        # The second half keeps a store that is down from being asked anew, and waited for, by every single request.
        now = self._clock()
        return now - self._checked >= FRESH_SECONDS and now - self._tried >= self._poll_seconds

    async def _refresh(self) -> _Held:
        started = self._tried = self._clock()
        self._held = await asyncio.to_thread(self._fetch, self._held)
        self._checked = started
        return self._held

    def _fetch(self, held: _Held | None) -> _Held:
        if held is not None and self._store.version() == held.catalog.version:
            return held
        snapshot = self._store.load()
        channels = tuple(self._open(snapshot))
        described = {model.id: model for model in snapshot.models}
        return _effective(Catalog(snapshot.version, channels, {}, described), snapshot.prices, self._clock())

    def _open(self, snapshot: Snapshot) -> Iterable[Channel]:
        for one in snapshot.channels:
            try:
                yield _opened(self._vault, snapshot.data_key, one)
            except NotOpened:
                # One channel less is better than no catalog: its siblings go on serving.
                log.error(
                    "a channel's secret does not open; it is left out", extra={"fields": {"channel": one.channel.id}}
                )

    def _effective(self, held: _Held) -> Catalog:
        now = self._clock()
        if now >= held.until:
            held = self._held = _effective(held.catalog, held.prices, now)
        return held.catalog

    def _landed(self, done: asyncio.Task[_Held]) -> None:
        self._flight = None
        if not done.cancelled():
            done.exception()  # Read here, because every caller may have left by now.


def _opened(vault: Vault, data_key: bytes, one: SealedChannel) -> Channel:
    if not one.sealed:
        return one.channel
    return replace(one.channel, secret=vault.open(data_key, one.sealed, _place(one.channel.id)))


def _place(channel_id: str) -> str:
    return f"channel/{channel_id}"


def _effective(catalog: Catalog, prices: tuple[Price, ...], now: float) -> _Held:
    """For every model the latest price that is valid at `now`, and the time at which the next one will be."""
    chosen: dict[str, Price] = {}
    until = float("inf")
    for price in sorted(prices, key=lambda price: price.valid_from):
        if price.valid_from <= now:
            chosen[price.model] = price
        else:
            until = min(until, price.valid_from)
    return _Held(replace(catalog, prices=chosen), prices, until)


# --- as an operator changes it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Described:
    """A model, and which fields an operator said; the others are what was known on `as_of` (YYYY-MM-DD)."""

    model: Model
    said: tuple[str, ...]
    as_of: str


class CatalogEditor:
    """Changes to channels, models and prices. Each one is published at once, as one version more.

    `known_types` gives the adapters that exist. Every method may raise Unavailable; what is not found raises NotFound,
    what is not valid BadRequest naming the field.
    """

    def __init__(
        self,
        store: CatalogRows,
        vault: Vault,
        clock: Callable[[], float],
        known_types: Callable[[], frozenset[str]],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._known_types = known_types
        self._random_bytes = random_bytes
        self._wait = wait

    async def channels(self) -> tuple[SealedChannel, ...]:
        return (await asyncio.to_thread(self._store.rows)).channels

    async def channel(self, channel_id: str) -> SealedChannel:
        return _one(await asyncio.to_thread(self._store.rows), channel_id)

    async def opened(self, channel_id: str) -> Channel:
        """A channel with its secret, to ask its provider something. Raises Conflict where that does not open."""
        rows = await asyncio.to_thread(self._store.rows)
        try:
            return await asyncio.to_thread(_opened, self._vault, rows.data_key, _one(rows, channel_id))
        except NotOpened:
            raise Conflict("The channel's secret does not open any more: set it anew.", param="secret") from None

    async def create_channel(self, channel: Channel) -> SealedChannel:
        """Adds `channel`; an empty id is filled in. Raises Conflict when its id is taken."""
        named = channel if channel.id else replace(channel, id=f"ch_{self._random_bytes(8).hex()}")

        def change(old: Snapshot) -> Snapshot:
            if any(one.channel.id == named.id for one in old.channels):
                raise Conflict(f"There is a channel {named.id!r} already.", param="id")
            return self._with_channel(old, SealedChannel(named), named.secret)

        return _one(await self._edit(change), named.id)

    async def change_channel(self, channel_id: str, changes: Mapping[str, Any]) -> SealedChannel:
        """Sets the given fields of a channel and lifts its marks. `secret` (a Secret) is replaced when given, removed when
        given empty."""
        values = {name: value for name, value in changes.items() if name != "secret"}

        def change(old: Snapshot) -> Snapshot:
            found = _one(old, channel_id)
            changed = replace(found, channel=replace(found.channel, **values))
            return self._with_channel(old, changed, changes.get("secret"))

        return _one(await self._edit(change), channel_id)

    async def delete_channel(self, channel_id: str) -> None:
        def change(old: Snapshot) -> Snapshot:
            gone = _one(old, channel_id)
            return replace(old, channels=tuple(one for one in old.channels if one is not gone))

        await self._edit(change)

    async def prices(self) -> tuple[Price, ...]:
        """Every row, past and coming, by model and time."""
        rows = await asyncio.to_thread(self._store.rows)
        return tuple(sorted(rows.prices, key=lambda price: (price.model, price.valid_from)))

    async def put_price(
        self,
        model: str,
        given_input: Decimal,
        given_output: Decimal,
        max_output: int = 0,
        valid_from: int = 0,
        rates: Mapping[RateKind, Decimal] | None = None,
    ) -> Price:
        """Sets what `model` costs from `valid_from` (0: now) on, in USD per million tokens; `rates` as `Price` has them.

        A price that has been in effect is never rewritten, because receipts name it; one still to come may be.
        """
        price = Price(model, given_input, given_output, "", valid_from, max_output, dict(rates or {}))
        _check_price(price)
        placed: list[Price] = []

        def change(old: Snapshot) -> Snapshot:
            placed[:] = [self._placed(old, price)]
            if placed[0] in old.prices:
                return old
            others = (row for row in old.prices if (row.model, row.valid_from) != (model, placed[0].valid_from))
            return replace(old, prices=(*others, placed[0]))

        await self._edit(change)
        return placed[0]

    async def models(self) -> tuple[Described, ...]:
        """Every model that a channel serves or that an operator has said something of, by name."""
        rows = await asyncio.to_thread(self._store.rows)
        served = {name for one in rows.channels for name in one.channel.models}
        return tuple(_described(rows, name) for name in sorted(served | {model.id for model in rows.models}))

    async def model(self, name: str) -> Described:
        """What is known of a model, served or not. Raises NotFound where that is nothing."""
        found = _described(await asyncio.to_thread(self._store.rows), name)
        if found.model == Model(name):
            raise NotFound(f"Nothing is known of the model {name!r}.")
        return found

    async def put_model(self, model: Model) -> Described:
        """Says of `model.id` what is given and takes back what is not."""
        _check_model(model)

        def change(old: Snapshot) -> Snapshot:
            others = tuple(other for other in old.models if other.id != model.id)
            return replace(old, models=tuple(sorted((*others, model), key=lambda each: each.id)))

        return _described(await self._edit(change), model.id)

    async def delete_model(self, name: str) -> None:
        """Takes back all that was said of a model."""

        def change(old: Snapshot) -> Snapshot:
            left = tuple(model for model in old.models if model.id != name)
            if left == old.models:
                raise NotFound(f"Nothing has been said of the model {name!r}.")
            return replace(old, models=left)

        await self._edit(change)

    # --- pieces ---

    def _with_channel(self, old: Snapshot, one: SealedChannel, secret: Secret | None) -> Snapshot:
        _check_channel(one.channel, self._known_types())
        one = replace(one, channel=replace(one.channel, revision=self._random_bytes(6).hex()))
        if secret is not None:
            old, one = self._sealed(old, one, secret)
        others = tuple(other for other in old.channels if other.channel.id != one.channel.id)
        return replace(old, channels=tuple(sorted((*others, one), key=lambda each: each.channel.id)))

    def _sealed(self, old: Snapshot, one: SealedChannel, secret: Secret) -> tuple[Snapshot, SealedChannel]:
        bare = SealedChannel(replace(one.channel, secret=Secret("")))
        if not secret:
            return old, bare
        _check_secret(secret)
        keyed = old if old.data_key else replace(old, data_key=self._vault.new_data_key())
        return keyed, replace(bare, sealed=self._vault.seal(keyed.data_key, secret, _place(one.channel.id)))

    def _placed(self, old: Snapshot, price: Price) -> Price:
        """The row as it will be stored: timed and named; or the one that is there, if it says the same."""
        now = int(self._clock())
        rows = {row.valid_from: row for row in old.prices if row.model == price.model}
        past = [at for at in rows if at <= now]
        there = rows.get(price.valid_from or max(past, default=0))
        if there and replace(there, version="", valid_from=price.valid_from) == price:
            return there
        if price.valid_from and price.valid_from < now:
            raise BadRequest("'valid_from' must not lie in the past (epoch seconds).", param="valid_from")
        starts = price.valid_from or now
        if starts <= now and starts in rows:
            starts = now + 1
        return replace(price, valid_from=starts, version=f"{price.model}@{starts}.{old.version + 1}")

    async def _edit(self, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
        return await asyncio.to_thread(self._publish, change)

    def _publish(self, change: Callable[[Snapshot], Snapshot]) -> Snapshot:
        """Reads, changes and publishes, again from the start when another publication came between."""
        for tries in range(10):
            old = self._store.rows()
            new = change(old)
            if new == old:
                return old
            try:
                return self._store.publish(old, new)
            except Conflict:
                self._wait(0.01 * 2**tries * (0.5 + self._random_bytes(1)[0] / 256))
        raise Unavailable("The catalog is being changed by too many at once. Try again.", retry_after=1)


def _described(rows: Snapshot, name: str) -> Described:
    row = next((model for model in rows.models if model.id == name), None)
    channels = [one.channel for one in rows.channels if name in one.channel.models]
    said = tuple(field for field in models.said(row) if field != "id") if row else ()
    return Described(models.described(name, channels, row), said, models.dated())


def _one(snapshot: Snapshot, channel_id: str) -> SealedChannel:
    for one in snapshot.channels:
        if one.channel.id == channel_id:
            return one
    raise NotFound(f"There is no channel {channel_id!r}.")


# --- what is valid ---------------------------------------------------------------------------------------------------


def _check_channel(channel: Channel, known_types: frozenset[str]) -> None:
    if channel.type not in known_types:
        raise BadRequest(f"'type' must be one of: {', '.join(sorted(known_types))}.", param="type")
    if not _ID.fullmatch(channel.id):
        raise BadRequest("'id' takes 1 to 64 of a-z, 0-9 and _ . - and starts with one of the first two.", param="id")
    _check_words("name", (channel.name,))
    if not channel.models:
        raise BadRequest("'models' must name at least one model.", param="models")
    _check_words("models", channel.models)
    _check_words("groups", channel.groups)
    _check_words("mapping", (*channel.mapping.keys(), *channel.mapping.values()))
    _check_range("priority", channel.priority, -1000, 1000)
    _check_range("weight", channel.weight, 0, 1_000_000)
    _check_range("retry", channel.retry, 0, 10)
    _check_choice("state", channel.state, ("enabled", "disabled"))
    _check_url("endpoint", channel.endpoint, ("http", "https"))
    _check_url("proxy", channel.proxy, ("http", "https", "socks5"))


def _check_model(model: Model) -> None:
    _check_words("model", (model.id,))
    _check_words("name", filter(None, (model.name,)))
    _check_words("owner", filter(None, (model.owner,)))
    _check_range("context", model.context, 0, 100_000_000)
    _check_range("max_output", model.max_output, 0, 100_000_000)
    _check_range("created", model.created, 0, 10**11)
    for field, given in (("input", model.input), ("output", model.output)):
        for modality in given:
            _check_choice(field, modality, MODALITIES)


def _check_words(field: str, words: Iterable[str]) -> None:
    for word in words:
        if not word.strip() or not word.isprintable() or len(word) > 200:
            raise BadRequest(f"'{field}' takes printable texts of 1 to 200 characters.", param=field)


def _check_range(field: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise BadRequest(f"'{field}' must be a whole number from {lowest} to {highest}.", param=field)


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadRequest(f"'{field}' must be one of: {', '.join(choices)}.", param=field)


def _check_url(field: str, url: str, schemes: tuple[str, ...]) -> None:
    """Empty is fine. User names and queries are refused because a URL is shown and logged, and they carry keys.

    An API's version in an endpoint's query carries none, and some have no other place for it.
    """
    if not url:
        return
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or not url.isprintable() or " " in url or len(url) > 500:
        raise BadRequest(f"'{field}' must be a URL that starts with {' or '.join(schemes)}.", param=field)
    has_query = "?" in url and not (field == "endpoint" and _VERSION.fullmatch(parts.query))
    if "@" in parts.netloc or has_query or "#" in url:
        raise BadRequest(f"'{field}' must not carry a user name, password, query or fragment.", param=field)


def _check_secret(secret: Secret) -> None:
    text = secret.reveal()
    if not text.isascii() or not text.isprintable() or text != text.strip() or len(text) > 8192:
        raise BadRequest("'secret' takes up to 8192 printable ASCII characters without spaces around.", param="secret")


def _check_price(price: Price) -> None:
    _check_words("model", (price.model,))
    for field, value in (("input", price.input), ("output", price.output), *price.rates.items()):
        if field not in ("input", "output", *RATE_KINDS):
            raise BadRequest(f"'{field}' is no kind of price.", param=field)
        if not value.is_finite() or not 0 <= value <= 1_000_000 or value != round(value, 9):
            raise BadRequest(f"'{field}' must be USD, from 0 to 1000000 with nine decimals at most.", param=field)
    _check_range("max_output", price.max_output, 0, 10_000_000)
    _check_range("valid_from", price.valid_from, 0, 10**11)
