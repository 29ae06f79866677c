"""Level 4: builds clients, stores and stories once per environment. Nothing is built at import.

Each door has one function here, and takes what it gives. Clients that cost time (KMS, Valkey) are made on first use.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import orjson

from sluice import adapters, signals, trail
from sluice.adapters._sigv4 import Credentials
from sluice.aws import SILENCE_SECONDS, AwsClient
from sluice.cache import Marks
from sluice.care import Care
from sluice.catalog import CatalogEditor, LiveCatalog
from sluice.conversations import Conversations
from sluice.errors import SluiceError
from sluice.identity import AccountEditor, Identities
from sluice.jobs import Jobs
from sluice.ledger import Ledger
from sluice.pipeline import Deps
from sluice.settings import AwsEnvironment, Settings
from sluice.stores.accounts import Accounts
from sluice.stores.catalog import CatalogStore
from sluice.stores.conversations import ConversationStore
from sluice.stores.entries import Entries
from sluice.stores.wallets import Wallets
from sluice.upstream import Upstream
from sluice.vault import Vault

if TYPE_CHECKING:
    from sluice.envelope import AdminDeps, AuthDeps

log = logging.getLogger(__name__)

_THREADS = 32
"""Threads for the synchronous stores, and so the most DynamoDB calls under way at once in one environment."""
_HEALTH_SECONDS = 2.0
"""Who asks for health wants to know now: what has not answered by then is down."""
_HEALTH_FRESH_SECONDS = 5.0
"""How long what was found is told again: health is open to the world, and must not be a way to keep the database busy."""


_LAST_LOOK_SECONDS = 0.2
"""For a background loop to end. Not for ever: up to Python 3.11 `wait_for`, which the Valkey client uses, can lose a cancellation."""


class Clients:
    """The AWS and Valkey clients of one environment, each made when first asked for."""

    def __init__(self, settings: Settings, environment: AwsEnvironment | None = None) -> None:
        self.settings = settings
        self._environment = environment or AwsEnvironment.from_env()
        self._made: list[AwsClient] = []

    @cached_property
    def dynamodb(self) -> Any:
        return self._aws("dynamodb")

    def kms(self) -> Any:
        return self._aws("kms")

    def valkey(self) -> Any:
        """A `valkey.asyncio` client, or None where no address is configured. Takes a while to import."""
        if not self.settings.valkey_url:
            return None
        from sluice import valkey_client

        if not self.settings.valkey_cache:
            return valkey_client.connect(self.settings.valkey_url, self.trust)
        name, user = self.settings.valkey_cache, self.settings.valkey_user
        tokens = valkey_client.IamTokens(name, user, self._environment.region, self._credentials(), time.time)
        return valkey_client.connect(self.settings.valkey_url, self.trust, tokens)

    def trust(self) -> ssl.SSLContext:
        """What every certificate is judged by. Loading the trust store costs 30 ms, so there is one for everybody."""
        return self._trusted

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not context.cert_store_stats()["x509_ca"]:
            import certifi

            context.load_verify_locations(certifi.where())
        return context

    def close(self) -> None:
        """Closes the idle connections of the AWS clients made here; a later call opens new ones."""
        for client in self._made:
            client.close()

    def _credentials(self) -> Callable[[], Credentials]:
        """What signs, as it is when asked: what Lambda sets stays for an environment's life, what botocore finds does not."""
        environment = self._environment
        if environment.access_key:
            secrets = environment.secret_key.reveal(), environment.session_token.reveal()
            return partial(Credentials, environment.access_key, *secrets)
        import botocore.session

        found = botocore.session.get_session().get_credentials()
        return partial(_frozen, found)

    def _aws(self, service: str) -> Any:
        """Our own client with the credentials Lambda sets; botocore's where they have to be found some other way."""
        if self._environment.access_key:
            made = AwsClient(service, self._environment, connections=_THREADS, trust=self.trust)
            self._made.append(made)
            return made
        import botocore.session
        from botocore.config import Config

        config = Config(
            max_pool_connections=_THREADS,
            connect_timeout=SILENCE_SECONDS,
            read_timeout=SILENCE_SECONDS,
            retries={"mode": "standard"},
        )
        session = botocore.session.get_session()
        return session.create_client(service, region_name=self._environment.region, config=config)


def _frozen(found: Any) -> Credentials:
    """botocore's credentials as they are now. Raises OSError where it has none to give."""
    from botocore.exceptions import BotoCoreError

    try:
        now = found and found.get_frozen_credentials()
    except BotoCoreError as error:
        raise OSError("the AWS credentials could not be renewed") from error
    if not now:
        raise OSError("no AWS credentials were found to sign with")
    return Credentials(now.access_key, now.secret_key, now.token or "")


@dataclass(slots=True)
class Relay:
    """What the relay's door is given: the pipeline's things, and their life."""

    deps: Deps
    catalog: LiveCatalog
    marks: Marks
    close: Callable[[], None] = lambda: None
    health_fresh_seconds: float = _HEALTH_FRESH_SECONDS
    _loops: list[asyncio.Task[None]] = field(default_factory=list)
    _looking: asyncio.Task[dict[str, str]] | None = None
    _looked: float = 0.0

    async def start(self) -> None:
        """Threads for the stores, and what keeps catalog and marks fresh off the way of a request."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "stores"))
        seconds = self.deps.settings.catalog_poll_seconds
        self._loops = [asyncio.create_task(self.catalog.run()), asyncio.create_task(self.marks.run(seconds))]

    async def stop(self, patience: float = 25.0) -> None:
        """Lets requests under way settle for `patience` seconds, then closes what was opened."""
        for loop in self._loops:
            loop.cancel()
        if self.deps.running:
            await asyncio.wait(self.deps.running, timeout=patience)
        if self._loops:
            await asyncio.wait(self._loops, timeout=_LAST_LOOK_SECONDS)
        await self.deps.upstream.close()
        with suppress(Exception):
            await self.marks.close()
        self.close()

    async def health(self) -> dict[str, str]:
        """Each component and its state: "ok", "off" (not configured) or "down". One look serves all who ask meanwhile."""
        now = self.deps.clock()
        if self._looking is None or (self._looking.done() and now - self._looked >= self.health_fresh_seconds):
            self._looking, self._looked = asyncio.create_task(self._look()), now
        return await asyncio.shield(self._looking)

    async def _look(self) -> dict[str, str]:
        dynamodb, valkey = await asyncio.gather(self._dynamodb(), self._valkey())
        return {"relay": "ok", "dynamodb": dynamodb, "valkey": valkey}

    async def _dynamodb(self) -> str:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self.catalog.poll()
        except (SluiceError, TimeoutError):
            return "down"
        return "ok"

    async def _valkey(self) -> str:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                return await self.marks.ping()
        except TimeoutError:
            return "down"


def build_relay(settings: Settings | None = None, clients: Clients | None = None) -> Relay:
    settings = settings or Settings.from_env()
    start_logging(settings)
    clients = clients or Clients(settings)
    rng = random.SystemRandom()
    marks = Marks(clients.valkey, time.time)
    catalog = build_live_catalog(settings, clients)
    deps = Deps(
        callers=build_identities(settings, clients),
        catalog=catalog,
        ledger=build_ledger(settings, clients),
        upstream=build_upstream(settings, clients),
        marks=marks,
        memory=build_conversations(settings, clients),
        settings=settings,
        rng=rng,
        clock=time.time,
        sleep=asyncio.sleep,
    )
    return Relay(deps, catalog, marks, clients.close)


def build_admin(settings: Settings | None = None, clients: Clients | None = None) -> AdminDeps:
    from sluice.envelope import AdminDeps

    settings = settings or Settings.from_env()
    start_logging(settings)
    clients = clients or Clients(settings)
    store = CatalogStore(clients.dynamodb, settings.catalog_table)
    editor = CatalogEditor(store, Vault(clients.kms, settings.vault_key_id), time.time, adapters.available)
    return AdminDeps(
        identities=build_identities(settings, clients),
        accounts=build_accounts(settings, clients),
        catalog=editor,
        ledger=build_ledger(settings, clients),
        proofs=build_jobs(settings, clients),
        clock=time.time,
        care=Care(editor, Marks(clients.valkey, time.time), lambda: build_upstream(settings, clients), time.time),
    )


def build_auth(settings: Settings | None = None) -> AuthDeps:
    from sluice.envelope import AuthDeps

    settings = settings or Settings.from_env()
    start_logging(settings)
    clients = Clients(settings)
    return AuthDeps(build_identities(settings, clients), build_ledger(settings, clients))


def build_jobs(settings: Settings | None = None, clients: Clients | None = None) -> Jobs:
    settings = settings or Settings.from_env()
    start_logging(settings)
    clients = clients or Clients(settings)
    wallets = Wallets(clients.dynamodb, settings.ledger_table)
    return Jobs(wallets, Entries(clients.dynamodb, settings.ledger_table), time.time)


def build_accounts(settings: Settings | None = None, clients: Clients | None = None) -> AccountEditor:
    settings = settings or Settings.from_env()
    clients = clients or Clients(settings)
    return AccountEditor(Accounts(clients.dynamodb, settings.accounts_table), time.time)


def build_identities(settings: Settings, clients: Clients) -> Identities:
    accounts = Accounts(clients.dynamodb, settings.accounts_table)
    return Identities(accounts, time.time, settings.identity_ttl_seconds)


def build_live_catalog(settings: Settings, clients: Clients) -> LiveCatalog:
    store = CatalogStore(clients.dynamodb, settings.catalog_table)
    return LiveCatalog(store, Vault(clients.kms, settings.vault_key_id), time.time, settings.catalog_poll_seconds)


def build_conversations(settings: Settings, clients: Clients) -> Conversations:
    store = ConversationStore(clients.dynamodb, settings.conversations_table)
    return Conversations(store, time.time, settings.kept_seconds)


def build_ledger(settings: Settings, clients: Clients) -> Ledger:
    wallets = Wallets(clients.dynamodb, settings.ledger_table)
    entries = Entries(clients.dynamodb, settings.ledger_table)
    return Ledger(wallets, entries, time.time, settings.hold_seconds)


def build_upstream(settings: Settings, clients: Clients) -> Upstream:
    return Upstream(settings.connect_timeout_seconds, settings.read_timeout_seconds, trust=clients.trust)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the request it is about, the record's `fields`, and the metrics
    it moved, kept under the environment's `prefix`."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if asked := trail.under_way():
            line |= {"request_id": asked.request_id, "trace_id": asked.trace.trace_id}
        line |= getattr(record, "fields", {})
        if measured := getattr(record, "measured", None):
            line |= signals.document(self._prefix, int(record.created * 1000), measured)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # A number past 64 bits: a provider may count so, and the line has to say it.
            return json.dumps(line, default=str)


def start_logging(settings: Settings) -> None:
    """JSON lines of the package's own loggers to standard output. The level set silences no line that carries metrics."""
    logger = logging.getLogger("sluice")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines(settings.prefix))
        logger.addHandler(handler)
    logger.setLevel(settings.log_level)
    logger.propagate = False
    signals.log.setLevel(logging.INFO)
