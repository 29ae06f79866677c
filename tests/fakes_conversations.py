"""An in-memory store of kept answers with the real signatures. The contract tests hold it to the real thing."""

from __future__ import annotations

import json

from sluice.errors import TooLarge
from sluice.stores.conversations import MOST_PARTS, PART_BYTES
from sluice.types import KeptAnswer


class MemoryConversations:
    """Answers as text, so that what comes back is never what went in."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[str, int]] = {}

    def put(self, user_id: str, answer: KeptAnswer, created: int, expires: int) -> None:
        text = json.dumps([answer.id, answer.body, answer.input, answer.said, answer.cuts])
        if len(text) > 4 * MOST_PARTS * PART_BYTES:
            raise TooLarge("too large to be kept")
        self._kept[user_id, answer.id] = text, expires

    def get(self, user_id: str, answer_id: str) -> tuple[KeptAnswer, int] | None:
        if (user_id, answer_id) not in self._kept:
            return None
        text, expires = self._kept[user_id, answer_id]
        name, body, asked, said, cuts = json.loads(text)
        return KeptAnswer(name, body, tuple(asked), tuple(said), tuple((item, size) for item, size in cuts)), expires

    def delete(self, user_id: str, answer_id: str) -> bool:
        return self._kept.pop((user_id, answer_id), None) is not None
