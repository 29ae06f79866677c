"""The runner hands over what Lambda would: in order, retried from what failed, set aside when it never works."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.local.runner import TRIES, Jobs, Stream, lambda_record


def record(number: int) -> dict[str, Any]:
    return {"eventID": str(number), "eventName": "MODIFY", "dynamodb": {"SequenceNumber": str(number)}}


class Consumer:
    """Takes records until one of `poison`, which it never takes; remembers what it took, in order."""

    def __init__(self, poison: frozenset[str] = frozenset(), broken: int = 0) -> None:
        self.poison = poison
        self.broken = broken
        self.taken: list[str] = []

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("the consumer is down")
        for number in (one["dynamodb"]["SequenceNumber"] for one in event["Records"]):
            if number in self.poison:
                return {"batchItemFailures": [{"itemIdentifier": number}]}
            self.taken.append(number)
        return {"batchItemFailures": []}


def test_a_record_that_never_works_is_set_aside_and_the_rest_go_on(tmp_path: Path) -> None:
    consumer, waits = Consumer(frozenset({"3"})), list[float]()
    Jobs(consumer, tmp_path / "dead.jsonl", waits.append).deliver([record(number) for number in range(1, 6)])
    assert consumer.taken == ["1", "2", "4", "5"]
    assert [json.loads(line)["eventID"] for line in (tmp_path / "dead.jsonl").read_text().splitlines()] == ["3"]
    assert len(waits) == TRIES - 1
    assert waits == sorted(waits)


def test_a_consumer_that_comes_back_has_lost_nothing(tmp_path: Path) -> None:
    consumer = Consumer(broken=TRIES - 1)
    Jobs(consumer, tmp_path / "dead.jsonl", lambda _: None).deliver([record(1), record(2)])
    assert consumer.taken == ["1", "2"]
    assert not (tmp_path / "dead.jsonl").exists()


def test_a_failing_task_does_not_end_the_runner(tmp_path: Path) -> None:
    Jobs(Consumer(broken=1), tmp_path / "dead.jsonl", lambda _: None).run("sweep")


class Table:
    """A DynamoDB stream of one shard, as the client shows it."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records

    def describe_stream(self, StreamArn: str) -> dict[str, Any]:
        return {"StreamDescription": {"Shards": [{"ShardId": "s"}]}}

    def get_shard_iterator(self, **asked: str) -> dict[str, str]:
        assert asked["ShardIteratorType"] == "TRIM_HORIZON"
        return {"ShardIterator": "0"}

    def get_records(self, ShardIterator: str, Limit: int) -> dict[str, Any]:
        page = self.records[int(ShardIterator) : int(ShardIterator) + Limit]
        return {"Records": page, "NextShardIterator": str(int(ShardIterator) + len(page))}


def test_a_stream_is_read_once_from_its_beginning() -> None:
    table = Table([record(number) for number in range(250)])
    stream = Stream(table, "arn")
    read = [one["eventID"] for page in stream.pages() for one in page]
    assert read == [str(number) for number in range(250)]
    assert list(stream.pages()) == []
    table.records.append(record(250))
    assert [one["eventID"] for page in stream.pages() for one in page] == ["250"]


def test_a_record_has_the_shape_of_lambdas() -> None:
    change = {
        "ApproximateCreationDateTime": datetime(2026, 11, 21, tzinfo=UTC),
        "SequenceNumber": "1",
        "NewImage": {"a": {"B": b"\x00\xff"}, "l": {"L": [{"N": "1"}]}},
    }
    shaped = lambda_record({"eventID": "e", "eventName": "INSERT", "dynamodb": change}, "arn:stream")
    assert json.loads(json.dumps(shaped)) == shaped
    assert shaped["dynamodb"]["NewImage"] == {"a": {"B": "AP8="}, "l": {"L": [{"N": "1"}]}}
    assert (shaped["eventSource"], shaped["eventSourceARN"]) == ("aws:dynamodb", "arn:stream")
