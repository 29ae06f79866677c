"""The story of what was said: kept for a while, for its user alone, and never at the cost of the answer itself."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.conversations import Conversations
from sluice.errors import NotFound, TooLarge, Unavailable
from sluice.types import KeptAnswer
from tests.fakes_conversations import MemoryConversations
from tests.fakes_operator import Clock

ANSWER = KeptAnswer("resp_1", {"output": []}, ({"role": "user"},))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keeping(clock: Clock, store: Any = None) -> Conversations:
    return Conversations(store or MemoryConversations(), clock, kept_seconds=100)


async def test_what_is_kept_is_recalled_until_it_expires(clock: Clock) -> None:
    conversations = keeping(clock)
    assert await conversations.keep("u1", ANSWER)
    clock.now += 99
    assert await conversations.recall("u1", "resp_1") == ANSWER
    clock.now += 1
    with pytest.raises(NotFound, match="resp_1"):
        await conversations.recall("u1", "resp_1")


async def test_what_is_forgotten_or_foreign_is_not_found(clock: Clock) -> None:
    conversations = keeping(clock)
    await conversations.keep("u1", ANSWER)
    for attempt in (conversations.recall("u2", "resp_1"), conversations.forget("u2", "resp_1")):
        with pytest.raises(NotFound):
            await attempt
    await conversations.forget("u1", "resp_1")
    for attempt in (conversations.recall("u1", "resp_1"), conversations.forget("u1", "resp_1")):
        with pytest.raises(NotFound):
            await attempt


@pytest.mark.parametrize("problem", [TooLarge("x"), Unavailable("x")])
async def test_what_cannot_be_kept_is_said_and_not_raised(clock: Clock, problem: Exception) -> None:
    class Full(MemoryConversations):
        def put(self, *_: Any) -> None:
            raise problem

    assert not await keeping(clock, Full()).keep("u1", ANSWER)


async def test_a_store_that_is_down_is_not_a_missing_answer(clock: Clock) -> None:
    class Down(MemoryConversations):
        def get(self, *_: Any) -> Any:
            raise Unavailable("x")

    with pytest.raises(Unavailable):
        await keeping(clock, Down()).recall("u1", "resp_1")
