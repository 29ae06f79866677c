"""Level 2: HTTP to providers, and nothing else that leaves for one.

httpx without its environment: no proxy variables, no redirects, no cookies. What goes wrong on the way is a ProviderError of
kind "network" or "timeout"; an HTTP status is the adapter's to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from sluice.errors import ProviderError
from sluice.sse import EventTooLarge, SSEDecoder
from sluice.types import Frame, UpstreamRequest

if TYPE_CHECKING:
    from ssl import SSLContext

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
_WHITE = b" \t\r\n\xef\xbb\xbf"


class UpstreamResponse:
    """A provider's answer being read. `whole` turns true when it proves to be one JSON body and no stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
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
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise _met(error) from error


class Upstream:
    """One pool of connections per proxy. `connect_timeout` and `read_timeout` (the longest silence) are in seconds."""

    def __init__(self, connect_timeout: float, read_timeout: float, max_connections: int = 1000) -> None:
        self._timeout = httpx.Timeout(read_timeout, connect=connect_timeout, pool=connect_timeout)
        self._limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=100, keepalive_expiry=30)
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._context: SSLContext | None = None

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncIterator[UpstreamResponse]:
        """Sends `request` and gives the answer once its headers are there. Leaving the block hangs up.

        Raises ProviderError("network" | "timeout").
        """
        client = self._client(request.proxy)
        try:
            sent = client.build_request(
                request.method,
                request.url,
                content=request.body,
                headers={"accept-encoding": "identity", "user-agent": "sluice", **request.headers},
            )
            response = await client.send(sent, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _met(error) from error
        try:
            yield UpstreamResponse(response)
        finally:
            await response.aclose()

    async def close(self) -> None:
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))
        self._clients.clear()

    def _client(self, proxy: str) -> httpx.AsyncClient:
        if proxy not in self._clients:
            # One context for all clients: loading the trust store costs 30 ms each time.
            self._context = self._context or httpx.create_ssl_context(trust_env=False)
            self._clients[proxy] = httpx.AsyncClient(
                verify=self._context,
                proxy=proxy or None,
                trust_env=False,
                timeout=self._timeout,
                limits=self._limits,
            )
        return self._clients[proxy]


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
    if isinstance(error, httpx.TimeoutException):
        return ProviderError("timeout", f"no answer in time ({type(error).__name__})")
    return ProviderError("network", f"the connection failed ({type(error).__name__})")
