"""What an accounts store does, said once: the fake of the tests and the real one on moto and MiniStack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sluice.errors import Conflict, NotFound, Unavailable
from sluice.identity import AccountRows
from sluice.stores.accounts import Accounts
from sluice.types import ApiKey, User
from tests.contract.conftest import Tables
from tests.fakes_operator import MemoryAccounts

ANN = User("user_1", "Ann", "vip", "user", "active", 1_800_000_000)
KEY = ApiKey("key_1", ANN.id, "ab" * 32, "sk-…abcd", "laptop", frozenset({"a/b", "c"}), 1_900_000_000, "active", 5)


@pytest.fixture(params=["memory", "moto", "ministack"])
def accounts(request: pytest.FixtureRequest) -> AccountRows:
    if request.param == "memory":
        return MemoryAccounts()
    tables: Tables = request.getfixturevalue(f"{request.param}_tables")
    return Accounts(tables.client, tables.accounts)


def test_a_user_is_found_by_id_and_by_name_in_any_case(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    assert accounts.get_user(ANN.id) == ANN
    assert accounts.get_user_by_username("aNN") == ANN
    assert accounts.get_user("user_2") is None
    assert accounts.get_user_by_username("bob") is None


@pytest.mark.parametrize("second", [replace(ANN, id="user_2"), replace(ANN, id="user_2", username="ANN")])
def test_a_name_is_given_once(accounts: AccountRows, second: User) -> None:
    accounts.create_user(ANN)
    with pytest.raises(Conflict) as error:
        accounts.create_user(second)
    assert error.value.param == "username"
    assert accounts.get_user(second.id) is None


def test_an_id_is_given_once(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    with pytest.raises(Conflict):
        accounts.create_user(replace(ANN, username="bob"))
    assert accounts.get_user_by_username("bob") is None


# Not on moto: inside one process its transactions do not keep each other out.
@pytest.mark.parametrize("accounts", ["memory", "ministack"], indirect=True)
def test_of_many_who_want_a_name_at_once_one_gets_it(accounts: AccountRows) -> None:
    def attempt(number: int) -> bool:
        try:
            accounts.create_user(replace(ANN, id=f"user_{number}"))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    users, _ = accounts.list_users()
    assert [one.username for one in users] == ["Ann"]


def test_a_change_touches_what_is_given_only(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    assert accounts.change_user(ANN.id, {"state": "suspended"}) == replace(ANN, state="suspended")
    assert accounts.change_user(ANN.id, {"role": "admin", "group": "g"}).state == "suspended"
    assert accounts.get_user(ANN.id) == replace(ANN, state="suspended", role="admin", group="g")


def test_nobody_cannot_be_changed(accounts: AccountRows) -> None:
    with pytest.raises(NotFound):
        accounts.change_user("user_9", {"group": "g"})
    assert accounts.get_user("user_9") is None


@pytest.mark.parametrize("changes", [{}, {"username": "bob"}, {"group": "g", "id": "x"}])
def test_what_is_fixed_cannot_be_changed(accounts: AccountRows, changes: dict[str, str]) -> None:
    accounts.create_user(ANN)
    with pytest.raises(ValueError, match="changed"):
        accounts.change_user(ANN.id, changes)


def test_users_are_listed_page_by_page_each_once(accounts: AccountRows) -> None:
    made = [replace(ANN, id=f"user_{number}", username=f"u{number}") for number in range(7)]
    for user in made:
        accounts.create_user(user)
        accounts.put_key(replace(KEY, id=f"key_{user.id}", user_id=user.id, sha256=user.id.rjust(64, "0")))
    found: list[User] = []
    after, pages = "", 0
    while after or not pages:
        users, after = accounts.list_users(3, after)
        found += users
        pages += 1
        assert pages < 9
    assert found == made
    assert pages == 3


def test_a_key_is_found_by_its_hash_and_under_its_owner(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    accounts.put_key(KEY)
    assert accounts.get_key_by_sha256(KEY.sha256) == KEY
    assert accounts.get_key_by_sha256("cd" * 32) is None
    assert accounts.list_keys(ANN.id) == [KEY]
    assert accounts.list_keys("user_2") == []


def test_keys_are_listed_oldest_first(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    keys = [replace(KEY, id=f"key_{9 - age}", sha256=f"{age:064d}", created=age) for age in range(4)]
    for key in reversed(keys):
        accounts.put_key(key)
    assert accounts.list_keys(ANN.id) == keys


def test_a_key_of_nobody_is_not_stored(accounts: AccountRows) -> None:
    with pytest.raises(NotFound):
        accounts.put_key(KEY)
    assert accounts.get_key_by_sha256(KEY.sha256) is None


@pytest.mark.parametrize("second", [replace(KEY, id="key_2"), replace(KEY, sha256="cd" * 32)])
def test_a_key_is_stored_once(accounts: AccountRows, second: ApiKey) -> None:
    accounts.create_user(ANN)
    accounts.put_key(KEY)
    with pytest.raises(Conflict):
        accounts.put_key(second)
    assert accounts.list_keys(ANN.id) == [KEY]


def test_a_revoked_key_is_revoked_everywhere_and_stays_listed(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    accounts.put_key(KEY)
    for _ in range(2):
        accounts.revoke_key(ANN.id, KEY.id)
        assert accounts.get_key_by_sha256(KEY.sha256) == replace(KEY, state="revoked")
        assert accounts.list_keys(ANN.id) == [replace(KEY, state="revoked")]


def test_a_key_is_revoked_under_its_own_user_only(accounts: AccountRows) -> None:
    accounts.create_user(ANN)
    accounts.create_user(replace(ANN, id="user_2", username="bob"))
    accounts.put_key(KEY)
    with pytest.raises(NotFound):
        accounts.revoke_key("user_2", KEY.id)
    assert accounts.get_key_by_sha256(KEY.sha256) == KEY


def test_a_table_that_is_not_there_is_unavailable(dynamodb: Tables) -> None:
    accounts = Accounts(dynamodb.client, "no-such-table")
    for attempt in (
        lambda: accounts.get_key_by_sha256(KEY.sha256),
        lambda: accounts.create_user(ANN),
        lambda: accounts.list_users(),
        lambda: accounts.change_user(ANN.id, {"group": "g"}),
    ):
        with pytest.raises(Unavailable):
            attempt()
