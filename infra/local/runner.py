"""What AWS does around the jobs function: the ledger's stream read and handed over, the schedules kept.

    python -m infra.local.runner --table NAME --dead-letters FILE

The stream is read from its beginning at every start: the consumer puts each entry once, however often it is told.
On SIGTERM it reads on until the stream is empty, because MiniStack does not keep a stream over a restart.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session

from infra.local.child import end_with_parent

log = logging.getLogger("runner")

Handler = Callable[[dict[str, Any], Any], Any]

BATCH = 100
TRIES = 5
POLL_SECONDS = 0.25
SCHEDULES: Mapping[str, float] = {"sweep": 60.0, "prove": 86_400.0}
"""Seconds between runs of each task; each also runs at the start."""


@dataclass(slots=True)
class Stream:
    """A DynamoDB stream as Lambda's event source mapping reads it: in order, from the start, each shard once."""

    client: Any
    arn: str
    _iterators: dict[str, str | None] = field(default_factory=dict)

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """What there is to read now, a page at a time."""
        for shard in self._shards():
            while iterator := self._iterators.get(shard, ""):
                page = self.client.get_records(ShardIterator=iterator, Limit=BATCH)
                self._iterators[shard] = page.get("NextShardIterator")
                if not page["Records"]:
                    break
                yield [lambda_record(record, self.arn) for record in page["Records"]]

    def _shards(self) -> list[str]:
        shards = self.client.describe_stream(StreamArn=self.arn)["StreamDescription"]["Shards"]
        for shard in (one["ShardId"] for one in shards):
            if shard not in self._iterators:
                start = {"StreamArn": self.arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
                self._iterators[shard] = self.client.get_shard_iterator(**start)["ShardIterator"]
        return list(self._iterators)


def lambda_record(record: Mapping[str, Any], arn: str) -> dict[str, Any]:
    """A record as GetRecords gives it, in the shape Lambda gives it: bytes as base64, times as numbers."""
    change = dict(record["dynamodb"])
    if "ApproximateCreationDateTime" in change:
        change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
    for image in ("Keys", "NewImage", "OldImage"):
        if image in change:
            change[image] = _plain(change[image])
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": record.get("awsRegion", ""),
        "dynamodb": change,
        "eventSourceARN": arn,
    }


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case bytes():
            return base64.b64encode(value).decode()
    return value


class Jobs:
    """The jobs function as Lambda would call it: retried from the first record that failed, then set aside."""

    def __init__(self, handler: Handler, dead_letters: Path, wait: Callable[[float], object]) -> None:
        self._handler = handler
        self._dead_letters = dead_letters
        self._wait = wait

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """Hands records over until all are taken; one that fails every try goes to the dead letters, and the rest go on."""
        tries = 0
        while records:
            left = records[self._taken(records) :]
            tries = tries + 1 if len(left) == len(records) else 1
            if left and tries >= TRIES:
                self._set_aside(left.pop(0))
                tries = 0
            elif left:
                self._wait(min(0.1 * 2**tries, 5.0))
            records = left

    def _taken(self, records: list[dict[str, Any]]) -> int:
        """How many records, from the first on, were taken."""
        try:
            answer = self._handler({"Records": records}, _context()) or {}
        except Exception:
            log.exception("the stream's consumer failed")
            return 0
        failed = {one["itemIdentifier"] for one in answer.get("batchItemFailures", ())}
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        return next((index for index, number in enumerate(numbers) if number in failed), len(records))

    def _set_aside(self, record: dict[str, Any]) -> None:
        log.error("a record was set aside after %d tries: %s", TRIES, self._dead_letters)
        with self._dead_letters.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def run(self, task: str) -> None:
        """One run of a scheduled task. A failure is logged: the next run comes."""
        try:
            log.info("%s: %s", task, json.dumps(self._handler({"task": task}, _context()), default=str))
        except Exception:
            log.exception("%s failed", task)


def _context() -> Any:
    return SimpleNamespace(
        function_name="sluice-jobs",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:sluice-jobs",
        aws_request_id=os.urandom(8).hex(),
        get_remaining_time_in_millis=lambda: 60_000,
    )


def run(stream: Stream, jobs: Jobs, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
    """Until `stop`, and then once more through the stream."""
    due = dict.fromkeys(SCHEDULES, clock())
    while not stop.is_set():
        _read(stream, jobs)
        for task, at in due.items():
            if clock() >= at:
                due[task] = clock() + SCHEDULES[task]
                jobs.run(task)
        stop.wait(POLL_SECONDS)
    _read(stream, jobs)


def _read(stream: Stream, jobs: Jobs) -> None:
    try:
        for records in stream.pages():
            jobs.deliver(records)
    except Exception:
        # From the beginning again next time, rather than past a page that was fetched and not delivered.
        log.exception("the stream could not be read")
        stream._iterators.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads the ledger's stream and keeps the schedules.")
    parser.add_argument("--table", required=True)
    parser.add_argument("--dead-letters", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    import jobs_app

    session = botocore.session.get_session()
    table = session.create_client("dynamodb").describe_table(TableName=arguments.table)["Table"]
    stream = Stream(session.create_client("dynamodbstreams"), table["LatestStreamArn"])
    run(stream, Jobs(jobs_app.handler, arguments.dead_letters, stop.wait), stop)


if __name__ == "__main__":
    main()
