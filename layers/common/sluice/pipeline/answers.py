"""What a client may do with an answer it had kept: go on from it, see it again, see what it was asked, and have it forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

from sluice.dialects import Dialect, Remembering
from sluice.pipeline.framing import Events
from sluice.pipeline.needs import Deps, Reply
from sluice.types import ChatRequest, Identity, Inbound, KeptAnswer

Ask = Callable[[Deps, Remembering, str | None, Inbound], Awaitable[Reply]]
"""Whose answer is asked for is told by the token, which one by the path. All raise NotFound, whoever's it is otherwise."""


async def resumed(deps: Deps, dialect: Dialect, who: Identity, request: ChatRequest) -> ChatRequest:
    """The request, made whole with the kept answers it goes on from. Raises NotFound."""
    if not request.recalls:
        return request
    kept = await asyncio.gather(*(deps.memory.recall(who.user_id, one) for one in request.recalls))
    return cast(Remembering, dialect).resumed(request, kept)


async def answer(deps: Deps, dialect: Remembering, token: str | None, inbound: Inbound) -> Reply:
    kept = await _recalled(deps, token, inbound)
    if inbound.path.get("stream") != "true":
        return Reply({}, body=dialect.answer(kept, inbound.path))
    return Reply({}, stream=_whole(Events().pieces(dialect.replay(kept, inbound.path))))


async def asked(deps: Deps, dialect: Remembering, token: str | None, inbound: Inbound) -> Reply:
    return Reply({}, body=dialect.asked(await _recalled(deps, token, inbound), inbound.path))


async def cancel(deps: Deps, dialect: Remembering, token: str | None, inbound: Inbound) -> Reply:
    return Reply({}, body=dialect.cancelled(await _recalled(deps, token, inbound)))


async def forget(deps: Deps, dialect: Remembering, token: str | None, inbound: Inbound) -> Reply:
    who, answer_id = await deps.callers.identify(token), inbound.path["answer_id"]
    await deps.memory.forget(who.user_id, answer_id)
    return Reply({}, body=dialect.forgotten(answer_id))


ASKS: Mapping[str, Ask] = {"answer": answer, "asked": asked, "cancel": cancel, "forget": forget}
"""By the verb of a dialect's route."""


async def _recalled(deps: Deps, token: str | None, inbound: Inbound) -> KeptAnswer:
    who = await deps.callers.identify(token)
    return await deps.memory.recall(who.user_id, inbound.path["answer_id"])


async def _whole(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
