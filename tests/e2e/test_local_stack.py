"""`make run` as a person meets it: started, used, ended, started again, and started where it cannot."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.canary import CANARY
from tests.emf import points

ROOT = Path(__file__).parents[2]
PROMPT = "Hello there, azure plover"
HELLO: list[Any] = [{"role": "user", "content": PROMPT}]


class Run:
    """One run of the stack on a free port, with what it said."""

    def __init__(self, state: Path, port: str = "0") -> None:
        self.state = state
        self.said = state.with_name(f"said-{time.monotonic_ns()}")
        environment = {**os.environ, "PORT": port, "STATE": str(state), "PYTHONPATH": str(ROOT / "layers" / "common")}
        with self.said.open("wb") as output:
            command = [sys.executable, "-m", "infra.local.stack"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    @property
    def output(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def until(self, words: str, seconds: float = 60) -> "Run":
        deadline = time.monotonic() + seconds
        while words not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)
        return self

    def ready(self) -> "Run":
        return self.until("Ctrl-C ends it.")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(90)

    @property
    def bootstrap(self) -> dict[str, str]:
        return dict(json.loads((self.state / "bootstrap.json").read_text(encoding="utf-8")))

    def pid(self, name: str) -> int:
        return int(json.loads((self.state / "processes.json").read_text(encoding="utf-8"))[name]["pid"])

    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.bootstrap["base_url"], api_key=self.bootstrap["api_key"], max_retries=0)

    def get(self, path: str, key: str = "api_key") -> Any:
        url = self.bootstrap["base_url"].removesuffix("/v1") + path
        answer = httpx.get(url, headers={"authorization": f"Bearer {self.bootstrap[key]}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def balance(self) -> int:
        return int(self.get("/api/v1/users/me")["wallet"]["balance"]["nano"])


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder; whatever a failed test left running on it is ended through the stack's own list."""
    folder = tmp_path / "state"
    yield folder
    # What `make run` prints for the person in front of it holds keys; what its processes log must not.
    CANARY.forbid(PROMPT)
    CANARY.forbid("I am the demo provider of this gateway")
    for name in ("gateway", "runner", "upstream"):
        CANARY.hear_file(folder / "logs" / f"{name}.log")
    try:
        left = json.loads((folder / "processes.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    for one in left.values():
        try:
            os.kill(one["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue


def measured(log: Path) -> set[str]:
    """The metrics in the lines of a process's log, each of which has to be as CloudWatch takes it."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return {name for line in lines if "_aws" in line for name, _ in points(line)}


def is_running(pid: int) -> bool:
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return shown.stdout.strip() not in ("", "Z", "Zs", "Z+")


def test_a_second_start_finds_what_the_first_left(state: Path) -> None:
    first = Run(state).ready()
    known, full = first.bootstrap, first.balance()
    assert full == 10 * 10**9
    assert ((state / "bootstrap.json").stat().st_mode & 0o777) == 0o600
    with first.sdk() as client:
        parts = [
            part for part in client.chat.completions.create(model="demo", messages=HELLO, stream=True) if part.choices
        ]
    assert PROMPT in "".join(part.choices[0].delta.content or "" for part in parts)
    spent = first.balance()
    assert 0 < full - spent < 10**8

    metrics = httpx.get(first.bootstrap["base_url"].removesuffix("/v1") + "/metrics").text
    assert 'sluice_requests_total{model="demo",channel="demo"} 1\n' in metrics
    assert 'sluice_time_to_first_token_seconds_count{model="demo",channel="demo"} 1\n' in metrics
    assert f'sluice_nano_charged_total{{model="demo"}} {full - spent}\n' in metrics

    curl = next(line.strip() for line in first.output.splitlines() if line.strip().startswith("curl"))
    printed = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
    assert "data: [DONE]" in printed.stdout

    balance = first.balance()
    children = [first.pid(name) for name in ("gateway", "runner", "upstream", "valkey", "MiniStack")]
    assert first.end(signal.SIGINT) == 0
    assert not any(map(is_running, children))

    second = Run(state).ready()
    assert {**known, "base_url": ""} == {**second.bootstrap, "base_url": ""}
    assert second.balance() == balance
    assert [one["id"] for one in second.get("/api/admin/channels", "admin_key")["data"]] == ["demo"]
    with second.sdk() as client:
        assert client.chat.completions.create(model="demo", messages=HELLO).choices[0].finish_reason == "stop"
    proof = second.get("/api/admin/proof", "admin_key")
    assert proof["holds_true"]
    assert sum(len(one["missing"]) for one in proof["data"]) == 0
    assert second.end() == 0
    assert {"Requests", "TimeToFirstToken"} <= measured(state / "logs" / "gateway.log")
    assert {"HoldsSwept", "WalletsProved", "EntriesWritten"} <= measured(state / "logs" / "runner.log")
    assert "Traceback" not in first.output + second.output


def test_an_answer_under_way_is_finished_before_the_end(state: Path) -> None:
    run = Run(state).ready()
    with run.sdk() as client:
        stream = iter(client.chat.completions.create(model="demo", messages=HELLO, stream=True))
        next(stream)
        run.process.send_signal(signal.SIGINT)
        rest = [part for part in stream if part.choices]
    assert rest[-1].choices[0].finish_reason == "stop"
    assert run.process.wait(90) == 0
    again = Run(state).ready()
    wallet = again.get("/api/v1/users/me")["wallet"]
    assert wallet["held"]["nano"] == 0
    assert wallet["balance"]["nano"] < 10 * 10**9
    assert again.end() == 0


def test_what_crashes(state: Path) -> None:
    run = Run(state).ready()
    os.kill(run.pid("gateway"), signal.SIGKILL)
    # The stack holds the socket: whoever comes meanwhile waits for the new gateway and is answered.
    assert run.get("/v1/models")["data"][0]["id"] == "demo"
    run.until("the gateway ended with exit code -9 and was started again")
    os.kill(run.pid("MiniStack"), signal.SIGKILL)
    assert run.process.wait(90) == 1
    assert run.output.splitlines()[-1].startswith("sluice: MiniStack ended by itself")


def test_a_killed_stack_loses_nothing(state: Path) -> None:
    run = Run(state).ready()
    run.process.kill()
    run.process.wait()
    again = Run(state).ready()
    assert "ending MiniStack" in again.output
    assert again.balance() == 10 * 10**9
    assert again.end() == 0


def refused(run: Run) -> str:
    """The one line with which a run says why it cannot start."""
    assert run.process.wait(60) == 2, run.output
    (line,) = run.output.splitlines()
    return line


def test_a_taken_port_is_one_line(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is taken" in refused(Run(state, str(port)))


def test_a_state_in_use_is_one_line(state: Path) -> None:
    run = Run(state)
    while not (state / "processes.json").exists():
        assert run.process.poll() is None, run.output
        time.sleep(0.02)
    assert "in use by another" in refused(Run(state))
    assert run.end() == 0


@pytest.mark.parametrize("name", ["bootstrap.json", "aws/dynamodb.json"])
def test_a_damaged_state_is_one_line(state: Path, name: str) -> None:
    (state / "aws").mkdir(parents=True)
    (state / name).write_text("{ not json", encoding="utf-8")
    line = refused(Run(state))
    assert Path(name).name in line
    assert "STATE=" in line


def test_users_that_are_gone_are_one_line(state: Path) -> None:
    state.mkdir()
    lost = {"base_url": "", "admin_key": "sk-" + "a" * 43, "api_key": "sk-" + "b" * 43, "model": "demo"}
    (state / "bootstrap.json").write_text(json.dumps(lost), encoding="utf-8")
    assert "does not hold the users" in refused(Run(state))


def test_a_state_that_is_a_file_is_one_line(state: Path) -> None:
    state.write_text("", encoding="utf-8")
    assert "cannot be used" in refused(Run(state))
