"""Level 3: looking after channels. Whether one is well, what its provider offers, whether it is being left out.

What is asked of a provider here is the operator's own: no user is charged, nothing is marked, nothing fails over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Protocol

from sluice import adapters
from sluice.adapters import Adapter, ListsModels
from sluice.errors import BadRequest, ProviderError, UpstreamFailed
from sluice.passes import Passes
from sluice.types import CONTENT, Attempt, Channel, ChatRequest, Checkup, Event, Frame, Mark, Offer, UpstreamRequest
from sluice.upstream import Upstream

_PATIENCE_SECONDS = 25.0
"""Less than the 29 s that API Gateway waits for an answer of this door."""
_WORDS = "Answer with the word OK."
_MAX_TOKENS = 64


class Editor(Protocol):
    """What is asked of `catalog.CatalogEditor`."""

    async def opened(self, channel_id: str) -> Channel: ...
    async def change_channel(self, channel_id: str, changes: Mapping[str, Any]) -> object: ...


class Marked(Protocol):
    async def refresh(self) -> bool: ...
    async def close(self) -> None: ...
    def of(self, channel: Channel) -> tuple[Mark, ...]: ...


class Care:
    """`upstream` makes a pool of connections for one call: between two of them the environment may have been frozen."""

    def __init__(
        self, editor: Editor, marked: Marked, upstream: Callable[[], Upstream], clock: Callable[[], float]
    ) -> None:
        self._editor = editor
        self._marked = marked
        self._upstream = upstream
        self._clock = clock

    async def marks(self, channels: list[Channel]) -> dict[str, tuple[Mark, ...]]:
        """Each channel's marks, by its id. Without a shared cache they stay in the relays' processes and none is seen."""
        await self._marked.refresh()
        return {channel.id: self._marked.of(channel) for channel in channels}

    async def test(self, channel_id: str, model: str = "") -> Checkup:
        """One small streamed chat, by `model` or the first that the channel serves. Whatever it meets is the answer.

        Raises NotFound, Conflict, and BadRequest on a model that the channel does not serve.
        """
        channel = await self._editor.opened(channel_id)
        asked = model or channel.models[0]
        if asked not in channel.models:
            raise BadRequest(f"This channel does not serve the model `{asked}`.", param="model")
        began = self._clock()
        try:
            async with _patience():
                first = await self._answered(channel, asked)
        except ProviderError as error:
            return Checkup(asked, error.kind, self._since(began), status=error.status, message=_told(error, channel))
        return Checkup(asked, "ok", self._since(began), round((first - began) * 1000), 200)

    async def offer(self, channel_id: str) -> Offer:
        """What the provider offers against what the channel serves.

        Raises NotFound, Conflict, BadRequest where the provider has no list, UpstreamFailed where it did not give it.
        """
        channel = await self._editor.opened(channel_id)
        adapter = adapters.load(channel.type).adapter(self._clock())
        if not isinstance(adapter, ListsModels):
            raise BadRequest(f"A channel of type {channel.type!r} has no list of models to ask for.", param="type")
        try:
            async with _patience():
                return compared(channel, await self._listed(adapter, channel))
        except ProviderError as error:
            raise _no_list(channel, error) from error

    async def adopt(self, channel_id: str) -> Offer:
        """Makes the channel serve what its provider offers, and nothing else. Raises as `offer` does."""
        offer = await self.offer(channel_id)
        if offer.added or offer.gone:
            await self._editor.change_channel(channel_id, {"models": offer.models})
        return offer

    async def close(self) -> None:
        await self._marked.close()

    async def _answered(self, channel: Channel, model: str) -> float:
        """Asks and reads to the end. When the first content came."""
        adapter = adapters.load(channel.type).adapter(self._clock())
        first = 0.0
        async with self._frames(adapter, channel, partial(adapter.request, _small_talk(model))) as frames:
            async for frame in frames:
                if any(isinstance(event, CONTENT) for event in list(adapter.feed(frame))):
                    first = first or self._clock()
                if adapter.done:
                    break
        rest: list[Event] = list(adapter.finish())
        if not first and not any(isinstance(event, CONTENT) for event in rest):
            raise ProviderError("server", "the provider's answer was empty")
        return first or self._clock()

    async def _listed(self, adapter: ListsModels, channel: Channel) -> list[str]:
        async with self._frames(adapter, channel, adapter.list_models) as frames:
            async for frame in frames:
                return adapter.models_of(frame.data)
        raise ProviderError("server", "the provider's answer was empty")

    @asynccontextmanager
    async def _frames(
        self, adapter: Adapter, channel: Channel, request: Callable[[Channel], UpstreamRequest]
    ) -> AsyncIterator[AsyncGenerator[Frame, None]]:
        upstream, provider = self._upstream(), adapters.load(channel.type)
        try:
            admitted = await Passes().admitted(provider, channel, upstream.open, self._clock())
            async with upstream.open(request(admitted)) as response:
                if response.status >= 400:
                    raise adapter.error(response.status, response.headers, await response.error_body())
                async with aclosing(response.frames()) as frames:
                    yield frames
        finally:
            await upstream.close()

    def _since(self, began: float) -> int:
        return round((self._clock() - began) * 1000)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise ProviderError("timeout", f"not answered within {_PATIENCE_SECONDS:g} s") from None


def compared(channel: Channel, offered: list[str]) -> Offer:
    """A provider's list against a channel's models. A model that is mapped to an offered one stays by our own name."""
    served = {channel.upstream_model(model) for model in channel.models}
    kept = tuple(model for model in channel.models if channel.upstream_model(model) in offered)
    gone = tuple(model for model in channel.models if model not in kept)
    added = tuple(name for name in dict.fromkeys(offered) if name not in served)
    return Offer(tuple(offered), added, gone, kept + added)


def _small_talk(model: str) -> ChatRequest:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _WORDS}],
        "max_tokens": _MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return ChatRequest(
        model, body, stream=True, include_usage=True, max_tokens=_MAX_TOKENS, output_cap=_MAX_TOKENS, raw=body
    )


def _told(error: ProviderError, channel: Channel) -> str:
    """The provider's own sentence, which may quote the key it refuses."""
    secret = channel.secret.reveal()
    return error.message.replace(secret, str(channel.secret)) if secret else error.message


def _no_list(channel: Channel, error: ProviderError) -> UpstreamFailed:
    attempt = Attempt(channel.id, error.kind, error.status)
    message = f"The provider did not give its list of models ({error.kind}): {_told(error, channel)}"
    return UpstreamFailed(message, (attempt,), status=502, code="upstream_failed")
