"""Users and their keys. docs/data-model.md, "accounts", has the key formats and every access pattern.

A key is two items: one found by its hash (the way of a request), one listed under its owner (the way of an operator);
a transaction keeps them the same. A third item per user keeps user names unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.errors import Conflict, NotFound
from sluice.stores._calls import ConditionFailed, answers, transact
from sluice.stores._items import Client, Item, pack, pack_item, unpack_item
from sluice.types import ApiKey, User

USERS_INDEX = "users"
CHANGEABLE = frozenset({"group", "role", "state"})


class Accounts:
    """The accounts table. Every method raises Unavailable when DynamoDB does not answer."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    # --- users ---

    def create_user(self, user: User) -> None:
        """Raises Conflict when the id or the user name (in any case) is taken."""
        name = {"pk": _name_pk(user.username), "sk": "NAME", "user_id": user.id}
        try:
            transact(self._client, self._table, [self._put_new(_user_item(user)), self._put_new(name)])
        except ConditionFailed:
            raise Conflict(f"The user name {user.username!r} is taken.", param="username") from None

    def get_user(self, user_id: str) -> User | None:
        item = self._get(_user_pk(user_id), "USER")
        return _user(item) if item else None

    def get_user_by_username(self, username: str) -> User | None:
        name = self._get(_name_pk(username), "NAME")
        return self.get_user(name["user_id"]) if name else None

    def change_user(self, user_id: str, changes: Mapping[str, str]) -> User:
        """Sets the given fields (of `CHANGEABLE`) and leaves the rest alone. Raises NotFound."""
        if not changes or not changes.keys() <= CHANGEABLE:
            raise ValueError(f"only {sorted(CHANGEABLE)} can be changed, at least one")
        try:
            with answers(self._table):
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=pack_item({"pk": _user_pk(user_id), "sk": "USER"}),
                    UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in changes),
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeNames={f"#{name}": name for name in changes},
                    ExpressionAttributeValues={f":{name}": pack(value) for name, value in changes.items()},
                    ReturnValues="ALL_NEW",
                )
        except ConditionFailed:
            raise _no_user(user_id) from None
        return _user(unpack_item(answer["Attributes"]))

    def list_users(self, limit: int = 100, after: str = "") -> tuple[list[User], str]:
        """One page in order of id, and the id to go on after ("" at the end). The index trails by a moment."""
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": USERS_INDEX,
            "KeyConditionExpression": "kind = :kind",
            "ExpressionAttributeValues": {":kind": pack("user")},
            "Limit": limit,
        }
        if after:
            arguments["ExclusiveStartKey"] = pack_item({"kind": "user", "pk": _user_pk(after), "sk": "USER"})
        with answers(self._table):
            answer = self._client.query(**arguments)
        users = [_user(unpack_item(item)) for item in answer["Items"]]
        return users, users[-1].id if users and "LastEvaluatedKey" in answer else ""

    # --- keys ---

    def put_key(self, key: ApiKey) -> None:
        """Raises NotFound when the owner does not exist, Conflict when the key does."""
        owner = {
            "TableName": self._table,
            "Key": pack_item({"pk": _user_pk(key.user_id), "sk": "USER"}),
            "ConditionExpression": "attribute_exists(pk)",
        }
        writes = [{"ConditionCheck": owner}, *(self._put_new(item) for item in _key_items(key))]
        try:
            transact(self._client, self._table, writes)
        except ConditionFailed as failed:
            if failed.index == 0:
                raise _no_user(key.user_id) from None
            raise Conflict("This key exists already.") from None

    def get_key_by_sha256(self, sha256: str) -> ApiKey | None:
        item = self._get(_key_pk(sha256), "KEY")
        return _key(item) if item else None

    def list_keys(self, user_id: str) -> list[ApiKey]:
        """Every key of a user, revoked ones too, oldest first."""
        with answers(self._table):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
                ExpressionAttributeValues={":pk": pack(_user_pk(user_id)), ":prefix": pack("KEY#")},
                ConsistentRead=True,
            )
            keys = [_key(unpack_item(item)) for page in pages for item in page["Items"]]
        return sorted(keys, key=lambda key: (key.created, key.id))

    def revoke_key(self, user_id: str, key_id: str) -> None:
        """Ends a key for good; ending it again changes nothing. Raises NotFound."""
        item = self._get(_user_pk(user_id), f"KEY#{key_id}")
        if not item:
            raise NotFound(f"User {user_id!r} has no key {key_id!r}.")
        key = _key(item)
        places = [(_key_pk(key.sha256), "KEY"), (_user_pk(user_id), f"KEY#{key_id}")]
        transact(self._client, self._table, [self._revoke(pk, sk) for pk, sk in places])

    # --- pieces ---

    def _get(self, pk: str, sk: str) -> dict[str, Any]:
        # Consistent, because a revoked key must be seen within the process cache's time, not a replica's.
        with answers(self._table):
            answer = self._client.get_item(
                TableName=self._table, Key=pack_item({"pk": pk, "sk": sk}), ConsistentRead=True
            )
        return unpack_item(answer.get("Item", {}))

    def _put_new(self, values: Item) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._table,
                "Item": pack_item(values),
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _revoke(self, pk: str, sk: str) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._table,
                "Key": pack_item({"pk": pk, "sk": sk}),
                "UpdateExpression": "SET #state = :revoked",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {":revoked": pack("revoked")},
            }
        }


def _user_pk(user_id: str) -> str:
    return f"U#{user_id}"


def _key_pk(sha256: str) -> str:
    return f"K#{sha256}"


def _name_pk(username: str) -> str:
    return f"N#{username.casefold()}"


def _no_user(user_id: str) -> NotFound:
    return NotFound(f"There is no user {user_id!r}.")


def _user_item(user: User) -> dict[str, Any]:
    fields = {
        "username": user.username,
        "group": user.group,
        "role": user.role,
        "state": user.state,
        "created": user.created,
    }
    # `kind` puts the user, and nothing else of this table, into the index that lists them.
    return {"pk": _user_pk(user.id), "sk": "USER", "kind": "user", **fields}


def _user(item: Item) -> User:
    return User(
        id=item["pk"].removeprefix("U#"),
        username=item["username"],
        group=item["group"],
        role=item["role"],
        state=item["state"],
        created=item["created"],
    )


def _key_items(key: ApiKey) -> list[dict[str, Any]]:
    fields = {
        "id": key.id,
        "user_id": key.user_id,
        "sha256": key.sha256,
        "masked": key.masked,
        "name": key.name,
        "models": sorted(key.models),
        "expires": key.expires,
        "state": key.state,
        "created": key.created,
    }
    return [
        {"pk": _key_pk(key.sha256), "sk": "KEY", **fields},
        {"pk": _user_pk(key.user_id), "sk": f"KEY#{key.id}", **fields},
    ]


def _key(item: Item) -> ApiKey:
    return ApiKey(
        id=item["id"],
        user_id=item["user_id"],
        sha256=item["sha256"],
        masked=item["masked"],
        name=item["name"],
        models=frozenset(item["models"]),
        expires=item["expires"],
        state=item["state"],
        created=item["created"],
    )
