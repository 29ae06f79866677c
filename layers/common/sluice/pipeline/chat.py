"""A chat: one canonical request, any dialect on the client's side, any adapter on the provider's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any, Protocol, cast

from sluice import adapters, prices, tokens
from sluice.adapters import Adapter
from sluice.buffer import Buffer
from sluice.dialects import Dialect, Encoder, Recorder, in_own_words, own_name
from sluice.errors import InsufficientQuota, ProviderError, SluiceError
from sluice.pipeline.exchange import Exchange
from sluice.pipeline.framing import framing
from sluice.pipeline.needs import Deps
from sluice.types import CONTENT, Channel, ChatRequest, Event, Frame, Hold, Identity, Nano, Price, Usage

_AFTER_DONE_SECONDS = 0.2
"""How long a provider that has said all may take to close its answer: one read to the end leaves a connection for the next."""


class ChatExchange(Exchange):
    """`prompt_tokens` is the estimate of the request's input, `bound` the most a provider's count can say of it."""

    def __init__(
        self,
        deps: Deps,
        request_id: str,
        who: Identity,
        price: Price,
        channels: tuple[Channel, ...],
        hold: Hold,
        dialect: Dialect,
        request: ChatRequest,
        prompt_tokens: int,
        bound: Usage,
    ) -> None:
        super().__init__(deps, request_id, who, price, channels, hold, request.model, streams=request.stream)
        self._dialect = dialect
        self._request = request
        self._framing = framing(request)
        self._buffer = Buffer(prompt_tokens, bound)
        self._encoder: Encoder | None = None
        self._wire = ""
        self._content = False
        self._covered = self._output_covered()

    async def _attempt(self, channel: Channel) -> None:
        provider = adapters.load(channel.type)
        adapter = provider.adapter(self._deps.clock())
        self._wire = provider.wire
        self._encoder = encoder = self._fresh_encoder(channel)
        self._framing = framing(self._request)
        self._buffer = Buffer(self._buffer.prompt_tokens, self._buffer.most)
        self._body, self._content = b"", False
        lost = () if self._wire == self._dialect.name else self._translatable()
        try:
            await self._ask(adapter, channel, encoder, lost)
        except ProviderError as error:
            self._put_in_own_words(error)
            raise

    async def _ask(self, adapter: Adapter, channel: Channel, encoder: Encoder, lost: tuple[str, ...]) -> None:
        request = adapter.request(self._request, channel)
        dropped = dict.fromkeys((*lost, *map(self._own_name, request.dropped)))
        self._headers = {"x-sluice-dropped": ",".join(dropped)} if dropped else {}
        async with self._deps.upstream.open(request) as response:
            self._headers |= await self._greeted(response, adapter, self._wire, self._dialect, channel)
            async with aclosing(response.frames()) as frames:
                async for frame in until_done(frames, adapter):
                    native = self._wire == self._dialect.name and response.whole != self._streams
                    await self._take(frame, list(adapter.feed(frame)), encoder, native=native)
        for event in adapter.finish():
            await self._take(Frame(""), [event], encoder, native=False)
        if not self._streams and self._content:
            await self._write_whole(encoder)
        if not self._committed:
            raise ProviderError("server", "the provider's answer was empty")

    async def _write_whole(self, encoder: Encoder) -> None:
        """The body of an answer that has come to its end. Until it is written nothing is committed, and failing over is open."""
        self._usage = await self._used()
        if not self._body:
            self._body = encoder.completion(self._buffer.completion(self._usage))
        self._pass_on(b"", content=True)

    def _own_name(self, field: str) -> str:
        """A field as the client said it: its own body went to a provider of its format."""
        return field if self._wire == self._dialect.name else own_name(self._dialect, self._request, field)

    def _put_in_own_words(self, error: ProviderError) -> None:
        if error.param and (own := self._own_name(error.param)) != error.param:
            error.message, error.param = in_own_words(error.message, error.param, own), own

    def _translatable(self) -> tuple[str, ...]:
        """What a provider of another dialect never sees. Raises ProviderError where that would change the meaning."""
        if self._request.native:
            field = self._request.native[0]
            message = f"`{field}` is only understood by providers of the `{self._dialect.name}` format."
            raise ProviderError("unsupported", message, param=field)
        return self._request.dropped

    def _fresh_encoder(self, channel: Channel) -> Encoder:
        alias = self._model if channel.upstream_model(self._model) != self._model else ""
        return self._dialect.encoder(self._request, self._request_id, int(self._began), alias)

    async def _take(self, frame: Frame, events: list[Event], encoder: Encoder, *, native: bool) -> None:
        """One frame of the provider into the buffer and on to the client."""
        for event in events:
            self._buffer.add(event)
        events = list(filter(self._buffer.believes, events))
        content = any(isinstance(event, CONTENT) for event in events)
        self._content = self._content or content
        if not self._streams:
            self._body = encoder.whole(frame) if native else self._body
        else:
            frames = encoder.relay(frame) if native else chain.from_iterable(map(encoder.encode, events))
            self._pass_on(self._framing.pieces(frames), content=content)
            await self._afford()

    def _speaks(self, error: ProviderError) -> bool:
        return self._wire == self._dialect.name

    def _last_words(self) -> bytes:
        frames: Iterable[Frame] = self._encoder.end(self._usage) if self._encoder else ()
        if self._failure:
            frames = self._broken_off(self._failure)
        return self._framing.pieces(frames) + self._framing.end()

    def _broken_off(self, failure: SluiceError) -> Iterable[Frame]:
        """How the dialect ends a stream that broke: of an attempt that failed unseen, nothing is told."""
        encoder = self._encoder if self._committed else self._fresh_encoder(self._channels[0])
        if recorder := _recorder(encoder):
            return recorder.broken(failure, self._usage)
        return (self._dialect.error_frame(failure, self._request_id),)

    async def _beside(self, settling: Coroutine[Any, Any, Nano]) -> Nano:
        recorder = _recorder(self._encoder)
        if self._failure or recorder is None:
            return await settling
        charged, _ = await asyncio.gather(settling, self._keep(recorder))
        return int(charged)

    async def _keep(self, recorder: Recorder) -> None:
        """Has the answer kept where its client asks for that."""
        kept = recorder.record(self._usage) if self._usage else None
        if kept is None or await self._deps.memory.keep(self._who.user_id, kept):
            return
        recorder.unkept()
        if not self._streams and self._usage:
            self._body = recorder.completion(self._buffer.completion(self._usage))

    async def _used(self) -> Usage:
        """The provider's count; of a half it never said our own tokenizer's, of the request or of the answer so far."""
        usage = self._buffer.usage
        if usage is None:
            self._disbelieve(self._buffer.unbelieved, self._buffer.most)
            told = self._buffer.told
            given = told.input or await asyncio.to_thread(tokens.count_prompt, self._request.body, self._model)
            made = told.output or await asyncio.to_thread(self._buffer.recount, self._count)
            usage = replace(told, input=given, output=made, source="counted")
        return usage

    def _count(self, text: str) -> int:
        return tokens.count(text, self._model)

    async def _afford(self) -> None:
        """Extends the hold before the answer passes it. Raises InsufficientQuota where the wallet cannot.

        The running count is high on purpose; before anybody is cut off the tokenizer has the word.
        """
        if self._covered is None or not self._streams or self._buffer.output_tokens <= self._covered:
            return
        if await self._extend(2 * self._buffer.output_tokens):
            return
        exact = await asyncio.to_thread(self._buffer.recount, self._count)
        if exact <= self._covered or await self._extend(exact + exact // 4) or await self._extend(exact + 32):
            return
        self._end = "quota"
        raise InsufficientQuota(
            "Your balance is used up: the answer ends here and is charged as far as it came. Top up to go on."
        )

    async def _extend(self, output_tokens: int) -> bool:
        amount = prices.most(Usage(self._buffer.prompt_tokens, output_tokens), self._price)
        try:
            self._hold = await self._deps.ledger.extend(self._hold, max(amount, self._hold.amount))
        except InsufficientQuota:
            return False
        self._covered = self._output_covered()
        return True

    def _output_covered(self) -> int | None:
        return prices.output_covered(self._hold.amount, self._buffer.prompt_tokens, self._price)


class Ends(Protocol):
    @property
    def done(self) -> bool: ...


async def until_done(frames: AsyncGenerator[Frame, None], answer: Ends) -> AsyncGenerator[Frame, None]:
    """The frames up to the provider's last word, and no longer than a moment after it."""
    async for frame in frames:
        yield frame
        if answer.done:
            break
    try:
        async with asyncio.timeout(_AFTER_DONE_SECONDS):
            async for _ in frames:
                pass
    except (TimeoutError, ProviderError):
        pass


def _recorder(encoder: Encoder | None) -> Recorder | None:
    kind: type = type(encoder)
    return cast(Recorder, encoder) if _records(kind) else None


@cache
def _records(kind: type) -> bool:
    """Asked once for each dialect: a protocol's check costs more than the rest of what a settlement does here."""
    return issubclass(kind, Recorder)
