"""An operator's whole desk in memory: real stories over fake stores, and the doors over them."""

from __future__ import annotations

from typing import Any

import httpx

from sluice.cache import Marks
from sluice.care import Care
from sluice.catalog import CatalogEditor, LiveCatalog
from sluice.envelope import AdminDeps, AuthDeps
from sluice.identity import AccountEditor, Identities
from sluice.jobs import Jobs
from sluice.ledger import Ledger
from sluice.types import Role
from sluice.upstream import Upstream
from sluice.vault import Vault
from tests.fakes import MemoryEntries, MemoryWallets
from tests.fakes_operator import Clock, FakeKms, MemoryAccounts, MemoryCatalogStore


class Desk:
    """`admin` and `auth` are what those doors are given; `clock` moves time for all of them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.accounts = MemoryAccounts()
        self.store = MemoryCatalogStore()
        self.kms = FakeKms()
        self.wallets = MemoryWallets()
        self.journal = MemoryEntries()
        self.editor = AccountEditor(self.accounts, self.clock)
        self.ledger = Ledger(self.wallets, self.journal, self.clock, hold_seconds=1200)  # type: ignore[arg-type]
        self.jobs = Jobs(self.wallets, self.journal, self.clock)  # type: ignore[arg-type]
        self.identities = Identities(self.accounts, self.clock, ttl=5.0)
        self.catalog = LiveCatalog(self.store, self._vault(), self.clock, poll_seconds=2.0)
        types = frozenset({"openai", "deepseek"})
        catalog_editor = CatalogEditor(self.store, self._vault(), self.clock, lambda: types, wait=lambda _: None)
        self.marks = Marks(lambda: None, self.clock)
        care = Care(catalog_editor, self.marks, lambda: Upstream(5, 5), self.clock)
        self.admin = AdminDeps(self.identities, self.editor, catalog_editor, self.ledger, self.jobs, self.clock, care)
        self.auth = AuthDeps(self.identities, self.ledger)

    async def key(self, username: str, role: Role = "user", **more: Any) -> tuple[str, str]:
        """A new user's id and plain key."""
        user = await self.editor.create_user(username, role=role)
        _, plain = await self.editor.issue_key(user.id, **more)
        return user.id, plain.reveal()

    async def deliver(self) -> None:
        """What the ledger's stream does on its own: the journal catches up with the wallets."""
        await self.jobs.consume(self.wallets.records)

    def _vault(self) -> Vault:
        return Vault(lambda: self.kms, "alias/test")


def caller(app: Any, token: str | None = None) -> httpx.AsyncClient:
    """A client of an ASGI app in this process."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sluice.test", headers=headers)
