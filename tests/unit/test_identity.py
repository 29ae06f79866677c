from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest

from sluice import identity
from sluice.errors import BadRequest, Conflict, NotFound, Unauthorized, Unavailable
from sluice.identity import AccountEditor, Identities, bearer, digest
from sluice.types import ApiKey
from tests.fakes_operator import Clock, MemoryAccounts

TTL = 5.0


@pytest.fixture
def accounts() -> MemoryAccounts:
    return MemoryAccounts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def editor(accounts: MemoryAccounts, clock: Clock) -> AccountEditor:
    return AccountEditor(accounts, clock)


@pytest.fixture
def identities(accounts: MemoryAccounts, clock: Clock) -> Identities:
    return Identities(accounts, clock, TTL)


async def issue(editor: AccountEditor, **more: Any) -> tuple[str, str, str]:
    """A user's id, its key's id and the plain key."""
    user = await editor.create_user("ann", group="vip")
    key, plain = await editor.issue_key(user.id, **more)
    return user.id, key.id, plain.reveal()


async def test_a_key_is_its_owner(editor: AccountEditor, identities: Identities) -> None:
    user_id, key_id, token = await issue(editor, models=frozenset({"a/b"}))
    who = await identities.identify(token)
    assert (who.user_id, who.key_id, who.username, who.group, who.role) == (user_id, key_id, "ann", "vip", "user")
    assert who.may_use("a/b")
    assert not who.may_use("c")


async def test_a_key_is_long_random_and_stored_only_as_its_hash(
    editor: AccountEditor, accounts: MemoryAccounts
) -> None:
    user = await editor.create_user("ann")
    tokens = {(await editor.issue_key(user.id))[1].reveal() for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", token) for token in tokens)
    stored = repr(accounts.list_keys(user.id))
    assert not any(token in stored for token in tokens)
    assert {key.sha256 for key in accounts.list_keys(user.id)} == {digest(token) for token in tokens}


@pytest.mark.parametrize(
    "token", ["nonsense", "sk-short", "sk-" + "a" * 300, "sk-" + "a" * 30 + "\n", "sk-" + "é" * 30, "Bearer sk-x"]
)
async def test_what_has_no_key_shape_is_refused_unread(
    identities: Identities, accounts: MemoryAccounts, token: str
) -> None:
    with pytest.raises(Unauthorized) as error:
        await identities.identify(token)
    assert accounts.reads == 0
    assert token not in error.value.message


@pytest.mark.parametrize("token", [None, ""])
async def test_no_key_says_how_to_send_one(identities: Identities, token: str | None) -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer") as error:
        await identities.identify(token)
    assert error.value.code == "missing_api_key"


async def test_each_refusal_has_its_own_sentence(editor: AccountEditor, identities: Identities, clock: Clock) -> None:
    user_id, key_id, token = await issue(editor, expires=int(clock()) + 100)
    sentences = {await refusal(identities, "sk-" + "x" * 43)}
    clock.now += 100
    sentences.add(await refusal(identities, token))
    await editor.revoke_key(user_id, key_id)
    clock.now += TTL
    sentences.add(await refusal(identities, token))
    _, plain = await editor.issue_key(user_id)
    await editor.change_user(user_id, state="suspended")
    sentences.add(await refusal(identities, plain.reveal()))
    words = ["not known", "expired", "revoked", "suspended"]
    assert len(sentences) == 4
    assert all(any(word in sentence for sentence in sentences) for word in words)
    assert not any(token in sentence for sentence in sentences)


async def refusal(identities: Identities, token: str) -> str:
    with pytest.raises(Unauthorized) as error:
        await identities.identify(token)
    return error.value.message


async def test_a_key_is_read_once_while_it_is_remembered(
    editor: AccountEditor, identities: Identities, accounts: MemoryAccounts, clock: Clock
) -> None:
    _, _, token = await issue(editor)
    await identities.identify(token)
    before = accounts.reads
    clock.now += TTL - 0.01
    await identities.identify(token)
    assert accounts.reads == before
    clock.now += 0.01
    await identities.identify(token)
    assert accounts.reads > before


async def test_an_expiry_is_seen_at_once_though_the_key_is_remembered(
    editor: AccountEditor, identities: Identities, clock: Clock
) -> None:
    _, _, token = await issue(editor, expires=int(clock()) + 2)
    await identities.identify(token)
    clock.now += 2
    with pytest.raises(Unauthorized, match="expired"):
        await identities.identify(token)


@pytest.mark.parametrize("change", ["revoke", "suspend", "promote"])
async def test_a_change_is_seen_when_the_memory_has_passed(
    editor: AccountEditor, identities: Identities, clock: Clock, change: str
) -> None:
    user_id, key_id, token = await issue(editor)
    assert (await identities.identify(token)).role == "user"
    if change == "revoke":
        await editor.revoke_key(user_id, key_id)
    else:
        await editor.change_user(user_id, **({"state": "suspended"} if change == "suspend" else {"role": "admin"}))
    clock.now += TTL
    if change == "promote":
        assert (await identities.identify(token)).role == "admin"
    else:
        with pytest.raises(Unauthorized):
            await identities.identify(token)


async def test_an_unknown_key_is_remembered_shortly(
    editor: AccountEditor, identities: Identities, accounts: MemoryAccounts, clock: Clock
) -> None:
    guess = "sk-" + "g" * 43
    await refusal(identities, guess)
    before = accounts.reads
    await refusal(identities, guess)
    assert accounts.reads == before
    clock.now += identity.UNKNOWN_SECONDS
    await refusal(identities, guess)
    assert accounts.reads > before


async def test_guesses_neither_grow_the_memory_nor_push_out_real_keys(
    editor: AccountEditor, identities: Identities, accounts: MemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "REMEMBERED", 10)
    _, _, token = await issue(editor)
    await identities.identify(token)
    for number in range(30):
        await refusal(identities, f"sk-{number:043d}")
    assert len(identities._unknown._items) == 10
    before = accounts.reads
    await identities.identify(token)
    assert accounts.reads == before


async def test_accounts_that_are_down_are_unavailable_and_never_unauthorized(
    editor: AccountEditor, identities: Identities, accounts: MemoryAccounts, clock: Clock
) -> None:
    _, _, token = await issue(editor)
    accounts.is_down = True
    for one in (token, "sk-" + "x" * 43):
        with pytest.raises(Unavailable):
            await identities.identify(one)
    accounts.is_down = False
    assert (await identities.identify(token)).username == "ann"


class SlowAccounts(MemoryAccounts):
    """Its look-up waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.look_ups = 0

    def get_key_by_sha256(self, sha256: str) -> ApiKey | None:
        self.look_ups += 1
        assert self.go.wait(10)
        return super().get_key_by_sha256(sha256)


async def test_parallel_requests_of_one_key_make_one_look_up_which_outlives_a_caller_that_leaves(clock: Clock) -> None:
    accounts = SlowAccounts()
    identities = Identities(accounts, clock, TTL)
    _, _, token = await issue(AccountEditor(accounts, clock))
    callers = [asyncio.create_task(identities.identify(token)) for _ in range(20)]
    while not accounts.look_ups:
        await asyncio.sleep(0)
    callers[0].cancel()
    accounts.go.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {one.username for one in found[1:] if not isinstance(one, BaseException)} == {"ann"}
    assert accounts.look_ups == 1
    assert identities._flights == {}


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"authorization": "Bearer sk-1"}, "sk-1"),
        ({"authorization": "bearer  sk-1 "}, "sk-1"),
        ({"x-api-key": "sk-2"}, "sk-2"),
        ({"x-goog-api-key": "sk-3"}, "sk-3"),
        ({"authorization": "Basic abc", "x-api-key": "sk-2"}, "sk-2"),
        ({"authorization": "Bearer sk-1", "x-api-key": "sk-2"}, "sk-1"),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "sk-1"}, None),
        ({}, None),
    ],
)
def test_bearer_finds_the_key_where_each_client_puts_it(headers: dict[str, str], token: str | None) -> None:
    assert bearer(headers) == token


# --- the operator's side ---


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "x" * 65}, "username"),
        ({"username": "a\n"}, "username"),
        ({"username": "ann", "group": "#"}, "group"),
    ],
)
async def test_a_bad_name_is_refused_by_its_field(editor: AccountEditor, arguments: dict[str, str], field: str) -> None:
    with pytest.raises(BadRequest) as error:
        await editor.create_user(**arguments)  # type: ignore[arg-type]
    assert error.value.param == field


async def test_a_name_is_taken_in_any_case(editor: AccountEditor) -> None:
    await editor.create_user("Ann")
    with pytest.raises(Conflict):
        await editor.create_user("aNN")


async def test_what_is_not_there_is_not_found(editor: AccountEditor) -> None:
    user = await editor.create_user("ann")
    for story in (
        editor.user("nobody"),
        editor.keys("nobody"),
        editor.issue_key("nobody"),
        editor.revoke_key(user.id, "nothing"),
        editor.change_user("nobody", group="a"),
        editor.change_user("nobody"),
    ):
        with pytest.raises(NotFound):
            await story


async def test_a_key_is_revoked_under_its_own_user_only(editor: AccountEditor) -> None:
    _, key_id, _ = await issue(editor)
    other = await editor.create_user("bob")
    with pytest.raises(NotFound):
        await editor.revoke_key(other.id, key_id)


async def test_a_key_cannot_be_born_expired(editor: AccountEditor, clock: Clock) -> None:
    user = await editor.create_user("ann")
    with pytest.raises(BadRequest) as error:
        await editor.issue_key(user.id, expires=int(clock()))
    assert error.value.param == "expires"


async def test_bootstrap_makes_the_first_admin_once(editor: AccountEditor, identities: Identities) -> None:
    first = await editor.bootstrap_admin()
    assert first is not None
    assert (await identities.identify(first[1].reveal())).role == "admin"
    assert await editor.bootstrap_admin() is None


async def test_bootstrap_helps_an_operator_whose_last_admin_key_is_gone(editor: AccountEditor) -> None:
    first = await editor.bootstrap_admin()
    assert first is not None
    for key in await editor.keys(first[0].id):
        await editor.revoke_key(first[0].id, key.id)
    again = await editor.bootstrap_admin()
    assert again is not None
    assert again[0] == first[0]
    assert again[1] != first[1]


async def test_bootstrap_leaves_an_admin_of_another_name_alone(editor: AccountEditor) -> None:
    for number in range(150):
        await editor.create_user(f"user-{number}")
    boss = await editor.create_user("boss", role="admin")
    await editor.issue_key(boss.id)
    assert await editor.bootstrap_admin() is None


async def test_bootstrap_never_promotes_a_user(editor: AccountEditor) -> None:
    await editor.create_user("admin")
    with pytest.raises(Conflict):
        await editor.bootstrap_admin()
