"""The operator's door, through HTTP: the API of docs/admin-api.md."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import admin_app
import admin_shapes
from infra.local.scripted_upstream import ScriptedUpstream
from sluice import models
from sluice.cache import mark_names
from sluice.types import RATE_KINDS, Receipt, Usage
from tests.operator_desk import Desk, caller

CANARY = "sk-provider-canary-0123456789"
CHANNEL = {"type": "openai", "name": "main", "models": ["gpt", "deepseek/chat"]}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def api(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    _, token = await desk.key("boss", role="admin")
    async with caller(admin_app.create_app(desk.admin), token) as client:
        client.base_url = httpx.URL("http://sluice.test/api/admin/")
        yield client


async def good(answer: Any, status: int = 200) -> Any:
    response = await answer
    assert response.status_code == status, response.text
    return response.json() if response.content else None


async def bad(answer: Any, status: int, param: str | None = None, code: str = "invalid_request") -> str:
    """Checks an error's whole shape and returns its sentence."""
    response = await answer
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert set(error) == {"code", "message", "param", "request_id"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return str(error["message"])


# --- channels ---


async def test_a_channel_is_made_read_changed_and_deleted(api: httpx.AsyncClient) -> None:
    made = await good(api.post("channels", json=CHANNEL), 201)
    assert made == {
        "id": made["id"],
        **CHANNEL,
        "priority": 0,
        "weight": 1,
        "state": "enabled",
        "retry": 0,
        "has_secret": False,
        "endpoint": "",
        "proxy": "",
        "groups": [],
        "mapping": {},
        "marks": [],
    }
    path = f"channels/{made['id']}"
    assert await good(api.get(path)) == made
    assert await good(api.get("channels")) == {"data": [made]}
    changed = await good(api.patch(path, json={"state": "disabled", "mapping": {"gpt": "gpt-5"}}))
    assert changed == {**made, "state": "disabled", "mapping": {"gpt": "gpt-5"}}
    assert await good(api.get(path)) == changed
    await good(api.delete(path), 204)
    await bad(api.get(path), 404, code="not_found")
    await bad(api.delete(path), 404, code="not_found")
    await bad(api.patch(path, json={"weight": 2}), 404, code="not_found")


async def test_a_channel_may_bring_its_own_id_once(api: httpx.AsyncClient) -> None:
    made = await good(api.post("channels", json={**CHANNEL, "id": "demo"}), 201)
    assert made["id"] == "demo"
    await bad(api.post("channels", json={**CHANNEL, "id": "demo"}), 409, "id", "conflict")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"type": "nonsense"}, "type"),
        ({"models": []}, "models"),
        ({"models": "gpt"}, "models"),
        ({"models": ["a", 1]}, "models.1"),
        ({"priority": "1"}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"weight": -1}, "weight"),
        ({"weight": None}, "weight"),
        ({"retry": 11}, "retry"),
        ({"state": "on"}, "state"),
        ({"endpoint": "https://user:pass@host"}, "endpoint"),
        ({"proxy": "ftp://host"}, "proxy"),
        ({"groups": "vip"}, "groups"),
        ({"mapping": {"a": 1}}, "mapping.a"),
        ({"secret": 5}, "secret"),
        ({"modles": ["a"]}, "modles"),
        ({"models": ["gpt"] * 1001}, "models"),
        ({"groups": ["vip"] * 1001}, "groups"),
        ({"mapping": {str(number): "gpt" for number in range(1001)}}, "mapping"),
    ],
)
async def test_a_bad_field_is_named_when_made_and_when_changed(
    api: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    await bad(api.post("channels", json={**CHANNEL, **change}), 400, param)
    await good(api.post("channels", json={**CHANNEL, "id": "a"}), 201)
    before = await good(api.get("channels/a"))
    await bad(api.patch("channels/a", json=change), 400, param)
    assert await good(api.get("channels/a")) == before


async def test_a_model_that_is_named_twice_is_served_once(api: httpx.AsyncClient) -> None:
    made = await good(
        api.post("channels", json={**CHANNEL, "models": ["b", "a", "b"] * 300, "groups": ["g", "g"]}), 201
    )
    assert (made["models"], made["groups"]) == (["b", "a"], ["g"])


@pytest.mark.parametrize("field", ["type", "name", "models"])
async def test_a_missing_field_is_named(api: httpx.AsyncClient, field: str) -> None:
    given = {name: value for name, value in CHANNEL.items() if name != field}
    await bad(api.post("channels", json=given), 400, field)


async def test_a_channels_id_cannot_be_changed(api: httpx.AsyncClient) -> None:
    await good(api.post("channels", json={**CHANNEL, "id": "a"}), 201)
    await bad(api.patch("channels/a", json={"id": "b"}), 400, "id")


async def test_a_secret_is_used_and_never_shown(
    api: httpx.AsyncClient, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"secret": CANARY}
    answers = [
        await api.post("channels", json={**CHANNEL, **secret, "id": "a"}),
        await api.post("channels", json={**CHANNEL, **secret, "id": "a"}),
        await api.post("channels", json={**CHANNEL, **secret, "type": "nonsense"}),
        await api.post("channels", json={**CHANNEL, **secret, "weight": "x", CANARY: CANARY[::-1]}),
        await api.post("channels", json={**CHANNEL, "secret": [CANARY]}),
        await api.post("channels", json={**CHANNEL, "secret": CANARY + "\n"}),
        await api.patch("channels/a", json=secret),
        await api.patch("channels/a", json={"name": "b"}),
        await api.get("channels/a"),
        await api.get("channels"),
        await api.get("openapi.json"),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 400, 400, 400, 400, 200, 200, 200, 200, 200]
    # The fourth sends the canary as a field's *name*, which is the caller's own word for what is wrong.
    told = "".join(answer.text for number, answer in enumerate(answers) if number != 3)
    assert CANARY not in told
    assert CANARY[::-1] not in answers[3].text
    assert CANARY not in caplog.text
    assert CANARY not in repr(desk.store.rows())
    assert answers[8].json()["has_secret"] is True
    catalog = await desk.catalog.current()
    assert catalog.channels[0].secret.reveal() == CANARY
    assert CANARY not in repr(catalog)


async def test_an_empty_secret_removes_the_stored_one(api: httpx.AsyncClient) -> None:
    await good(api.post("channels", json={**CHANNEL, "id": "a", "secret": CANARY}), 201)
    assert (await good(api.patch("channels/a", json={"secret": ""})))["has_secret"] is False


async def test_what_broke_is_named_by_its_kind_and_shows_no_value(
    api: httpx.AsyncClient, desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError(f"no idea what to do with {CANARY}")

    monkeypatch.setattr(desk.store, "rows", broken)
    message = await bad(api.get("channels"), 500, code="internal_error")
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text + message


# --- care of channels ---


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("gpt", "gpt-next")) as up:
        yield up


async def served(api: httpx.AsyncClient, up: ScriptedUpstream, script: str = "ok") -> str:
    """The path of a channel with the canary for its secret, on a real upstream."""
    endpoint = f"{up.url}/{script}/v1"
    await good(api.post("channels", json={**CHANNEL, "id": "a", "secret": CANARY, "endpoint": endpoint}), 201)
    return "channels/a"


async def test_a_channel_is_tested(api: httpx.AsyncClient, up: ScriptedUpstream) -> None:
    told = await good(api.post(f"{await served(api, up)}/test"))
    assert (told["ok"], told["kind"], told["status"], told["model"], told["message"]) == (True, "ok", 200, "gpt", "")
    assert up.calls[0].headers["authorization"] == f"Bearer {CANARY}"
    assert (await good(api.post("channels/a/test", json={"model": "deepseek/chat"})))["model"] == "deepseek/chat"
    await bad(api.post("channels/a/test", json={"model": "other"}), 400, "model")
    await bad(api.post("channels/a/test", json={"prompt": "hi"}), 400, "prompt")
    await bad(api.post("channels/b/test"), 404, code="not_found")


async def test_what_a_tested_channel_met_is_an_answer_without_its_key(
    api: httpx.AsyncClient, up: ScriptedUpstream
) -> None:
    answer = await api.post(f"{await served(api, up, 'status=401')}/test")
    told = answer.json()
    assert (answer.status_code, told["ok"], told["kind"], told["status"]) == (200, False, "auth", 401)
    assert told["message"]
    assert CANARY not in answer.text


async def test_a_providers_models_are_shown_and_then_served(api: httpx.AsyncClient, up: ScriptedUpstream) -> None:
    path = await served(api, up)
    shown = {"offered": ["gpt", "gpt-next"], "added": ["gpt-next"], "gone": ["deepseek/chat"]}
    expected = {**shown, "models": ["gpt", "gpt-next"]}
    assert await good(api.post(f"{path}/sync-models")) == {**expected, "applied": False}
    assert (await good(api.get(path)))["models"] == CHANNEL["models"]
    assert await good(api.post(f"{path}/sync-models", json={"apply": True})) == {**expected, "applied": True}
    assert (await good(api.get(path)))["models"] == ["gpt", "gpt-next"]
    await bad(api.post(f"{path}/sync-models", json={"apply": "yes"}), 400, "apply")
    await good(api.patch(path, json={"endpoint": f"{up.url}/v1/nowhere"}))
    await bad(api.post(f"{path}/sync-models", json={"apply": True}), 502, code="upstream_failed")
    assert (await good(api.get(path)))["models"] == ["gpt", "gpt-next"]


async def test_a_channels_marks_are_shown_until_it_is_changed(api: httpx.AsyncClient, desk: Desk) -> None:
    await good(api.post("channels", json={**CHANNEL, "id": "a"}), 201)
    whole, with_model = mark_names((await desk.catalog.current()).channels[0], "gpt")
    await desk.marks.mark(whole, 60, "quota")
    await desk.marks.mark(with_model, 30, "model_not_found")
    until = int(desk.clock())
    marks = [
        {"kind": "quota", "until": until + 60, "model": None},
        {"kind": "model_not_found", "until": until + 30, "model": "gpt"},
    ]
    assert (await good(api.get("channels/a")))["marks"] == marks
    assert (await good(api.get("channels")))["data"][0]["marks"] == marks
    assert (await good(api.patch("channels/a", json={})))["marks"] == []
    assert (await good(api.get("channels/a")))["marks"] == []


# --- prices ---


async def test_a_price_is_exact_whether_sent_as_number_or_text(api: httpx.AsyncClient) -> None:
    body = '{"input": 0.100000001, "output": "12.30", "max_output": 8192}'
    put = await good(api.put("prices/deepseek/deepseek-chat:free", content=body, headers=JSON))
    assert put["model"] == "deepseek/deepseek-chat:free"
    assert (put["input"], put["output"], put["max_output"]) == ("0.100000001", "12.30", 8192)
    assert put["valid_from"] == 1_800_000_000
    assert await good(api.get("prices")) == {"data": [put]}


JSON = {"content-type": "application/json"}


async def test_every_kind_of_price_is_kept_as_it_was_put(api: httpx.AsyncClient) -> None:
    kinds = {kind: f"0.0{number}" for number, kind in enumerate(RATE_KINDS)}
    put = await good(api.put("prices/m", json={"input": 1, "output": 2, **kinds}))
    assert {kind: put[kind] for kind in RATE_KINDS} == kinds
    assert await good(api.get("prices")) == {"data": [put]}
    again = await good(api.put("prices/m", json={"input": 1, "output": 2, **kinds}))
    assert again["version"] == put["version"]
    plain = await good(api.put("prices/n", json={"input": 1, "output": 2, "cached_input": None}))
    assert {plain[kind] for kind in RATE_KINDS} == {None}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"input": 1}', "output"),
        ('{"input": -1, "output": 1}', "input"),
        ('{"input": 1, "output": "a"}', "output"),
        ('{"input": 1, "output": "NaN"}', "output"),
        ('{"input": 1, "output": 0.0000000001}', "output"),
        ('{"input": 1, "output": 1e999999999}', "output"),
        ('{"input": 1, "output": 1e-999999999}', "output"),
        ('{"input": true, "output": 1}', "input"),
        ('{"input": 1, "output": null}', "output"),
        ('{"input": 1, "output": 1, "valid_from": 5}', "valid_from"),
        ('{"input": 1, "output": 1, "max_output": -5}', "max_output"),
        ('{"input": 1, "output": 1, "currency": "EUR"}', "currency"),
        ('{"input": 1, "output": 1, "per_image": -1}', "per_image"),
        ('{"input": 1, "output": 1, "cached_input": "1e-10"}', "cached_input"),
        ('{"input": 1, "output": "1_000"}', "output"),
        ('{"input": " 1 ", "output": 1}', "input"),
        ('{"input": "\\uff11\\uff12", "output": 1}', "input"),
        ('{"input": 1, "output": 1, "per_image": "1\\n"}', "per_image"),
    ],
)
async def test_a_bad_price_is_named(api: httpx.AsyncClient, body: str, param: str) -> None:
    await bad(api.put("prices/m", content=body, headers=JSON), 400, param)
    assert await good(api.get("prices")) == {"data": []}


RATE = TypeAdapter(admin_shapes.Rate)


@given(st.one_of(st.text(alphabet="0123456789._ eE+-\u0661\uff11\n", max_size=8), st.text(max_size=5)))
def test_a_text_is_a_price_only_in_plain_digits(text: str) -> None:
    is_plain = set(text) <= set("0123456789.-") and text.strip(".-") == text.removeprefix("-") and text.count(".") < 2
    try:
        price = RATE.validate_python(text)
    except ValidationError:
        # Plain, and refused: below zero, no number at all, or out of bounds.
        assert not is_plain or text in ("", "-") or text.startswith("-") or float(text) > 10**6
    else:
        assert is_plain
        assert float(price) == float(text)


@pytest.mark.parametrize("body", ["", "{", "[]", '"text"', "NaN", '{"input": NaN}', "\xff", "[" * 100_000])
async def test_a_body_that_is_no_json_object_is_a_bad_request(api: httpx.AsyncClient, body: str) -> None:
    await bad(api.put("prices/m", content=body.encode("latin-1"), headers=JSON), 400)


async def test_a_body_over_the_cap_is_refused(api: httpx.AsyncClient) -> None:
    await bad(api.put("prices/m", content=b" " * 1_100_000, headers=JSON), 413, code="request_too_large")


# --- models ---


async def test_a_model_is_described_by_the_operator_over_what_is_known(api: httpx.AsyncClient, desk: Desk) -> None:
    await good(api.post("channels", json={**CHANNEL, "id": "a"}), 201)
    listed = await good(api.get("models"))
    assert [one["id"] for one in listed["data"]] == ["deepseek/chat", "gpt"]
    said = {"context": 1000, "max_output": 100, "input": ["text"], "tools": False, "name": "Our own"}
    put = await good(api.put("models/deepseek/chat", json=said))
    assert {field: put[field] for field in said} == said
    assert sorted(put["said"]) == sorted(said)
    assert (put["reasoning"], put["output"], put["list_prices"]) == (None, [], {})
    assert await good(api.get("models/deepseek/chat")) == put
    assert put in (await good(api.get("models")))["data"]
    assert (await desk.catalog.current()).described["deepseek/chat"].tools is False
    await good(api.delete("models/deepseek/chat"), 204)
    await bad(api.delete("models/deepseek/chat"), 404, code="not_found")
    await bad(api.get("models/deepseek/chat"), 404, code="not_found")


async def test_a_model_of_the_default_catalogue_is_known_before_anybody_says_anything(api: httpx.AsyncClient) -> None:
    name, known = next(item for item in models.catalogue().items() if item[1].prices and item[1].tools)
    got = await good(api.get(f"models/{name}"))
    assert (got["name"], got["context"], got["said"], got["as_of"]) == (known.name, known.context, [], models.dated())
    assert got["list_prices"]["input"] == format(known.prices["input"], "f")
    put = await good(api.put(f"models/{name}", json={"tools": False}))
    assert put == {**got, "tools": False, "said": ["tools"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"context": -1}, "context"),
        ({"max_output": "many"}, "max_output"),
        ({"input": ["smell"]}, "input.0"),
        ({"tools": "yes"}, "tools"),
        ({"owner": "x" * 201}, "owner"),
        ({"vision": True}, "vision"),
    ],
)
async def test_a_bad_description_is_named(api: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    await bad(api.put("models/m", json=body), 400, param)
    assert await good(api.get("models")) == {"data": []}


# --- users and keys ---


async def test_a_user_is_made_listed_and_changed(api: httpx.AsyncClient) -> None:
    made = await good(api.post("users", json={"username": "ann", "group": "vip"}), 201)
    assert made["id"].startswith("user_")
    assert (made["username"], made["group"], made["role"], made["state"]) == ("ann", "vip", "user", "active")
    path = f"users/{made['id']}"
    assert await good(api.get(path)) == made
    assert made in (await good(api.get("users")))["data"]
    changed = await good(api.patch(path, json={"state": "suspended", "role": "admin"}))
    assert changed == {**made, "state": "suspended", "role": "admin"}
    assert await good(api.patch(path, json={})) == changed
    await bad(api.post("users", json={"username": "ANN"}), 409, "username", "conflict")
    await bad(api.get("users/nobody"), 404, code="not_found")
    await bad(api.patch("users/nobody", json={"group": "g"}), 404, code="not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"group": None}, "group"),
        ({"role": None}, "role"),
        ({"state": None}, "state"),
        ({"group": ""}, "group"),
        ({"state": "gone"}, "state"),
        ({"username": "bob"}, "username"),
    ],
)
async def test_a_bad_change_of_a_user_is_named_and_changes_nothing(
    api: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    user = await good(api.post("users", json={"username": "ann"}), 201)
    await bad(api.patch(f"users/{user['id']}", json={"role": "admin", **body}), 400, param)
    assert await good(api.get(f"users/{user['id']}")) == user


@pytest.mark.parametrize("user_id", ["x" * 3000, "x" * 65, "a%20b", "%00", "%F0%9F%92%B8", "%EF%BC%91"])
async def test_an_id_that_cannot_be_one_is_not_found_and_the_database_is_not_asked(
    api: httpx.AsyncClient, desk: Desk, user_id: str
) -> None:
    await good(api.get("users"))  # the caller's own key is known from here on
    reads = desk.accounts.reads
    for answer in (
        api.get(f"users/{user_id}"),
        api.patch(f"users/{user_id}", json={"group": "g"}),
        api.patch(f"users/{user_id}", json={}),
        api.get(f"users/{user_id}/keys"),
        api.post(f"users/{user_id}/keys"),
        api.delete(f"users/{user_id}/keys/key_1"),
        api.delete(f"users/user_1/keys/{user_id}"),
        api.post(f"users/{user_id}/credit", json={"usd": 1}),
        api.get(f"users/{user_id}/wallet"),
        api.get(f"users/{user_id}/entries"),
        api.get(f"users/{user_id}/usage"),
        api.get(f"users/{user_id}/proof"),
    ):
        assert len(await bad(answer, 404, code="not_found")) < 200
    await bad(api.get("users", params={"after": "x" * 65}), 400, "after")
    assert desk.accounts.reads == reads


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "a", "group": ""}, "group"),
        ({"username": "a", "role": "root"}, "role"),
        ({"username": "a", "password": "x"}, "password"),
    ],
)
async def test_a_bad_user_is_named(api: httpx.AsyncClient, body: dict[str, str], param: str) -> None:
    await bad(api.post("users", json=body), 400, param)


async def test_users_come_in_pages(api: httpx.AsyncClient) -> None:
    for number in range(4):
        await good(api.post("users", json={"username": f"u{number}"}), 201)
    first = await good(api.get("users", params={"limit": 3}))
    second = await good(api.get("users", params={"limit": 3, "after": first["next"]}))
    assert second["next"] is None
    names = [user["username"] for user in first["data"] + second["data"]]
    assert sorted(names) == ["boss", "u0", "u1", "u2", "u3"]
    await bad(api.get("users", params={"limit": 0}), 400, "limit")


async def test_a_key_is_shown_once_and_works_until_revoked(api: httpx.AsyncClient, desk: Desk) -> None:
    user = await good(api.post("users", json={"username": "ann"}), 201)
    path = f"users/{user['id']}/keys"
    body = {"name": "laptop", "models": ["b", "a"], "expires": 1_800_000_100}
    issued = await good(api.post(path, json=body), 201)
    token = issued.pop("key")
    assert (await desk.identities.identify(token)).user_id == user["id"]
    listed = await api.get(path)
    assert listed.json() == {"data": [issued]}
    assert token not in listed.text
    assert (issued["models"], issued["expires"], issued["masked"]) == (["a", "b"], 1_800_000_100, f"sk-…{token[-4:]}")
    await good(api.delete(f"{path}/{issued['id']}"), 204)
    assert (await good(api.get(path)))["data"][0]["state"] == "revoked"
    desk.clock.now += 5
    me = await caller(admin_app.create_app(desk.admin), token).get("/api/admin/users")
    assert me.status_code == 401


async def test_a_key_needs_no_body(api: httpx.AsyncClient) -> None:
    user = await good(api.post("users", json={"username": "ann"}), 201)
    assert (await good(api.post(f"users/{user['id']}/keys"), 201))["models"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires": 5}, "expires"),
        ({"expires": -1}, "expires"),
        ({"expires": 10**50}, "expires"),
        ({"models": ["m"] * 501}, "models"),
        ({"models": [""]}, "models.0"),
        ({"name": "x" * 65}, "name"),
        ({"name": 1}, "name"),
    ],
)
async def test_a_bad_key_is_named(api: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    user = await good(api.post("users", json={"username": "ann"}), 201)
    await bad(api.post(f"users/{user['id']}/keys", json=body), 400, param)
    await bad(api.post("users/nobody/keys", json={}), 404, code="not_found")


# --- money ---


@pytest.fixture
async def ann(api: httpx.AsyncClient) -> str:
    """The path of a user without credit."""
    user = await good(api.post("users", json={"username": "ann"}), 201)
    return f"users/{user['id']}"


@pytest.mark.parametrize("usd", ["0.1", "12", '"0.000000001"', '"12.50"', "1e3"])
async def test_credit_is_exact(api: httpx.AsyncClient, ann: str, usd: str) -> None:
    wallet = await good(api.post(f"{ann}/credit", content=f'{{"usd": {usd}}}', headers=JSON))
    expected = {
        "0.1": ("0.1", 100_000_000),
        "12": ("12", 12_000_000_000),
        '"0.000000001"': ("0.000000001", 1),
        '"12.50"': ("12.5", 12_500_000_000),
        "1e3": ("1000", 1_000_000_000_000),
    }[usd]
    assert (wallet["balance"]["usd"], wallet["balance"]["nano"]) == expected
    assert wallet["available"] == wallet["balance"]
    assert wallet["held"] == {"usd": "0", "nano": 0}
    assert await good(api.get(f"{ann}/wallet")) == wallet


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"usd": null}',
        '{"usd": -1e10}',
        '{"usd": "1_000"}',
        '{"usd": " 1"}',
        '{"usd": "+1"}',
        '{"usd": "\\uff11"}',
        '{"usd": "1.0000000001"}',
        '{"usd": 1e10}',
        '{"usd": 1e999999999}',
        '{"usd": true}',
        '{"usd": "much"}',
        '{"usd": "Infinity"}',
    ],
)
async def test_a_bad_credit_changes_nothing(api: httpx.AsyncClient, ann: str, body: str) -> None:
    await bad(api.post(f"{ann}/credit", content=body, headers=JSON), 400, "usd")
    assert (await good(api.get(f"{ann}/wallet")))["balance"]["nano"] == 0


async def test_a_repeated_credit_counts_once_by_reference_or_header(api: httpx.AsyncClient, ann: str) -> None:
    header = {"idempotency-key": "invoice-2"}
    for _ in range(3):
        await good(api.post(f"{ann}/credit", json={"usd": 1, "reference": "invoice-1"}))
        await good(api.post(f"{ann}/credit", json={"usd": 10}, headers=header))
    assert (await good(api.get(f"{ann}/wallet")))["balance"]["usd"] == "11"
    await good(api.post(f"{ann}/credit", json={"usd": 100}))
    await good(api.post(f"{ann}/credit", json={"usd": 100}))
    assert (await good(api.get(f"{ann}/wallet")))["balance"]["usd"] == "211"


@pytest.mark.parametrize("is_delivered", [False, True])
async def test_a_reference_with_another_amount_is_a_conflict(
    api: httpx.AsyncClient, desk: Desk, ann: str, is_delivered: bool
) -> None:
    credit = {"usd": "1.5", "reference": "invoice-1"}
    wallet = await good(api.post(f"{ann}/credit", json=credit))
    if is_delivered:
        await desk.deliver()
    for usd in (2, "-1.5", 0):
        told = await bad(api.post(f"{ann}/credit", json={**credit, "usd": usd}), 409, "reference", "conflict")
        assert "$1.5 already" in told
    header = {"idempotency-key": "invoice-1"}
    await bad(api.post(f"{ann}/credit", json={"usd": 3}, headers=header), 409, "reference", "conflict")
    assert await good(api.post(f"{ann}/credit", json=credit)) == wallet


async def test_a_correction_takes_what_is_available_and_no_more(api: httpx.AsyncClient, desk: Desk, ann: str) -> None:
    told = await bad(api.post(f"{ann}/credit", json={"usd": "-0.5"}), 402, code="insufficient_quota")
    assert "$0.5" in told
    await good(api.post(f"{ann}/credit", json={"usd": 10}))
    await desk.ledger.hold(ann.removeprefix("users/"), "req_1", 4 * 10**9)
    told = await bad(api.post(f"{ann}/credit", json={"usd": "-6.000000001"}), 402, code="insufficient_quota")
    assert "$6 available" in told
    wallet = await good(api.post(f"{ann}/credit", json={"usd": -6, "reference": "correction"}))
    assert wallet == await good(api.post(f"{ann}/credit", json={"usd": -6, "reference": "correction"}))
    assert (wallet["balance"]["usd"], wallet["available"]["usd"], wallet["held"]["usd"]) == ("4", "0", "4")


async def test_a_credit_of_nothing_opens_the_wallet(api: httpx.AsyncClient, desk: Desk, ann: str) -> None:
    wallet = await good(api.post(f"{ann}/credit", json={"usd": 0}))
    assert wallet["balance"] == {"usd": "0", "nano": 0}
    hold = await desk.ledger.hold(ann.removeprefix("users/"), "req_1", 0)
    assert hold.amount == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credits=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), max_size=12))
async def test_credits_and_corrections_in_any_order_add_up(credits: list[tuple[str, int]]) -> None:
    desk = Desk()
    _, token = await desk.key("boss", role="admin")
    user_id, _ = await desk.key("ann")
    counted: dict[str, int] = {}
    async with caller(admin_app.create_app(desk.admin), token) as client:
        for reference, nano in credits:
            body = {"usd": f"{'-' * (nano < 0)}0.{abs(nano):09d}", "reference": reference}
            status = (await client.post(f"/api/admin/users/{user_id}/credit", json=body)).status_code
            if reference in counted:
                assert status == (200 if counted[reference] == nano else 409)
            elif sum(counted.values()) + nano < 0:
                assert status == 402
            else:
                assert status == 200
                counted[reference] = nano
    assert (await desk.ledger.wallet(user_id)).balance == sum(counted.values())


async def test_a_foreign_user_has_no_money_here(api: httpx.AsyncClient) -> None:
    for answer in (
        api.post("users/nobody/credit", json={"usd": 1}),
        api.get("users/nobody/wallet"),
        api.get("users/nobody/entries"),
        api.get("users/nobody/usage"),
        api.get("users/nobody/proof"),
    ):
        await bad(answer, 404, code="not_found")


async def spend(desk: Desk, user_id: str) -> None:
    """One request that held 0.5 USD and cost 0.25, as the relay would have it."""
    hold = await desk.ledger.hold(user_id, "req_1", 500_000_000)
    usage = Usage(input=10, output=20, cache_write=4, units={"image": 2})
    await desk.ledger.settle(
        hold, 250_000_000, Receipt("gpt", "ch", "key_1", usage, "done", "gpt@1.1", ("ch=ok",), 12, 3)
    )
    await desk.deliver()


async def test_entries_usage_and_proof_tell_where_the_money_went(api: httpx.AsyncClient, desk: Desk, ann: str) -> None:
    await good(api.post(f"{ann}/credit", json={"usd": "1", "reference": "r"}))
    await spend(desk, ann.removeprefix("users/"))
    entries = await good(api.get(f"{ann}/entries"))
    assert [(one["kind"], one["delta"]["nano"], one["held"]["nano"]) for one in entries["data"]] == [
        ("credit", 10**9, 0),
        ("hold", 0, 500_000_000),
        ("settle", -250_000_000, -500_000_000),
    ]
    told = entries["data"][2]["receipt"]["usage"]
    assert (told["output"], told["cache_write"], told["units"]) == (20, 4, {"image": 2})
    assert entries["data"][2]["balance"]["usd"] == "0.75"
    assert entries["next"] is None
    days = (await good(api.get(f"{ann}/usage")))["data"]
    (day,) = days
    assert (day["model"], day["requests"], day["cost"]) == ("gpt", 1, {"usd": "0.25", "nano": 250_000_000})
    assert (await good(api.get(f"{ann}/usage", params={"to": "2020-01-01"})))["data"] == []
    await bad(api.get(f"{ann}/usage", params={"from": "yesterday"}), 400, "from")
    for bound in ("0001-01-01", "0001-01-30", "1969-12-31", "10000-01-01"):
        await bad(api.get(f"{ann}/usage", params={"to": bound}), 400, "to")
    everything = {"from": "0001-01-01", "to": "9999-12-31"}
    assert (await good(api.get(f"{ann}/usage", params=everything)))["data"] == days
    await bad(api.get(f"{ann}/entries", params={"after": 10**16}), 400, "after")
    proof = await good(api.get(f"{ann}/proof"))
    assert (proof["holds_true"], proof["balance"]["usd"], proof["drift"]["nano"]) == (True, "0.75", 0)


async def test_entries_come_in_pages(api: httpx.AsyncClient, desk: Desk, ann: str) -> None:
    await good(api.post(f"{ann}/credit", json={"usd": "1"}))
    await spend(desk, ann.removeprefix("users/"))
    first = await good(api.get(f"{ann}/entries", params={"limit": 2}))
    second = await good(api.get(f"{ann}/entries", params={"limit": 2, "after": first["next"]}))
    assert [one["seq"] for one in first["data"] + second["data"]] == [1, 2, 3]
    assert second["next"] is None


async def test_the_proof_of_all_reads_and_changes_no_money(api: httpx.AsyncClient, desk: Desk, ann: str) -> None:
    await good(api.post(f"{ann}/credit", json={"usd": "1"}))
    await desk.deliver()
    before = await good(api.get(f"{ann}/wallet"))
    writes = len(desk.wallets.records)
    proof = await good(api.get("proof"))
    assert proof["holds_true"] is True
    assert [one["wallet_id"] for one in proof["data"]] == [ann.removeprefix("users/")]
    assert await good(api.get(f"{ann}/wallet")) == before
    assert len(desk.wallets.records) == writes


# --- the door itself ---


async def test_accounts_that_are_down_are_a_503_and_never_a_401(api: httpx.AsyncClient, desk: Desk) -> None:
    desk.accounts.is_down = True
    await bad(api.get("users"), 503, code="unavailable")


async def test_an_unknown_path_and_method_have_the_envelope_too(api: httpx.AsyncClient) -> None:
    await bad(api.get("nothing"), 404, code="not_found")
    await bad(api.post("proof"), 405, code="method_not_allowed")


async def test_the_documentation_is_for_everyone_and_says_how_to_sign_in(desk: Desk) -> None:
    async with caller(admin_app.create_app(desk.admin)) as anybody:
        page = await anybody.get("/api/admin/docs")
        document = (await anybody.get("/api/admin/openapi.json")).json()
    assert "url: 'openapi.json'" in page.text.replace('"', "'")
    assert document["servers"] == [{"url": "../.."}]
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert all(one["security"] == [{"HTTPBearer": []}] for one in operations)


async def test_no_answer_is_kept_by_a_cache_on_the_way(api: httpx.AsyncClient) -> None:
    assert (await api.get("users")).headers["cache-control"] == "no-store"


def test_a_secret_is_not_in_the_shape_that_carries_it() -> None:
    given = admin_app.NewChannel.model_validate({**CHANNEL, "secret": CANARY})
    assert CANARY not in repr(given) + json.dumps(given.model_dump(mode="json"))
