"""What stands between Lambda and an app does to requests and answers: the adapter, and the loop that was tried beside it.

Asked with an app that says what it was asked (echo/relay_lambda.py), started by the relay's own run.sh.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.host import hosts
from tests.host.events import request
from tests.host.hosts import ECHO, Environment
from tests.host.runtime_api import DELIMITER, PRELUDE_TYPE

HOSTS: dict[str, Callable[..., AbstractAsyncContextManager[Environment]]] = {
    "adapter": hosts.behind_adapter,
    "loop": hosts.behind_loop,
}
EITHER = [pytest.param("adapter", marks=pytest.mark.host), "loop"]


@pytest.fixture
async def echo(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Environment]:
    async with HOSTS[request.param](ECHO, tmp_path / "host.log") as environment:
        yield environment


either = pytest.mark.parametrize("echo", EITHER, indirect=True)
adapter = pytest.mark.parametrize("echo", EITHER[:1], indirect=True)
loop = pytest.mark.parametrize("echo", EITHER[1:], indirect=True)


async def asked(echo: Environment, event: dict[str, Any]) -> Any:
    """What the app saw of `event`."""
    answer = await echo.api.invoke(event).whole()
    assert answer.error is None
    return json.loads(answer.body)


@either
async def test_an_answer_is_a_prelude_eight_nuls_and_its_body(echo: Environment) -> None:
    answer = await echo.api.invoke(request("GET", "/v1/x?status=418&long=9000")).whole()
    assert answer.headers["content-type"] == PRELUDE_TYPE
    assert answer.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert answer.headers["trailer"].startswith("Lambda-Runtime-Function-Error-Type")
    assert answer.raw.index(DELIMITER) < 16_000
    assert answer.status == 418
    assert answer.prelude["headers"]["x-long"] == "l" * 9000
    assert answer.prelude["cookies"] == ["a=1; Path=/", "b=2"]
    assert "set-cookie" not in answer.prelude["headers"]
    assert answer.trailers == {}


@either
async def test_a_request_comes_through(echo: Environment) -> None:
    seen = await asked(echo, request("GET", "/v1/models/a%2Fb?include=a&include=b%20c", [("X-Name", "v")]))
    assert (seen["method"], seen["query"].replace("%20", "+")) == ("GET", "include=a&include=b+c")
    assert seen["path"] in ("/v1/models/a/b", "/v1/models/a%2Fb")
    assert ["x-name", "v"] in seen["headers"]


@either
async def test_a_form_of_bytes_comes_through_as_it_was(echo: Environment) -> None:
    body = b"--edge\r\n" + bytes(range(256)) * 5000 + b"\r\n--edge--"
    told = [("content-type", "multipart/form-data; boundary=edge")]
    seen = await asked(echo, request("POST", "/v1/audio/transcriptions", told, body, base64d=True))
    assert (seen["length"], seen["sha256"]) == (len(body), sha256(body).hexdigest())


@either
async def test_text_beyond_ascii_comes_through(echo: Environment) -> None:
    body = '{"content":"Grüße 你好 🚀"}'.encode()
    seen = await asked(echo, request("POST", "/v1/x", [("content-type", "application/json")], body))
    assert seen["sha256"] == sha256(body).hexdigest()


@either
async def test_bytes_go_out_as_they_were(echo: Environment) -> None:
    answer = await echo.api.invoke(request("GET", "/v1/x?pieces=50&empty=1")).whole()
    assert answer.body == bytes(range(256)) * 200


@either
async def test_the_hosts_own_word_on_the_deadline_replaces_a_clients(echo: Environment) -> None:
    mine = [("x-amzn-lambda-context", '{"deadline":1}'), ("X-Amzn-Lambda-Context", '{"deadline":2}')]
    invocation = echo.api.invoke(request("GET", "/v1/x", mine), 77)
    headers = json.loads((await invocation.whole()).body)["headers"]
    told = [json.loads(value) for name, value in headers if name == "x-amzn-lambda-context"]
    assert [one["deadline"] for one in told] == [int(invocation.deadline * 1000)]


@either
async def test_one_environment_answers_one_after_the_other(echo: Environment) -> None:
    for number in range(20):
        assert (await asked(echo, request("GET", f"/v1/{number}")))["path"] == f"/v1/{number}"


# --- where the two differ: docs/decisions/2026-11-26-streaming-host.md ---

BODILESS = [("HEAD", "/v1/x"), ("GET", "/v1/x?status=204&empty=1"), ("GET", "/v1/x?empty=1")]


@adapter
@pytest.mark.parametrize(("method", "target"), BODILESS)
async def test_the_adapter_sends_no_byte_for_an_empty_body(echo: Environment, method: str, target: str) -> None:
    """A client behind API Gateway may wait for one: so no route of the relay may answer with nothing, and HEAD does not reach it."""
    answer = await echo.api.invoke(request(method, target)).whole()
    assert answer.raw.endswith(DELIMITER)


@loop
@pytest.mark.parametrize(("method", "target"), BODILESS)
async def test_the_loop_sends_at_least_one_byte(echo: Environment, method: str, target: str) -> None:
    assert len((await echo.api.invoke(request(method, target)).whole()).body) >= 1


@adapter
async def test_the_adapter_writes_the_failure_into_the_body(echo: Environment) -> None:
    """So a stream of ours never breaks off where it has words for an error."""
    answer = await echo.api.invoke(request("GET", "/v1/x?pieces=2&break=1")).whole()
    assert answer.trailers == {}
    assert answer.body[2048:].startswith(b"Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\n")


@loop
async def test_the_loop_tells_a_failure_in_trailers(echo: Environment) -> None:
    answer = await echo.api.invoke(request("GET", "/v1/x?pieces=2&break=1")).whole()
    assert answer.trailers["lambda-runtime-function-error-type"] == "Runtime.StreamError"
    assert len(answer.body) == 2048
    assert (await asked(echo, request("GET", "/v1/x")))["path"] == "/v1/x"


@loop
async def test_the_loop_tells_an_error_before_the_answer_and_echoes_the_invocation(echo: Environment) -> None:
    failed = await echo.api.invoke(request("GET", "/v1/x?fail=1")).whole()
    assert failed.error is not None
    assert (failed.error["errorType"], failed.raw) == ("RuntimeError", b"")
    answer = await echo.api.invoke(request("GET", "/v1/x")).whole()
    assert answer.headers["lambda-runtime-invocation-id"] == answer.invocation_id


@loop
async def test_the_loop_goes_on_after_an_answer_that_came_too_late(echo: Environment) -> None:
    stale = echo.api.invoke(request("GET", "/v1/x"))
    stale.is_stale = True
    assert (await asked(echo, request("GET", "/v1/next")))["path"] == "/v1/next"
    assert stale.raw == b""


@loop
async def test_the_loop_tells_an_event_that_is_no_request(echo: Environment) -> None:
    odd = await echo.api.invoke({"task": "warm up"}).whole()
    assert odd.error is not None
    assert odd.error["errorType"] == "KeyError"
    assert (await asked(echo, request("GET", "/v1/x")))["path"] == "/v1/x"


@pytest.mark.parametrize("code", ["raise RuntimeError('secret')", "def create_app(): raise RuntimeError('secret')"])
async def test_the_loop_tells_an_app_that_does_not_start(tmp_path: Path, code: str) -> None:
    (tmp_path / "relay_lambda.py").write_text(code)
    async with hosts.behind_loop(tmp_path, tmp_path / "host.log", waits=False) as environment:
        assert await environment.app_ended() == 1
        assert environment.api.init_error is not None
        assert environment.api.init_error["errorType"] == "RuntimeError"
        assert not environment.api.ready.is_set()


@adapter
async def test_the_adapter_passes_the_last_of_headers_of_one_name(echo: Environment) -> None:
    seen = await asked(echo, request("GET", "/v1/x", [("x-name", "one"), ("x-name", "two")]))
    assert [value for name, value in seen["headers"] if name == "x-name"] == ["two"]


@loop
async def test_the_loop_passes_all_headers_of_one_name(echo: Environment) -> None:
    seen = await asked(echo, request("GET", "/v1/x", [("x-name", "one"), ("x-name", "two")]))
    assert [value for name, value in seen["headers"] if name == "x-name"] == ["one", "two"]
