"""Every route of every door, and who may use it. A route that is not in DECIDED fails here until somebody decides."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

import admin_app
import auth_app
import relay_app
from sluice.cache import Marks
from sluice.conversations import Conversations
from sluice.pipeline import Deps
from sluice.settings import Settings
from sluice.upstream import Upstream
from sluice.wiring import Relay
from tests.fakes_conversations import MemoryConversations
from tests.operator_desk import Desk, caller

EVERYONE = frozenset({"anonymous", "user", "admin"})
KEYHOLDERS = frozenset({"user", "admin"})
ADMINS = frozenset({"admin"})

A = "/api/admin"
DECIDED: dict[str, dict[tuple[str, str], frozenset[str]]] = {
    "relay": {
        ("POST", "/v1/chat/completions"): KEYHOLDERS,
        **{
            (method, f"{version}/models{rest}"): KEYHOLDERS
            for version in ("/v1", "/v1beta")
            for method, rest in (
                ("POST", "/{model:path}:generateContent"),
                ("POST", "/{model:path}:streamGenerateContent"),
                ("POST", "/{model:path}:countTokens"),
                ("POST", "/{model:path}:embedContent"),
                ("POST", "/{model:path}:batchEmbedContents"),
                ("GET", ""),
                ("GET", "/{model:path}"),
            )
        },
        ("POST", "/v1/messages"): KEYHOLDERS,
        ("POST", "/v1/messages/count_tokens"): KEYHOLDERS,
        ("GET", "/v1/models"): KEYHOLDERS,
        ("GET", "/v1/models/{model:path}"): KEYHOLDERS,
        ("POST", "/v1/audio/speech"): KEYHOLDERS,
        ("POST", "/v1/audio/transcriptions"): KEYHOLDERS,
        ("POST", "/v1/audio/translations"): KEYHOLDERS,
        ("POST", "/v1/completions"): KEYHOLDERS,
        ("POST", "/v1/embeddings"): KEYHOLDERS,
        ("POST", "/v1/images/edits"): KEYHOLDERS,
        ("POST", "/v1/images/generations"): KEYHOLDERS,
        ("POST", "/v1/moderations"): KEYHOLDERS,
        ("POST", "/v1/rerank"): KEYHOLDERS,
        ("POST", "/v1/responses"): KEYHOLDERS,
        ("POST", "/v1/responses/input_tokens"): KEYHOLDERS,
        ("GET", "/v1/responses/{answer_id}"): KEYHOLDERS,
        ("DELETE", "/v1/responses/{answer_id}"): KEYHOLDERS,
        ("POST", "/v1/responses/{answer_id}/cancel"): KEYHOLDERS,
        ("GET", "/v1/responses/{answer_id}/input_items"): KEYHOLDERS,
        ("GET", "/health"): EVERYONE,
    },
    "auth": {
        ("GET", "/api/v1/docs"): EVERYONE,
        ("GET", "/api/v1/openapi.json"): EVERYONE,
        ("GET", "/api/v1/users/me"): KEYHOLDERS,
    },
    "admin": {
        # The page that describes the API is public, as this repository is; what it describes is not.
        ("GET", f"{A}/docs"): EVERYONE,
        ("GET", f"{A}/openapi.json"): EVERYONE,
        ("POST", f"{A}/channels"): ADMINS,
        ("GET", f"{A}/channels"): ADMINS,
        ("GET", f"{A}/channels/{{channel_id}}"): ADMINS,
        ("PATCH", f"{A}/channels/{{channel_id}}"): ADMINS,
        ("DELETE", f"{A}/channels/{{channel_id}}"): ADMINS,
        ("POST", f"{A}/channels/{{channel_id}}/test"): ADMINS,
        ("POST", f"{A}/channels/{{channel_id}}/sync-models"): ADMINS,
        ("PUT", f"{A}/prices/{{model:path}}"): ADMINS,
        ("GET", f"{A}/prices"): ADMINS,
        ("GET", f"{A}/models"): ADMINS,
        ("GET", f"{A}/models/{{model:path}}"): ADMINS,
        ("PUT", f"{A}/models/{{model:path}}"): ADMINS,
        ("DELETE", f"{A}/models/{{model:path}}"): ADMINS,
        ("POST", f"{A}/users"): ADMINS,
        ("GET", f"{A}/users"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}"): ADMINS,
        ("PATCH", f"{A}/users/{{user_id}}"): ADMINS,
        ("POST", f"{A}/users/{{user_id}}/keys"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}/keys"): ADMINS,
        ("DELETE", f"{A}/users/{{user_id}}/keys/{{key_id}}"): ADMINS,
        ("POST", f"{A}/users/{{user_id}}/credit"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}/wallet"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}/entries"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}/usage"): ADMINS,
        ("GET", f"{A}/users/{{user_id}}/proof"): ADMINS,
        ("GET", f"{A}/proof"): ADMINS,
    },
}


def relay_of(desk: Desk) -> Relay:
    marks = Marks(lambda: None, desk.clock)
    settings = Settings()
    upstream = Upstream(settings.connect_timeout_seconds, settings.read_timeout_seconds)

    async def never(_: float) -> None:
        raise AssertionError("no route waits before it has decided who may enter")

    memory = Conversations(MemoryConversations(), desk.clock, settings.kept_seconds)  # type: ignore[arg-type]
    rng = random.Random(1)
    deps = Deps(desk.identities, desk.catalog, desk.ledger, upstream, marks, memory, settings, rng, desk.clock, never)
    return Relay(deps, desk.catalog, marks)


def app_of(door: str, desk: Desk) -> Any:
    if door == "relay":
        return relay_app.create_app(relay_of(desk))
    if door == "auth":
        return auth_app.create_app(desk.auth)
    return admin_app.create_app(desk.admin)


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Every (method, path). HEAD is GET without a body and is decided with it."""
    for route in app.routes:
        assert isinstance(route, Route), f"{route!r}: mounts and included routers hide routes from this test"
        for method in sorted(route.methods or set()):
            yield method, route.path


def undecided(door: str, app: Any) -> set[tuple[str, str]]:
    return {("GET" if method == "HEAD" else method, path) for method, path in routes(app)} ^ DECIDED[door].keys()


DOORS = sorted(DECIDED)
CASES = [(door, method, path, role) for door in DOORS for method, path in DECIDED[door] for role in sorted(EVERYONE)]


@pytest.mark.parametrize("door", DOORS)
def test_every_route_is_decided_and_every_decision_has_its_route(door: str) -> None:
    assert undecided(door, app_of(door, Desk())) == set()


def test_a_route_that_nobody_decided_is_noticed() -> None:
    app = app_of("admin", Desk())
    app.add_api_route("/api/admin/new", lambda: None, methods=["POST"])
    assert undecided("admin", app) == {("POST", "/api/admin/new")}


@pytest.mark.parametrize(("door", "method", "path", "role"), CASES)
async def test_each_role_enters_where_it_may_and_nowhere_else(door: str, method: str, path: str, role: str) -> None:
    desk = Desk()
    token = None if role == "anonymous" else (await desk.key("someone", role="admin" if role == "admin" else "user"))[1]
    async with caller(app_of(door, desk), token) as client:
        for verb in [method, "HEAD"] if ("HEAD", path) in set(routes(app_of(door, desk))) else [method]:
            body = {"content": b"{}"} if verb not in ("GET", "HEAD", "DELETE") else {}
            answer = await client.request(
                verb, re.sub(r"{[^}]*}", "x", path), headers={"content-type": "application/json"}, **body
            )
            if role in DECIDED[door][method, path]:
                assert answer.status_code not in (401, 403), answer.text
                assert answer.status_code < 500, answer.text
            else:
                assert answer.status_code == (401 if role == "anonymous" else 403), answer.text


async def test_a_suspended_admin_enters_nowhere() -> None:
    desk = Desk()
    user_id, token = await desk.key("boss", role="admin")
    await desk.editor.change_user(user_id, state="suspended")
    for door in DOORS:
        async with caller(app_of(door, desk), token) as client:
            for method, path in (route for route, roles in DECIDED[door].items() if roles != EVERYONE):
                assert (await client.request(method, re.sub(r"{[^}]*}", "x", path))).status_code == 401
