"""Answers kept to be asked for again and gone on from. docs/data-model.md, "conversations", has key formats and access patterns.

An answer is one zlib-compressed document with everything said before it, so that going on from it is one read, and neither
the expiry nor the deletion of an earlier one breaks it. What does not fit into one item is cut into parts, the head written last:
where a head is, all parts are.
"""

from __future__ import annotations

import zlib
from typing import Any

import orjson

from sluice.errors import TooLarge
from sluice.stores._calls import answers
from sluice.stores._items import Client, pack_item, unpack_item
from sluice.types import KeptAnswer

PART_BYTES = 350_000
"""DynamoDB's cap on an item is 400 KB, keys and names included."""

MOST_PARTS = 12


class ConversationStore:
    """The conversations table. Every method raises Unavailable when DynamoDB does not answer."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def put(self, user_id: str, answer: KeptAnswer, created: int, expires: int) -> None:
        """Raises TooLarge where the conversation, compressed, is over `MOST_PARTS` parts."""
        data = zlib.compress(_document(answer), 6)
        parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
        if len(parts) > MOST_PARTS:
            raise TooLarge(
                f"The conversation is {len(data)} bytes, the most that is kept is {MOST_PARTS * PART_BYTES}."
            )
        head = {"parts": len(parts), "created": created}
        for number in range(len(parts) - 1, -1, -1):
            item = {
                **_key(user_id, answer.id, number),
                "data": parts[number],
                "ttl": expires,
                **({} if number else head),
            }
            with answers(self._table):
                self._client.put_item(TableName=self._table, Item=pack_item(item))

    def get(self, user_id: str, answer_id: str) -> tuple[KeptAnswer, int] | None:
        """The answer and when it expires, which DynamoDB may only act on days later; None where there is none."""
        head = self._get(user_id, answer_id, 0)
        if not head:
            return None
        parts = [head, *(self._get(user_id, answer_id, number) for number in range(1, head["parts"]))]
        if not all(parts):
            return None  # it is being deleted
        return _answer(zlib.decompress(b"".join(part["data"] for part in parts))), head["ttl"]

    def delete(self, user_id: str, answer_id: str) -> bool:
        """Whether there was one."""
        with answers(self._table):
            gone = self._client.delete_item(
                TableName=self._table, Key=pack_item(_key(user_id, answer_id, 0)), ReturnValues="ALL_OLD"
            ).get("Attributes")
            for number in range(1, unpack_item(gone)["parts"] if gone else 0):
                self._client.delete_item(TableName=self._table, Key=pack_item(_key(user_id, answer_id, number)))
        return bool(gone)

    def _get(self, user_id: str, answer_id: str, number: int) -> dict[str, Any]:
        # Consistent, because the next turn may come the moment the answer has ended.
        with answers(self._table):
            answer = self._client.get_item(
                TableName=self._table, Key=pack_item(_key(user_id, answer_id, number)), ConsistentRead=True
            )
        return unpack_item(answer.get("Item", {}))


def _key(user_id: str, answer_id: str, number: int) -> dict[str, str]:
    return {"pk": f"U#{user_id}", "sk": f"RESP#{answer_id}" + (f"#{number:02}" if number else "")}


def _document(answer: KeptAnswer) -> bytes:
    return orjson.dumps(
        {"id": answer.id, "body": answer.body, "input": answer.input, "said": answer.said, "cuts": answer.cuts}
    )


def _answer(document: bytes) -> KeptAnswer:
    fields = orjson.loads(document)
    cuts = tuple((item, length) for item, length in fields["cuts"])
    return KeptAnswer(fields["id"], fields["body"], tuple(fields["input"]), tuple(fields["said"]), cuts)
