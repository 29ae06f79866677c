"""The relay's door: HTTP in, one call into the pipeline, HTTP out. Knows nothing of how it is hosted."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sluice import dialects, pipeline
from sluice.errors import NotFound, SluiceError, TooLarge, UpstreamFailed
from sluice.identity import bearer
from sluice.pipeline import Deps, Reply
from sluice.wiring import Relay

_SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def create_app(relay: Relay) -> Starlette:
    """The ASGI app. `relay` is started and stopped with it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await relay.start()
        yield
        await relay.stop()

    async def chat_completions(request: Request, request_id: str) -> Response:
        dialect = dialects.load("openai")
        body = await _body(request, relay.deps.settings.max_body_bytes)
        return _response(await pipeline.chat(relay.deps, dialect, bearer(request.headers), body, request_id))

    async def models(request: Request, request_id: str) -> Response:
        names = await pipeline.models(relay.deps, bearer(request.headers))
        return _json(dialects.load("openai").models(names))

    async def model(request: Request, request_id: str) -> Response:
        name = request.path_params["id"]
        await pipeline.model(relay.deps, bearer(request.headers), name)
        return _json(dialects.load("openai").model(name))

    async def health(request: Request, request_id: str) -> Response:
        components = await relay.health()
        down = [name for name, state in components.items() if state == "down"]
        status = "ok" if not down else "down" if "dynamodb" in down else "degraded"
        return _json(orjson.dumps({"status": status, "components": components}), 503 if status == "down" else 200)

    def route(path: str, method: str, handle: Callable[[Request, str], Awaitable[Response]]) -> Route:
        return Route(path, _guarded(relay.deps, handle), methods=[method])

    return Starlette(
        routes=[
            route("/v1/chat/completions", "POST", chat_completions),
            route("/v1/models", "GET", models),
            route("/v1/models/{id:path}", "GET", model),
            route("/health", "GET", health),
        ],
        exception_handlers={HTTPException: _unrouted},
        lifespan=lifespan,
    )


class EventStream(Response):
    """A stream to the client that notices when the client is gone, and is never cancelled for it."""

    def __init__(self, reply: Reply, stream: AsyncIterator[bytes]) -> None:
        super().__init__(headers={**_SSE, **reply.headers})
        del self.headers["content-length"]
        self._reply = reply
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            self._reply.leave()
        finally:
            watch.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._reply.leave()


def _guarded(
    deps: Deps, handle: Callable[[Request, str], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Every answer carries a request id; every error has the surface's shape."""

    async def guarded(request: Request) -> Response:
        request_id = f"req_{time.time_ns() // 1_000_000:011x}{deps.rng.getrandbits(64):016x}"
        try:
            response = await handle(request, request_id)
        except SluiceError as error:
            response = _error(error, request_id)
        except ClientDisconnect:
            response = Response(status_code=499)
        response.headers["x-request-id"] = request_id
        return response

    return guarded


def _response(reply: Reply) -> Response:
    if reply.stream is not None:
        return EventStream(reply, reply.stream)
    return _json(reply.body, headers=reply.headers)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _error(error: SluiceError, request_id: str) -> Response:
    """The error in the surface's shape. The SDKs retry by themselves: `x-should-retry` says where that is of no use."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.status == 402 or (isinstance(error, UpstreamFailed) and error.status != 429):
        headers["x-should-retry"] = "false"
    if error.attempts:
        headers["x-sluice-attempts"] = ",".join(map(str, error.attempts))
    return _json(dialects.load("openai").error(error, request_id), error.status, headers)


async def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    told = NotFound(f"There is no {request.method} {request.url.path} here.", code="not_found")
    return _json(dialects.load("openai").error(told, ""), status)


async def _body(request: Request, most: int) -> bytes:
    """The request's body. Raises TooLarge before reading what is over the cap."""
    told = request.headers.get("content-length", "0")
    size = int(told) if told.isdigit() else 0
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        size = max(size, len(pieces))
        if size > most:
            raise TooLarge(f"The body is larger than {most} bytes, the most this endpoint takes.")
    return bytes(pieces)
