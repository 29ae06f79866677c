"""`make load`: many streams at once on the local stack, for a while, and what is left of them afterwards.

    python -m benchmarks.load [--streams 200] [--seconds 60] [--write]

`make run` is started on a free port with a state folder of its own: gateway, upstream, MiniStack, Valkey and the runner are
processes of theirs, and the clients are this one. Each client asks, reads its stream to the end and asks again, every time over a new
connection. First all of them at once, as a warm-up and as the worst burst; then spread over the length of one answer.

Afterwards nothing may be left: no reader or task more than after the warm-up, no threads and files beyond a pool's, no memory that grows with
them; every wallet has paid for exactly the streams its clients read, its journal is complete, and its proof holds.
Exit code 1 when anything of that is not so. `--write` puts the table into docs/sizing.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from benchmarks import page

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sizing.md"
MODEL = "load"
CREDIT_NANO = 10**10
CATALOG_SECONDS = 10.0
PROMPT, CHUNKS, PACE = 30, 40, 0.1
COST_NANO = PROMPT * 1_000 + CHUNKS * 2_000
"""Of one stream: the price is 1 and 2 dollars per million tokens."""
READY_SECONDS = 60.0
QUIET_SECONDS = 30.0
JOURNAL_SECONDS = 180.0
SPARE = {"readers": 0, "tasks": 0, "threads": 16, "files": 16}
"""How many more of each may be there at the end than after the warm-up, where a pool may not have come to its full size."""
GROWTH, GROWTH_PER_STREAM = 2 * 1024 * 1024, 1024
"""Bytes of memory that the second half may add: so many, and so many a stream. One request that is kept weighs some 20 KB.
The first half is not looked at: pools fill and the allocator takes its share of each thread."""


# --- the stack --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class House:
    """A running stack: where it is, the operator's way in, and its folder."""

    url: str
    operator: httpx.Client
    state: Path

    def operate(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """The operator's API. Raises httpx.HTTPStatusError."""
        answer = self.operator.request(method, f"/api/admin{path}", json=body, params=query)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """`make run` on a free port. Raises RuntimeError where it does not come up, or does not end well."""
    state, said = folder / "state", folder / "said"
    environment = {**os.environ, "PORT": "0", "STATE": str(state), "PYTHONPATH": str(ROOT / "layers" / "common")}
    with said.open("wb") as output:
        command = [sys.executable, "-m", "infra.local.stack"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while "Ctrl-C ends it." not in said.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the local stack did not start: {said.read_text()[-2000:]}")
            time.sleep(0.05)
        known = json.loads((state / "bootstrap.json").read_text())
        url, headers = known["base_url"].removesuffix("/v1"), {"authorization": f"Bearer {known['admin_key']}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as operator:
            yield House(url, operator, state)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(180)
    if code or "started again" in said.read_text():
        raise RuntimeError(f"the local stack ended with exit code {code}: {said.read_text()[-2000:]}")


def furnish(house: House, users: int) -> dict[str, str]:
    """The scripted model, its price, and users with credit: the key of each."""
    upstream = house.operate("GET", "/channels/demo")["endpoint"].removesuffix("/v1")
    script = f"chunks={CHUNKS},pace={PACE},prompt={PROMPT}"
    channel = {"type": "openai", "name": MODEL, "models": [MODEL], "secret": "sk-none-is-needed"}
    house.operate("PUT", f"/prices/{MODEL}", {"input": "1", "output": "2"})
    house.operate("POST", "/channels", {"id": MODEL, "endpoint": f"{upstream}/{script}/v1", **channel})
    keys = {}
    for number in range(users):
        user = house.operate("POST", "/users", {"username": f"load-{number}"})["id"]
        house.operate("POST", f"/users/{user}/credit", {"usd": str(CREDIT_NANO // 10**9)})
        keys[user] = house.operate("POST", f"/users/{user}/keys", {"name": "load"})["key"]
    _await_model(house.url, next(iter(keys.values())))
    return keys


def _await_model(url: str, key: str) -> None:
    """Until the relay has looked at the catalog again, which it does every few seconds. Raises TimeoutError."""
    deadline = time.monotonic() + CATALOG_SECONDS
    asked = {"url": f"{url}/v1/models/{MODEL}", "headers": {"authorization": f"Bearer {key}"}}
    while httpx.get(**asked, trust_env=False).status_code != 200:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the relay does not know the model {MODEL}")
        time.sleep(0.1)


# --- the clients ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Streams:
    """What the clients met. Seconds."""

    done: Counter[str] = field(default_factory=Counter)
    """By user."""
    first_bytes: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """On the monotonic clock."""
    errors: list[str] = field(default_factory=list)


async def ask(url: str, key: str) -> tuple[float, float]:
    """One stream, read to its end: seconds to its first content, and in all. Raises ValueError on any other answer."""
    place = urlsplit(url)
    body = {"model": MODEL, "stream": True, "max_tokens": 256, "messages": [{"role": "user", "content": "Hello there"}]}
    payload = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\nconnection: close\r\n\r\n"
    )
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(head.encode() + payload)
        first, pieces = 0.0, bytearray()
        while data := await reader.read(65_536):
            pieces += data
            if not first and b"data: " in pieces:
                first = time.perf_counter() - began
    finally:
        writer.close()
    taken = time.perf_counter() - began
    status, answer = unwrapped(bytes(pieces))
    if status != 200 or answer.count(b'"content":"word') != CHUNKS or not answer.endswith(b"data: [DONE]\n\n"):
        raise ValueError(f"answered {status}: {answer[-300:]!r}")
    return first, taken


def unwrapped(answer: bytes) -> tuple[int, bytes]:
    """Status and body of an HTTP/1.1 answer, whose body may come in chunks. Raises ValueError where it is cut."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    if b"transfer-encoding: chunked" not in head.lower():
        return status, rest
    body = bytearray()
    while True:
        size, mark, rest = rest.partition(b"\r\n")
        length = int(size or b"", 16) if mark else -1
        if length < 0 or len(rest) < length + 2:
            raise ValueError(f"the answer is cut after {len(body)} bytes")
        if not length:
            return status, bytes(body)
        body += rest[:length]
        rest = rest[length + 2 :]


async def client(url: str, user: str, key: str, found: Streams, wait: float, until: float) -> None:
    """Asks again and again until the clock says `until`; at least once."""
    await asyncio.sleep(wait)
    while True:
        try:
            first, taken = await ask(url, key)
        except (OSError, ValueError) as error:
            found.errors.append(f"{type(error).__name__}: {error}")
        else:
            found.done[user] += 1
            found.first_bytes.append(first)
            found.durations.append(taken)
            found.ends.append(time.monotonic())
        if time.monotonic() >= until:
            return


async def clients(url: str, keys: Mapping[str, str], count: int, seconds: float, spread: float) -> Streams:
    found, until = Streams(), time.monotonic() + seconds
    users = list(keys.items())
    await asyncio.gather(*(client(url, *users[n % len(users)], found, spread * n / count, until) for n in range(count)))
    return found


# --- what the gateway holds -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    vitals: Mapping[str, float]

    @classmethod
    async def take(cls, http: httpx.AsyncClient) -> Self:
        answer = await http.get("/_vitals")
        return cls(time.monotonic(), answer.raise_for_status().json())


async def sampled(http: httpx.AsyncClient, samples: list[Sample], seconds: float = 1.0) -> None:
    while True:
        samples.append(await Sample.take(http))
        await asyncio.sleep(seconds)


async def quiet(http: httpx.AsyncClient) -> Sample:
    """The gateway once nothing is under way and its connections are closed, or after half a minute as it is then."""
    deadline, last = time.monotonic() + QUIET_SECONDS, await Sample.take(http)
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        before, last = last, await Sample.take(http)
        counts = [(before.vitals[name], last.vitals[name]) for name in SPARE]
        if not last.vitals["readers"] and all(was == now for was, now in counts):
            break
    return last


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line nearest to the points, in y per x; 0 for fewer than two."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    burst: Streams
    steady: Streams
    rested: Sample
    """After the warm-up."""
    samples: Sequence[Sample]
    """Under load, once a second."""
    ended: Sample
    books: Sequence[str]
    """What does not add up, in sentences."""
    journal_seconds: float

    def growth(self) -> tuple[float, int]:
        """Bytes of memory that the second half added, by the line through its samples, and its streams."""
        half = self.samples[len(self.samples) // 2 :]
        lasted = half[-1].at - half[0].at
        streams = sum(half[0].at <= end <= half[-1].at for end in self.steady.ends)
        return slope([(one.at, one.vitals["resident"]) for one in half]) * lasted, streams

    def faults(self) -> list[str]:
        errors = [*self.burst.errors, *self.steady.errors]
        found = [f"{count} times {error}" for error, count in Counter(errors).most_common(5)]
        for name, spare in SPARE.items():
            if self.ended.vitals[name] > self.rested.vitals[name] + spare:
                found.append(f"{name}: {self.rested.vitals[name]:.0f} before, {self.ended.vitals[name]:.0f} after")
        added, streams = self.growth()
        if added > GROWTH + GROWTH_PER_STREAM * streams:
            found.append(f"memory grew by {added:.0f} bytes in {streams} streams")
        return [*found, *self.books]


async def run(house: House, keys: Mapping[str, str], count: int, seconds: float) -> Outcome:
    async with httpx.AsyncClient(base_url=house.url, timeout=30, trust_env=False) as http:
        burst = await clients(house.url, keys, count, 0.0, 0.0)
        rested, samples = await quiet(http), list[Sample]()
        sampling = asyncio.create_task(sampled(http, samples))
        steady = await clients(house.url, keys, count, seconds, CHUNKS * PACE)
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        ended = await quiet(http)
    began = time.monotonic()
    books = await asyncio.to_thread(check_books, house, burst.done + steady.done, keys)
    return Outcome(burst, steady, rested, samples, ended, books, time.monotonic() - began)


def check_books(house: House, done: Mapping[str, int], users: Mapping[str, str]) -> list[str]:
    """Waits until the journal is complete, and holds it against what the clients read."""
    deadline, proof = time.monotonic() + JOURNAL_SECONDS, house.operate("GET", "/proof")
    while any(one["behind"] for one in proof["data"]) and time.monotonic() < deadline:
        time.sleep(0.5)
        proof = house.operate("GET", "/proof")
    wrong = [f"wallet {one['wallet_id']}: {one}" for one in proof["data"] if not one["holds_true"] or one["behind"]]
    for user in users:
        wallet, kinds = house.operate("GET", f"/users/{user}/wallet"), _kinds(house, user)
        streams = done.get(user, 0)
        left = CREDIT_NANO - streams * COST_NANO
        if (wallet["balance"]["nano"], wallet["available"]["nano"]) != (left, left):
            wrong.append(f"wallet {user}: {wallet} after {streams} streams of {COST_NANO} nano-dollars")
        if kinds != {"credit": 1, "hold": streams, "settle": streams}:
            wrong.append(f"journal of {user}: {dict(kinds)} after {streams} streams")
    if (house.state / "dead-letters.jsonl").exists():
        wrong.append("changes of the ledger were set aside as dead letters")
    log = (house.state / "logs" / "gateway.log").read_text(errors="replace")
    return wrong + [line for line in log.splitlines() if '"level":"ERROR"' in line or line.startswith("ERROR")][:5]


def _kinds(house: House, user: str) -> Counter[str]:
    kinds, after = Counter[str](), 0
    while after is not None:
        found = house.operate("GET", f"/users/{user}/entries", after=after, limit=1000)
        kinds.update(one["kind"] for one in found["data"])
        after = found["next"]
    return kinds


# --- the table --------------------------------------------------------------------------------------------------------


def report(outcome: Outcome, count: int, seconds: float, users: int) -> str:
    steady, first, last = outcome.steady, outcome.samples[0], outcome.samples[-1]
    mega = 1024 * 1024
    spent = last.vitals["processor_seconds"] - first.vitals["processor_seconds"]
    done, (added, streams) = len(steady.durations), outcome.growth()
    during = {
        name: max(one.vitals[name] for one in outcome.samples) for name in ("readers", "tasks", "threads", "files")
    }

    def kept(name: str) -> tuple[str, str]:
        return name, f"{outcome.rested.vitals[name]:.0f} / {during[name]:.0f} / {outcome.ended.vitals[name]:.0f}"

    rows = [
        ("", f"{count} streams at once for {seconds:.0f} s, {users} users"),
        ("streams read to the end", f"{done} ({done / (last.at - first.at):.0f} a second), after a burst of {count} at once"),
        ("errors", str(len(steady.errors) + len(outcome.burst.errors))),
        ("first content after, p50 / p90 / p99", _spread(steady.first_bytes, 1000, "ms")),
        (f"whole answer of {CHUNKS * PACE:.0f} s after, p50 / p90 / p99", _spread(steady.durations, 1, "s")),
        ("the gateway's CPU per stream", f"{spent / max(1, done) * 1000:.1f} ms for {CHUNKS} chunks"),
        ("  of one processor", f"{spent / (last.at - first.at) * 100:.0f} %"),
        ("its memory, at rest / at the start / at the end", " / ".join(f"{one.vitals['resident'] / mega:.1f}" for one in (outcome.rested, first, last)) + " MB"),
        ("  slope, second half", f"{added / mega:+.1f} MB in {streams} streams"),
        *((f"{label}, before / most / after", kept(name)[1]) for name, label in (("readers", "readers"), ("tasks", "tasks"), ("threads", "threads"), ("files", "open files"))),
        ("wallets proved, journal complete", f"{'no' if outcome.books else 'yes'}, {outcome.journal_seconds:.0f} s after the last stream"),
    ]  # fmt: skip
    return page.table(rows)


def _spread(values: Sequence[float], times: float, unit: str) -> str:
    if len(values) < 2:
        return "-"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return (
        " / ".join(f"{cuts[percent - 1] * times:.{0 if unit == 'ms' else 2}f}" for percent in (50, 90, 99)) + f" {unit}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Many streams at once on the local stack, and what is left of them.")
    parser.add_argument("--streams", type=int, default=200, help="how many at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--users", type=int, default=20, help="whose wallets share them")
    parser.add_argument("--write", action="store_true", help="put the table into docs/sizing.md")
    asked = parser.parse_args()
    _allow_files(asked.streams * 4 + 256)
    with tempfile.TemporaryDirectory(prefix="sluice-load-") as folder, house(Path(folder)) as running:
        keys = furnish(running, asked.users)
        outcome = asyncio.run(run(running, keys, asked.streams, asked.seconds))
    told = report(outcome, asked.streams, asked.seconds, asked.users)
    print(told)
    faults = outcome.faults()
    for fault in faults:
        print(f"load: {fault}", file=sys.stderr)
    if asked.write and not faults:
        page.write(PAGE, "load", told)
    return 1 if faults else 0


def _allow_files(wanted: int) -> None:
    """Each stream is two sockets of the gateway, one of the upstream and one here; children inherit what is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


if __name__ == "__main__":
    sys.exit(main())
