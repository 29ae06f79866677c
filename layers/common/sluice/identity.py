"""Level 3: who is asking, and the accounts behind it.

A key is looked up by its SHA-256 and its owner's rights are computed at use, so that a changed role, a suspended
account or a revoked key takes effect as soon as the process's short memory of it has passed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sluice import trail
from sluice.errors import BadRequest, NotFound, Unauthorized
from sluice.types import ApiKey, Identity, Role, Secret, User

KEY_SHAPE = re.compile(r"sk-[A-Za-z0-9_-]{20,200}")
UNKNOWN_SECONDS = 2.0
"""How long an unknown key is remembered as unknown: long enough to blunt guessing, too short to annoy."""
REMEMBERED = 10_000
"""Keys remembered by a process, known and unknown ones counted apart, so that guesses never push out real ones."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What an id of a user or a key looks like. A database refuses a longer key than it takes, and that is no outage."""


class AccountRows(Protocol):
    """What this story asks of the accounts store; `stores.accounts.Accounts` says what each raises."""

    def create_user(self, user: User) -> None: ...
    def get_user(self, user_id: str) -> User | None: ...
    def get_user_by_username(self, username: str) -> User | None: ...
    def change_user(self, user_id: str, changes: Mapping[str, str]) -> User: ...
    def list_users(self, limit: int = 100, after: str = "") -> tuple[list[User], str]: ...
    def put_key(self, key: ApiKey) -> None: ...
    def get_key_by_sha256(self, sha256: str) -> ApiKey | None: ...
    def list_keys(self, user_id: str) -> list[ApiKey]: ...
    def revoke_key(self, user_id: str, key_id: str) -> None: ...


def bearer(headers: Mapping[str, str]) -> str | None:
    """The key of a request, wherever its client's dialect puts it. `headers` has lower-case or case-blind names."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or None


def digest(token: str) -> str:
    """The form in which a key is stored and looked up. A key has 256 random bits: nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


# --- who is asking ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    key: ApiKey
    owner: User


class _Memory:
    """What was found for a digest, until it is too old. Bounded: the oldest goes first."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, tuple[float, _Found | None]] = OrderedDict()

    def get(self, sha256: str, now: float) -> tuple[_Found | None] | None:
        until, found = self._items.get(sha256, (0.0, None))
        return (found,) if now < until else None

    def put(self, sha256: str, found: _Found | None, until: float) -> None:
        self._items.pop(sha256, None)
        self._items[sha256] = (until, found)
        if len(self._items) > REMEMBERED:
            self._items.popitem(last=False)


class Identities:
    """Turns a token into an Identity. `ttl` is in seconds and bounds how long a revoked key goes on working."""

    def __init__(self, accounts: AccountRows, clock: Callable[[], float], ttl: float) -> None:
        self._accounts = accounts
        self._clock = clock
        self._ttl = ttl
        self._known = _Memory()
        self._unknown = _Memory()
        self._flights: dict[str, asyncio.Task[_Found | None]] = {}

    async def identify(self, token: str | None) -> Identity:
        """Raises Unauthorized, or Unavailable when accounts cannot be read: a good key is never called a bad one."""
        if not token:
            raise Unauthorized(
                "No API key was given. Send it as 'Authorization: Bearer sk-...'.", code="missing_api_key"
            )
        if not KEY_SHAPE.fullmatch(token):
            raise Unauthorized("This is not an API key of this gateway: those start with 'sk-' and are longer.")
        found = await self._find(digest(token))
        if found is None:
            raise Unauthorized("This API key is not known. Check that it was copied whole, or ask for a new one.")
        return self._admit(found)

    def _admit(self, found: _Found) -> Identity:
        key, owner = found.key, found.owner
        trail.note_caller(owner.id, key.id)
        if key.state != "active":
            raise Unauthorized(f"The API key {key.masked} was revoked. Ask for a new one.", code="revoked_api_key")
        if key.expires and key.expires <= self._clock():
            raise Unauthorized(f"The API key {key.masked} has expired. Ask for a new one.", code="expired_api_key")
        if owner.state != "active":
            raise Unauthorized("The account of this API key is suspended. Ask its operator.", code="account_suspended")
        return Identity(owner.id, key.id, owner.username, owner.group, owner.role, key.models)

    async def _find(self, sha256: str) -> _Found | None:
        now = self._clock()
        for memory in (self._known, self._unknown):
            if (remembered := memory.get(sha256, now)) is not None:
                trail.note_remembered(True)
                return remembered[0]
        trail.note_remembered(False)
        flight = self._flights.get(sha256)
        if flight is None:
            flight = self._flights[sha256] = asyncio.create_task(self._look_up(sha256))
            flight.add_done_callback(lambda done: self._landed(sha256, done))
        # Shielded: a caller that leaves must not take the look-up away from those who wait for the same key.
        return await asyncio.shield(flight)

    async def _look_up(self, sha256: str) -> _Found | None:
        started = self._clock()
        found = await asyncio.to_thread(self._read, sha256)
        if found:
            self._known.put(sha256, found, started + self._ttl)
        else:
            self._unknown.put(sha256, None, started + min(self._ttl, UNKNOWN_SECONDS))
        return found

    def _read(self, sha256: str) -> _Found | None:
        key = self._accounts.get_key_by_sha256(sha256)
        owner = self._accounts.get_user(key.user_id) if key else None
        return _Found(key, owner) if key and owner else None

    def _landed(self, sha256: str, done: asyncio.Task[_Found | None]) -> None:
        self._flights.pop(sha256, None)
        if not done.cancelled():
            done.exception()  # Read here, because every caller may have left by now.


# --- accounts --------------------------------------------------------------------------------------------------------


class AccountEditor:
    """What an operator does with users and keys. Every method may raise Unavailable."""

    def __init__(
        self,
        accounts: AccountRows,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._random_bytes = random_bytes

    async def create_user(self, username: str, group: str = "default", role: Role = "user") -> User:
        """Raises BadRequest naming the field, Conflict when the name is taken."""
        _check_name("username", username)
        _check_name("group", group)
        user = User(self._new_id("user"), username, group, role, "active", int(self._clock()))
        await asyncio.to_thread(self._accounts.create_user, user)
        return user

    async def user(self, user_id: str) -> User:
        """Raises NotFound."""
        _check_id("user", user_id)
        user = await asyncio.to_thread(self._accounts.get_user, user_id)
        if user is None:
            raise NotFound(f"There is no user {user_id!r}.")
        return user

    async def users(self, limit: int = 100, after: str = "") -> tuple[list[User], str]:
        """One page in order of id, and the id to go on after ("" at the end)."""
        return await asyncio.to_thread(self._accounts.list_users, limit, after)

    async def change_user(
        self,
        user_id: str,
        *,
        group: str | None = None,
        role: Role | None = None,
        state: Literal["active", "suspended"] | None = None,
    ) -> User:
        """Changes what is given. Raises NotFound, BadRequest."""
        _check_id("user", user_id)
        if group is not None:
            _check_name("group", group)
        given: dict[str, str | None] = {"group": group, "role": role, "state": state}
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            return await self.user(user_id)
        return await asyncio.to_thread(self._accounts.change_user, user_id, changes)

    async def issue_key(
        self, user_id: str, name: str = "", models: frozenset[str] = frozenset(), expires: int = 0
    ) -> tuple[ApiKey, Secret]:
        """A new key and, this once, its plain form. `expires` is in epoch seconds, 0 for never. Raises NotFound."""
        _check_id("user", user_id)
        if expires and expires <= self._clock():
            raise BadRequest("'expires' must lie in the future (epoch seconds), or be 0 for never.", param="expires")
        if len(name) > 64:
            raise BadRequest("'name' has at most 64 characters.", param="name")
        plain = Secret("sk-" + base64.urlsafe_b64encode(self._random_bytes(32)).decode().rstrip("="))
        now = int(self._clock())
        key = ApiKey(
            self._new_id("key"), user_id, digest(plain.reveal()), str(plain), name, models, expires, "active", now
        )
        await asyncio.to_thread(self._accounts.put_key, key)
        return key, plain

    async def keys(self, user_id: str) -> list[ApiKey]:
        """Every key of a user, revoked ones too, oldest first. Raises NotFound."""
        await self.user(user_id)
        return await asyncio.to_thread(self._accounts.list_keys, user_id)

    async def revoke_key(self, user_id: str, key_id: str) -> None:
        """Ends a key for good; ending it again changes nothing. Raises NotFound."""
        _check_id("user", user_id)
        _check_id("key", key_id)
        await asyncio.to_thread(self._accounts.revoke_key, user_id, key_id)

    async def bootstrap_admin(self) -> tuple[User, Secret] | None:
        """The first admin and its key; None once an active admin has a key that works.

        It looks for a key that works and not only for a user, because a run that was killed between the two (or an
        operator who revoked the last key) would otherwise be locked out for good.
        """
        admins = await self._admins()
        for admin in admins:
            if any(self._works(key) for key in await self.keys(admin.id)):
                return None
        first = admins[0] if admins else await self.create_user("admin", role="admin")
        _, plain = await self.issue_key(first.id, "bootstrap")
        return first, plain

    def _works(self, key: ApiKey) -> bool:
        return key.state == "active" and (not key.expires or key.expires > self._clock())

    async def _admins(self) -> list[User]:
        # By name first, which is a consistent read: the index of users trails, and two bootstraps may run at once.
        named = await asyncio.to_thread(self._accounts.get_user_by_username, "admin")
        found = {named.id: named} if named else {}
        after = ""
        while True:
            users, after = await self.users(after=after)
            found |= {user.id: user for user in users if user.id not in found}
            if not after:
                return [user for user in found.values() if user.role == "admin" and user.state == "active"]

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._random_bytes(10).hex()}"


def _check_id(kind: str, given: str) -> None:
    if not _ID.fullmatch(given):
        raise NotFound(f"There is no {kind} of this id: it takes 1 to 64 letters, digits or _ . -")


def _check_name(field: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise BadRequest(
            f"'{field}' takes 1 to 64 letters, digits or . _ @ + - and starts with a letter or digit.", param=field
        )
