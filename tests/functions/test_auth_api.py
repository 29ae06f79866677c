"""The user's door, through HTTP."""

from __future__ import annotations

import pytest

import auth_app
from tests.operator_desk import Desk, caller


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_me_says_who_i_am_and_what_is_mine(desk: Desk) -> None:
    user_id, token = await desk.key("ann", models=frozenset({"b", "a"}))
    await desk.ledger.credit(user_id, 2 * 10**9, "r")
    await desk.ledger.hold(user_id, "req_1", 5 * 10**8)
    async with caller(auth_app.create_app(desk.auth), token) as client:
        response = await client.get("/api/v1/users/me")
    assert response.status_code == 200
    assert token not in response.text
    me = response.json()
    assert me.pop("key") == {
        "id": desk.accounts.list_keys(user_id)[0].id,
        "masked": f"sk-…{token[-4:]}",
        "models": ["a", "b"],
    }
    assert me == {
        "id": user_id,
        "username": "ann",
        "group": "default",
        "role": "user",
        "wallet": {
            "id": user_id,
            "balance": {"usd": "2", "nano": 2_000_000_000},
            "available": {"usd": "1.5", "nano": 1_500_000_000},
            "held": {"usd": "0.5", "nano": 500_000_000},
        },
    }


async def test_who_never_had_credit_has_an_empty_wallet(desk: Desk) -> None:
    _, token = await desk.key("ann")
    async with caller(auth_app.create_app(desk.auth), token) as client:
        me = (await client.get("/api/v1/users/me")).json()
    assert me["wallet"]["balance"] == {"usd": "0", "nano": 0}


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key"])
async def test_a_key_may_come_in_another_clients_header(desk: Desk, header: str) -> None:
    user_id, token = await desk.key("ann")
    async with caller(auth_app.create_app(desk.auth)) as client:
        me = (await client.get("/api/v1/users/me", headers={header: token})).json()
    assert me["id"] == user_id
    assert me["key"]["masked"] == f"sk-…{token[-4:]}"


async def test_without_a_key_it_says_how_to_send_one(desk: Desk) -> None:
    async with caller(auth_app.create_app(desk.auth)) as client:
        response = await client.get("/api/v1/users/me")
    assert response.status_code == 401
    error = response.json()["error"]
    assert error["code"] == "missing_api_key"
    assert "Authorization: Bearer" in error["message"]
    assert error["request_id"] == response.headers["x-request-id"]
