"""Level 2: HTTP to providers, and nothing else that leaves for one.

httpcore, the transport under httpx, since of what httpx adds (redirects, cookies, proxy variables, decoding) a gateway wants
nothing, and a streamed answer costs a third less without it. What goes wrong on the way is a ProviderError of kind "network"
or "timeout"; an HTTP status is the adapter's to judge.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import certifi
import httpcore

from sluice.errors import ProviderError
from sluice.sse import EventTooLarge, SSEDecoder
from sluice.types import Frame, UpstreamRequest

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
_WHITE = b" \t\r\n\xef\xbb\xbf"


class UpstreamResponse:
    """A provider's answer being read. `whole` turns true when it proves to be one JSON body and no stream."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
        }
        self.whole = False

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The stream's frames, or one frame with the whole body. Its first byte tells which, not its content type:
        providers label either as the other (facts/providers.md section 1)."""
        chunks = self._chunks()
        opening = b""
        async for chunk in chunks:
            opening += chunk
            if opening.strip(_WHITE):
                break
        if opening.lstrip(_WHITE)[:1] in (b"{", b"["):
            self.whole = True
            rest = await _collect(chunks, MAX_BODY_BYTES)
            yield Frame((opening + rest).decode("utf-8", "replace").strip("\ufeff \r\n\t"))
            return
        decoder = SSEDecoder()
        try:
            for frame in decoder.feed(opening):
                yield frame
            async for chunk in chunks:
                for frame in decoder.feed(chunk):
                    yield frame
        except EventTooLarge as error:
            raise ProviderError("server", str(error)) from error
        for frame in decoder.finish():
            yield frame

    async def error_body(self) -> bytes:
        """The body of an answer that is an error, cut at 64 KB; whatever came of it where it broke off."""
        try:
            return await _collect(self._chunks(), MAX_ERROR_BYTES)
        except ProviderError:
            return b""

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_stream():
                yield chunk
        except _FAILURES as error:
            raise _met(error) from error


class Upstream:
    """One pool of connections per proxy. `connect_timeout` and `read_timeout` (the longest silence) are in seconds."""

    def __init__(self, connect_timeout: float, read_timeout: float, max_connections: int = 1000) -> None:
        self._timeouts = {
            "timeout": {
                "connect": connect_timeout,
                "pool": connect_timeout,
                "read": read_timeout,
                "write": read_timeout,
            }
        }
        self._max_connections = max_connections
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}
        self._context: ssl.SSLContext | None = None

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncIterator[UpstreamResponse]:
        """Sends `request` and gives the answer once its headers are there. Leaving the block hangs up.

        Raises ProviderError("network" | "timeout").
        """
        headers = {
            "host": urlsplit(request.url).netloc,
            "user-agent": "sluice",
            "accept-encoding": "identity",
            "content-length": str(len(request.body)),
            **request.headers,
        }
        try:
            sent = httpcore.Request(
                request.method,
                request.url,
                headers=list(headers.items()),
                content=request.body,
                extensions=self._timeouts,
            )
            response = await self._pool(request.proxy).handle_async_request(sent)
        except _FAILURES as error:
            raise _met(error) from error
        try:
            yield UpstreamResponse(response)
        finally:
            await response.aclose()

    async def close(self) -> None:
        await asyncio.gather(*(pool.aclose() for pool in self._pools.values()))
        self._pools.clear()

    def _pool(self, proxy: str) -> httpcore.AsyncConnectionPool:
        if proxy not in self._pools:
            # One context for all pools: loading the trust store costs 30 ms each time.
            self._context = self._context or _trusting()
            self._pools[proxy] = httpcore.AsyncConnectionPool(
                ssl_context=self._context,
                proxy=httpcore.Proxy(proxy) if proxy else None,
                max_connections=self._max_connections,
                max_keepalive_connections=100,
                keepalive_expiry=30,
            )
        return self._pools[proxy]


def _trusting() -> ssl.SSLContext:
    """The system's trust store, and certifi's where the system has none that can be seen."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


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
    if isinstance(error, httpcore.TimeoutException):
        return ProviderError("timeout", f"no answer in time ({type(error).__name__})")
    return ProviderError("network", f"the connection failed ({type(error).__name__})")
