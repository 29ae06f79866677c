"""Level 3: the way of a chat request. `chat` reads like the list of design; everything under it is one step each.

Two tasks share an `Exchange`. The reader asks channels until one answers, counts, and settles: it belongs to the request, not to
the client. The writer hands what has come to the client: when the client leaves, the writer ends and the reader goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from sluice import adapters, prices, sse, tokens
from sluice.buffer import Buffer
from sluice.dialects import Dialect, Encoder
from sluice.errors import (
    CLIENT_FAULT,
    MARKS_CHANNEL,
    RETRY_SAME,
    BadRequest,
    Forbidden,
    InsufficientQuota,
    ModelNotFound,
    ProviderError,
    SluiceError,
    UpstreamFailed,
)
from sluice.settings import Settings
from sluice.ticker import Ticker
from sluice.types import (
    CONTENT,
    Attempt,
    Catalog,
    Channel,
    ChatRequest,
    EndReason,
    Event,
    Frame,
    Hold,
    Identity,
    Nano,
    Price,
    Receipt,
    Usage,
)
from sluice.upstream import Upstream

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
_LONGEST_COOL_DOWN_SECONDS = 60.0
_MARK_SECONDS: Mapping[str, float] = {"auth": 60, "quota": 300, "permission": 60, "model_not_found": 60}
_BROKEN: Mapping[str, EndReason] = {"network": "upstream_cut", "timeout": "timeout"}
_EXHAUSTED: Mapping[str, tuple[int, str]] = {
    "rate_limit": (429, "rate_limit_exceeded"),
    "overloaded": (503, "upstream_overloaded"),
    "timeout": (504, "upstream_timeout"),
    "network": (502, "upstream_unreachable"),
    "server": (502, "upstream_failed"),
    "auth": (502, "upstream_refused"),
    "permission": (502, "upstream_refused"),
    "model_not_found": (502, "upstream_refused"),
    "quota": (503, "upstream_quota"),
}
_HEARTBEAT = sse.comment("keep-alive")


# --- what the story needs of others -----------------------------------------------------------------------------------


class Callers(Protocol):
    async def identify(self, token: str | None) -> Identity: ...


class Routes(Protocol):
    async def current(self) -> Catalog: ...


class Purse(Protocol):
    async def hold(self, wallet_id: str, request_id: str, amount: Nano) -> Hold: ...
    async def extend(self, hold: Hold, amount: Nano) -> Hold: ...
    async def settle(self, hold: Hold, cost: Nano, receipt: Receipt) -> Nano: ...
    async def release(self, hold: Hold, receipt: Receipt | None = None) -> None: ...


class Marked(Protocol):
    def active(self, name: str) -> bool: ...
    async def mark(self, name: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything a chat request is carried by. Made once per environment by `wiring`."""

    callers: Callers
    catalog: Routes
    ledger: Purse
    upstream: Upstream
    marks: Marked
    settings: Settings
    rng: random.Random
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    running: set[asyncio.Task[None]] = field(default_factory=set)
    """Readers under way. A server that stops waits for them."""


@dataclass(slots=True)
class Reply:
    """What goes back: a body, or a stream of bytes whose `leave` tells that the client is gone."""

    headers: dict[str, str]
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    leave: Callable[[], None] = lambda: None


# --- the story -------------------------------------------------------------------------------------------------------


async def chat(deps: Deps, dialect: Dialect, token: str | None, body: bytes, request_id: str) -> Reply:
    """One chat request from a client's token and body to the reply. Raises SluiceError while no byte is committed."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    request = dialect.parse(body)
    price, channels = _route(catalog, who, request)
    prompt_tokens = tokens.estimate_prompt(request.body)
    amount = prices.cost(_most(request, price, prompt_tokens, deps.settings), price)
    hold = await deps.ledger.hold(who.user_id, request_id, amount)
    exchange = Exchange(deps, dialect, request, request_id, who, price, channels, hold, prompt_tokens)
    task = asyncio.create_task(exchange.read())
    deps.running.add(task)
    task.add_done_callback(deps.running.discard)
    return await exchange.reply()


async def models(deps: Deps, token: str | None) -> list[str]:
    """The models this caller can use now: served to its group, priced, allowed to its key."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    return [model for model in catalog.models(who.group) if model in catalog.prices and who.may_use(model)]


async def model(deps: Deps, token: str | None, name: str) -> str:
    """`name` if this caller can use it. Raises ModelNotFound."""
    if name not in await models(deps, token):
        raise ModelNotFound(f"The model `{name}` does not exist or is not open to you.", param="model")
    return name


def _route(catalog: Catalog, who: Identity, request: ChatRequest) -> tuple[Price, tuple[Channel, ...]]:
    """The price of the model and the channels that may serve it to this caller."""
    model = request.model
    if not who.may_use(model):
        raise Forbidden(f"This key may not use the model `{model}`.", param="model", code="model_not_allowed")
    channels = catalog.serving(model, who.group)
    if not channels:
        raise ModelNotFound(f"The model `{model}` does not exist or is not open to you.", param="model")
    if model not in catalog.prices:
        raise ModelNotFound(f"The model `{model}` has no price yet: ask the operator to set one.", param="model")
    return catalog.prices[model], channels


def _most(request: ChatRequest, price: Price, prompt_tokens: int, settings: Settings) -> Usage:
    """The most this request can use: its input, and for each choice the lowest cap on output that is known."""
    caps = [cap for cap in (request.max_tokens, price.max_output) if cap]
    return Usage(prompt_tokens, request.n * (min(caps) if caps else settings.default_max_tokens))


class Exchange:
    """One request between its hold and its settlement."""

    def __init__(
        self,
        deps: Deps,
        dialect: Dialect,
        request: ChatRequest,
        request_id: str,
        who: Identity,
        price: Price,
        channels: tuple[Channel, ...],
        hold: Hold,
        prompt_tokens: int,
    ) -> None:
        self._deps = deps
        self._dialect = dialect
        self._request = request
        self._request_id = request_id
        self._who = who
        self._price = price
        self._channels = channels
        self._hold = hold
        self._began = deps.clock()
        self._first_token = 0.0
        self._asked = ""
        self._attempts: list[Attempt] = []
        self._errors: list[ProviderError] = []
        self._buffer = Buffer(prompt_tokens)
        self._encoder: Encoder | None = None
        self._usage: Usage | None = None
        self._kept: list[bytes] = []
        self._body = b""
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._committed = False
        self._gone = False
        self._failure: SluiceError | None = None
        self._end: EndReason = "failed"
        self._limit: asyncio.Timeout | None = None
        self._covered = self._output_covered()

    # The reader: channels -> adapter -> buffer -> settle.

    async def read(self) -> None:
        """Runs the request to its settlement, whatever happens on the way. Never raises."""
        try:
            async with asyncio.timeout(None) as self._limit:
                await self._ask_channels()
            self._end = "client_gone" if self._gone else "done"
        except TimeoutError:
            self._end = "client_gone"
        except SluiceError as error:
            self._failure = error
        except Exception:
            log.exception("request %s failed inside the gateway", self._request_id)
            self._failure = SluiceError("The gateway failed. Try again, or tell the operator the request id.")
        charged = await self._settle()
        self._close()
        self._report(charged)

    async def _ask_channels(self) -> None:
        """Every sibling, then every next tier, until one answers to the end. Raises SluiceError."""
        for channel in Ticker(self._open_channels(), self._deps.rng):
            for tries_left in range(channel.retry, -1, -1):
                if self._gone:
                    return
                error = await self._try(channel)
                if error is None:
                    return
                pause = _pause(error)
                if pause is None or not tries_left:
                    break
                await self._deps.sleep(pause)
        raise _exhausted(self._attempts, self._errors)

    def _open_channels(self) -> tuple[Channel, ...]:
        """The channels not marked; all of them where every one is, since refusing for certain helps nobody."""
        active, model = self._deps.marks.active, self._request.model
        free = tuple(c for c in self._channels if not any(map(active, _mark_names(c, model))))
        return free or self._channels

    async def _try(self, channel: Channel) -> ProviderError | None:
        """One attempt, written down. The error it met if another may follow; raises SluiceError if none may."""
        try:
            await self._attempt(channel)
        except ProviderError as error:
            self._errors.append(error)
            if self._committed:
                self._attempts.pop()
            self._attempts.append(Attempt(channel.id, error.kind, error.status))
            if self._committed:
                self._end = _BROKEN.get(error.kind, "upstream_error")
                raise _broken(error) from error
            if error.kind in CLIENT_FAULT:
                raise _client_fault(error) from error
            await self._mark(channel, error)
            return error
        return None

    async def _mark(self, channel: Channel, error: ProviderError) -> None:
        """Leaves a channel out for a while: its key or quota is refused, or it said when to come back."""
        whole, with_model = _mark_names(channel, self._request.model)
        if error.kind in MARKS_CHANNEL:
            about_model = error.kind in ("permission", "model_not_found")
            await self._deps.marks.mark(with_model if about_model else whole, _MARK_SECONDS[error.kind])
        elif error.kind == "rate_limit" and error.retry_after:
            await self._deps.marks.mark(whole, min(error.retry_after, _LONGEST_COOL_DOWN_SECONDS))

    async def _attempt(self, channel: Channel) -> None:
        """One try of one channel, to the end of its answer. Raises ProviderError."""
        request, upstream_model = self._request, channel.upstream_model(self._request.model)
        provider = adapters.load(channel.type)
        adapter = provider.adapter()
        alias = request.model if upstream_model != request.model else ""
        encoder = self._encoder = self._dialect.encoder(request, self._request_id, int(self._began), alias)
        self._buffer = Buffer(self._buffer.prompt_tokens)
        self._kept.clear()
        self._asked = channel.id
        async with self._deps.upstream.open(adapter.request(request, channel)) as response:
            if response.status >= 400:
                raise adapter.error(response.status, response.headers, await response.error_body())
            async with aclosing(response.frames()) as frames:
                async for frame in frames:
                    native = provider.wire == self._dialect.name and response.whole != request.stream
                    await self._take(frame, list(adapter.feed(frame)), encoder, native=native)
        for event in adapter.finish():
            await self._take(Frame(""), [event], encoder, native=False)
        if not self._committed:
            raise ProviderError("server", "the provider's answer was empty")

    async def _take(self, frame: Frame, events: list[Event], encoder: Encoder, *, native: bool) -> None:
        """One frame of the provider into the buffer and on to the client."""
        for event in events:
            self._buffer.add(event)
        if not self._request.stream:
            self._body = encoder.whole(frame) if native else b""
            self._pass_on(b"", events)
        else:
            frames = encoder.relay(frame) if native else chain.from_iterable(map(encoder.encode, events))
            self._pass_on(_framed(frames), events)
            await self._afford()

    def _pass_on(self, piece: bytes, events: list[Event]) -> None:
        """Keeps what comes before the first content; from there on everything goes out at once."""
        if not self._committed:
            self._kept.append(piece)
            if not any(isinstance(event, CONTENT) for event in events):
                return
            self._committed = True
            self._attempts.append(Attempt(self._asked, "ok"))
            self._first_token = self._deps.clock()
            self._opened.set()
            piece = b"".join(self._kept)
        if piece and not self._gone:
            self._pieces.put_nowait(piece)

    async def _afford(self) -> None:
        """Extends the hold before the answer passes it. Raises InsufficientQuota where the wallet cannot.

        The running count is high on purpose; before anybody is cut off the tokenizer has the word.
        """
        if self._covered is None or not self._request.stream or self._buffer.output_tokens <= self._covered:
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
        amount = prices.cost(Usage(self._buffer.prompt_tokens, output_tokens), self._price)
        try:
            self._hold = await self._deps.ledger.extend(self._hold, max(amount, self._hold.amount))
        except InsufficientQuota:
            return False
        self._covered = self._output_covered()
        return True

    def _output_covered(self) -> int | None:
        return prices.output_covered(self._hold.amount, self._buffer.prompt_tokens, self._price)

    async def _settle(self) -> Nano:
        """Charges what was received and gives the rest of the hold back. Nothing received, nothing charged."""
        try:
            if not self._committed:
                await self._deps.ledger.release(self._hold, self._receipt(Usage(source="none")))
                return 0
            self._usage = self._buffer.usage or await self._counted()
            cost = prices.cost(self._usage, self._price)
            return await self._deps.ledger.settle(self._hold, cost, self._receipt(self._usage))
        except SluiceError as error:
            log.error("request %s is not settled (%s): its hold is left to the sweep", self._request_id, error.code)
            self._failure = self._failure or error
            return 0

    async def _counted(self) -> Usage:
        """What our own tokenizer counts of the request and of the answer as far as it came."""
        prompt = await asyncio.to_thread(tokens.count_prompt, self._request.body, self._request.model)
        output = await asyncio.to_thread(self._buffer.recount, self._count)
        return Usage(prompt, output, source="counted")

    def _count(self, text: str) -> int:
        return tokens.count(text, self._request.model)

    def _receipt(self, usage: Usage) -> Receipt:
        now = self._deps.clock()
        return Receipt(
            model=self._request.model,
            channel_id=self._attempts[-1].channel_id if self._attempts else "",
            key_id=self._who.key_id,
            usage=usage,
            end_reason=self._end,
            price_version=self._price.version,
            attempts=tuple(str(attempt) for attempt in self._attempts),
            duration_ms=int((now - self._began) * 1000),
            ttft_ms=int((self._first_token - self._began) * 1000) if self._first_token else 0,
        )

    def _close(self) -> None:
        """The last word to the client, after the settlement: the terminator, or the error the stream ends with."""
        if self._failure:
            self._failure.attempts = tuple(self._attempts)
        if self._request.stream:
            self._pieces.put_nowait(_framed(self._last_frames()))
        elif self._encoder and self._usage and not self._body:
            self._body = self._encoder.completion(self._buffer.completion(self._usage))
        self._pieces.put_nowait(None)
        self._opened.set()
        self._closed.set()

    def _last_frames(self) -> Iterable[Frame]:
        if self._failure:
            return (self._dialect.error_frame(self._failure, self._request_id),)
        return self._encoder.end(self._usage) if self._encoder else ()

    def _report(self, charged: Nano) -> None:
        """One line a request for the operator: who, where, how much, how it ended. Never content."""
        receipt = self._receipt(self._usage or Usage(source="none"))
        fields = {
            "request_id": self._request_id,
            "user": self._who.user_id,
            "key": receipt.key_id,
            "model": receipt.model,
            "channel": receipt.channel_id,
            "attempts": receipt.attempts,
            "input": receipt.usage.input,
            "output": receipt.usage.output,
            "usage_source": receipt.usage.source,
            "cost_nano": charged,
            "ttft_ms": receipt.ttft_ms,
            "duration_ms": receipt.duration_ms,
            "end_reason": receipt.end_reason,
            "error": self._failure.code if self._failure else "",
        }
        log.info("request", extra={"fields": fields})

    # The writer: what has come -> client.

    async def reply(self) -> Reply:
        """The reply as soon as its status is certain: at the first content, at the end, or at the first heartbeat."""
        try:
            async with asyncio.timeout(self._deps.settings.heartbeat_seconds if self._request.stream else None):
                await (self._opened if self._request.stream else self._closed).wait()
        except TimeoutError:
            return Reply({}, stream=self._stream(_HEARTBEAT), leave=self.leave)
        if self._failure and not (self._committed and self._request.stream):
            raise self._failure
        headers = {"x-sluice-attempts": ",".join(map(str, self._attempts))}
        if not self._request.stream:
            return Reply(headers, body=self._body)
        return Reply(headers, stream=self._stream(b""), leave=self.leave)

    async def _stream(self, opening: bytes) -> AsyncIterator[bytes]:
        if opening:
            yield opening
        piece: bytes | None = b""
        while piece is not None:
            try:
                async with asyncio.timeout(self._deps.settings.heartbeat_seconds):
                    piece = await self._pieces.get()
            except TimeoutError:
                piece = _HEARTBEAT
            waiting = [piece] if piece is not None else []
            while piece is not None and not self._pieces.empty():
                piece = self._pieces.get_nowait()
                waiting += [piece] if piece is not None else []
            if waiting:
                yield b"".join(waiting)

    def leave(self) -> None:
        """The client is gone: the writer ends, the reader has a bounded time to reach the provider's usage."""
        if self._gone or self._closed.is_set():
            return
        self._gone = True
        self._pieces.put_nowait(None)
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._deps.settings.drain_seconds)


# --- small rules -----------------------------------------------------------------------------------------------------


def _framed(frames: Iterable[Frame]) -> bytes:
    return b"".join(sse.encode(frame.data, frame.event) for frame in frames)


def _mark_names(channel: Channel, model: str) -> tuple[str, str]:
    """The names a channel is marked by: whole, and for one model. A new key or endpoint makes new names."""
    state = f"{channel.secret.reveal()}\n{channel.endpoint}".encode()
    whole = f"{channel.id}:{hashlib.blake2s(state, digest_size=6).hexdigest()}"
    return whole, f"{whole}:{model}"


def _pause(error: ProviderError) -> float | None:
    """Seconds before the same channel is asked again; None where the next channel is the better bet."""
    if error.kind not in RETRY_SAME:
        return None
    wait = _RETRY_SECONDS if error.retry_after is None else error.retry_after
    return wait if wait <= _LONGEST_WAIT_SECONDS else None


def _client_fault(error: ProviderError) -> SluiceError:
    """The provider's own sentence: the request is at fault, and only its words say how."""
    code = {"context_length": "context_length_exceeded", "content_filter": "content_filter"}.get(error.kind)
    message = error.message or "The provider refused the request as invalid."
    return BadRequest(message, param=error.param, code=code or error.code or "invalid_request")


def _broken(error: ProviderError) -> SluiceError:
    message = f"The provider broke off the answer ({error.kind}). What came of it is charged; nothing else is."
    return UpstreamFailed(message, (), status=502, code="upstream_broken")


def _exhausted(attempts: list[Attempt], errors: list[ProviderError]) -> UpstreamFailed:
    """One error for all attempts: their kinds and statuses, not their channels' keys, endpoints or words."""
    kinds = {error.kind for error in errors}
    status, code = _EXHAUSTED[kinds.pop()] if len(kinds) == 1 else (502, "upstream_failed")
    met = "; ".join(
        f"attempt {number}: {attempt.kind}" + (f" ({attempt.status})" if attempt.status else "")
        for number, attempt in enumerate(attempts, 1)
    )
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    message = f"No channel could answer ({met}). You were not charged. Try again later."
    return UpstreamFailed(message, tuple(attempts), status=status, code=code, retry_after=min(waits, default=None))
