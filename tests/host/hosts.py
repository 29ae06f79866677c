"""What runs the relay on Lambda, started here: run.sh behind the Lambda Web Adapter, on the stand-in or on AWS's emulator."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from infra.local import ministack
from sluice.settings import Settings
from tests.host.runtime_api import DELIMITER, RuntimeApi

ROOT = Path(__file__).parents[2]
RELAY = ROOT / "functions" / "relay"
ECHO = Path(__file__).parent / "echo"
ADAPTER = Path(os.environ.get("SLUICE_ADAPTER", ROOT / "build" / "adapter" / "bin" / "lambda-adapter"))
_RIE = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
START_SECONDS = 30.0


def adapter() -> Path:
    """The adapter's binary. Skips, saying why, where it could not be built."""
    if ADAPTER.exists():
        return ADAPTER
    why = "`make test-host` builds it" if shutil.which("cargo") else "no cargo to build it with (https://rustup.rs)"
    pytest.skip(f"no Lambda Web Adapter at {ADAPTER}: {why}")


def emulator() -> Path:
    """AWS's Runtime Interface Emulator. Skips, saying why, where it is not."""
    found = found_emulator()
    if found is None:
        pytest.skip("no Runtime Interface Emulator: it comes with `make test-host` (.venv/sam) and runs on Linux only")
    return found


def found_emulator() -> Path | None:
    """The emulator's binary, as the SAM CLI's package carries it."""
    name = f"lib/python*/site-packages/samcli/local/rapid/{_RIE.get(platform.machine())}"
    return next(iter(sorted((ROOT / ".venv/sam").glob(name))), None) if sys.platform == "linux" else None


def relay_environment(settings: Settings, endpoint: str, **changed: str) -> dict[str, str]:
    """What the template gives the relay, as far as it matters here."""
    declared = {f"SLUICE_{one.name.upper()}": str(getattr(settings, one.name)) for one in fields(settings)}
    return {
        **declared,
        "SLUICE_DEADLINE_HEADER": "x-amzn-lambda-context",
        "SLUICE_DEADLINE_MARGIN_SECONDS": "3.0",
        "SLUICE_CATALOG_POLL_SECONDS": "0.2",
        "SLUICE_LOG_LEVEL": "INFO",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ministack.CREDENTIALS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": ministack.CREDENTIALS["aws_secret_access_key"],
        "AWS_REGION": ministack.REGION,
        **changed,
    }


def lambda_environment(task_root: Path, port: int, **more: str) -> dict[str, str]:
    """What Lambda and the template set, on what this machine has."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "layers" / "common"),
        "LAMBDA_TASK_ROOT": str(task_root),
        "AWS_LAMBDA_FUNCTION_NAME": "relay",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/relay",
        "AWS_LAMBDA_LOG_STREAM_NAME": "here",
        "AWS_LWA_INVOKE_MODE": "response_stream",
        "AWS_LWA_PORT": str(port),
        "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
        **more,
    }


@dataclass(slots=True)
class Environment:
    """One execution environment on the stand-in: the app's process, and the host's in front of it."""

    api: RuntimeApi
    app: subprocess.Popen[bytes]
    host: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As Lambda ends an environment it has lost patience with."""
        for process in (self.app, self.host):
            process.kill()

    async def app_ended(self, seconds: float = 20) -> int:
        return await asyncio.to_thread(self.app.wait, seconds)


@asynccontextmanager
async def behind_adapter(task_root: Path, log: Path, **more: str) -> AsyncIterator[Environment]:
    """run.sh and the adapter as two processes, which is what the layer's wrapper and extension are."""
    binary = adapter()
    async with RuntimeApi() as api:
        environment = lambda_environment(task_root, free_port(), AWS_LAMBDA_RUNTIME_API=api.address, **more)
        with process([binary], environment, log) as host, process([RELAY / "run.sh"], environment, log) as app:
            running = Environment(api, app, host, log)
            await _ready(running)
            yield running


@asynccontextmanager
async def behind_loop(task_root: Path, log: Path, *, waits: bool = True, **more: str) -> AsyncIterator[Environment]:
    """The experiment in benchmarks/runtime_loop.py: app and host are one process. `waits` until it takes events."""
    async with RuntimeApi() as api:
        environment = lambda_environment(task_root, 0, AWS_LAMBDA_RUNTIME_API=api.address, **more)
        environment["PYTHONPATH"] += f"{os.pathsep}{task_root}"
        command = [sys.executable, ROOT / "benchmarks" / "runtime_loop.py", "relay_lambda:create_app"]
        with process(command, environment, log) as app:
            running = Environment(api, app, app, log)
            if waits:
                await _ready(running)
            yield running


async def _ready(running: Environment) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not running.api.ready.is_set():
            for one in (running.app, running.host):
                assert one.poll() is None, f"ended at its start:\n{running.log.read_text()[-3000:]}"
            await asyncio.sleep(0.01)


@contextmanager
def process(command: list[Any], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Its own process group, so that a wrapper's children end with it."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            command, env=dict(environment), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(5)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(running.pid, number)
            except ProcessLookupError:
                break
        running.wait()


class Emulator:
    """AWS's emulator: one invocation at a time, and the answer all at once at its end."""

    def __init__(self, port: int) -> None:
        self._port = port

    def invoke(self, event: Any, seconds: float = 30) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return connection.getresponse().read()
        finally:
            connection.close()

    async def answer(self, event: Any) -> tuple[dict[str, Any], bytes]:
        """The prelude and the body of a streamed answer."""
        raw = await asyncio.to_thread(self.invoke, event)
        head, delimiter, body = raw.partition(DELIMITER)
        assert delimiter, raw[:500]
        return json.loads(head), body


@contextmanager
def emulated(command: list[Any], log: Path, environment: Mapping[str, str], timeout: int = 60) -> Iterator[Emulator]:
    """The emulator, which starts `command` at the first invocation. `timeout` is the function's, in seconds."""
    binary, port = emulator(), free_port()
    flags = ["--runtime-api-address", f"127.0.0.1:{free_port()}"]
    flags += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    given = {**environment, "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout)}
    with process([binary, *flags, *command], given, log) as running:
        _await_port(port, running, log)
        yield Emulator(port)


def adapter_and_app(folder: Path, binary: Path | None = None) -> list[Any]:
    """One command that is both: without root nothing can be put into /opt/extensions, where the layer's extension lies."""
    script = folder / "both.sh"
    script.write_text(f'#!/bin/sh\n"{binary or adapter()}" &\nexec "{RELAY / "run.sh"}"\n')
    script.chmod(0o755)
    return [script]


def _await_port(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(int(START_SECONDS * 50)):
        assert running.poll() is None, log.read_text()[-3000:]
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            signal.sigtimedwait([], 0.02)
    raise AssertionError("the emulator does not listen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
