"""In-memory accounts and catalog, held to the real stores by tests/contract, and a KMS that counts its calls."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sluice.errors import Conflict, NotFound, Unavailable
from sluice.types import ApiKey, Snapshot, User


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Memory:
    """`reads` counts calls; with `is_down` set every call fails as an unreachable DynamoDB does."""

    def __init__(self) -> None:
        self.is_down = False
        self.reads = 0
        self._lock = threading.Lock()

    def _ask(self) -> None:
        self.reads += 1
        if self.is_down:
            raise Unavailable("The gateway's database did not answer. Try again in a moment.")


class MemoryAccounts(_Memory):
    def __init__(self) -> None:
        super().__init__()
        self._users: dict[str, User] = {}
        self._keys: dict[str, ApiKey] = {}

    def create_user(self, user: User) -> None:
        self._ask()
        with self._lock:
            names = {one.username.casefold() for one in self._users.values()}
            if user.id in self._users or user.username.casefold() in names:
                raise Conflict(f"The user name {user.username!r} is taken.", param="username")
            self._users[user.id] = user

    def get_user(self, user_id: str) -> User | None:
        self._ask()
        return self._users.get(user_id)

    def get_user_by_username(self, username: str) -> User | None:
        self._ask()
        return next((one for one in self._users.values() if one.username.casefold() == username.casefold()), None)

    def change_user(self, user_id: str, changes: Mapping[str, Any]) -> User:
        self._ask()
        if not changes or not changes.keys() <= {"group", "role", "state"}:
            raise ValueError("only group, role and state can be changed")
        if user_id not in self._users:
            raise NotFound(f"There is no user {user_id!r}.")
        self._users[user_id] = replace(self._users[user_id], **changes)
        return self._users[user_id]

    def list_users(self, limit: int = 100, after: str = "") -> tuple[list[User], str]:
        self._ask()
        rest = sorted((one for one in self._users.values() if one.id > after), key=lambda one: one.id)
        return rest[:limit], rest[limit - 1].id if len(rest) > limit else ""

    def put_key(self, key: ApiKey) -> None:
        self._ask()
        if key.user_id not in self._users:
            raise NotFound(f"There is no user {key.user_id!r}.")
        if key.sha256 in self._keys or any(one.id == key.id for one in self.list_keys(key.user_id)):
            raise Conflict("This key exists already.")
        self._keys[key.sha256] = key

    def get_key_by_sha256(self, sha256: str) -> ApiKey | None:
        self._ask()
        return self._keys.get(sha256)

    def list_keys(self, user_id: str) -> list[ApiKey]:
        self._ask()
        found = (one for one in self._keys.values() if one.user_id == user_id)
        return sorted(found, key=lambda key: (key.created, key.id))

    def revoke_key(self, user_id: str, key_id: str) -> None:
        for key in self.list_keys(user_id):
            if key.id == key_id:
                self._keys[key.sha256] = replace(key, state="revoked")
                return
        raise NotFound(f"User {user_id!r} has no key {key_id!r}.")


class MemoryCatalogStore(_Memory):
    def __init__(self) -> None:
        super().__init__()
        self._snapshot = Snapshot()
        self.loads = 0

    def version(self) -> int:
        self._ask()
        return self._snapshot.version

    def load(self) -> Snapshot:
        self._ask()
        self.loads += 1
        return self._snapshot

    def rows(self) -> Snapshot:
        self._ask()
        return self._snapshot

    def publish(self, old: Snapshot, new: Snapshot) -> Snapshot:
        self._ask()
        with self._lock:
            if old.version != self._snapshot.version:
                raise Conflict("The catalog was changed by someone else. Read it again and repeat the change.")
            self._snapshot = replace(new, version=old.version + 1)
            return self._snapshot


class FakeKms:
    """Wraps a data key by remembering it. `calls` names the operations asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._wrapped: dict[bytes, tuple[bytes, Mapping[str, str]]] = {}

    def generate_data_key(self, KeyId: str, KeySpec: str, EncryptionContext: Mapping[str, str]) -> dict[str, bytes]:
        self.calls.append("generate_data_key")
        number = len(self._wrapped)
        wrapped, plain = f"{KeyId}/{number}".encode(), bytes([number + 1]) * 32
        self._wrapped[wrapped] = plain, EncryptionContext
        return {"CiphertextBlob": wrapped, "Plaintext": plain}

    def decrypt(self, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> dict[str, bytes]:
        self.calls.append("decrypt")
        plain, context = self._wrapped[CiphertextBlob]
        assert context == EncryptionContext
        return {"Plaintext": plain}
