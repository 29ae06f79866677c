"""The stand-in held to AWS's own emulator: the same small runtime asks both, and must hear the same."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host import hosts
from tests.host.runtime_api import RuntimeApi
from tests.host.tiny_runtime import PRELUDE

COMMAND = [sys.executable, Path(__file__).parent / "tiny_runtime.py"]
Ask = Callable[[str], Awaitable[bytes]]


@pytest.fixture(params=["stand_in", pytest.param("emulator", marks=pytest.mark.host)])
async def ask(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ask]:
    """Has the runtime do as it is told; what the invoker gets."""
    log, environment = tmp_path / "host.log", {"PATH": os.environ["PATH"]}
    if request.param == "emulator":
        with hosts.emulated(COMMAND, log, environment) as emulator:

            async def emulated(what: str) -> bytes:
                return emulator.invoke({"do": what})

            yield emulated
        return
    async with RuntimeApi() as api:

        async def stood_in(what: str) -> bytes:
            invocation = await api.invoke({"do": what}).whole()
            return json.dumps(invocation.error, separators=(",", ":")).encode() if invocation.error else invocation.raw

        with hosts.process(COMMAND, {**environment, "AWS_LAMBDA_RUNTIME_API": api.address}, log):
            yield stood_in


async def seen(ask: Ask) -> Any:
    return json.loads(await ask("report"))["seen"]


@pytest.mark.parametrize(
    ("what", "invoker", "runtime"),
    [
        ("answer", b'{"do": "answer"}', [[202, ""]]),
        ("stream", PRELUDE + b"one two", [[202, ""]]),
        ("error", b'{"errorMessage":"m","errorType":"T"}', [[202, ""]]),
        ("twice", b'"once"', [[202, ""], [403, "InvalidStateTransition"]]),
        ("error after", b'"once"', [[202, ""], [403, "InvalidStateTransition"]]),
        ("unknown id", b'"known"', [[400, "InvalidRequestID"], [202, ""]]),
    ],
)
async def test_both_say_the_same(ask: Ask, what: str, invoker: bytes, runtime: Any) -> None:
    assert await ask(what) == invoker
    assert await seen(ask) == runtime
    assert await ask("go on") == b'{"do": "go on"}'


async def test_both_tell_of_an_invocation_what_a_runtime_needs(ask: Ask) -> None:
    told = json.loads(await ask("report"))["told"]
    assert len(told["lambda-runtime-aws-request-id"]) == 36
    assert int(told["lambda-runtime-deadline-ms"]) > 1_700_000_000_000
    assert told["lambda-runtime-invoked-function-arn"].startswith("arn:aws:lambda:")


async def test_neither_takes_a_mode_it_does_not_know(ask: Ask) -> None:
    """The emulator ends a runtime that names one, the stand-in refuses it: no answer comes through either."""
    if ask.__name__ == "emulated":
        assert await ask("bad mode") == b""
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await ask("bad mode")
