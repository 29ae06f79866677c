"""Counts what one chat request makes AWS bill: on MiniStack, through the relay as it is shipped, from outside.

Calls are noted by a forwarder in front of the local AWS, item sizes are taken from the items themselves: a wallet's from the
images in its table's stream, so with what each write left in it.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.relay_bench import CHUNKS, ROOT, Bench, Caller, Server, house
from benchmarks.seed import MODEL, seed
from benchmarks.tap import Tap
from infra.local import ministack
from infra.local.runner import Stream
from sluice.settings import AwsEnvironment, Settings
from sluice.stores.wallets import Wallets
from sluice.wiring import Clients, build_jobs

REQUESTS = 50
LONG_CHUNKS, LONG_PACE = 100, 0.12
"""Of the one stream in which the looks at catalog and Valkey are counted."""
OPEN_HOLDS = (1, 10, 50, 100)
WRITE_BYTES, READ_BYTES = 1024, 4096
_ASKED = (
    *("TableName", "IndexName", "Key", "KeyConditionExpression", "ScanIndexForward", "Limit"),
    *("ExpressionAttributeNames", "ExpressionAttributeValues"),
)
"""What makes a read the read it is."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Means per request unless a name says otherwise. Units are DynamoDB's; bytes are of items, lines or bodies."""

    counted_on: str
    hold_bytes: float
    hold_units: float
    settle_bytes: float
    settle_units: float
    wallet_bytes_by_open_holds: dict[str, int]
    identity_reads: float
    """Read units to look a key up that the environment has not seen for some seconds."""
    polls_per_second: float
    """Looks at the catalog's version while a stream runs; a read unit each."""
    start_reads: float
    """Read units of a cold start."""
    start_kms: float
    journal_items: float
    journal_units: float
    journal_calls: float
    """The consumer's calls where it is handed one write at a time."""
    usage_units: float
    consumer_ms: float
    """CPU of one invocation with one write."""
    consumer_batch_ms: float
    """CPU of one invocation with a batch of writes, per write."""
    sweep_reads: float
    sweep_ms: float
    log_lines: float
    log_bytes: float
    answer_bytes: float
    """Of a streamed answer without its content chunks."""
    chunk_bytes: float
    valkey_per_request: float
    valkey_per_second: float
    journal_bytes: float
    """What a request leaves in the ledger table for good."""
    resources: dict[str, int]
    """What the templates make that is paid for by the month."""

    @classmethod
    def read(cls, file: Path) -> Self:
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


# --- DynamoDB's measures ----------------------------------------------------------------------------------------------


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item in DynamoDB's form, by its rules: names and texts as UTF-8, a number about half its digits."""
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(attribute: Mapping[str, Any]) -> int:
    """Of one attribute's value. Raises ValueError on a type that no table of ours holds."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(str(value).encode())
        case "B":
            return len(value) if isinstance(value, bytes) else len(value) * 3 // 4
        case "N":
            return (len(value.lstrip("-").strip("0.")) + 1) // 2 + 1 + bool(value.startswith("-"))
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + value_bytes(one) for one in value)
        case "M":
            return 3 + len(value) + item_bytes(value)
    raise ValueError(f"no table of ours holds a {kind}")


def write_units(size: int) -> int:
    """Of a write whose item is `size` bytes: the larger of before and after."""
    return max(1, math.ceil(size / WRITE_BYTES))


def read_units(size: int, consistent: bool = True) -> float:
    """A read pays for what it reads, found or not: half without consistency."""
    return max(1, math.ceil(size / READ_BYTES)) / (1 if consistent else 2)


# --- counting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an AWS service, as the forwarder saw it."""

    operation: str
    body: Mapping[str, Any]

    @property
    def table(self) -> str:
        return str(self.body.get("TableName", ""))


def noted(_: str, headers: dict[str, str], body: bytes) -> str:
    """A forwarder's label: the operation, and what it was asked with."""
    return headers.get("x-amz-target", "").rpartition(".")[2] + " " + (body or b"{}").decode()


def calls_of(notes: Iterable[str]) -> Iterator[Call]:
    for note in notes:
        operation, _, body = note.partition(" ")
        yield Call(operation, json.loads(body))


@dataclass(frozen=True, slots=True)
class Desk:
    """The local AWS, looked at directly."""

    bench: Bench
    settings: Settings
    dynamodb: Any
    streams: Any

    @classmethod
    def at(cls, bench: Bench) -> Self:
        endpoint = bench.environment["AWS_ENDPOINT_URL"]
        clients = [ministack.client(name, endpoint) for name in ("dynamodb", "dynamodbstreams")]
        return cls(bench, Settings.from_env(bench.environment), *clients)

    def reads(self, calls: Iterable[Call]) -> float:
        """The read units of GetItem and Query calls, by asking again and measuring the answer."""
        units = 0.0
        for call in calls:
            asked = {name: call.body[name] for name in _ASKED if name in call.body}
            consistent = bool(call.body.get("ConsistentRead"))
            if call.operation == "GetItem":
                units += read_units(item_bytes(self.dynamodb.get_item(**asked).get("Item", {})), consistent)
            elif call.operation == "Query":
                units += read_units(sum(map(item_bytes, self.dynamodb.query(**asked)["Items"])), consistent)
        return units

    def wallet_records(self) -> list[dict[str, Any]]:
        """The ledger table's stream from its beginning: the wallets' writes only, as Lambda hands them on."""
        arn = self.dynamodb.describe_table(TableName=self.settings.ledger_table)["Table"]["LatestStreamArn"]
        records = [record for page in Stream(self.streams, arn).pages() for record in page]
        return [record for record in records if record["dynamodb"]["Keys"]["sk"] == {"S": "WALLET"}]


def count() -> Counted:
    """All of it, in about a minute. Raises RuntimeError where the relay answers wrongly."""
    with house() as bench:
        desk = Desk.at(bench)
        found: dict[str, Any] = {}
        found |= _requests(desk)
        found |= _lookups(desk)
        found |= _stream(desk)
        found |= _journal(desk)
        found |= _sweep(desk)
        found["wallet_bytes_by_open_holds"] = {str(number): _wallet_bytes(desk, number) for number in OPEN_HOLDS}
    where = f"MiniStack {_version()}, Python {sys.version.split()[0]}"
    return Counted(counted_on=f"{datetime.now(UTC).date()}, {where}", resources=resources(), **found)


def _requests(desk: Desk) -> dict[str, float]:
    """Warm requests one after the other: what the wallet's writes weigh, and what is logged."""
    log = desk.bench.folder / "relay.log"
    with desk.bench.relay() as (server, _):
        caller = Caller(server)
        caller.ask("stream")
        before, logged, commands = len(desk.wallet_records()), len(_lines(log)), _valkey(desk)
        for _ in range(REQUESTS):
            caller.ask("stream")
        records, lines = desk.wallet_records()[before - 1 :], _lines(log)[logged:]
        asked = _valkey(desk) - commands
    sizes = [item_bytes(record["dynamodb"]["NewImage"]) for record in records]
    holds, settles = _weighed(records, sizes, "hold"), _weighed(records, sizes, "settle")
    if not len(holds) == len(settles) == REQUESTS:
        raise RuntimeError(f"{REQUESTS} requests, but {len(holds)} holds and {len(settles)} settles")
    return {
        "hold_bytes": _mean(holds),
        "hold_units": _mean(map(write_units, holds)),
        "settle_bytes": _mean(settles),
        "settle_units": _mean(map(write_units, settles)),
        "log_lines": len(lines) / REQUESTS,
        "log_bytes": sum(map(len, lines)) / REQUESTS,
        "valkey_per_request": asked / REQUESTS,
    }


def _weighed(records: Sequence[Mapping[str, Any]], sizes: Sequence[int], kind: str) -> list[int]:
    """The size each write of a kind is billed for: the larger of before and after."""
    kinds = [record["dynamodb"]["NewImage"]["entries"]["L"][0]["M"]["kind"]["S"] for record in records]
    return [max(sizes[n - 1], sizes[n]) for n in range(1, len(records)) if kinds[n] == kind]


def _lookups(desk: Desk) -> dict[str, float]:
    """A cold start up to its first answer, and requests whose key the environment does not remember."""
    notes: list[str] = []
    tap = Tap(desk.bench.environment["AWS_ENDPOINT_URL"], notes, noted)
    with desk.bench.relay(AWS_ENDPOINT_URL=tap.url, SLUICE_IDENTITY_TTL_SECONDS="0") as (server, _):
        caller = Caller(server)
        caller.ask("stream")
        start = list(calls_of(notes))
        notes.clear()
        for _ in range(REQUESTS):
            caller.ask("stream")
        warm = [call for call in calls_of(notes) if call.table == desk.settings.accounts_table]
    tap.close()
    opening = [call for call in start if call.table == desk.settings.catalog_table]
    return {
        "identity_reads": desk.reads(warm) / REQUESTS,
        "start_reads": desk.reads(opening),
        "start_kms": sum(call.operation == "Decrypt" for call in start),
    }


def _stream(desk: Desk) -> dict[str, float]:
    """One long stream: how often the catalog and Valkey are looked at meanwhile, and what a chunk weighs."""
    notes: list[str] = []
    tap = Tap(desk.bench.environment["AWS_ENDPOINT_URL"], notes, noted)
    script = f"chunks={LONG_CHUNKS},pace={LONG_PACE}"
    key = seed(desk.bench.environment, f"{desk.bench.upstream.url}/{script}/v1", "paced")
    with desk.bench.relay(AWS_ENDPOINT_URL=tap.url) as (server, _):
        short = _answer_bytes(server)
        server.key = key
        _answer_bytes(server, 1)
        notes.clear()
        commands, began = _valkey(desk), time.monotonic()
        long = _answer_bytes(server)
        lasted = time.monotonic() - began
        polls = sum(call.table == desk.settings.catalog_table for call in calls_of(notes))
        asked = _valkey(desk) - commands
    tap.close()
    each = (long - short) / (LONG_CHUNKS - CHUNKS)
    return {
        "polls_per_second": polls / lasted,
        "valkey_per_second": asked / lasted,
        "chunk_bytes": each,
        "answer_bytes": short - each * CHUNKS,
    }


def _answer_bytes(server: Server, most: int = 4096) -> int:
    """The body of one streamed answer."""
    import http.client

    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": most,
        "messages": [{"role": "user", "content": "Hello there"}],
    }
    headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
    connection.request("POST", server.path, json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"the relay answered {response.status}: {answer[:300]!r}")
    return len(answer)


def _journal(desk: Desk) -> dict[str, float]:
    """The consumer: what it writes for a request handed over write by write, and its CPU alone and in batches."""
    records = desk.wallet_records()
    kinds = [record["dynamodb"]["NewImage"]["entries"]["L"][0]["M"]["kind"]["S"] for record in records]
    first = kinds.index("hold")
    records = records[first : first + 2 * REQUESTS]
    notes: list[str] = []
    tap = Tap(desk.bench.environment["AWS_ENDPOINT_URL"], notes, noted)
    half = REQUESTS
    asyncio.run(_consume(desk, tap.url, [[record] for record in records[:half]]))
    tap.close()
    calls, requests = list(calls_of(notes)), half / 2
    items = [put["PutRequest"]["Item"] for call in calls for put in _puts(call, desk.settings.ledger_table)]
    usage = [call for call in calls if call.operation == "UpdateItem"]
    endpoint = desk.bench.environment["AWS_ENDPOINT_URL"]
    rest, quarter = records[half:], half // 2
    alone = asyncio.run(_consume(desk, endpoint, [[record] for record in rest[:quarter]]))
    together = asyncio.run(_consume(desk, endpoint, [rest[quarter:]]))
    return {
        "journal_items": len(items) / requests,
        "journal_units": sum(write_units(item_bytes(item)) for item in items) / requests,
        "journal_bytes": sum(map(item_bytes, items)) / requests,
        "journal_calls": len(calls) / requests,
        "usage_units": len(usage) / requests,
        "consumer_ms": alone / quarter * 1000,
        "consumer_batch_ms": together / (len(rest) - quarter) * 1000,
    }


def _puts(call: Call, table: str) -> list[Mapping[str, Any]]:
    return call.body["RequestItems"][table] if call.operation == "BatchWriteItem" else []


async def _consume(desk: Desk, endpoint: str, batches: Sequence[Sequence[Any]]) -> float:
    """Hands batches to the consumer, one after the other; the seconds of CPU it took."""
    clients = Clients(desk.settings, AwsEnvironment.from_env({**desk.bench.environment, "AWS_ENDPOINT_URL": endpoint}))
    jobs, began = build_jobs(desk.settings, clients), time.process_time()
    for batch in batches:
        if failed := await jobs.consume(batch):
            raise RuntimeError(f"the consumer could not read {failed}")
    taken = time.process_time() - began
    clients.close()
    return taken


def _sweep(desk: Desk) -> dict[str, float]:
    """One sweep of a quiet ledger: what it reads, and its CPU."""
    notes: list[str] = []
    tap = Tap(desk.bench.environment["AWS_ENDPOINT_URL"], notes, noted)
    clients = Clients(desk.settings, AwsEnvironment.from_env({**desk.bench.environment, "AWS_ENDPOINT_URL": tap.url}))
    began = time.process_time()
    asyncio.run(build_jobs(desk.settings, clients).sweep())
    taken = time.process_time() - began
    clients.close()
    tap.close()
    calls = list(calls_of(notes))
    wallets = sum(len(one["Keys"]) for call in calls for one in call.body.get("RequestItems", {}).values())
    return {"sweep_reads": desk.reads(calls) + wallets / 2, "sweep_ms": taken * 1000}


def _wallet_bytes(desk: Desk, holds: int) -> int:
    """A wallet's item with so many requests under way."""
    wallet, now = f"user_{holds:020d}", int(time.time())
    wallets = Wallets(desk.dynamodb, desk.settings.ledger_table)
    wallets.credit(wallet, 10**12, "opening", now)
    for number in range(holds):
        wallets.hold(wallet, f"req_{number:027d}", 12_345_678, now, now + 1200)
    key = {"pk": {"S": f"W#{wallet}"}, "sk": {"S": "WALLET"}}
    return item_bytes(desk.dynamodb.get_item(TableName=desk.settings.ledger_table, Key=key)["Item"])


def _valkey(desk: Desk) -> int:
    """Commands the Valkey has had so far, without this question."""
    import valkey

    client = valkey.from_url(desk.settings.valkey_url)  # type: ignore[no-untyped-call]
    stats = client.info("commandstats")
    client.close()
    ours = ("cmdstat_info", "cmdstat_client", "cmdstat_hello", "cmdstat_ping")
    return sum(one["calls"] for name, one in stats.items() if not name.startswith(ours))


def _lines(log: Path) -> list[bytes]:
    return log.read_bytes().splitlines(keepends=True)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def _version() -> str:
    metadata = next((ROOT / ".venv/ministack").glob("lib/python*/site-packages/ministack-*.dist-info"), None)
    return metadata.name.removeprefix("ministack-").removesuffix(".dist-info") if metadata else ""


def resources() -> dict[str, int]:
    """How many of each kind the templates make."""
    counted = Counter(
        kind
        for file in (ROOT / "template.yaml", *sorted((ROOT / "infra").glob("*.yaml")))
        for kind in re.findall(r"^\s+Type: (AWS::[A-Za-z:]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
    paid = ("AWS::KMS::Key", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard")
    return {kind: counted[kind] for kind in paid}
