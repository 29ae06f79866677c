"""A provider on loopback that does as its URL says: the demo provider of `make run`, and the upstream of tests and benchmark.

Real HTTP/1.1 over raw asyncio, so that it can cut sockets, stall and split bytes. The scripts are in scripted_answer.

    python -m infra.local.scripted_upstream --port 9000 --pace 0.04

    async with ScriptedUpstream() as up:
        ... up.url, up.calls, up.release()
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httptools
import orjson

from infra.local import scripted_answer, scripted_calls
from infra.local.child import end_with_parent
from infra.local.scripted_answer import Answer, Script
from infra.local.scripted_calls import Said

_UNSCRIPTED = ("", "v1", "chat", "models")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Error",
}
HUMAN_PACE = 0.04
"""Seconds per word: 25 words a second, as fast as one reads."""


@dataclass(slots=True)
class Call:
    """One request as it was received, and what became of it. Times are the server's clock, in seconds."""

    method: str
    path: str
    script: str
    headers: Mapping[str, str]
    body: Any
    """JSON; of a form its fields, and of its files their names and sizes."""
    at: float
    bytes_sent: int = 0
    chunks_sent: int = 0
    chunk_times: list[float] = field(default_factory=list)
    hung_up: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0


class _Gone(Exception):
    """The client has left."""


class _Malformed(Exception):
    """The body is none of this endpoint's."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Builds an answer out of a body, which is pure: whatever goes wrong there is the body's fault."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        raise _Malformed(f"{type(problem).__name__}: {problem}") from problem


class ScriptedUpstream:
    """A server on loopback; port 0 takes a free one. `remember` bounds `calls`, `pace` is in seconds between content chunks."""

    def __init__(
        self,
        port: int = 0,
        *,
        pace: float = 0.0,
        models: Sequence[str] = ("demo",),
        remember: int = 10_000,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._port = port
        self.pace = pace
        self.models = tuple(models)
        self.calls: deque[Call] = deque(maxlen=remember)
        self.clock = clock
        self.rng = rng or random.Random()
        self._released = asyncio.Event()
        self._asked: dict[str, int] = {}
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*(one.task for one in self._connections if one.task), return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Without a script: append `/v1`, or `/{script}/v1`."""
        return f"http://127.0.0.1:{self._port}"

    def release(self) -> None:
        """Lets every stalled and hanging call go on, and those of the future pass without a stop."""
        self._released.set()

    @property
    def released(self) -> asyncio.Event:
        return self._released

    def script_for(self, segment: str) -> Script:
        """The script of this call: counts it, for `times=N`."""
        script = scripted_answer.with_pace(Script.parse(segment), self.pace)
        self._asked[segment] = self._asked.get(segment, 0) + 1
        if script.times and self._asked[segment] > script.times:
            return script.well()
        return script


class _Connection(asyncio.Protocol):
    """One socket: parses requests, answers them one after the other, notices when the client leaves."""

    def __init__(self, server: ScriptedUpstream) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._waiting: deque[tuple[str, str, dict[str, str], bytes, bool]] = deque()
        self.task: asyncio.Task[None] | None = None
        self._call: Call | None = None
        self._begun = False

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._server._connections.discard(self)
        self._gone.set()
        self._writable.set()
        if self._call is not None:
            self._call.hung_up = True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def abort(self) -> None:
        self._transport.abort()

    # --- what httptools calls

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", dict[str, str](), bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method, path = self._parser.get_method().decode(), self._url.partition(b"?")[0].decode()
        keep = self._parser.should_keep_alive()
        self._waiting.append((method, path, self._headers, bytes(self._body), keep))
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._answer_all())

    # --- answering

    async def _answer_all(self) -> None:
        with contextlib.suppress(_Gone):
            while self._waiting:
                method, path, headers, body, keep = self._waiting.popleft()
                await self._answer(method, path, headers, body)
                if not keep:
                    self._transport.close()

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        first, _, rest = path.lstrip("/").partition("/")
        segment, rest = ("", path) if first in _UNSCRIPTED else (first, f"/{rest}")
        parsed: Any = None
        # Of what cannot be read nothing is remembered; the endpoint says so.
        with contextlib.suppress(_Malformed), _reading():
            if headers.get("content-type", "").startswith("multipart/form-data"):
                parsed = scripted_calls.fields_of(body, headers["content-type"])
            elif body:
                parsed = orjson.loads(body)
        call = Call(method, path, segment, headers, parsed, self._server.clock())
        self._server.calls.append(call)
        self._call = call
        self._begun = False
        try:
            await self._route(call, rest.removeprefix("/v1"))
        except _Malformed as problem:
            message = f"We could not read the body of your request ({problem})."
            await self._json(call, 400, scripted_answer.error_body(message, "invalid_request_error"))
        except _Gone:
            raise
        except Exception:  # noqa: BLE001 - printed and told: a silent provider looks like a slow one
            await self._confess(call)
        finally:
            self._call = None
            call.ended_at = self._server.clock()
            call.ended.set()

    async def _confess(self, call: Call) -> None:
        """A fault of this server: said where nothing has been sent yet, else the answer is cut. Never silence."""
        traceback.print_exc(file=sys.stderr)
        if self._begun:
            self._transport.abort()
        else:
            await self._json(call, 500, scripted_answer.error_body("The scripted upstream itself failed."))

    async def _route(self, call: Call, path: str) -> None:
        try:
            script = self._server.script_for(call.script)
        except ValueError as problem:
            return await self._json(call, 400, scripted_answer.error_body(str(problem), "invalid_request_error"))
        if call.method == "GET" and path == "/models":
            return await self._json(
                call, 200, {"object": "list", "data": [self._model(m) for m in self._server.models]}
            )
        if call.method == "GET" and path.removeprefix("/models/") in self._server.models:
            return await self._json(call, 200, self._model(path.removeprefix("/models/")))
        if await self._fails(call, script):
            return
        if call.method == "POST" and path == "/chat/completions":
            return await self._chat(call, script)
        if call.method == "POST" and scripted_calls.knows(path):
            with _reading():
                said = scripted_calls.said(path, call.body, script, int(self._server.clock()))
            return await self._other(call, said, script)
        missing = scripted_answer.error_body(f"Unknown request URL: {call.method} {path}", "invalid_request_error")
        await self._json(call, 404, missing)

    @staticmethod
    def _model(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"}

    async def _fails(self, call: Call, script: Script) -> bool:
        """What the script has in store before any answer; whether there is none."""
        if script.refuse:
            self._leave()
            return True
        if script.hang:
            await self._stall()
        if script.slowheaders:
            await self._pause(script.slowheaders)
        if script.status:
            body = scripted_answer.scripted_error(script, call.headers.get("authorization", ""))
            extra = {"retry-after": f"{script.retry_after:g}"} if script.retry_after >= 0 else {}
            await self._json(call, script.status, body, extra)
            return True
        return False

    async def _other(self, call: Call, said: Said, script: Script) -> None:
        """An answer that is no chat: whole, or in pieces that stall, break off and fail as content chunks do."""
        if not said.pieces:
            return await self._at_once(call, said.whole, said.content_type, script)
        self._write(self._head(200, {"content-type": said.content_type, "transfer-encoding": "chunked"}))
        for number, piece in enumerate(said.pieces):
            if await self._happens(call, script, number):
                return
            if number and script.pace > 0:
                await self._pause(script.pace)
            await self._send(call, piece, script)
            call.chunks_sent += 1
            call.chunk_times.append(self._server.clock())
        self._write(b"0\r\n\r\n")

    async def _chat(self, call: Call, script: Script) -> None:
        with _reading():
            if not isinstance(call.body["messages"], list):
                raise TypeError("'messages' is no list")
            said = scripted_answer.answer(call.body, script, self._id("chatcmpl-"), int(self._server.clock()))
            wants_usage = scripted_answer.wants_usage(call.body)
        if call.body.get("stream"):
            await self._stream(call, said, script, wants_usage)
        else:
            await self._whole(call, said, script)

    async def _stream(self, call: Call, said: Answer, script: Script, wants_usage: bool) -> None:
        head = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._write(self._head(200, head))
        if script.bom:
            await self._send(call, b"\xef\xbb\xbf", script)
        if await self._happens(call, script, 0):
            return
        for frames, chunk in enumerate(scripted_answer.stream(said, script, wants_usage)):
            if frames == script.cutframe:
                return self._leave()
            if chunk.content > 1 and script.pace > 0:
                await self._pause(script.pace)
            payload = chunk.data.encode() if isinstance(chunk.data, str) else orjson.dumps(chunk.data)
            await self._send(call, scripted_answer.wire(payload, script), script)
            if chunk.content:
                call.chunks_sent += 1
                call.chunk_times.append(self._server.clock())
                if await self._happens(call, script, chunk.content):
                    return
        self._write(b"0\r\n\r\n")

    async def _happens(self, call: Call, script: Script, chunks: int) -> bool:
        """What the script has in store after this many content chunks; whether the answer ends with it."""
        if chunks == script.stall:
            await self._stall()
        if not script.stops_at(chunks):
            return False
        if chunks == script.error:
            event = scripted_answer.error_body("The scripted upstream failed in mid-stream.", code=script.code or None)
            await self._send(call, scripted_answer.wire(orjson.dumps(event), script), script)
        if chunks in (script.error, script.end):
            self._write(b"0\r\n\r\n")
        elif chunks == script.reset:
            self._transport.abort()
        else:
            self._leave()
        return True

    async def _whole(self, call: Call, said: Answer, script: Script) -> None:
        if script.pace > 0:
            await self._pause(script.pace * len(said.pieces) / said.choices)
        await self._at_once(call, orjson.dumps(scripted_answer.completion(said)), "application/json", script)

    async def _at_once(self, call: Call, body: bytes, content_type: str, script: Script) -> None:
        half = len(body) // 2
        if script.error >= 0:
            return await self._json(call, 200, scripted_answer.error_body("The scripted upstream failed."))
        head = {"content-type": content_type, "content-length": str(len(body))}
        self._write(self._head(200, head))
        if script.stall >= 0 or script.cut >= 0 or script.reset >= 0:
            self._write(body[:half])
            call.bytes_sent += half
            if script.stall < 0:
                return self._leave() if script.cut >= 0 else self._transport.abort()
            await self._stall()
            body = body[half:]
        self._write(body)
        call.bytes_sent += len(body)

    async def _json(self, call: Call, status: int, body: Any, extra: Mapping[str, str] | None = None) -> None:
        payload = orjson.dumps(body)
        head = {"content-type": "application/json", "content-length": str(len(payload)), **(extra or {})}
        self._write(self._head(status, head) + payload)
        call.bytes_sent += len(payload)

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        fixed = {"x-request-id": self._id("req_"), "openai-processing-ms": "1", "openai-version": "2020-10-01"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **fixed}.items())
        return f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}\r\n{lines}\r\n".encode("latin-1")

    def _id(self, prefix: str) -> str:
        return f"{prefix}{self._server.rng.getrandbits(96):024x}"

    async def _send(self, call: Call, data: bytes, script: Script) -> None:
        size = script.split or len(data)
        for start in range(0, len(data), size):
            part = data[start : start + size]
            self._write(b"%x\r\n%b\r\n" % (len(part), part))
            call.bytes_sent += len(part)
            # One turn of the loop per write: each leaves as its own segment, and a client that left is noticed.
            await asyncio.sleep(0)
            await self._writable.wait()

    def _write(self, data: bytes) -> None:
        if self._gone.is_set():
            raise _Gone
        self._begun = True
        self._transport.write(data)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()
                raise _Gone

    async def _stall(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._server.released, self._gone)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._gone.is_set():
            raise _Gone

    def _leave(self) -> None:
        """Ends the connection after what was written, in the middle of the body: no data is lost to a reset."""
        self._call = None
        self._transport.close()


async def _serve(port: int, pace: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ScriptedUpstream(port, pace=pace, remember=0) as up:
        print(f"scripted upstream on {up.url}/v1", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible provider on loopback that does as its URL says.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--pace", type=float, default=HUMAN_PACE, help="seconds between words")
    arguments = parser.parse_args()
    end_with_parent()
    asyncio.run(_serve(arguments.port, arguments.pace))


if __name__ == "__main__":
    main()
