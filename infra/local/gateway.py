"""The three web doors on one port, told apart by path as API Gateway does, and /metrics: one process of the local stack.

    python -m infra.local.gateway --fd N        serve on a listening socket that was handed down

The socket belongs to the stack: while this process is started again, callers wait in its queue instead of being refused.
"""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.local import prometheus, vitals
from infra.local.child import end_with_parent
from sluice import signals

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

FINISH_SECONDS = 20
"""How long requests under way may go on once the gateway was asked to end."""


class Doors:
    """An ASGI app in front of others: `doors` are (path prefix, app), the first that fits is taken."""

    def __init__(self, doors: list[tuple[str, Any]]) -> None:
        self._doors = doors

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._behind(scope.get("path", ""))(scope, receive, send)

    def _behind(self, path: str) -> App:
        for prefix, app in self._doors:
            if path.startswith(prefix):
                return app  # type: ignore[no-any-return]
        raise LookupError(f"no door for {path!r}")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Starts every app behind the doors, and ends them in the opposite order."""
        async with AsyncExitStack() as lives:
            await receive()
            try:
                for _, app in self._doors:
                    await lives.enter_async_context(app.router.lifespan_context(app))
            except Exception as problem:
                await send({"type": "lifespan.startup.failed", "message": repr(problem)})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


class Counted(logging.Handler):
    """Hears the lines that carry metrics, and adds them up for /metrics: the same numbers, and none that no line has."""

    def __init__(self, registry: prometheus.Registry) -> None:
        super().__init__()
        self._registry = registry

    def emit(self, record: logging.LogRecord) -> None:
        if measured := getattr(record, "measured", None):
            self._registry.add(measured)


def metrics_app(registry: prometheus.Registry) -> Starlette:
    """Open to whoever reaches the loopback address, and on no other: it is no door of the deployed gateway."""

    def metrics(_: Request) -> Response:
        return Response(registry.text(), media_type=prometheus.CONTENT_TYPE)

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])


def create_app() -> Doors:
    """Every door as it is on Lambda, built through wiring from the same settings."""
    import admin_app
    import auth_app
    import relay_app
    from sluice import wiring

    registry = prometheus.Registry()
    signals.log.addHandler(Counted(registry))
    relay = wiring.build_relay()
    return Doors(
        [
            ("/metrics", metrics_app(registry)),
            (vitals.PATH, vitals.create_app(lambda: relay.deps.running)),
            ("/api/admin", admin_app.create_app(wiring.build_admin())),
            ("/api/", auth_app.create_app(wiring.build_auth())),
            ("", relay_app.create_app(relay)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Relay, auth and admin on one port.")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket of the process that started this one")
    listening = socket.socket(fileno=parser.parse_args().fd)
    end_with_parent()
    config = uvicorn.Config(
        create_app(),
        log_level="info",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
