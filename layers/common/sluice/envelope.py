"""How /api/* speaks: who may enter, what an answer and an error look like, and what each door is given.

Above level 3 and below wiring, because it knows the stories and FastAPI; the relay never imports it. A success is the
plain resource; an error is `{"error": {"code", "message", "param", "request_id"}}` under the error's own status.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NoReturn, Protocol

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice import trail
from sluice.care import Care
from sluice.catalog import CatalogEditor
from sluice.errors import Forbidden, SluiceError
from sluice.identity import AccountEditor, Identities, bearer
from sluice.prices import nano_to_usd
from sluice.types import DayUsage, Entry, Identity, Nano, Proof, Role, Wallet

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024

_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
_NO_STORE = (b"cache-control", b"no-store")
"""An answer may hold a key that is shown once."""


# --- what the doors are given ----------------------------------------------------------------------------------------


class Money(Protocol):
    """What the doors ask of `ledger.Ledger`."""

    async def credit(self, wallet_id: str, amount: Nano, reference: str) -> Wallet: ...
    async def wallet(self, wallet_id: str) -> Wallet: ...
    async def entries(self, wallet_id: str, after_seq: int, limit: int) -> list[Entry]: ...
    async def usage(self, wallet_id: str, from_day: str, to_day: str) -> list[DayUsage]: ...


class Proofs(Protocol):
    """What the admin door asks of `jobs`: reading only, nothing is charged or changed."""

    async def prove(self, wallet_id: str) -> Proof: ...
    async def prove_all(self) -> list[Proof]: ...


@dataclass(frozen=True, slots=True)
class AdminDeps:
    identities: Identities
    accounts: AccountEditor
    catalog: CatalogEditor
    ledger: Money
    proofs: Proofs
    clock: Callable[[], float]
    care: Care


@dataclass(frozen=True, slots=True)
class AuthDeps:
    identities: Identities
    ledger: Money


# --- shapes both doors answer with -----------------------------------------------------------------------------------


class Amount(BaseModel):
    """Money, exactly: `usd` as a decimal text, `nano` as whole nano-dollars (1 USD = 10^9)."""

    usd: str
    nano: int

    @classmethod
    def of(cls, nano: Nano) -> Amount:
        return cls(usd=nano_to_usd(nano), nano=nano)


class WalletShape(BaseModel):
    """`available` is `balance` less what open requests hold."""

    id: str
    balance: Amount
    available: Amount
    held: Amount

    @classmethod
    def of(cls, wallet: Wallet) -> WalletShape:
        held = Amount.of(wallet.balance - wallet.available)
        return cls(id=wallet.id, balance=Amount.of(wallet.balance), available=Amount.of(wallet.available), held=held)


# --- an API ----------------------------------------------------------------------------------------------------------


def create_api(title: str, prefix: str, identities: Identities, roles: frozenset[Role]) -> FastAPI:
    """A FastAPI whose every route is for `roles` only, with its page of documentation under `prefix` for everyone."""
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json",
        # Relative to the document, so that it is right under a stage of API Gateway too.
        servers=[{"url": "/".join([".."] * prefix.count("/"))}],
        dependencies=[Depends(_admission(identities, roles))],
    )
    app.router.route_class = _ExactRoute
    app.add_middleware(_Outermost)
    app.exception_handler(SluiceError)(_on_ours)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(HTTPException)(_on_http)
    app.add_route(f"{prefix}/docs", _documentation(title), include_in_schema=False)
    return app


def who(request: Request) -> Identity:
    """The caller of a route of `create_api`."""
    identity: Identity = request.state.identity
    return identity


def _admission(identities: Identities, roles: frozenset[Role]) -> Callable[..., Coroutine[Any, Any, None]]:
    scheme = HTTPBearer(auto_error=False, description="An API key of this gateway: sk-...")

    async def admit(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(scheme)]) -> None:
        identity = await identities.identify(bearer(request.headers))
        if identity.role not in roles:
            raise Forbidden("This key may not do that: it takes the key of an admin.", code="admin_only")
        request.state.identity = identity

    # FastAPI reads annotations as objects; as text it would not find `scheme`, which is local.
    admit.__annotations__["_"] = Annotated[HTTPAuthorizationCredentials | None, Security(scheme)]
    return admit


def _documentation(title: str) -> Callable[[Request], HTMLResponse]:
    def page(request: Request) -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="openapi.json", title=title)

    return page


class _ExactRequest(Request):
    """Reads JSON numbers as decimals: a price or an amount never passes through a float. Bodies are capped."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        size = 0
        async for piece in super().stream():
            size += len(piece)
            if size > MAX_BODY_BYTES:
                # FastAPI hands on an HTTPException from here; anything else it would call a body it cannot parse.
                raise HTTPException(413, f"The body is larger than {MAX_BODY_BYTES} bytes, the most this API takes")
            yield piece

    async def json(self) -> Any:
        return json.loads(await self.body(), parse_float=Decimal, parse_constant=_refuse_constant)


class _ExactRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_exactly(request: Request) -> Response:
            return await handle(_ExactRequest(request.scope, request.receive))

        return handle_exactly


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


# --- errors ----------------------------------------------------------------------------------------------------------


class _Outermost:
    """Names each request, writes its line, and turns what nobody caught into an error of the same shape as every other."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        here, began = trail.begin(request_id, Headers(scope=scope), secrets.randbits), self._clock()
        traced = here.trace.parent(here.trace.span_id).encode()
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = ((b"x-request-id", request_id.encode()), (b"traceresponse", traced), _NO_STORE)
                message["headers"] = [*message["headers"], *named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as error:
            _log_unexpected(error, request_id)
            if status:
                raise
            message = "Something went wrong on our side. Try again, and name the request id if it stays."
            await _error(request_id, 500, "internal_error", message)(scope, receive, send_named)
        finally:
            _report(scope, status, self._clock() - began)


def _report(scope: Scope, status: int, seconds: float) -> None:
    """One line a request: who asked for which route, and what became of it. The route is ours; the address may hold anything."""
    route, here = scope.get("route"), trail.under_way()
    fields = {
        "user": here.user if here else "",
        "key_id": here.key_id if here else "",
        "method": scope["method"] if route else "",
        "route": getattr(route, "path", ""),
        "status": status,
        "duration_ms": int(seconds * 1000),
        "error": here.error if here else "",
    }
    log.info("api request", extra={"fields": fields})


def _log_unexpected(error: Exception, request_id: str) -> None:
    # Where it happened and of what kind, not its message: that may quote a value, and the value may be a secret.
    frames = "".join(traceback.format_tb(error.__traceback__)[-5:])
    kind = type(error).__name__
    log.error(
        "unexpected %s in %s\n%s", kind, request_id, frames, extra={"fields": {"error": kind, "request_id": request_id}}
    )


async def _on_ours(request: Request, error: SluiceError) -> Response:
    headers = {"retry-after": str(math.ceil(error.retry_after))} if error.retry_after is not None else {}
    return _error(_request_id(request), error.status, error.code, error.message, error.param, headers)


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _error(_request_id(request), 400, "invalid_request", "The body is not valid JSON.")
    # The first part says where the field is (body, query, path), and the name alone is what the caller knows.
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    sentence = f"'{param}': {first['msg']}." if param else f"The body is missing or no JSON object: {first['msg']}."
    return _error(_request_id(request), 400, "invalid_request", sentence, param)


async def _on_http(request: Request, error: HTTPException) -> Response:
    code = _STATUS_CODES.get(error.status_code, "invalid_request")
    return _error(_request_id(request), error.status_code, code, f"{error.detail}.", headers=error.headers)


def _request_id(request: Request) -> str:
    return str(request.state.request_id)


def _error(
    request_id: str, status: int, code: str, message: str, param: str | None = None, headers: Any = None
) -> JSONResponse:
    trail.note_error(code)
    body = {"error": {"code": code, "message": message, "param": param, "request_id": request_id}}
    return JSONResponse(body, status, headers=headers)
