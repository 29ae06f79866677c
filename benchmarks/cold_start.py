"""`make bench-host`: what stands between Lambda and the relay, and what it costs. One run, four parties, rounds that take turns.

    app alone   functions/relay/run.sh asked over HTTP: uvicorn and the relay, no Lambda at all
    adapter     the same behind the Lambda Web Adapter, on a stand-in of the Runtime API (tests/host/runtime_api.py)
    quick       the adapter on a stand-in that acknowledges every packet at once
    loop        benchmarks/runtime_loop.py: the relay's app on the Runtime API without web server and adapter

Each is a relay with its full accounting, on MiniStack, Valkey and the scripted upstream. A cold start is a process that ends
after its first stream; warm numbers come from one process after another, in blocks. `--layer` takes a built layer with its
bytecode, and `--python` the interpreter it is for: without them the source tree and this interpreter are used.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.relay_bench import MODEL, Bench, house, print_table
from tests.host import hosts
from tests.host.events import post
from tests.host.runtime_api import RuntimeApi

CHAT = "/v1/chat/completions"
MANY = 50
"""Streams at a time in one environment, as Managed Instances allow."""
PAUSE = 0.002
LAYER = hosts.ROOT / ".aws-sam/build/Common/python"


@dataclass(slots=True)
class Taken:
    """What one stream took: seconds from when it was asked to its first byte and to its last."""

    first: float
    whole: float


@dataclass
class Party:
    """One way of running the relay. `ask` sends one stream and reads it to its end."""

    processes: list[subprocess.Popen[bytes]]
    ready: float
    """Seconds from its start until it took its first request."""
    ask: Callable[[], Any]

    def processor_seconds(self) -> float:
        return sum(map(_processor_seconds, {one.pid for one in self.processes}))

    def megabytes(self) -> float:
        return sum(map(_megabytes, {one.pid for one in self.processes}))


@dataclass
class Stage:
    """What all parties stand on."""

    bench: Bench
    python: Path
    paths: str
    adapter: Path
    event: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hello there"}]}
        self.event = post(CHAT, self.bench.api_key, body)

    def environment(self, api: str, port: int, **more: str) -> dict[str, str]:
        told = hosts.lambda_environment(hosts.RELAY, port, AWS_LAMBDA_RUNTIME_API=api, **more)
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        return {**self.bench.environment, **told, "PATH": path, "PYTHONPATH": self.paths}

    @property
    def log(self) -> Path:
        return self.bench.folder / "host.log"


# --- the parties ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def alone(stage: Stage, **more: str) -> AsyncIterator[Party]:
    port = hosts.free_port()
    started = time.time()
    with hosts.process([hosts.RELAY / "run.sh"], stage.environment("127.0.0.1:1", port, **more), stage.log) as app:
        while not await _listens(port):
            if app.poll() is not None:
                raise RuntimeError(stage.log.read_text()[-2000:])
            await asyncio.sleep(PAUSE)
        yield Party([app], time.time() - started, lambda: _over_http(port, stage.event))


@asynccontextmanager
async def adapter(stage: Stage, *, quick: bool = False, **more: str) -> AsyncIterator[Party]:
    async with RuntimeApi(acknowledges_at_once=quick) as api:
        environment = stage.environment(api.address, hosts.free_port(), **more)
        started = time.time()
        with (
            hosts.process([stage.adapter], environment, stage.log) as host,
            hosts.process([hosts.RELAY / "run.sh"], environment, stage.log) as app,
        ):
            await _taken_up(api, app, stage)
            yield Party([host, app], api.ready_at - started, lambda: _invoked(api, stage.event))


@asynccontextmanager
async def loop(stage: Stage, **more: str) -> AsyncIterator[Party]:
    async with RuntimeApi() as api:
        environment = stage.environment(api.address, 0, **more)
        environment["PYTHONPATH"] = os.pathsep.join((str(hosts.RELAY), stage.paths, str(hosts.ROOT / "benchmarks")))
        command = [stage.python, "-m", "runtime_loop", "relay_lambda:create_app"]
        started = time.time()
        with hosts.process(command, environment, stage.log) as app:
            await _taken_up(api, app, stage)
            yield Party([app], api.ready_at - started, lambda: _invoked(api, stage.event))


PARTIES: dict[str, Any] = {
    "app alone": alone,
    "adapter": adapter,
    "adapter, quick": partial(adapter, quick=True),
    "loop": loop,
}


async def _taken_up(api: RuntimeApi, app: subprocess.Popen[bytes], stage: Stage) -> None:
    while not api.ready.is_set():
        if app.poll() is not None:
            raise RuntimeError(stage.log.read_text()[-2000:])
        await asyncio.sleep(PAUSE)


async def _invoked(api: RuntimeApi, event: dict[str, Any]) -> Taken:
    asked = time.time()
    invocation = await api.invoke(event).whole(60)
    if invocation.status != 200 or not invocation.raw.endswith(b"data: [DONE]\n\n"):
        raise RuntimeError(f"not an answer: {invocation.raw[-500:]!r}")
    first = next(at for at, piece in invocation.pieces if b"data:" in piece)
    return Taken(first - asked, invocation.pieces[-1][0] - asked)


async def _over_http(port: int, event: dict[str, Any]) -> Taken:
    """The event as the request it stands for."""
    asked = time.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = event["body"].encode()
    lines = "".join(f"{name}: {values[-1]}\r\n" for name, values in event["multiValueHeaders"].items())
    head = f"POST {event['path']} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    raw = await reader.readuntil(b"data:")
    first = time.time()
    raw += await reader.read(-1)
    writer.close()
    if b"data: [DONE]" not in raw:
        raise RuntimeError(f"not an answer: {raw[-500:]!r}")
    return Taken(first - asked, time.time() - asked)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass
class Numbers:
    """Of one party, one number a round; seconds and megabytes."""

    ready: list[float] = field(default_factory=list)
    cold_first: list[float] = field(default_factory=list)
    cold_processor: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    warm_first: list[float] = field(default_factory=list)
    warm_whole: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    many_whole: list[float] = field(default_factory=list)
    many_processor: list[float] = field(default_factory=list)
    many_megabytes: list[float] = field(default_factory=list)


async def cold_start(start: Any, stage: Stage, numbers: Numbers) -> None:
    async with start(stage) as party:
        taken = await party.ask()
        numbers.cold_processor.append(party.processor_seconds())
        told = time.time()
        party.processes[-1].terminate()
        while party.processes[-1].poll() is None:
            await asyncio.sleep(PAUSE)
        numbers.ended.append(time.time() - told)
    numbers.ready.append(party.ready)
    numbers.cold_first.append(party.ready + taken.first)


async def warm(parties: dict[str, Party], measured: dict[str, Numbers], blocks: int, requests: int) -> None:
    """Blocks of requests, one after the other, party after party. The first block of each is to warm up."""
    for number in range(blocks + 1):
        for name, party in parties.items():
            before = party.processor_seconds()
            taken = [await party.ask() for _ in range(requests)]
            if number:
                measured[name].warm_first += [one.first for one in taken]
                measured[name].warm_whole += [one.whole for one in taken]
                measured[name].processor.append((party.processor_seconds() - before) / requests)
    for name, party in parties.items():
        measured[name].megabytes.append(party.megabytes())


async def many(parties: dict[str, Party], measured: dict[str, Numbers], rounds: int) -> None:
    for number in range(rounds + 1):
        for name, party in parties.items():
            before, asked = party.processor_seconds(), time.time()
            await asyncio.gather(*(party.ask() for _ in range(MANY)))
            if number:
                measured[name].many_whole.append(time.time() - asked)
                measured[name].many_processor.append((party.processor_seconds() - before) / MANY)
    for name, party in parties.items():
        measured[name].many_megabytes.append(party.megabytes())


async def measure(stage: Stage, asked: argparse.Namespace) -> dict[str, Numbers]:
    measured = {name: Numbers() for name in PARTIES}
    for number in range(asked.starts + 1):
        for name, start in PARTIES.items():
            await cold_start(start, stage, measured[name] if number else Numbers())
    async with AsyncExitStack() as stack:
        parties = {name: await stack.enter_async_context(start(stage)) for name, start in PARTIES.items()}
        await warm(parties, measured, asked.blocks, asked.requests)
    async with AsyncExitStack() as stack:
        wide = {"AWS_LAMBDA_MAX_CONCURRENCY": str(MANY)}
        parties = {name: await stack.enter_async_context(start(stage, **wide)) for name, start in PARTIES.items()}
        await many(parties, measured, asked.blocks)
    return measured


def under_the_emulator(stage: Stage, starts: int) -> dict[str, list[float]]:
    """Milliseconds AWS's emulator takes for a first stream, from the start of the runtime to the last byte: it keeps all to the end."""
    taken: dict[str, list[float]] = {"adapter": [], "loop": []}
    both = hosts.adapter_and_app(stage.bench.folder, stage.adapter)
    environment = stage.environment("", hosts.free_port())
    paths = os.pathsep.join((str(hosts.RELAY), stage.paths, str(hosts.ROOT / "benchmarks")))
    commands = {
        "adapter": (both, environment),
        "loop": ([stage.python, "-m", "runtime_loop", "relay_lambda:create_app"], {**environment, "PYTHONPATH": paths}),
    }
    for _ in range(starts):
        for name, (command, given) in commands.items():
            with hosts.emulated(command, stage.log, given) as emulator:
                began = time.time()
                answer = emulator.invoke(stage.event)
                taken[name].append(time.time() - began)
            if not answer.endswith(b"data: [DONE]\n\n"):
                raise RuntimeError(f"not an answer: {answer[-500:]!r}")
    return taken


def _processor_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) / 1024


# --- the table --------------------------------------------------------------------------------------------------------


def table(measured: dict[str, Numbers], emulated: dict[str, list[float]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, Callable[[Numbers], Sequence[float]], float, str]] = [
        ("process start to ready", lambda n: n.ready, 1000, "ms"),
        ("process start to the first byte of a stream", lambda n: n.cold_first, 1000, "ms"),
        ("CPU of that", lambda n: n.cold_processor, 1000, "ms"),
        ("idle: from SIGTERM to the app's end", lambda n: n.ended, 1000, "ms"),
        ("warm: first byte of a stream", lambda n: n.warm_first, 1000, "ms"),
        ("warm: all of a stream of 20 chunks", lambda n: n.warm_whole, 1000, "ms"),
        ("warm: CPU per stream of 20 chunks", lambda n: n.processor, 1000, "ms"),
        ("peak memory", lambda n: n.megabytes, 1, "MB"),
        (f"{MANY} streams at a time in one environment: all done after", lambda n: n.many_whole, 1000, "ms"),
        (f"{MANY} at a time: CPU per stream", lambda n: n.many_processor, 1000, "ms"),
        (f"{MANY} at a time: peak memory", lambda n: n.many_megabytes, 1, "MB"),
    ]
    made: list[tuple[str, ...]] = [("", *measured)]
    for name, pick, times, unit in rows:
        made.append((name, *(f"{statistics.median(pick(one)) * times:.1f} {unit}" for one in measured.values())))
    shown = (f"{statistics.median(emulated[name]) * 1000:.1f} ms" if emulated.get(name) else "-" for name in measured)
    made.append(("AWS's emulator: runtime start to the end of a first stream", *shown))
    return made


@contextmanager
def interpreter(given: str) -> Iterator[Path]:
    """`given` under the name that run.sh calls, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sluice-python-") as folder:
        (Path(folder) / "python3").symlink_to(Path(shutil.which(given) or given).absolute())
        yield Path(folder) / "python3"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layer", type=Path, default=LAYER, help="python/ of a layer built for this machine")
    parser.add_argument("--python", help="the interpreter the layer was built for")
    parser.add_argument("--starts", type=int, default=11, help="measured cold starts per party")
    parser.add_argument("--blocks", type=int, default=10, help="warm blocks per party")
    parser.add_argument("--requests", type=int, default=20, help="requests per block")
    asked = parser.parse_args()
    if not hosts.ADAPTER.exists() or sys.platform != "linux":
        print(f"sluice: no Lambda Web Adapter at {hosts.ADAPTER} (needs Linux and cargo)", file=sys.stderr)
        return 1
    built = asked.python is not None and asked.layer.exists()
    paths = str(asked.layer if built else hosts.ROOT / "layers/common")
    with house() as bench, interpreter(asked.python or sys.executable) as python:
        stage = Stage(bench, python, paths, hosts.ADAPTER)
        measured = asyncio.run(measure(stage, asked))
        emulated = under_the_emulator(stage, asked.starts) if hosts.found_emulator() else {}
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    print_table(table(measured, emulated))
    what = "a built layer" if built else "the source tree"
    print(
        f"\nMedians of {asked.starts} starts and {asked.blocks} blocks of {asked.requests}. {version}, {what}, ", end=""
    )
    print(f"{os.cpu_count()} processors, {platform.machine()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
