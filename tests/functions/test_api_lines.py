"""The line of a request to auth or admin: whose, which route, what became of it; never what the address or the body held."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import admin_app
import auth_app
from tests.operator_desk import Desk, caller

SPAN, TRACE = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "api request"]


async def test_each_request_has_one(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    boss, token = await desk.key("boss", role="admin")
    user, key = await desk.key("ann")
    caplog.set_level(logging.INFO, "sluice")
    async with caller(admin_app.create_app(desk.admin), token) as client:
        await client.get(f"/api/admin/users/{user}")
        await client.get("/api/admin/users/user_made-up")
        await client.post("/api/admin/users", json={"username": "white space"})
        await client.post("/api/admin/users", content=b"{")
        await client.get("/api/admin/made-up/sk-something-secret?key=sk-something-secret")
        await client.delete("/api/admin/users")
    async with caller(admin_app.create_app(desk.admin), key) as client:
        await client.get("/api/admin/users")
    async with caller(auth_app.create_app(desk.auth), key) as client:
        await client.get("/api/v1/users/me")
        await client.get("/api/v1/users/me", headers={"authorization": "Bearer sk-what"})
    one, many, me = "/api/admin/users/{user_id}", "/api/admin/users", "/api/v1/users/me"
    told = [tuple(line[name] for name in ("method", "route", "status", "user", "error")) for line in lines(caplog)]
    assert told == [
        ("GET", one, 200, boss, ""),
        ("GET", one, 404, boss, "not_found"),
        ("POST", many, 400, boss, "invalid_request"),
        ("POST", many, 400, boss, "invalid_request"),
        ("", "", 404, "", "not_found"),
        ("DELETE", many, 405, "", "method_not_allowed"),
        ("GET", many, 403, user, "admin_only"),
        ("GET", me, 200, user, ""),
        ("GET", me, 401, "", "invalid_api_key"),
    ]
    assert all(line["duration_ms"] >= 0 for line in lines(caplog))
    assert all(bool(line["key_id"]) == bool(line["user"]) for line in lines(caplog))


async def test_what_broke_has_one_too(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no idea")

    desk = Desk()
    boss, token = await desk.key("boss", role="admin")
    monkeypatch.setattr(desk.store, "rows", broken)
    async with caller(admin_app.create_app(desk.admin), token) as client:
        assert (await client.get("/api/admin/channels")).status_code == 500
    (line,) = lines(caplog)
    assert (line["status"], line["error"], line["user"]) == (500, "internal_error", boss)


async def test_the_answer_names_the_trace_it_belongs_to() -> None:
    desk = Desk()
    _, token = await desk.key("ann")
    async with caller(auth_app.create_app(desk.auth), token) as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        answers = [await client.get("/api/v1/users/me", headers=headers), await client.get("/api/v1/users/me")]
    first, second = (answer.headers["traceresponse"].split("-") for answer in answers)
    assert (first[1], first[3]) == (TRACE, "01")
    assert first[2] != SPAN
    assert second[1] != TRACE
