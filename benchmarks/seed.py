"""A user with credit and a key, and a channel: what one measured request needs, made by the stories that own it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from decimal import Decimal

from infra.local import ministack
from sluice import adapters
from sluice.catalog import CatalogEditor
from sluice.identity import AccountEditor
from sluice.ledger import Ledger
from sluice.settings import Settings
from sluice.stores.accounts import Accounts
from sluice.stores.catalog import CatalogStore
from sluice.stores.entries import Entries
from sluice.stores.wallets import Wallets
from sluice.types import NANO_PER_USD, Channel, Secret
from sluice.vault import Vault

MODEL = "demo"


def seed(environment: Mapping[str, str], endpoint: str, group: str = "default") -> str:
    """Adds a user of `group` and the one channel that group may use; returns the user's key."""
    settings = Settings.from_env(environment)
    dynamodb = ministack.client("dynamodb", environment["AWS_ENDPOINT_URL"])
    vault = Vault(lambda: ministack.client("kms", environment["AWS_ENDPOINT_URL"]), settings.vault_key_id)
    accounts = AccountEditor(Accounts(dynamodb, settings.accounts_table), time.time)
    catalog = CatalogEditor(CatalogStore(dynamodb, settings.catalog_table), vault, time.time, adapters.available)
    wallets, entries = Wallets(dynamodb, settings.ledger_table), Entries(dynamodb, settings.ledger_table)
    ledger = Ledger(wallets, entries, time.time, settings.hold_seconds)

    async def make() -> str:
        user = await accounts.create_user(f"bench-{group}", group)
        _, key = await accounts.issue_key(user.id)
        await ledger.credit(user.id, 1000 * NANO_PER_USD, "bench")
        await catalog.put_price(MODEL, Decimal(1), Decimal(2))
        secret = Secret("sk-bench-provider-needs-no-key")
        await catalog.create_channel(
            Channel(group, "openai", group, (MODEL,), secret=secret, endpoint=endpoint, groups=(group,))
        )
        return key.reveal()

    return asyncio.run(make())
