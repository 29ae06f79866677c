"""The relay's door: HTTP in, one call into the pipeline, HTTP out. Knows nothing of how it is hosted."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sluice import dialects, endpoints, pipeline, signals, trail
from sluice.dialects import Dialect, Remembering
from sluice.endpoints import Endpoint
from sluice.errors import NotFound, SluiceError, TooLarge, UpstreamFailed
from sluice.identity import bearer
from sluice.pipeline import Deps, Reply
from sluice.types import Inbound, attempts_told
from sluice.wiring import Relay

Handle = Callable[[Dialect, Request, str], Awaitable[Response]]

log = logging.getLogger("sluice.relay_app")

_FAILED = "The gateway failed. Try again, or tell the operator the request id."
_HEALTH = "/health"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SSE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def create_app(relay: Relay) -> Starlette:
    """The ASGI app. `relay` is started and stopped with it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await relay.start()
        yield
        await relay.stop()

    deps = relay.deps

    async def chat(dialect: Dialect, request: Request, request_id: str) -> Response:
        inbound = await _inbound(request, deps.settings.max_body_bytes, deps.settings.deadline_header)
        return _response(await pipeline.chat(deps, dialect, _token(dialect, request), inbound, request_id))

    async def count(dialect: Dialect, request: Request, request_id: str) -> Response:
        inbound = await _inbound(request, deps.settings.max_body_bytes)
        return _json(dialect.counted(await pipeline.count(deps, dialect, _token(dialect, request), inbound)))

    async def models(dialect: Dialect, request: Request, request_id: str) -> Response:
        return _json(dialect.models(await pipeline.models(deps, _token(dialect, request))))

    async def model(dialect: Dialect, request: Request, request_id: str) -> Response:
        name = request.path_params["model"]
        return _json(dialect.model(await pipeline.model(deps, _token(dialect, request), name)))

    def kept(ask: pipeline.Ask) -> Handle:
        async def handle(dialect: Dialect, request: Request, request_id: str) -> Response:
            query = {name: ",".join(request.query_params.getlist(name)) for name in request.query_params}
            inbound = Inbound(b"", request.headers, {**query, **request.path_params})
            return _response(await ask(deps, cast(Remembering, dialect), _token(dialect, request), inbound))

        return handle

    def call(endpoint: Endpoint) -> Handle:
        async def handle(dialect: Dialect, request: Request, request_id: str) -> Response:
            is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
            most = deps.settings.max_upload_bytes if is_form else deps.settings.max_body_bytes
            inbound = await _inbound(request, most, deps.settings.deadline_header)
            return _response(await pipeline.call(deps, endpoint, _token(dialect, request), inbound, request_id))

        return handle

    verbs = {"chat": chat, "count": count, "models": models, "model": model}
    verbs |= {verb: kept(ask) for verb, ask in pipeline.ASKS.items()}
    spoken = [dialects.load(name) for name in sorted(dialects.available())]

    async def health(_: Dialect, request: Request, request_id: str) -> Response:
        if request.query_params.get("deep", "0") in ("", "0", "false"):
            return _json(b'{"status":"ok"}')
        components = await relay.health()
        down = [name for name, state in components.items() if state == "down"]
        status = "ok" if not down else "down" if "dynamodb" in down else "degraded"
        return _json(orjson.dumps({"status": status, "components": components}), 503 if status == "down" else 200)

    app = Starlette(
        routes=[
            *(
                Route(path, _guarded(deps, path, [(dialect, verbs[verb]) for dialect, verb in asked]), methods=[method])
                for (method, path), asked in _paths(spoken).items()
            ),
            *(
                Route(path, _guarded(deps, path, [(dialects.load(endpoint.dialect), call(endpoint))]), methods=["POST"])
                for endpoint in map(endpoints.load, sorted(endpoints.available()))
                for path in endpoint.paths
            ),
            Route(_HEALTH, _guarded(deps, _HEALTH, [(dialects.load("openai"), health)]), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unrouted},
        lifespan=lifespan,
    )
    # A path with a slash too many is no path of ours: a redirect would lose the body.
    app.router.redirect_slashes = False
    return app


def _paths(spoken: Iterable[Dialect]) -> dict[tuple[str, str], list[tuple[Dialect, str]]]:
    """Each method and path, and the dialects that speak there. Paths with a parameter over slashes come last."""
    paths: dict[tuple[str, str], list[tuple[Dialect, str]]] = {}
    for dialect in spoken:
        for route in dialect.routes:
            paths.setdefault((route.method, route.path), []).append((dialect, route.verb))
    return dict(sorted(paths.items(), key=lambda item: (":path}" in item[0][1], item[0])))


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
    deps: Deps, path: str, asked: Sequence[tuple[Dialect, Handle]]
) -> Callable[[Request], Awaitable[Response]]:
    """Picks the asker's dialect; every answer carries a request id, every error has that dialect's shape, every request a line."""

    async def guarded(request: Request) -> Response:
        began, request_id = deps.clock(), _new_id(deps.rng)
        here = trail.begin(request_id, request.headers, deps.rng.getrandbits)
        failure: SluiceError | None = None
        dialect, handle = _asker(asked, _credited(request))
        try:
            response = await handle(dialect, request, request_id)
        except SluiceError as error:
            failure, response = error, _error(dialect, error, request_id)
        except ClientDisconnect:
            response = Response(status_code=499)
        except Exception as error:
            # Its kind and place, not its words: they may quote the request.
            where = "".join(traceback.format_tb(error.__traceback__)[-5:])
            log.error("a route failed", extra={"fields": {"error": type(error).__name__, "at": where}})
            failure = SluiceError(_FAILED)
            response = _error(dialect, failure, request_id)
        if not here.taken and path != _HEALTH:
            _report(here, request.method, path, response.status_code, failure, deps.clock() - began)
        own = response.headers.get("request-id")
        response.headers.update(_told(here))
        if own:
            # The provider's, for a client of its format.
            response.headers["request-id"] = own
        return response

    return guarded


def _told(here: trail.Trail) -> dict[str, str]:
    """What every answer says of its request. Of the official SDKs some read the one id, some the other."""
    ids = {"x-request-id": here.request_id, "request-id": here.request_id}
    return {**ids, "traceresponse": here.trace.parent(here.trace.span_id)}


def _report(
    here: trail.Trail, method: str, path: str, status: int, failure: SluiceError | None, seconds: float
) -> None:
    """The line of a request that came to no hold; of one that did, the pipeline writes it. `path` is the route's, which no client chose."""
    fields = {
        "user": here.user,
        "key_id": here.key_id,
        "model": here.model,
        "method": method,
        "route": path,
        "status": status,
        "duration_ms": int(seconds * 1000),
        "error": signals.code_of(failure),
    }
    signals.tell("request", fields, signals.refused(failure, here.remembered, here.model))


def _asker(asked: Sequence[tuple[Dialect, Handle]], headers: Mapping[str, str]) -> tuple[Dialect, Handle]:
    """Whose request it is, on a path that may be several dialects': by its headers, else OpenAI's."""
    unclaimed = [one for one in asked if one[0].name == "openai"] or asked
    return next((one for one in asked if len(asked) > 1 and one[0].claims(headers)), unclaimed[0])


def _credited(request: Request) -> Mapping[str, str]:
    """The request's headers, and among them a key that its query told: for the one dialect whose clients may do so."""
    key = request.query_params.get("key")
    return {**request.headers, "x-goog-api-key": key} if key else request.headers


def _token(dialect: Dialect, request: Request) -> str | None:
    """The caller's key. One in the query counts only where the dialect claims the request by it: addresses end up in logs."""
    headers = _credited(request)
    return bearer(headers if dialect.claims(headers) else request.headers)


def _response(reply: Reply) -> Response:
    if reply.stream is not None:
        return EventStream(reply, reply.stream)
    return _json(reply.body, headers=reply.headers)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _error(dialect: Dialect, error: SluiceError, request_id: str) -> Response:
    """The error in the surface's shape. The SDKs retry by themselves: `x-should-retry` says where that is of no use."""
    headers = {**error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.status == 402 or (isinstance(error, UpstreamFailed) and error.status != 429):
        headers["x-should-retry"] = "false"
    if error.attempts:
        headers["x-sluice-attempts"] = attempts_told(error.attempts)
    status, body = error.native or (error.status, dialect.error(error, request_id))
    return _json(body, status, headers)


async def _unrouted(request: Request, error: Exception) -> Response:
    status, allowed = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    told = NotFound(f"There is no {request.method} {request.url.path} here.", code="not_found")
    headers, spoken = _credited(request), sorted(_nearest(request.url.path))
    loaded = [dialects.load(name) for name in spoken]
    claiming = (one for one in loaded if len(loaded) == 1 or one.claims(headers))
    dialect = next(claiming, dialects.load("openai"))
    rng = random.SystemRandom()
    here = trail.begin(_new_id(rng), headers, rng.getrandbits)
    _report(here, _method(request), "", status, told, 0)
    return _json(dialect.error(told, here.request_id), status, {**(allowed or {}), **_told(here)})


def _nearest(path: str) -> frozenset[str]:
    """The dialects that speak in the deepest folder of a path where any does."""
    steps, folders = path.split("/"), _folders()
    return next(folders[deep] for end in range(len(steps), 0, -1) if (deep := tuple(steps[:end])) in folders)


@cache
def _folders() -> Mapping[tuple[str, ...], frozenset[str]]:
    """Each folder of a route, up to its first parameter, and the dialects that speak in it."""
    routes = [(route.path, name) for name in dialects.available() for route in dialects.load(name).routes]
    calls = map(endpoints.load, endpoints.available())
    folders: dict[tuple[str, ...], frozenset[str]] = {("",): dialects.available()}
    for path, name in [*routes, *((path, call.dialect) for call in calls for path in call.paths)]:
        steps = path.partition("{")[0].rstrip("/").split("/")
        for end in range(1, len(steps) + 1):
            folders[(*steps[:end],)] = folders.get((*steps[:end],), frozenset()) | {name}
    return folders


def _method(request: Request) -> str:
    """The method, where it is one: a client may make words up."""
    return request.method if request.method in _METHODS else ""


def _new_id(rng: random.Random) -> str:
    """Sorts by time, and is not guessed."""
    return f"req_{time.time_ns() // 1_000_000:011x}{rng.getrandbits(64):016x}"


async def _inbound(request: Request, most: int, deadline_header: str = "") -> Inbound:
    """The client's request, read. Raises TooLarge before reading what is over the cap."""
    told = request.headers.get("content-length", "0")
    size = int(told) if told.isdigit() else 0
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        size = max(size, len(pieces))
        if size > most:
            raise TooLarge(f"The body is larger than {most} bytes, the most this endpoint takes.")
    told = {name: value for name, value in request.query_params.items() if name != "key"}
    deadline = _deadline(request.headers, deadline_header)
    return Inbound(bytes(pieces), request.headers, {**told, **request.path_params}, request.url.path, deadline)


def _deadline(headers: Mapping[str, str], name: str) -> float | None:
    """When the host ends this request, in epoch seconds: `deadline`, in milliseconds, of the JSON object in header `name`."""
    try:
        return float(orjson.loads(headers[name])["deadline"]) / 1000 or None
    except (KeyError, TypeError, ValueError):
        return None
