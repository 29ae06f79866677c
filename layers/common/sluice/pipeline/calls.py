"""A call that is no chat: one canonical request, answered by a body, by events, or by bytes as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from sluice import adapters, dialects
from sluice.adapters import CallAdapter
from sluice.endpoints import Endpoint
from sluice.errors import BadRequest, ProviderError
from sluice.pipeline.chat import until_done
from sluice.pipeline.exchange import Exchange
from sluice.pipeline.needs import Deps
from sluice.types import CallRequest, Channel, Frame, Hold, Identity, Price, UpstreamRequest, Usage
from sluice.upstream import UpstreamResponse

_TYPES = {"whole": "application/json", "bytes": "application/octet-stream"}


class CallExchange(Exchange):
    def __init__(
        self,
        deps: Deps,
        request_id: str,
        who: Identity,
        price: Price,
        channels: tuple[Channel, ...],
        hold: Hold,
        endpoint: Endpoint,
        call: CallRequest,
        bound: Usage,
    ) -> None:
        super().__init__(deps, request_id, who, price, channels, hold, call.model, streams=call.answer != "whole")
        self._endpoint = endpoint
        self._call = call
        self._bound = bound
        self._answer = endpoint.answer(call, "")
        self._wire = ""
        if call.answer == "bytes":
            self._silence = None

    async def _attempt(self, channel: Channel) -> None:
        adapter = adapters.endpoint(channel.type, self._call.kind, self._deps.clock())
        if adapter is None:
            raise ProviderError("unsupported", f"This channel has no {self._call.kind}.", param="model")
        self._wire = adapters.load(channel.type).wire
        alias = self._model if channel.upstream_model(self._model) != self._model else ""
        self._answer = answer = self._endpoint.answer(self._call, alias)
        request = adapter.request(self._call, channel)
        async with self._deps.upstream.open(request) as response:
            shown = await self._greeted(response, adapter, self._wire, dialects.load(self._endpoint.dialect), channel)
            self._headers = {**self._told_with(request, response), **shown}
            await {"whole": self._whole, "events": self._events, "bytes": self._bytes}[self._call.answer](
                adapter, response
            )
        answer.finish()
        if not self._committed:
            raise ProviderError("server", "the provider's answer was empty")

    def _told_with(self, request: UpstreamRequest, response: UpstreamResponse) -> dict[str, str]:
        """The provider's content type, where it may say what it sends, and what of the request did not reach it."""
        lost = (*(self._call.dropped if self._wire != self._call.dialect else ()), *request.dropped)
        headers = {"x-sluice-dropped": ",".join(lost)} if lost else {}
        if (usual := _TYPES.get(self._call.answer)) is not None:
            headers["content-type"] = response.headers.get("content-type") or usual
        return headers

    async def _whole(self, adapter: CallAdapter, response: UpstreamResponse) -> None:
        body = await response.body()
        # Megabytes of numbers or pictures are no work for the loop that serves everybody.
        self._body = await asyncio.to_thread(lambda: self._answer.whole(adapter.whole(body)))
        self._pass_on(b"", content=True)

    async def _events(self, adapter: CallAdapter, response: UpstreamResponse) -> None:
        async with aclosing(response.frames()) as frames:
            async for frame in until_done(frames, self._answer):
                told = self._frames(adapter, frame, response)
                self._pass_on(self._framing.pieces(told), content=bool(told))

    def _frames(self, adapter: CallAdapter, frame: Frame, response: UpstreamResponse) -> list[Frame]:
        if response.whole:
            return list(self._answer.streamed(adapter.whole(frame.data.encode())))
        return [told for piece in adapter.feed(frame) for told in self._answer.frame(piece)]

    async def _bytes(self, adapter: CallAdapter, response: UpstreamResponse) -> None:
        if "json" in response.headers.get("content-type", ""):
            adapter.whole(await response.body())
            raise ProviderError("server", "the provider answered with JSON where bytes were asked for")
        async for chunk in response.chunks():
            self._pass_on(chunk, content=bool(chunk))

    def _speaks(self, error: ProviderError) -> bool:
        return self._wire == self._endpoint.dialect

    def _last_words(self) -> bytes:
        if self._call.answer == "bytes":
            return b""
        if self._failure:
            return self._framing.pieces(
                (dialects.load(self._endpoint.dialect).error_frame(self._failure, self._request_id),)
            )
        return self._framing.pieces(self._answer.end(self._usage or Usage()))

    async def _stream(self, opening: bytes) -> AsyncIterator[bytes]:
        async for piece in super()._stream(opening):
            yield piece
        if self._failure and self._call.answer == "bytes":
            # Sound has no words for an error: only a connection that breaks tells the client that there is more.
            raise ConnectionAbortedError("the answer broke off")

    async def _used(self) -> Usage:
        usage = self._answer.usage
        if usage is not None and usage.within(self._bound):
            return usage
        self._disbelieve(usage, self._bound)
        return await asyncio.to_thread(self._answer.counted)


def offering(channels: tuple[Channel, ...], call: CallRequest, now: float) -> tuple[Channel, ...]:
    """The channels whose providers have this kind of call. Raises BadRequest where none has."""
    found = tuple(channel for channel in channels if adapters.endpoint(channel.type, call.kind, now) is not None)
    if not found:
        what = call.kind.replace("_", " ")
        message = f"The model `{call.model}` cannot be asked for {what}: none of its channels offers that."
        raise BadRequest(message, param="model", code="endpoint_unsupported")
    return found
