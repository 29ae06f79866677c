"""Level 2: HTTP and WebSocket to providers, and nothing else that leaves for one.

httpcore, the transport under httpx, since of what httpx adds (redirects, cookies, proxy variables, decoding) a gateway wants
nothing, and a streamed answer costs a third less without it. What goes wrong on the way is a ProviderError of kind "network"
or "timeout"; an HTTP status is the adapter's to judge.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import httpcore

from sluice import trail
from sluice.errors import ProviderError
from sluice.eventstream import BadMessage, EventStreamDecoder
from sluice.sse import MAX_EVENT_BYTES, EventTooLarge, SSEDecoder
from sluice.types import Frame, UpstreamRequest

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

Framing = Literal["sse", "eventstream", "websocket"]

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    ValueError,
)
_CLOSING_SECONDS = 1.0
_WHITE = b" \t\r\n\xef\xbb\xbf"


class _Messages:
    """A WebSocket cuts its messages itself: each is a frame."""

    def feed(self, message: bytes) -> list[Frame]:
        return [Frame(message.decode("utf-8", "replace"))] if message else []

    def finish(self) -> list[Frame]:
        return []


_DECODERS: Mapping[Framing, Callable[[], SSEDecoder | EventStreamDecoder | _Messages]] = {
    "sse": SSEDecoder,
    "eventstream": EventStreamDecoder,
    "websocket": _Messages,
}


class UpstreamResponse:
    """A provider's answer being read. `whole` turns true when it proves to be one JSON body and no stream."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes], framing: Framing) -> None:
        self.status = status
        self.headers = headers
        self.whole = False
        self._chunks = chunks
        self._framing: Framing = framing

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The stream's frames, or one frame with the whole body. Its first byte tells which, not its content type:
        providers label either as the other (facts/providers.md section 1)."""
        chunks = self._chunks
        opening = b""
        async for chunk in chunks:
            opening += chunk
            if opening.strip(_WHITE):
                break
        if self._framing != "websocket" and opening.lstrip(_WHITE)[:1] in (b"{", b"["):
            self.whole = True
            rest = await _collect(chunks, MAX_BODY_BYTES)
            yield Frame((opening + rest).decode("utf-8", "replace").strip("\ufeff \r\n\t"))
            return
        decoder = _DECODERS[self._framing]()
        try:
            for frame in decoder.feed(opening):
                yield frame
            async for chunk in chunks:
                for frame in decoder.feed(chunk):
                    yield frame
        except (EventTooLarge, BadMessage) as error:
            raise ProviderError("server", str(error)) from error
        for frame in decoder.finish():
            yield frame

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come. Raises ProviderError where it breaks off."""
        return self._chunks

    async def body(self) -> bytes:
        """The whole body. Raises ProviderError where it breaks off or is larger than 64 MB."""
        body = await _collect(self._chunks, MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise ProviderError("server", f"the provider's answer is larger than {MAX_BODY_BYTES} bytes")
        return body

    async def error_body(self) -> bytes:
        """The body of an answer that is an error, cut at 64 KB; whatever came of it where it broke off."""
        try:
            return await _collect(self._chunks, MAX_ERROR_BYTES)
        except ProviderError:
            return b""


LANE = 16
"""Requests under way in one pool. For each that comes or goes a pool looks at all of its connections, and polls the idle ones."""


@dataclass(slots=True, eq=False)
class _Lane:
    pool: httpcore.AsyncConnectionPool
    under_way: int = 0


class Upstream:
    """Pools of connections. `connect_timeout` and `read_timeout` (the longest silence) are in seconds.

    A request takes the first pool that has room, so that few at a time share one pool and many never make a large one;
    a pool that was opened for a crowd is closed when the last of it has gone.

    `trust` gives what a provider's certificate is judged by, and is asked for each pool and each WebSocket.
    """

    def __init__(
        self,
        connect_timeout: float,
        read_timeout: float,
        max_connections: int = 1000,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._most_lanes = max(1, max_connections // LANE)
        self._lanes: dict[str, list[_Lane]] = {}
        self._trust = trust

    def open(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Sends `request` and gives the answer once its headers are there. Leaving the block hangs up.

        Raises ProviderError("network" | "timeout").
        """
        return self._websocket(request) if request.framing == "websocket" else self._http(request)

    @asynccontextmanager
    async def _http(self, request: UpstreamRequest) -> AsyncIterator[UpstreamResponse]:
        headers = {
            "host": urlsplit(request.url).netloc,
            "user-agent": "sluice",
            "accept-encoding": "identity",
            "content-length": str(len(request.body)),
            # Beside what a signature covers: those name the headers they sign.
            **trail.passed_on(),
            **request.headers,
        }
        async with self._lane(request.proxy) as pool:
            try:
                sent = httpcore.Request(
                    request.method,
                    request.url,
                    headers=list(headers.items()),
                    content=request.body,
                    extensions={"timeout": self._timeouts},
                )
                response = await pool.handle_async_request(sent)
            except _FAILURES as error:
                raise _met(error) from error
            told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            try:
                yield UpstreamResponse(response.status, told, _received(response), request.framing)
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _websocket(self, request: UpstreamRequest) -> AsyncIterator[UpstreamResponse]:
        """The body is the first message. A refused handshake is an answer with its status and body."""
        from websockets.exceptions import InvalidStatus, WebSocketException

        connection: ClientConnection | None = None
        try:
            connection = await self._shake_hands(request)
            await connection.send(request.body, text=True)
            response = UpstreamResponse(200, {}, _messages(connection, self._read_timeout), "websocket")
        except InvalidStatus as error:
            told = {name.lower(): value for name, value in error.response.headers.raw_items()}
            response = UpstreamResponse(
                error.response.status_code, told, _once(bytes(error.response.body or b"")), "websocket"
            )
        except (OSError, ValueError, WebSocketException) as error:
            raise _met(error) from error
        try:
            yield response
        finally:
            if connection:
                await connection.close()

    async def _shake_hands(self, request: UpstreamRequest) -> ClientConnection:
        from websockets.asyncio.client import connect

        class Connect(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        return await Connect(
            request.url,
            additional_headers={**trail.passed_on(), **request.headers},
            user_agent_header="sluice",
            compression=None,
            proxy=request.proxy or None,
            open_timeout=self._connect_timeout,
            ping_interval=None,
            close_timeout=_CLOSING_SECONDS,
            max_size=MAX_EVENT_BYTES,
            ssl=self._trust() if request.url.startswith("wss:") else None,
        )

    async def close(self) -> None:
        lanes = [lane for lanes in self._lanes.values() for lane in lanes]
        self._lanes.clear()
        await asyncio.gather(*(lane.pool.aclose() for lane in lanes))

    @asynccontextmanager
    async def _lane(self, proxy: str) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        lanes = self._lanes.setdefault(proxy, [])
        lane = next((one for one in lanes if one.under_way < LANE), None)
        if lane is None and len(lanes) < self._most_lanes:
            lanes.append(lane := _Lane(self._pool(proxy)))
        # Where there can be no more, the pool makes it wait for its turn.
        lane = lane or lanes[-1]
        lane.under_way += 1
        try:
            yield lane.pool
        finally:
            lane.under_way -= 1
            if not lane.under_way and lane in lanes[1:]:
                lanes.remove(lane)
                await lane.pool.aclose()

    def _pool(self, proxy: str) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._trust(),
            proxy=httpcore.Proxy(proxy) if proxy else None,
            max_connections=LANE,
            max_keepalive_connections=LANE,
            keepalive_expiry=30,
        )

    @property
    def _timeouts(self) -> Mapping[str, float]:
        connect, read = self._connect_timeout, self._read_timeout
        return {"connect": connect, "pool": connect, "read": read, "write": read}


async def _received(response: httpcore.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_stream():
            yield chunk
    except _FAILURES as error:
        raise _met(error) from error


async def _messages(connection: ClientConnection, read_timeout: float) -> AsyncIterator[bytes]:
    from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

    try:
        while True:
            async with asyncio.timeout(read_timeout):
                message = await connection.recv(decode=False)
            yield message
    except ConnectionClosedOK:
        return
    except (ConnectionClosedError, TimeoutError) as error:
        raise _met(error) from error


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _collect(chunks: AsyncIterator[bytes], most: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        pieces.append(chunk[: most - size])
        size += len(chunk)
        if size >= most:
            break
    return b"".join(pieces)


def _met(error: Exception) -> ProviderError:
    """The cause's kind without its text: that may hold an endpoint."""
    if isinstance(error, (httpcore.TimeoutException, TimeoutError)):
        return ProviderError("timeout", f"no answer in time ({type(error).__name__})")
    return ProviderError("network", f"the connection failed ({type(error).__name__})")
