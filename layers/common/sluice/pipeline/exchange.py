"""One request between its hold and its settlement, whatever is asked: channels tried, money settled, the client served.

What is asked of a channel, and what was used in the end, is a subclass's to say.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from sluice import adapters, prices, signals, trail
from sluice.adapters import Adapter, CallAdapter
from sluice.cache import mark_names
from sluice.dialects import Dialect, shown_by
from sluice.errors import (
    CLIENT_FAULT,
    MARKS_CHANNEL,
    RETRY_SAME,
    ProviderError,
    SluiceError,
    Unreadable,
)
from sluice.pipeline import failures, passing
from sluice.pipeline.framing import Events, Framing
from sluice.pipeline.needs import Deps, Reply
from sluice.ticker import Ticker
from sluice.types import Attempt, Channel, EndReason, Hold, Identity, Nano, Price, Receipt, Usage, attempts_told
from sluice.upstream import UpstreamResponse

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
_LONGEST_COOL_DOWN_SECONDS = 60.0
_LONGEST_TOLD_SECONDS = 86_400.0
_MARK_SECONDS: Mapping[str, float] = {"auth": 60, "quota": 300, "permission": 60, "model_not_found": 60}
_BROKEN: Mapping[str, EndReason] = {"network": "upstream_cut", "timeout": "timeout"}


class Exchange(ABC):
    """`model` is the client's name for it; `streams` whether the client is answered piece by piece."""

    def __init__(
        self,
        deps: Deps,
        request_id: str,
        who: Identity,
        price: Price,
        channels: tuple[Channel, ...],
        hold: Hold,
        model: str,
        *,
        streams: bool,
    ) -> None:
        self._deps = deps
        self._request_id = request_id
        self._who = who
        self._price = price
        self._channels = channels
        self._hold = hold
        self._model = model
        self._streams = streams
        self._began = deps.clock()
        self._first_token = 0.0
        self._asked = ""
        self._attempts: list[Attempt] = []
        self._errors: list[ProviderError] = []
        self._usage: Usage | None = None
        self._kept: list[bytes] = []
        self._body = b""
        self._headers: dict[str, str] = {}
        self._framing: Framing = Events()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._committed = False
        self._gone = False
        self._failure: SluiceError | None = None
        self._end: EndReason = "failed"
        self._deadline: float | None = None
        self._limit: asyncio.Timeout | None = None
        self._patience: asyncio.Timeout | None = None
        self._silence = deps.settings.heartbeat_seconds if streams else None
        """Seconds without a piece after which the client gets a heartbeat; None where the answer has no place for one."""

    # What a subclass says.

    @abstractmethod
    async def _attempt(self, channel: Channel) -> None:
        """One try of one channel, to the end of its answer: passes on what comes. Raises ProviderError."""

    @abstractmethod
    async def _used(self) -> Usage:
        """What the answer used, once it was committed."""

    @abstractmethod
    def _last_words(self) -> bytes:
        """What closes a stream, after the settlement: the terminator, or the error it ends with."""

    async def _beside(self, settling: Coroutine[Any, Any, Nano]) -> Nano:
        """The settlement, and side by side with it what else is to be done before the last word."""
        return await settling

    def _speaks(self, error: ProviderError) -> bool:
        """Whether the client's own format is the one this provider's error came in."""
        return False

    async def _greeted(
        self, response: UpstreamResponse, adapter: Adapter | CallAdapter, wire: str, dialect: Dialect, channel: Channel
    ) -> dict[str, str]:
        """What a client sees of the answer's headers, if the provider speaks its format. Raises ProviderError on 400 and above."""
        allowed = shown_by(dialect) if wire == dialect.name else ()
        shown = passing.shown(response.headers, allowed, passing.telling(channel))
        if response.status >= 400:
            error = adapter.error(response.status, response.headers, await response.error_body())
            error.headers = shown
            raise error
        return shown

    # The reader: channels -> answer -> settle.

    async def started(self, deadline: float | None = None) -> Reply:
        """Sets the reader to work, and waits for the reply it makes possible.

        `deadline`, in epoch seconds, is when the host ends this process's work: the answer is settled and closed before.
        """
        self._deadline = deadline
        trail.note_taken()
        task = asyncio.create_task(self.read())
        self._deps.running.add(task)
        task.add_done_callback(self._deps.running.discard)
        return await self.reply()

    async def read(self) -> None:
        """Runs the request to its settlement, whatever happens on the way. Never raises."""
        try:
            async with asyncio.timeout(self._seconds_left()) as self._limit:
                await self._ask_channels()
            self._end = "client_gone" if self._gone else "done"
        except TimeoutError:
            self._run_out()
        except SluiceError as error:
            self._failure = error
        except Exception as error:
            self._stumbled(error)
            self._end = "upstream_error" if self._committed else "failed"
            self._failure = SluiceError("The gateway failed. Try again, or tell the operator the request id.")
        self._limit = None
        charged = await self._settle()
        self._report(charged)
        self._close()

    def _seconds_left(self) -> float | None:
        """For the answer, before the host ends it and with time to settle; None where it never does."""
        if self._deadline is None:
            return None
        return max(self._deadline - self._deps.settings.deadline_margin_seconds - self._deps.clock(), 0.0)

    def _run_out(self) -> None:
        """The time is over: that of a client who left, or the host's. A whole answer that is there is not taken back."""
        if self._gone:
            self._end = "client_gone"
        elif self._committed and not self._streams:
            self._end = "done"
        else:
            self._end, self._failure = "deadline", failures.out_of_time(begun=self._committed)
            if self._asked and not self._committed:
                self._attempts.append(Attempt(self._asked, "timeout"))

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
        raise failures.exhausted(self._errors, self._attempts)

    def _open_channels(self) -> tuple[Channel, ...]:
        """The channels not marked; all of them where every one is, since refusing for certain helps nobody."""
        active, model = self._deps.marks.active, self._model
        free = tuple(c for c in self._channels if not any(map(active, mark_names(c, model))))
        return free or self._channels

    async def _try(self, channel: Channel) -> ProviderError | None:
        """One attempt, written down. The error it met if another may follow; raises SluiceError if none may."""
        self._asked = channel.id
        self._kept.clear()
        error = await self._met(channel)
        if error is None:
            return None
        error.native = self._speaks(error) and passing.is_object(error.body)
        self._errors.append(error)
        if self._committed:
            self._attempts.pop()
        self._attempts.append(Attempt(channel.id, error.kind, error.status))
        self._report_attempt(self._attempts[-1])
        self._asked = ""
        if self._committed:
            self._end = _BROKEN.get(error.kind, "upstream_error")
            raise failures.broken(error) from error
        if error.kind in CLIENT_FAULT:
            raise failures.client_fault(error) from error
        await self._mark(channel, error)
        return error

    async def _met(self, channel: Channel) -> ProviderError | None:
        """What an attempt met, fit to be told: without the channel's secret and address, which some providers repeat.

        An answer that nobody here can read is the provider's error like any other: the next channel may do better.
        """
        try:
            await self._patiently(channel)
        except Unreadable as error:
            return self._unread(channel, error.__cause__ or error)
        except ProviderError as error:
            return _hidden(error, channel)
        except SluiceError:
            raise
        except Exception as error:
            return self._unread(channel, error)
        return None

    def _unread(self, channel: Channel, error: BaseException) -> ProviderError:
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        fields = {"request_id": self._request_id, "channel": channel.id, "error": type(error).__name__, "at": where}
        log.error("an answer could not be read", extra={"fields": fields})
        return Unreadable()

    async def _patiently(self, channel: Channel) -> None:
        """An attempt whose stream has to bring content in time: comments alone could keep one alive for ever."""
        most = self._deps.settings.first_content_seconds if self._streams else None
        try:
            async with asyncio.timeout(most) as self._patience:
                await self._admitted(channel)
        except TimeoutError:
            if self._patience is None or not self._patience.expired():
                raise
            raise ProviderError("timeout", "no content came in time") from None

    async def _admitted(self, channel: Channel) -> None:
        """An attempt with what the provider admits; a second one where that was a token we kept, and it is refused."""
        deps, provider = self._deps, adapters.load(channel.type)
        try:
            await self._attempt(await deps.passes.admitted(provider, channel, deps.upstream.open, deps.clock()))
        except ProviderError as error:
            if error.kind != "auth" or self._committed or not deps.passes.refused(channel):
                raise
            await self._attempt(await deps.passes.admitted(provider, channel, deps.upstream.open, deps.clock()))

    async def _mark(self, channel: Channel, error: ProviderError) -> None:
        """Leaves a channel out for a while: its key or quota is refused, or it said when to come back."""
        whole, with_model = mark_names(channel, self._model)
        if error.kind in MARKS_CHANNEL:
            about_model = error.kind in ("permission", "model_not_found")
            await self._deps.marks.mark(with_model if about_model else whole, _MARK_SECONDS[error.kind], error.kind)
        elif error.kind == "rate_limit" and error.retry_after:
            await self._deps.marks.mark(whole, min(error.retry_after, _LONGEST_COOL_DOWN_SECONDS), error.kind)

    def _pass_on(self, piece: bytes, *, content: bool) -> None:
        """Keeps what comes before the first content; from there on everything goes out at once."""
        if not self._committed:
            self._kept.append(piece)
            if not content:
                return
            self._committed = True
            self._attempts.append(Attempt(self._asked, "ok"))
            self._first_token = self._deps.clock()
            self._opened.set()
            if self._patience is not None:
                self._patience.reschedule(None)
            piece = b"".join(self._kept)
        if piece and not self._gone:
            self._pieces.put_nowait(piece)

    async def _settle(self) -> Nano:
        """Charges what was received and gives the rest of the hold back. Nothing received, nothing charged."""
        try:
            if not self._committed:
                await self._deps.ledger.release(self._hold, self._receipt(Usage(source="none")))
                return 0
            self._usage = self._usage or await self._used()
            cost = prices.cost(self._usage, self._price)
            return await self._beside(self._deps.ledger.settle(self._hold, cost, self._receipt(self._usage)))
        except SluiceError as error:
            self._report_unsettled(error.code)
            self._failure = self._failure or error
        except Exception as error:
            self._stumbled(error)
            self._report_unsettled(type(error).__name__)
            self._failure = self._failure or SluiceError(
                "The gateway failed to settle. Tell the operator the request id."
            )
        return 0

    def _disbelieve(self, told: Usage | None, bound: Usage) -> None:
        """For the operator: a provider counted more than can be, and what we counted is charged in its place."""
        if told is not None:
            fields = {"request_id": self._request_id, "channel": self._asked, "model": self._model}
            counts = {
                "input": told.input,
                "output": told.output,
                "most_input": bound.input,
                "most_output": bound.output,
            }
            log.warning("a provider's count is not believed", extra={"fields": {**fields, **counts}})

    def _receipt(self, usage: Usage) -> Receipt:
        now = self._deps.clock()
        return Receipt(
            model=self._model,
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
        try:
            if self._streams:
                self._pieces.put_nowait(self._last_words())
        except Exception as error:
            self._stumbled(error)
        finally:
            self._pieces.put_nowait(None)
            self._opened.set()
            self._closed.set()

    def _stumbled(self, error: Exception) -> None:
        """A fault of ours, for the log: its kind and place, not its words, which may quote an answer."""
        where = "".join(traceback.format_tb(error.__traceback__)[-5:])
        fields = {"request_id": self._request_id, "error": type(error).__name__, "at": where}
        log.error("the gateway failed a request", extra={"fields": fields})

    def _report(self, charged: Nano) -> None:
        """One line a request for the operator: who, where, how much, how it ended. Never content."""
        receipt = self._receipt(self._usage or Usage(source="none"))
        fields = {
            "request_id": self._request_id,
            "user": self._who.user_id,
            "key_id": receipt.key_id,
            "model": receipt.model,
            "channel": receipt.channel_id,
            "streamed": self._streams,
            "attempts": receipt.attempts,
            "input": receipt.usage.input,
            "output": receipt.usage.output,
            "cached": receipt.usage.cached,
            "units": dict(receipt.usage.units),
            "usage_source": receipt.usage.source,
            "cost_nano": charged,
            "ttft_ms": receipt.ttft_ms,
            "duration_ms": receipt.duration_ms,
            "end_reason": receipt.end_reason,
            "error": signals.code_of(self._failure),
        }
        asked = trail.under_way()
        remembered = asked.remembered if asked else None
        measured = signals.answered(receipt, charged, self._failure, remembered, streamed=self._streams)
        signals.tell("request", fields, measured)

    def _report_attempt(self, attempt: Attempt) -> None:
        """A channel that failed, which the client may never hear of. What a request is at fault for is no failure of it."""
        if attempt.kind not in CLIENT_FAULT:
            fields = {
                "channel": attempt.channel_id,
                "model": self._model,
                "error": attempt.kind,
                "status": attempt.status,
            }
            measured = signals.failed_attempt(attempt)
            signals.tell("an attempt failed", {"request_id": self._request_id, **fields}, measured, logging.WARNING)

    def _report_unsettled(self, code: str) -> None:
        fields = {"request_id": self._request_id, "error": code}
        signals.tell(
            "a request is not settled: its hold is left to the sweep", fields, signals.unsettled(), logging.ERROR
        )

    # The writer: what has come -> client.

    async def reply(self) -> Reply:
        """The reply as soon as its status is certain: at the first content, at the end, or at the first heartbeat."""
        try:
            async with asyncio.timeout(self._silence):
                await (self._opened if self._streams else self._closed).wait()
        except TimeoutError:
            opening = self._stream(self._framing.heartbeat)
            return Reply({**self._framing.headers}, stream=opening, leave=self.leave)
        if self._failure and not (self._committed and self._streams):
            raise self._failure
        headers = {**self._headers, "x-sluice-attempts": attempts_told(self._attempts)}
        if not self._streams:
            return Reply(headers, body=self._body)
        return Reply({**headers, **self._framing.headers}, stream=self._stream(b""), leave=self.leave)

    async def _stream(self, opening: bytes) -> AsyncIterator[bytes]:
        if opening:
            yield opening
        piece: bytes | None = b""
        while piece is not None:
            try:
                async with asyncio.timeout(self._silence):
                    piece = await self._pieces.get()
            except TimeoutError:
                piece = self._framing.heartbeat
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
        if self._limit is not None and not self._limit.expired():
            drained = asyncio.get_running_loop().time() + self._deps.settings.drain_seconds
            self._limit.reschedule(min(drained, self._limit.when() or drained))


# --- small rules -----------------------------------------------------------------------------------------------------


def _hidden(error: ProviderError, channel: Channel) -> ProviderError:
    """`error` without the channel's secret and address, and with a wait that can be."""
    if error.retry_after is not None:
        error.retry_after = min(error.retry_after, _LONGEST_TOLD_SECONDS) if error.retry_after >= 0 else None
    return passing.hide(error, channel)


def _pause(error: ProviderError) -> float | None:
    """Seconds before the same channel is asked again; None where the next channel is the better bet."""
    if error.kind not in RETRY_SAME:
        return None
    wait = _RETRY_SECONDS if error.retry_after is None else error.retry_after
    return wait if wait <= _LONGEST_WAIT_SECONDS else None
