"""The operator's door: channels, prices, users, keys, money and its proof. Under /api/admin, by an admin's key."""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import FastAPI, Header, Query

from admin_shapes import (
    ChannelChanges,
    Channels,
    ChannelShape,
    CheckupShape,
    DayUsageShape,
    Entries,
    EntryShape,
    IssuedKey,
    Keys,
    KeyShape,
    Models,
    ModelShape,
    NewChannel,
    NewCredit,
    NewKey,
    NewModel,
    NewPrice,
    NewSync,
    NewTest,
    NewUser,
    OfferShape,
    Prices,
    PriceShape,
    ProofOfAll,
    ProofShape,
    UsageDays,
    UserChanges,
    Users,
    UserShape,
)
from sluice.envelope import AdminDeps, WalletShape, create_api
from sluice.prices import usd_to_nano

ROOT = "/api/admin"

PageSize = Annotated[int, Query(ge=1, le=1000)]
SequenceNumber = Annotated[int, Query(ge=0, lt=10**16)]


def create_app(deps: AdminDeps) -> FastAPI:
    app = create_api("Sluice admin API", ROOT, deps.identities, frozenset({"admin"}))
    _add_channels(app, deps)
    _add_care(app, deps)
    _add_prices(app, deps)
    _add_models(app, deps)
    _add_users(app, deps)
    _add_keys(app, deps)
    _add_money(app, deps)
    _add_proofs(app, deps)
    return app


def _add_channels(app: FastAPI, deps: AdminDeps) -> None:
    @app.post(f"{ROOT}/channels", status_code=201, tags=["channels"])
    async def create_channel(given: NewChannel) -> ChannelShape:
        """Adds a way to a provider. It is in use within five seconds."""
        return ChannelShape.of(await deps.catalog.create_channel(given.channel()), ())

    @app.get(f"{ROOT}/channels", tags=["channels"])
    async def list_channels() -> Channels:
        """Every channel, with the marks that leave it or one of its models out for now."""
        channels = await deps.catalog.channels()
        marks = await deps.care.marks([one.channel for one in channels])
        return Channels(data=[ChannelShape.of(one, marks[one.channel.id]) for one in channels])

    @app.get(f"{ROOT}/channels/{{channel_id}}", tags=["channels"])
    async def get_channel(channel_id: str) -> ChannelShape:
        found = await deps.catalog.channel(channel_id)
        return ChannelShape.of(found, (await deps.care.marks([found.channel]))[channel_id])

    @app.patch(f"{ROOT}/channels/{{channel_id}}", tags=["channels"])
    async def change_channel(channel_id: str, given: ChannelChanges) -> ChannelShape:
        """Changes what is sent and nothing else, and lifts the channel's marks. An empty `secret` removes the stored one."""
        return ChannelShape.of(await deps.catalog.change_channel(channel_id, given.given()), ())

    @app.delete(f"{ROOT}/channels/{{channel_id}}", status_code=204, tags=["channels"])
    async def delete_channel(channel_id: str) -> None:
        await deps.catalog.delete_channel(channel_id)


def _add_care(app: FastAPI, deps: AdminDeps) -> None:
    @app.post(f"{ROOT}/channels/{{channel_id}}/test", tags=["channels"])
    async def test_channel(channel_id: str, given: NewTest | None = None) -> CheckupShape:
        """Asks the channel one small question and says what came of it. Costs no user anything, and marks nothing."""
        return CheckupShape.of(await deps.care.test(channel_id, given.model if given else ""))

    @app.post(f"{ROOT}/channels/{{channel_id}}/sync-models", tags=["channels"])
    async def sync_models(channel_id: str, given: NewSync | None = None) -> OfferShape:
        """What the provider offers against what the channel serves; with `apply` the channel then serves it."""
        applied = given is not None and given.apply
        return OfferShape.of(await (deps.care.adopt if applied else deps.care.offer)(channel_id), applied)


def _add_prices(app: FastAPI, deps: AdminDeps) -> None:
    @app.put(f"{ROOT}/prices/{{model:path}}", tags=["prices"])
    async def put_price(model: str, given: NewPrice) -> PriceShape:
        """Sets what a model costs from `valid_from` on. What was in effect before stays on record."""
        terms = (given.input, given.output, given.max_output, given.valid_from, given.rates())
        return PriceShape.of(await deps.catalog.put_price(model, *terms))

    @app.get(f"{ROOT}/prices", tags=["prices"])
    async def list_prices() -> Prices:
        """Every price there was, is and will be, by model and time."""
        return Prices(data=[PriceShape.of(one) for one in await deps.catalog.prices()])


def _add_models(app: FastAPI, deps: AdminDeps) -> None:
    @app.get(f"{ROOT}/models", tags=["models"])
    async def list_models() -> Models:
        """Every model that a channel serves or that something has been said of."""
        return Models(data=[ModelShape.of(one) for one in await deps.catalog.models()])

    @app.get(f"{ROOT}/models/{{model:path}}", tags=["models"])
    async def get_model(model: str) -> ModelShape:
        """What is known of a model, served or not."""
        return ModelShape.of(await deps.catalog.model(model))

    @app.put(f"{ROOT}/models/{{model:path}}", tags=["models"])
    async def put_model(model: str, given: NewModel) -> ModelShape:
        """Says of a model what is sent, over what the default catalogue knows. In use within five seconds."""
        return ModelShape.of(await deps.catalog.put_model(given.model(model)))

    @app.delete(f"{ROOT}/models/{{model:path}}", status_code=204, tags=["models"])
    async def delete_model(model: str) -> None:
        """Takes back what was said of a model: what the default catalogue knows holds again."""
        await deps.catalog.delete_model(model)


def _add_users(app: FastAPI, deps: AdminDeps) -> None:
    @app.post(f"{ROOT}/users", status_code=201, tags=["users"])
    async def create_user(given: NewUser) -> UserShape:
        return UserShape.of(await deps.accounts.create_user(given.username, given.group, given.role))

    @app.get(f"{ROOT}/users", tags=["users"])
    async def list_users(limit: PageSize = 100, after: Annotated[str, Query(max_length=64)] = "") -> Users:
        users, following = await deps.accounts.users(limit, after)
        return Users(data=[UserShape.of(one) for one in users], next=following or None)

    @app.get(f"{ROOT}/users/{{user_id}}", tags=["users"])
    async def get_user(user_id: str) -> UserShape:
        return UserShape.of(await deps.accounts.user(user_id))

    @app.patch(f"{ROOT}/users/{{user_id}}", tags=["users"])
    async def change_user(user_id: str, given: UserChanges) -> UserShape:
        """Changes what is sent. A suspended user's keys stop working within seconds."""
        return UserShape.of(await deps.accounts.change_user(user_id, **given.given()))


def _add_keys(app: FastAPI, deps: AdminDeps) -> None:
    @app.post(f"{ROOT}/users/{{user_id}}/keys", status_code=201, tags=["keys"])
    async def issue_key(user_id: str, given: NewKey | None = None) -> IssuedKey:
        """A new key. It is shown in this answer and never again."""
        wanted = given or NewKey()
        key, plain = await deps.accounts.issue_key(user_id, wanted.name, frozenset(wanted.models), wanted.expires)
        return IssuedKey(key=plain.reveal(), **KeyShape.of(key).model_dump())

    @app.get(f"{ROOT}/users/{{user_id}}/keys", tags=["keys"])
    async def list_keys(user_id: str) -> Keys:
        return Keys(data=[KeyShape.of(one) for one in await deps.accounts.keys(user_id)])

    @app.delete(f"{ROOT}/users/{{user_id}}/keys/{{key_id}}", status_code=204, tags=["keys"])
    async def revoke_key(user_id: str, key_id: str) -> None:
        """Ends a key for good. It stops working within seconds."""
        await deps.accounts.revoke_key(user_id, key_id)


def _add_money(app: FastAPI, deps: AdminDeps) -> None:
    @app.post(f"{ROOT}/users/{{user_id}}/credit", tags=["money"])
    async def credit(
        user_id: str, given: NewCredit, idempotency_key: Annotated[str, Header(max_length=128)] = ""
    ) -> WalletShape:
        """Adds to a wallet, or takes from what is available where `usd` is negative: a correction.

        With a `reference` (or an Idempotency-Key header) a repeated request counts once; with another amount it is a 409.
        """
        await deps.accounts.user(user_id)
        reference = given.reference or idempotency_key or secrets.token_hex(12)
        return WalletShape.of(await deps.ledger.credit(user_id, usd_to_nano(given.usd), f"credit/{reference}"))

    @app.get(f"{ROOT}/users/{{user_id}}/wallet", tags=["money"])
    async def get_wallet(user_id: str) -> WalletShape:
        await deps.accounts.user(user_id)
        return WalletShape.of(await deps.ledger.wallet(user_id))

    @app.get(f"{ROOT}/users/{{user_id}}/entries", tags=["money"])
    async def list_entries(user_id: str, after: SequenceNumber = 0, limit: PageSize = 100) -> Entries:
        """The wallet's journal, `limit` writes of it, in order. It trails the wallet by about a second."""
        await deps.accounts.user(user_id)
        entries = await deps.ledger.entries(user_id, after, limit)
        is_full = len({one.seq for one in entries}) >= limit
        following = entries[-1].seq if is_full else None
        return Entries(data=[EntryShape.of(one) for one in entries], next=following)

    @app.get(f"{ROOT}/users/{{user_id}}/usage", tags=["money"])
    async def list_usage(
        user_id: str,
        first: Annotated[date | None, Query(alias="from")] = None,
        last: Annotated[date | None, Query(alias="to", ge=date(1970, 1, 1))] = None,
    ) -> UsageDays:
        """What was spent per UTC day and model, both days included; the last 31 days where none are named."""
        await deps.accounts.user(user_id)
        until = last or datetime.fromtimestamp(deps.clock(), UTC).date()
        since = first or until - timedelta(days=30)
        days = await deps.ledger.usage(user_id, since.isoformat(), until.isoformat())
        return UsageDays(data=[DayUsageShape.of(one) for one in days])


def _add_proofs(app: FastAPI, deps: AdminDeps) -> None:
    @app.get(f"{ROOT}/proof", tags=["money"])
    async def prove_all() -> ProofOfAll:
        """Whether every wallet's entries add up to it. Reads only."""
        proofs = [ProofShape.of(one) for one in await deps.proofs.prove_all()]
        return ProofOfAll(holds_true=all(one.holds_true for one in proofs), data=proofs)

    @app.get(f"{ROOT}/users/{{user_id}}/proof", tags=["money"])
    async def prove(user_id: str) -> ProofShape:
        await deps.accounts.user(user_id)
        return ProofShape.of(await deps.proofs.prove(user_id))
