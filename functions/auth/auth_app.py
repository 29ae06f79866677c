"""The door for users: who you are and what is yours. Under /api/v1, by API key."""

from __future__ import annotations

from fastapi import FastAPI, Request
from pydantic import BaseModel

from sluice.envelope import AuthDeps, WalletShape, create_api, who
from sluice.identity import bearer
from sluice.types import Secret


class KeyInUse(BaseModel):
    """The key this very request was made with. `models` empty means every model."""

    id: str
    masked: str
    models: list[str]


class Me(BaseModel):
    id: str
    username: str
    group: str
    role: str
    key: KeyInUse
    wallet: WalletShape


def create_app(deps: AuthDeps) -> FastAPI:
    app = create_api("Sluice account API", "/api/v1", deps.identities, frozenset({"user", "admin"}))

    @app.get("/api/v1/users/me", tags=["users"])
    async def me(request: Request) -> Me:
        """Who this key belongs to, and the wallet it spends from."""
        caller = who(request)
        key = KeyInUse(
            id=caller.key_id, masked=str(Secret(bearer(request.headers) or "")), models=sorted(caller.models)
        )
        wallet = WalletShape.of(await deps.ledger.wallet(caller.user_id))
        return Me(
            id=caller.user_id,
            username=caller.username,
            group=caller.group,
            role=caller.role,
            key=key,
            wallet=wallet,
        )

    return app
