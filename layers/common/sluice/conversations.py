"""Level 3: the story of what was said. An answer a client wants kept is found again, and gone on from, until it expires."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sluice.errors import NotFound, SluiceError
from sluice.stores.conversations import ConversationStore
from sluice.types import KeptAnswer

log = logging.getLogger(__name__)

_LONGEST_ID = 256


class Conversations:
    """Answers by user and id. A foreign, expired or deleted one cannot be told from one that never was."""

    def __init__(self, store: ConversationStore, clock: Callable[[], float], kept_seconds: int) -> None:
        self._store = store
        self._clock = clock
        self._kept_seconds = kept_seconds

    async def recall(self, user_id: str, answer_id: str) -> KeptAnswer:
        """Raises NotFound, Unavailable."""
        if len(answer_id) > _LONGEST_ID:
            raise _no_answer(answer_id[:_LONGEST_ID])
        found = await asyncio.to_thread(self._store.get, user_id, answer_id)
        if found is None or found[1] <= self._clock():
            raise _no_answer(answer_id)
        return found[0]

    async def keep(self, user_id: str, answer: KeptAnswer) -> bool:
        """Whether it is kept. Never raises: the answer itself was given, and is paid for."""
        now = int(self._clock())
        try:
            await asyncio.to_thread(self._store.put, user_id, answer, now, now + self._kept_seconds)
        except SluiceError as error:
            log.warning("an answer is not kept", extra={"fields": {"answer": answer.id, "code": error.code}})
            return False
        return True

    async def forget(self, user_id: str, answer_id: str) -> None:
        """Raises NotFound, Unavailable."""
        if len(answer_id) > _LONGEST_ID or not await asyncio.to_thread(self._store.delete, user_id, answer_id):
            raise _no_answer(answer_id)


def _no_answer(answer_id: str) -> NotFound:
    return NotFound(f"Response with id '{answer_id}' not found: it does not exist, has expired, or was not stored.")
