"""An experiment: an ASGI app on Lambda's Runtime API without a web server or an adapter in between.

    AWS_LAMBDA_EXEC_WRAPPER=/var/task/run.sh, whose last line is: exec python3 -m runtime_loop relay_lambda:create_app

docs/decisions/2026-11-26-streaming-host.md weighs it against the Lambda Web Adapter, `make bench-host` measures both. Wire facts:
AWS's "Using the Lambda runtime API" and "Building a custom runtime for AWS Lambda" (response streaming); the newest client of
AWS's own for the echo of the invocation id and for 410.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

Message = dict[str, Any]
App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

CONTEXT = b"x-amzn-lambda-context"
_API = "/2018-06-01/runtime/"
_PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_ERROR_TYPE, _ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"


class Refused(Exception):
    """The Runtime API answered with a status that ends this process: it calls for that by a 5xx."""


@dataclass(slots=True)
class Invocation:
    id: str
    echo: str
    deadline_ms: int
    trace: str
    event: Mapping[str, Any]


class Connection:
    """One kept connection to the Runtime API; opened again where it broke."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.address = address

    async def next(self) -> Invocation:
        """The next event. Waits without limit: the process may be frozen meanwhile."""
        await self.write(f"GET {_API}invocation/next HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
        status, headers, body = await self.answer()
        if status != 200:
            raise Refused(f"next: {status}")
        return Invocation(
            headers["lambda-runtime-aws-request-id"],
            headers.get("lambda-runtime-invocation-id", ""),
            int(headers.get("lambda-runtime-deadline-ms", "0")),
            headers.get("lambda-runtime-trace-id", ""),
            json.loads(body),
        )

    async def post_error(self, path: str, error: BaseException, echo: str = "") -> None:
        body = json.dumps(_told(error)).encode()
        head = f"POST {_API}{path}/error HTTP/1.1\r\nHost: {self.address}\r\nContent-Type: application/json\r\n"
        head += f"{_ERROR_TYPE}: Runtime.{type(error).__name__}\r\nContent-Length: {len(body)}\r\n{_echoed(echo)}\r\n"
        await self.write(head.encode() + body)
        await self.answer()

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        status = int(first.split(" ")[1])
        if headers.get("connection", "").lower() == "close":
            self.close()
        if status >= 500:
            raise Refused(f"{status}")
        return status, headers, body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Answer:
    """What the app sends of one answer, as a streamed response to the Runtime API. Nothing leaves before the first piece is known."""

    def __init__(self, connection: Connection, invocation: Invocation) -> None:
        self._connection = connection
        self._invocation = invocation
        self._prelude = b""
        self._is_empty = True
        self.begun = self.ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._prelude = _prelude(message["status"], message.get("headers", ()))
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        self._is_empty = self._is_empty and not piece
        if not more and self._is_empty:
            piece = b"\n"  # a client that got no byte of a body waits for it until its patience ends
        out = b"" if self.begun else self._head()
        out += _chunk(piece) if piece else b""
        self.begun = True
        if not more:
            out += b"0\r\n\r\n"
            self.ended = True
        if out:
            await self._connection.write(out)

    async def break_off(self, error: BaseException) -> None:
        """Tells by trailers that there is no more of an answer that began."""
        body = base64.b64encode(json.dumps(_told(error)).encode()).decode()
        await self._connection.write(
            f"0\r\n{_ERROR_TYPE}: Runtime.StreamError\r\n{_ERROR_BODY}: {body}\r\n\r\n".encode()
        )
        self.ended = True

    def _head(self) -> bytes:
        head = f"POST {_API}invocation/{self._invocation.id}/response HTTP/1.1\r\nHost: {self._connection.address}\r\n"
        head += f"Content-Type: {_PRELUDE_TYPE}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
        head += f"Transfer-Encoding: chunked\r\nTrailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n{_echoed(self._invocation.echo)}\r\n"
        return head.encode() + _chunk(self._prelude + bytes(8))


class Loop:
    """As many invocations at a time as Lambda allows: one, or on Managed Instances many."""

    def __init__(self, app: App, address: str) -> None:
        self._app = app
        self._address = address
        self._idle: set[asyncio.Task[Invocation]] = set()
        self._stopping = False

    async def run(self, concurrency: int) -> None:
        await asyncio.gather(*(self._work() for _ in range(concurrency)))

    def stop(self) -> None:
        """Takes no further event; those under way are answered."""
        self._stopping = True
        for task in self._idle:
            task.cancel()

    async def _work(self) -> None:
        connection = Connection(self._address)
        while not self._stopping:
            waiting = asyncio.ensure_future(connection.next())
            self._idle.add(waiting)
            try:
                invocation = await waiting
            except asyncio.CancelledError:
                break
            finally:
                self._idle.discard(waiting)
            await self._invoked(connection, invocation)
        connection.close()

    async def _invoked(self, connection: Connection, invocation: Invocation) -> None:
        answer = Answer(connection, invocation)
        try:
            await _ask(self._app, invocation, answer)
        except (OSError, asyncio.IncompleteReadError):
            connection.close()
        except Exception as error:
            await self._failed(connection, invocation, answer, error)
        if answer.ended:
            # Anything but 202 is about this one invocation (410: it timed out meanwhile), and the next may be had.
            await connection.answer()

    async def _failed(self, connection: Connection, invocation: Invocation, answer: Answer, error: Exception) -> None:
        print(json.dumps({"level": "ERROR", "message": "the app failed", **_told(error)}), flush=True)
        if answer.begun:
            await answer.break_off(error)
        else:
            await connection.post_error(f"invocation/{invocation.id}", error, invocation.echo)


async def _ask(app: App, invocation: Invocation, answer: Answer) -> None:
    scope, body = _scope(invocation)
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> Message:
        if pieces:
            return pieces.pop()
        await never.wait()  # Lambda tells nobody that a client has left
        return {"type": "http.disconnect"}

    await app(scope, receive, answer.send)
    if not answer.ended:
        raise RuntimeError("the app ended before its answer")


def _scope(invocation: Invocation) -> tuple[dict[str, Any], bytes]:
    """A REST API's proxy event (payload 1.0) as ASGI's scope, and its body."""
    event = invocation.event
    body = event.get("body") or ""
    context = {"request_id": invocation.id, "deadline": invocation.deadline_ms}
    headers = [(CONTEXT, json.dumps(context).encode())]
    if invocation.trace:
        headers.append((b"x-amzn-trace-id", invocation.trace.encode()))
    ours = {name for name, _ in headers}
    for name, values in (event.get("multiValueHeaders") or {}).items():
        key = name.lower().encode("latin-1")
        headers += [(key, value.encode("latin-1", "replace")) for value in values if key not in ours]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": event["httpMethod"],
        "scheme": "https",
        "path": event["path"],
        "raw_path": quote(event["path"]).encode(),
        "query_string": urlencode(event.get("multiValueQueryStringParameters") or {}, doseq=True).encode(),
        "root_path": "",
        "headers": headers,
        "client": (event.get("requestContext", {}).get("identity", {}).get("sourceIp", ""), 0),
        "server": ("lambda", 443),
    }
    return scope, base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _prelude(status: int, headers: Any) -> bytes:
    single: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    cookies: list[str] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif name not in ("content-length", "connection", "transfer-encoding"):
            many.setdefault(name, []).append(value)
    for name in [name for name, values in many.items() if len(values) == 1]:
        single[name] = many.pop(name)[0]
    prelude: dict[str, Any] = {"statusCode": status, "headers": single}
    prelude |= {"multiValueHeaders": many} if many else {}
    prelude |= {"cookies": cookies} if cookies else {}
    return json.dumps(prelude).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _echoed(invocation_id: str) -> str:
    return f"Lambda-Runtime-Invocation-Id: {invocation_id}\r\n" if invocation_id else ""


def _told(error: BaseException) -> dict[str, Any]:
    """Kind and place, not words: they may quote a request."""
    where = traceback.format_tb(error.__traceback__)[-5:]
    return {"errorMessage": type(error).__name__, "errorType": type(error).__name__, "stackTrace": where}


class Lifespan:
    """The app's start and end, as ASGI has them."""

    def __init__(self, app: App) -> None:
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.ensure_future(app(scope, self._in.get, self._out.put))

    async def tell(self, what: str) -> None:
        self._in.put_nowait({"type": f"lifespan.{what}"})
        heard = asyncio.ensure_future(self._out.get())
        await asyncio.wait((heard, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not heard.done() or heard.result()["type"].endswith("failed"):
            heard.cancel()
            raise RuntimeError(f"the app's {what} failed") from ((self._task.done() and self._task.exception()) or None)


async def main(name: str, address: str, concurrency: int) -> None:
    try:
        module, _, factory = name.partition(":")
        app: App = getattr(importlib.import_module(module), factory)()
        lifespan = Lifespan(app)
        await lifespan.tell("startup")
    except Exception as error:
        traceback.print_exc()
        connection = Connection(address)
        with suppress(OSError, Refused, asyncio.IncompleteReadError):
            await connection.post_error("init", error)
        sys.exit(1)
    loop = Loop(app, address)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, loop.stop)
    await loop.run(concurrency)
    await lifespan.tell("shutdown")


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], os.environ["AWS_LAMBDA_RUNTIME_API"], int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1")))
    )
