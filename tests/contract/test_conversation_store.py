"""What a store of kept answers does, said once: the fake of the tests and the real one on moto and MiniStack."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sluice.errors import TooLarge, Unavailable
from sluice.stores import conversations
from sluice.stores.conversations import ConversationStore
from sluice.types import KeptAnswer
from tests.contract.conftest import Tables
from tests.fakes_conversations import MemoryConversations

ANSWER = KeptAnswer(
    "resp_1",
    {"id": "resp_1", "output": [{"type": "message", "content": [{"text": "Grüezi"}]}], "usage": None, "top_p": 1.0},
    ({"role": "user", "content": "Hi"},),
    ({"role": "user", "content": "Before."}, {"role": "assistant", "content": "Yes."}),
    ((0, 0), (0, 6)),
)


@pytest.fixture(params=["memory", "moto", "ministack"])
def store(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        return MemoryConversations()
    tables: Tables = request.getfixturevalue(f"{request.param}_tables")
    return ConversationStore(tables.client, tables.conversations)


def noise(size: int) -> str:
    """A text that hardly compresses."""
    return random.Random(7).randbytes(size // 2).hex()


def test_what_is_put_is_read_back_whole(store: Any) -> None:
    store.put("u1", ANSWER, 5, 100)
    assert store.get("u1", "resp_1") == (ANSWER, 100)


def test_nobody_else_finds_it(store: Any) -> None:
    store.put("u1", ANSWER, 5, 100)
    assert store.get("u2", "resp_1") is None
    assert store.get("u1", "resp_") is None
    assert not store.delete("u2", "resp_1")
    assert store.get("u1", "resp_1") is not None


def test_what_is_deleted_is_gone_and_can_be_deleted_once(store: Any) -> None:
    store.put("u1", ANSWER, 5, 100)
    assert store.delete("u1", "resp_1")
    assert store.get("u1", "resp_1") is None
    assert not store.delete("u1", "resp_1")


def test_put_again_it_is_the_same(store: Any) -> None:
    store.put("u1", ANSWER, 5, 100)
    store.put("u1", ANSWER, 5, 100)
    assert store.get("u1", "resp_1") == (ANSWER, 100)


def test_what_does_not_fit_into_one_item_is_kept_in_parts(dynamodb: Tables) -> None:
    store = ConversationStore(dynamodb.client, dynamodb.conversations)
    large = KeptAnswer("resp_1", {"text": noise(1_500_000)})
    store.put("u1", large, 5, 100)
    items = dynamodb.client.scan(TableName=dynamodb.conversations)["Items"]
    assert len(items) > 1
    assert {item["ttl"]["N"] for item in items} == {"100"}
    assert store.get("u1", "resp_1") == (large, 100)
    assert store.delete("u1", "resp_1")
    assert dynamodb.client.scan(TableName=dynamodb.conversations)["Items"] == []


def test_half_of_an_answer_is_no_answer(dynamodb: Tables) -> None:
    store = ConversationStore(dynamodb.client, dynamodb.conversations)
    store.put("u1", KeptAnswer("resp_1", {"text": noise(1_500_000)}), 5, 100)
    key = {"pk": {"S": "U#u1"}, "sk": {"S": "RESP#resp_1#01"}}
    dynamodb.client.delete_item(TableName=dynamodb.conversations, Key=key)
    assert store.get("u1", "resp_1") is None


def test_a_conversation_over_the_cap_is_refused_and_nothing_of_it_written(
    dynamodb: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MOST_PARTS", 1)
    store = ConversationStore(dynamodb.client, dynamodb.conversations)
    with pytest.raises(TooLarge, match="the most that is kept"):
        store.put("u1", KeptAnswer("resp_1", {"text": noise(1_500_000)}), 5, 100)
    assert dynamodb.client.scan(TableName=dynamodb.conversations)["Items"] == []


def test_a_table_that_is_not_there_is_unavailable(dynamodb: Tables) -> None:
    store = ConversationStore(dynamodb.client, "no-such-table")
    for call in (lambda: store.get("u1", "x"), lambda: store.delete("u1", "x"), lambda: store.put("u1", ANSWER, 1, 2)):
        with pytest.raises(Unavailable):
            call()
