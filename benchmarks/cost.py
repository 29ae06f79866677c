"""`make cost`: what a million chat requests cost on AWS, what an idle month costs, and where servers become cheaper.

    python -m benchmarks.cost            the tables, from benchmarks/counted.json and the prices in benchmarks/prices.py
    python -m benchmarks.cost --write    and into docs/cost.md
    python -m benchmarks.cost --count    counts a request's calls, items and log bytes anew first (MiniStack; half a minute)

Counted are calls, item sizes, log and body bytes. Assumed, and options: how fast a model speaks, how often an environment starts
cold, how quick DynamoDB is, and how the servers of the comparison are sized (`make bench` measures their CPU and memory).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks import page
from benchmarks.counting import Counted, count
from benchmarks.prices import HOURS, RATES, of

ROOT = Path(__file__).parents[1]
COUNTED = ROOT / "benchmarks" / "counted.json"
PAGE = ROOT / "docs" / "cost.md"
MILLION, GIGA = 1_000_000, 1024**3
SECONDS, MEMORIES = (1, 5, 20), (256, 512, 1024)
MONTH = HOURS * 3600
PROCESSOR_MB = 1769
"""MB of a Lambda function that has one processor; less has that share of one."""
PLATFORM_LINE_BYTES, PLATFORM_LINES = 105, 3
"""START, END and REPORT, which Lambda logs for each invocation; from memory."""
EVENT_BYTES = 26
"""What CloudWatch adds to each line it bills; from memory."""
GATEWAY_BYTES = 10 * 1024**2


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is neither counted nor a price. Each is an option of the command."""

    chunks_per_second: float = 50.0
    """How fast a model speaks: a token or so a chunk."""
    prompt_bytes: float = 4_000.0
    """Sent on to the provider."""
    cold_share: float = 0.01
    """Of requests that start an environment."""
    cold_seconds: float = 1.5
    """Billed for a start."""
    aws_ms: float = 5.0
    """DynamoDB's answer, as Lambda waits for it."""
    json_cpu_ms: float = 4.0
    """The relay's CPU for a request without its chunks (`make bench`)."""
    stream_cpu_ms: float = 5.5
    """The same with 20 chunks (`make bench`)."""
    other_json_cpu_ms: float = 11.0
    other_stream_cpu_ms: float = 30.5
    other_mb: float = 374.0
    """LiteLLM's, by the same command."""
    busy: float = 0.6
    """How much of a server's processor its tasks are planned for."""
    peak: float = 3.0
    """The busiest hour over the mean."""
    least_tasks: int = 2
    task_cpu: float = 1.0
    task_gb: float = 2.0
    nat: bool = False
    """Whether the tasks leave through NAT gateways in place of addresses of their own."""
    metrics: int = 50
    """Custom metrics, each name with each set of dimensions."""

    def chunks(self, seconds: float) -> float:
        return self.chunks_per_second * seconds

    def cpu_ms(self, seconds: float) -> float:
        """The relay's, for one stream."""
        return self.json_cpu_ms + (self.stream_cpu_ms - self.json_cpu_ms) / 20 * self.chunks(seconds)

    def other_cpu_ms(self, seconds: float) -> float:
        return self.other_json_cpu_ms + (self.other_stream_cpu_ms - self.other_json_cpu_ms) / 20 * self.chunks(seconds)


# --- one request ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: how long its answer takes, on how large a function, with which processor."""

    seconds: float
    memory: int = 512
    architecture: str = "arm64"
    cache: bool = False


def gb_seconds(milliseconds: float, memory: int) -> float:
    """Billed by the millisecond, rounded up."""
    return math.ceil(milliseconds - 1e-9) / 1000 * memory / 1024


def own_ms(kind: Kind, assumed: Assumed) -> float:
    """What the relay adds to the answer's time: its own CPU, at the function's share of a processor, and three waits for DynamoDB."""
    return assumed.json_cpu_ms * max(1.0, PROCESSOR_MB / kind.memory) + 3 * assumed.aws_ms


def request(kind: Kind, counted: Counted, assumed: Assumed) -> dict[str, float]:
    """Dollars of one request, by what they are paid for. A quiet house: nothing is shared between requests."""
    compute, writes = of(f"lambda {kind.architecture}"), counted.hold_units + counted.settle_units
    reads = counted.identity_reads + 1 + counted.polls_per_second * kind.seconds
    answer = counted.answer_bytes + counted.chunk_bytes * assumed.chunks(kind.seconds)
    cold = assumed.cold_share
    lines = counted.log_bytes + EVENT_BYTES * counted.log_lines + PLATFORM_LINES * (PLATFORM_LINE_BYTES + EVENT_BYTES)
    commands = counted.valkey_per_request + counted.valkey_per_second * kind.seconds
    lasted = kind.seconds * 1000 + own_ms(kind, assumed)
    return {
        "Lambda, relay: time": gb_seconds(lasted, kind.memory) * compute,
        "Lambda, relay: cold starts": cold * gb_seconds(assumed.cold_seconds * 1000, kind.memory) * compute,
        "Lambda, relay: request": of("lambda request"),
        "API Gateway": max(1, math.ceil(answer / GATEWAY_BYTES)) * of("gateway request"),
        "DynamoDB: hold and settle": writes * of("dynamodb write"),
        "DynamoDB: who asks, catalog": (reads + cold * counted.start_reads) * of("dynamodb read"),
        "DynamoDB: journal, receipt, usage": (counted.journal_units + counted.usage_units) * of("dynamodb write"),
        "Lambda, journal": consumer(kind, counted, assumed),
        "CloudWatch: logs of the relay": lines / GIGA * of("logs ingested"),
        "KMS": cold * counted.start_kms * of("kms request"),
        "Valkey": commands * of("valkey unit") if kind.cache else 0.0,
        "out to the client": answer / GIGA * of("transfer out"),
        "out to the provider": assumed.prompt_bytes / GIGA * of("transfer out"),
    }


def consumer(kind: Kind, counted: Counted, assumed: Assumed) -> float:
    """The stream's consumer, woken for each of a request's two writes alone (reading the stream is free for Lambda)."""
    memory = 512
    waits = counted.journal_calls / 2 * assumed.aws_ms
    each = gb_seconds(counted.consumer_ms * PROCESSOR_MB / memory + waits, memory) * of(f"lambda {kind.architecture}")
    logged = PLATFORM_LINES * (PLATFORM_LINE_BYTES + EVENT_BYTES) / GIGA * of("logs ingested")
    return 2 * (each + of("lambda request") + logged)


def total(parts: Mapping[str, float]) -> float:
    return sum(parts.values())


# --- a month ----------------------------------------------------------------------------------------------------------


def idle(counted: Counted, assumed: Assumed, *, cache: bool = False) -> dict[str, float]:
    """Dollars of a month without a request."""
    sweeps, memory = MONTH / 300, 512
    swept = gb_seconds(counted.sweep_ms * PROCESSOR_MB / memory + 2 * assumed.aws_ms, memory) * of("lambda arm64")
    logged = PLATFORM_LINES * (PLATFORM_LINE_BYTES + EVENT_BYTES) / GIGA * of("logs ingested")
    return {
        "KMS keys": counted.resources["AWS::KMS::Key"] * of("kms key"),
        "alarms": counted.resources["AWS::CloudWatch::Alarm"] * of("alarm"),
        "dashboards": counted.resources["AWS::CloudWatch::Dashboard"] * of("dashboard"),
        "sweep every 5 minutes": sweeps * (swept + of("lambda request") + logged),
        "  its reads": sweeps * counted.sweep_reads * of("dynamodb read"),
        "Valkey, its least": 0.1 * of("valkey stored") * HOURS if cache else 0.0,
    }


def kept(counted: Counted, months: float = 12) -> float:
    """Dollars a month for what a million requests a month have left after so long: the journal and its recovery."""
    return MILLION * counted.journal_bytes * months / GIGA * (of("dynamodb stored") + of("dynamodb recovery"))


def sluice(requests: float, kind: Kind, counted: Counted, assumed: Assumed) -> float:
    """Dollars of a month with so many requests."""
    return requests * total(request(kind, counted, assumed)) + total(idle(counted, assumed, cache=kind.cache))


def at_once(requests: float, seconds: float, assumed: Assumed) -> float:
    """How many run at once in the busiest hour of a month, by Little's law: how many come a second times how long each stays."""
    return requests / MONTH * assumed.peak * seconds


# --- the same on servers ----------------------------------------------------------------------------------------------


def tasks(requests: float, seconds: float, assumed: Assumed) -> int:
    """Of one worker each, so many that the busiest hour keeps their processors no busier than planned."""
    cpu = requests / MONTH * assumed.peak * assumed.other_cpu_ms(seconds) / 1000
    return max(assumed.least_tasks, math.ceil(cpu / (assumed.busy * min(1.0, assumed.task_cpu)) - 1e-9))


def servers(requests: float, kind: Kind, counted: Counted, assumed: Assumed) -> dict[str, float]:
    """Dollars of a month of LiteLLM on Fargate with keys and budgets in Postgres and Redis, behind a load balancer in two zones."""
    if assumed.other_mb > assumed.task_gb * 1024:
        raise ValueError("a task has less memory than one worker takes")
    number = tasks(requests, kind.seconds, assumed)
    answer = counted.answer_bytes + counted.chunk_bytes * assumed.chunks(kind.seconds)
    out, sent = answer * requests / GIGA, assumed.prompt_bytes * requests / GIGA
    # Of the dimensions of a capacity unit the dearest counts; connections are taken for new ones.
    per_second = requests / MONTH
    units = max(per_second / 25, per_second * kind.seconds / 3000, (out + sent) / HOURS)
    leaving = (
        2 * of("nat") * HOURS + (out + sent) * of("nat transfer") if assumed.nat else number * of("address") * HOURS
    )
    logged = requests * (counted.log_bytes + EVENT_BYTES) / GIGA * of("logs ingested")
    return {
        "tasks": number * (assumed.task_cpu * of("fargate cpu") + assumed.task_gb * of("fargate memory")) * HOURS,
        "NAT" if assumed.nat else "addresses of the tasks": leaving,
        "load balancer": (of("balancer") + 2 * of("address") + units * of("balancer unit")) * HOURS,
        "Postgres": of("postgres") * HOURS + 20 * of("postgres stored"),
        "Redis": 2 * of("redis") * HOURS,
        "logs": logged,
        "out": (out + sent) * of("transfer out"),
    }


def crossover(dearer: Callable[[float], float], most: float = 1e12) -> float:
    """The fewest requests a month at which `dearer` (one bill less the other) is no longer below zero; infinity beyond `most`.

    Servers come in whole tasks, so the difference has steps: it is walked up by hundredths, then halved down to one request.
    """
    low = high = 1.0
    while dearer(high) < 0:
        if high > most:
            return math.inf
        low, high = high, high * 1.01
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (middle, high) if dearer(middle) < 0 else (low, middle)
    return high


def meets(kind: Kind, counted: Counted, assumed: Assumed) -> float:
    """Requests a month from which servers are cheaper."""
    return crossover(
        lambda requests: sluice(requests, kind, counted, assumed) - total(servers(requests, kind, counted, assumed))
    )


# --- the tables -------------------------------------------------------------------------------------------------------


def per_million(counted: Counted, assumed: Assumed) -> str:
    """The whole bill, by answer and memory, arm64; and what x86_64 adds."""
    rows = [("answer takes", *(f"{memory} MB" for memory in MEMORIES), "512 MB, x86_64", "of 512 MB: Lambda's time")]
    for seconds in SECONDS:
        kinds = [Kind(seconds, memory) for memory in MEMORIES] + [Kind(seconds, 512, "x86_64")]
        parts = request(Kind(seconds), counted, assumed)
        share = parts["Lambda, relay: time"] / total(parts)
        bills = [f"${total(request(kind, counted, assumed)) * MILLION:.2f}" for kind in kinds]
        rows.append((f"{seconds} s", *bills, f"{share:.0%}"))
    return page.table(rows)


def in_parts(counted: Counted, assumed: Assumed) -> str:
    bills = {seconds: request(Kind(seconds, cache=True), counted, assumed) for seconds in SECONDS}
    rows = [("512 MB, arm64", *(f"{seconds} s" for seconds in SECONDS))]
    parts = bills[SECONDS[0]]
    rows += [(part, *(f"${bills[seconds][part] * MILLION:.2f}" for seconds in SECONDS)) for part in parts]
    rows.append(("**together**", *(f"**${total(bills[seconds]) * MILLION:.2f}**" for seconds in SECONDS)))
    return page.table(rows)


def waiting(assumed: Assumed) -> str:
    """How much of what Lambda bills is computed in: one environment serves one stream, and is paid for while it waits."""
    rows = [("answer takes", "billed", "CPU", "of it computed, at 512 MB", "servers: streams one processor holds")]
    for seconds in SECONDS:
        kind = Kind(seconds)
        billed, cpu = seconds * 1000 + own_ms(kind, assumed), assumed.cpu_ms(seconds)
        share = cpu * PROCESSOR_MB / kind.memory / billed
        held = assumed.busy / (assumed.other_cpu_ms(seconds) / 1000) * seconds
        rows.append((f"{seconds} s", f"{billed:.0f} ms", f"{cpu:.0f} ms", f"{share:.1%}", f"{held:.0f}"))
    return page.table(rows)


def idle_table(counted: Counted, assumed: Assumed) -> str:
    bill = idle(counted, assumed, cache=True)
    rows = [("a month without a request", "")]
    rows += [(name, f"${dollars:.2f}") for name, dollars in bill.items()]
    rows.append(("**`CacheMode=none`**", f"**${total(idle(counted, assumed)):.2f}**"))
    rows.append(("**`CacheMode=public`**", f"**${total(bill):.2f}**"))
    rows.append(
        (f"{assumed.metrics} custom metrics, if that many are written to", f"${assumed.metrics * of('metric'):.2f}")
    )
    rows.append(("the journal of a year at a million a month, with recovery", f"${kept(counted):.2f}"))
    logs = MILLION * counted.log_bytes / GIGA * of("logs stored")
    rows.append(("the relay's logs of a month at a million a month", f"${logs:.2f}"))
    return page.table(rows)


def crossover_table(counted: Counted, assumed: Assumed) -> str:
    head = (
        "answer takes",
        "relay",
        "cheaper from, requests a month",
        "a second",
        "at once in the busiest hour",
        "tasks there",
    )
    rows = [head]
    for kind in (Kind(seconds, memory) for seconds in SECONDS for memory in (256, 512)):
        found = meets(kind, counted, assumed)
        when = ("never", "", "", "")
        if math.isfinite(found):
            when = (
                f"{found / MILLION:.1f} million",
                f"{found / MONTH:.1f}",
                f"{at_once(found, kind.seconds, assumed):.0f}",
                str(tasks(found, kind.seconds, assumed)),
            )
        rows.append((f"{kind.seconds} s", f"{kind.memory} MB", *when))
    return page.table(rows)


def bills_table(counted: Counted, assumed: Assumed) -> str:
    rows = [("requests a month", *(f"{name}, {seconds} s" for seconds in SECONDS for name in ("Sluice", "servers")))]
    for requests in (10_000, 100_000, MILLION, 10 * MILLION, 100 * MILLION):
        bills = []
        for seconds in SECONDS:
            kind = Kind(seconds)
            bills += [sluice(requests, kind, counted, assumed), total(servers(requests, kind, counted, assumed))]
        rows.append((f"{requests:,}", *(f"${bill:,.0f}" for bill in bills)))
    return page.table(rows)


def counted_table(counted: Counted) -> str:
    rows = [
        ("counted", "", "DynamoDB units"),
        ("hold: the wallet's item", f"{counted.hold_bytes:.0f} bytes", f"{counted.hold_units:.2f} written"),
        ("settle: the wallet's item", f"{counted.settle_bytes:.0f} bytes", f"{counted.settle_units:.2f} written"),
        ("who asks: key and user, consistent", "", f"{counted.identity_reads:g} read"),
        ("the catalog's version, while a stream runs", f"{counted.polls_per_second:.2f} a second", "1 read each"),
        ("a cold start", f"{counted.start_kms:g} KMS call", f"{counted.start_reads:g} read"),
        ("journal and receipt", f"{counted.journal_items:g} items, {counted.journal_bytes:.0f} bytes", f"{counted.journal_units:g} written"),
        ("daily usage", "", f"{counted.usage_units:g} written"),
        ("log of the relay", f"{counted.log_lines:g} line, {counted.log_bytes:.0f} bytes", ""),
        ("the answer", f"{counted.answer_bytes:.0f} bytes, and {counted.chunk_bytes:.0f} a chunk", ""),
        ("Valkey's commands", f"{counted.valkey_per_request:g} a request, {counted.valkey_per_second:.2f} a second", ""),
        *(
            (f"a wallet with {holds} open holds", f"{size} bytes", f"{max(1, math.ceil(size / 1024))} a write")
            for holds, size in counted.wallet_bytes_by_open_holds.items()
        ),
    ]  # fmt: skip
    return page.table(rows)


def price_table() -> str:
    head = ("price", "dollars", "per", "from")
    rows = [
        (name, f"{rate.dollars:.10f}".rstrip("0").ljust(4, "0"), rate.per, rate.source) for name, rate in RATES.items()
    ]
    return page.table([head, *rows])


def assumed_table(assumed: Assumed) -> str:
    rows = [("assumed", "")]
    rows += [(f"`--{one.name.replace('_', '-')}`", f"{getattr(assumed, one.name):g}") for one in fields(assumed)]
    return page.table(rows)


def sections(counted: Counted, assumed: Assumed) -> dict[str, str]:
    """What the page holds between its marks, by name."""
    return {
        "per million": per_million(counted, assumed),
        "in parts": in_parts(counted, assumed),
        "waiting": waiting(assumed),
        "idle": idle_table(counted, assumed),
        "crossover": crossover_table(counted, assumed),
        "bills": bills_table(counted, assumed),
        "counted": f"{counted_table(counted)}\n\nCounted on {counted.counted_on}.",
        "assumed": assumed_table(assumed),
        "prices": price_table(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="What a million chat requests cost, idle months, and where servers are cheaper."
    )
    parser.add_argument("--count", action="store_true", help="count anew, into benchmarks/counted.json")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/cost.md; only with nothing else assumed"
    )
    standard = Assumed()
    for one in fields(Assumed):
        default, name = getattr(standard, one.name), f"--{one.name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(default), default=default)
    asked = parser.parse_args(arguments)
    assumed = Assumed(**{one.name: getattr(asked, one.name) for one in fields(Assumed)})
    if asked.write and assumed != standard:
        parser.error("the page is written with what is assumed by default")
    if asked.count:
        count().write(COUNTED)
    for name, table in sections(Counted.read(COUNTED), assumed).items():
        print(f"{name}\n\n{table}\n")
        if asked.write:
            page.write(PAGE, name, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
