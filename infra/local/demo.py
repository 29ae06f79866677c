"""What a first start leaves in the house: an admin, a user with a key and credit, the demo channel and its price.

Everything but the very first admin goes through the operator's API, as it would anywhere. A later start finds it all and only
tells the demo channel where its provider listens this time.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from sluice.identity import AccountEditor
from sluice.stores.accounts import Accounts

MODEL = "demo"
CREDIT_USD = "10"
PRICE = {"input": "1", "output": "2"}


class Unusable(Exception):
    """What keeps the stack from starting, in one sentence for the person who started it."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`bootstrap.json`: everything a client needs. `base_url` is what an OpenAI SDK is pointed at."""

    base_url: str
    admin_key: str
    api_key: str
    model: str = MODEL

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """None where there is none. Raises Unusable on one that cannot be read."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            raise Unusable(f"{file} is damaged; repair it, or start anew with another STATE=folder") from None

    def write(self, file: Path) -> None:
        """Whole or not at all, and readable by its owner only: it holds keys."""
        fresh = file.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(json.dumps(asdict(self), indent=2) + "\n")
        fresh.replace(file)


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's API of a gateway at `url`."""

    http: httpx.Client

    @classmethod
    def at(cls, url: str, admin_key: str) -> Self:
        headers = {"authorization": f"Bearer {admin_key}"}
        return cls(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, expected: int = 0) -> Any:
        """The answer's JSON; None where it is the `expected` error. Raises Unusable on any other one."""
        answer = self.http.request(method, f"/api/admin{path}", json=body)
        if answer.status_code == expected:
            return None
        if answer.is_error:
            raise Unusable(f"{method} /api/admin{path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else None


def works(url: str, key: str) -> bool:
    """Whether the gateway at `url` knows this key. Raises Unusable when it cannot say."""
    answer = httpx.get(
        f"{url}/api/v1/users/me", headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    )
    if answer.status_code not in (200, 401):
        raise Unusable(f"GET /api/v1/users/me was answered {answer.status_code}: {answer.text[:300]}")
    return answer.status_code == 200


def admin_key(dynamodb: Any, accounts_table: str) -> str:
    """A key of the first admin. A start that was cut short may have left an admin whose key nobody knows: it gets another."""

    async def issue() -> str:
        editor = AccountEditor(Accounts(dynamodb, accounts_table), time.time)
        if made := await editor.bootstrap_admin():
            return made[1].reveal()
        users, _ = await editor.users()
        admin = next(user for user in users if user.role == "admin")
        return (await editor.issue_key(admin.id, "local"))[1].reveal()

    return asyncio.run(issue())


def furnish(url: str, admin: str, upstream: str) -> Bootstrap:
    """The demo user with a key and credit, the demo channel and its price. Doing it twice adds no second of anything but the key."""
    operator = Operator.at(url, admin)
    user = _user(operator, "demo")
    operator.call("POST", f"/users/{user}/credit", {"usd": CREDIT_USD, "reference": "demo-credit"})
    operator.call("PUT", f"/prices/{MODEL}", PRICE)
    point_channel(operator, upstream)
    key = operator.call("POST", f"/users/{user}/keys", {"name": "demo"})["key"]
    return Bootstrap(f"{url}/v1", admin, key)


def _user(operator: Operator, name: str) -> str:
    made = operator.call("POST", "/users", {"username": name, "group": "default"}, expected=409)
    users = [made] if made else operator.call("GET", "/users?limit=1000")["data"]
    return str(next(user["id"] for user in users if user["username"] == name))


def point_channel(operator: Operator, upstream: str) -> None:
    """The demo provider listens on another port at every start. An operator who removed its channel keeps it removed."""
    fields = {
        "type": "openai",
        "name": "Demo provider on this machine",
        "models": [MODEL],
        "endpoint": f"{upstream}/v1",
    }
    if operator.call("PATCH", "/channels/demo", {"endpoint": fields["endpoint"]}, expected=404) is None:
        operator.call("POST", "/channels", {"id": "demo", "secret": "sk-demo-provider-needs-no-key", **fields})
