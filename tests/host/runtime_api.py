"""A stand-in for Lambda's Runtime API that streams, which AWS's own emulator does not: what a runtime posts is kept piece by
piece, each with the time it came.

Wire facts: AWS's "Using the Lambda runtime API" and "Building a custom runtime" (response streaming), the emulator's source
(internal/lambda/rapi). test_runtime_api.py holds it to the emulator wherever both can be asked.

    async with RuntimeApi() as api:            # a process is started with AWS_LAMBDA_RUNTIME_API=api.address
        invocation = api.invoke(event)
        await invocation.has(b"first words")   # while the rest is still under way
        await invocation.ended.wait()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

DELIMITER = bytes(8)
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_RUNTIME = "/2018-06-01/runtime/"
_EXTENSION = "/2020-01-01/extension/"


@dataclass(slots=True)
class Invocation:
    """One event and what the runtime made of it. Times are epoch seconds."""

    event: bytes
    deadline: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    invocation_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    headers: dict[str, str] = field(default_factory=dict)
    """Of the runtime's answer, not of the function's: those are in `prelude`."""
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    is_cut: bool = False
    """The connection ended in the middle of the answer: the environment is dead."""
    is_stale: bool = False
    """Its time is over: an answer is refused with 410, as RAPID refuses one of an invocation that was given up meanwhile."""
    begun: bool = False
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def raw(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    @property
    def prelude(self) -> dict[str, Any]:
        """Status, headers and cookies, as API Gateway reads them: from what stands before eight NULs in the first 16,000 bytes."""
        head, delimiter, _ = self.raw.partition(DELIMITER)
        assert delimiter, f"no prelude in {head[:200]!r}"
        assert len(head) < 16_000
        return dict(json.loads(head))

    @property
    def body(self) -> bytes:
        return self.raw.partition(DELIMITER)[2]

    @property
    def status(self) -> int:
        return int(self.prelude["statusCode"])

    async def has(self, text: bytes, seconds: float = 20) -> float:
        """Waits until `text` is in the body; when it came."""
        async with asyncio.timeout(seconds), self.came:
            await self.came.wait_for(lambda: text in self.raw or self.ended.is_set())
        assert text in self.raw, f"not in {self.raw[-500:]!r}"
        return self.pieces[-1][0]

    async def whole(self, seconds: float = 30) -> Self:
        async with asyncio.timeout(seconds):
            await self.ended.wait()
        return self


class RuntimeApi:
    """`address` is what AWS_LAMBDA_RUNTIME_API is set to. One environment at a time; any number of `next` calls."""

    def __init__(self, *, acknowledges_at_once: bool = False) -> None:
        """`acknowledges_at_once` answers each piece with its TCP acknowledgement, where Linux would wait up to 40 ms to save one."""
        self._acknowledges_at_once = acknowledges_at_once
        self.address = ""
        self.invocations: dict[str, Invocation] = {}
        self.init_error: dict[str, Any] | None = None
        self.extensions: list[str] = []
        self.ready = asyncio.Event()
        """The runtime has asked for its first event: what Lambda counts as the end of the init phase."""
        self.ready_at = 0.0
        self._waiting: asyncio.Queue[Invocation] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def invoke(self, event: dict[str, Any], seconds: float = 900.0) -> Invocation:
        """Hands `event` to whoever asks next. `seconds` is the function's timeout."""
        invocation = Invocation(json.dumps(event).encode(), time.time() + seconds)
        self.invocations[invocation.id] = invocation
        self._waiting.put_nowait(invocation)
        return invocation

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await _head(reader)) is not None:
                await self._answer(*request, reader, writer)
        writer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        match (method, path.removeprefix(_RUNTIME).removeprefix(_EXTENSION).split("/")):
            case ("POST", ["register"]):
                self.extensions.append((await _read(reader, headers)).decode())
                _send(writer, 200, b'{"functionName":"relay"}', {"Lambda-Extension-Identifier": "e-1"})
            case ("GET", ["event", "next"]):
                await asyncio.Event().wait()
            case ("GET", ["invocation", "next"]):
                await self._next(reader, writer)
            case ("POST", ["invocation", request_id, "response"]):
                await self._response(request_id, headers, reader, writer)
            case ("POST", ["invocation", request_id, "error"]):
                await self._error(request_id, await _read(reader, headers), writer)
            case ("POST", ["init", "error"]):
                self.init_error = json.loads(await _read(reader, headers))
                _send(writer, 202, b'{"status":"OK"}')
            case _:
                await _read(reader, headers)
                _send(writer, 404, b"404 page not found\n")
        await writer.drain()

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.ready.is_set():
            self.ready_at = time.time()
            self.ready.set()
        waiting = asyncio.ensure_future(self._waiting.get())
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_gone = gone.done()
            waiting.cancel()
            gone.cancel()
            await asyncio.gather(waiting, gone, return_exceptions=True)
        if is_gone or waiting.cancelled():
            raise ConnectionResetError
        invocation = waiting.result()
        told = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:relay",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
            "Lambda-Runtime-Invocation-Id": invocation.invocation_id,
        }
        _send(writer, 200, invocation.event, told)

    async def _response(
        self, request_id: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        invocation = self.invocations.get(request_id)
        refused = self._refused(invocation, headers)
        if refused or invocation is None:
            await _read(reader, headers)
            _refuse(writer, *(refused or (400, "InvalidRequestID")))
            return
        invocation.begun, invocation.headers = True, headers
        try:
            self._acknowledge(writer)
            async for piece in _pieces(reader, headers, invocation.trailers):
                self._acknowledge(writer)
                await self._came(invocation, piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            invocation.is_cut = True
            raise
        finally:
            await self._ended(invocation)
        _send(writer, 202, b'{"status":"OK"}')

    def _refused(self, invocation: Invocation | None, headers: dict[str, str]) -> tuple[int, str] | None:
        """As RAPID refuses: an id that is not under way, an answer too many, a mode it does not know, a stale invocation."""
        mode = headers.get("lambda-runtime-function-response-mode")
        echoed = headers.get("lambda-runtime-invocation-id")
        if invocation is None:
            return 400, "InvalidRequestID"
        if invocation.begun or invocation.ended.is_set():
            return 403, "InvalidStateTransition"
        if mode not in (None, "streaming"):
            return 400, "InvalidFunctionResponseMode"
        if invocation.is_stale or (echoed is not None and echoed != invocation.invocation_id):
            return 410, "StaleInvocation"
        return None

    async def _error(self, request_id: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        invocation = self.invocations.get(request_id)
        if refused := self._refused(invocation, {}):
            _refuse(writer, *refused)
            return
        assert invocation is not None
        invocation.error = json.loads(body)
        await self._ended(invocation)
        _send(writer, 202, b'{"status":"OK"}')

    def _acknowledge(self, writer: asyncio.StreamWriter) -> None:
        if self._acknowledges_at_once:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _came(self, invocation: Invocation, piece: bytes) -> None:
        async with invocation.came:
            invocation.pieces.append((time.time(), piece))
            invocation.came.notify_all()

    async def _ended(self, invocation: Invocation) -> None:
        async with invocation.came:
            invocation.ended.set()
            invocation.came.notify_all()


# --- HTTP/1.1, as far as a runtime speaks it ---


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, _fields(lines)


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines if line):
        told = fields.get(name.lower())
        fields[name.lower()] = value.strip() if told is None else f"{told}, {value.strip()}"
    return fields


async def _read(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    return b"".join([piece async for piece in _pieces(reader, headers, {})])


async def _pieces(
    reader: asyncio.StreamReader, headers: dict[str, str], trailers: dict[str, str]
) -> AsyncIterator[bytes]:
    """A body as it comes; chunked ones by their chunks, and what follows them into `trailers`."""
    if headers.get("transfer-encoding") != "chunked":
        left = int(headers.get("content-length", "0"))
        while left:
            piece = await reader.read(left)
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    lines: list[str] = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        lines.append(line.decode("latin-1").rstrip())
    trailers |= _fields(lines)


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    told = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    writer.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body)


def _refuse(writer: asyncio.StreamWriter, status: int, kind: str) -> None:
    _send(writer, status, json.dumps({"errorMessage": kind, "errorType": kind}).encode())
