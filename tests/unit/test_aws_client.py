"""The relay's own AWS client: signatures as botocore makes them, and a server that refuses, throttles, breaks and answers."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpcore
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EndpointConnectionError

from sluice import aws
from sluice.aws import AwsClient
from sluice.settings import AwsEnvironment
from sluice.types import Secret

NOW = 1_795_000_000.0
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "token/of+a=session"

OK = (200, {"Item": {"a": {"S": "x"}, "b": {"B": "AAEC"}}})
BUSY = (400, {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "slow"})
DOWN = (500, {"__type": "com.amazon.coral.service#InternalServerError", "message": "oops"})
REFUSED = (
    400,
    {
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "message": "The conditional request failed",
        "Item": {"holds": {"M": {}}},
    },
)
BROKEN = (0, None)


class Scripted(HTTPServer):
    """Answers one after the other; (0, None) closes the connection without one."""

    answers: list[tuple[int, Any]]
    seen: list[tuple[dict[str, str], bytes]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status, answer = self.server.answers.pop(0)
        if not status:
            self.close_connection = True
            return
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def scripted(*answers: tuple[int, Any]) -> Iterator[tuple[AwsClient, Scripted, list[float]]]:
    server = Scripted(("127.0.0.1", 0), Handler)
    server.answers, server.seen = list(answers), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    waits: list[float] = []
    made = client(f"http://127.0.0.1:{server.server_port}", sleep=waits.append)
    try:
        yield made, server, waits
    finally:
        made.close()
        server.shutdown()
        thread.join()
        server.server_close()


def client(endpoint: str, service: str = "dynamodb", **more: Any) -> AwsClient:
    environment = AwsEnvironment("eu-central-1", KEY, Secret(SECRET), Secret(TOKEN), endpoint)
    return AwsClient(service, environment, clock=lambda: NOW, rng=random.Random(1), **more)


@pytest.mark.parametrize("service", ["dynamodb", "kms"])
def test_the_signature_is_botocores(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = client(f"https://{service}.eu-central-1.amazonaws.com", service)
    body = b'{"TableName":"t"}'
    signed = own._signed("Target.Operation", body)
    given = {name: value for name, value in signed.items() if name in ("x-amz-target", "host", "content-type")}
    reference = AWSRequest("POST", f"https://{service}.eu-central-1.amazonaws.com/", data=body, headers=given)

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(NOW, UTC)

        @classmethod
        def utcnow(cls) -> datetime:
            return datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)

    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: Frozen.utcnow(), raising=False)
    SigV4Auth(Credentials(KEY, SECRET, TOKEN), service, "eu-central-1").add_auth(reference)
    assert reference.headers["X-Amz-Date"] == signed["x-amz-date"]
    assert reference.headers["Authorization"] == signed["authorization"]
    own.close()


def test_an_answer_is_read_with_its_blobs_as_bytes() -> None:
    with scripted(OK) as (dynamodb, server, _):
        answer = dynamodb.get_item(TableName="t", Key={"pk": {"B": b"\x00\x01\x02"}})
    assert answer["Item"] == {"a": {"S": "x"}, "b": {"B": b"\x00\x01\x02"}}
    headers, body = server.seen[0]
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert json.loads(body) == {"TableName": "t", "Key": {"pk": {"B": "AAEC"}}}


def test_throttles_server_errors_and_broken_connections_are_tried_again() -> None:
    with scripted(BUSY, DOWN, BROKEN, OK) as (dynamodb, server, waits):
        assert "Item" in dynamodb.get_item(TableName="t")
    assert len(server.seen) == 4
    assert len(waits) == 3
    assert all(0.025 <= wait <= 0.3 for wait in waits)


def test_a_failed_condition_is_not_tried_again_and_brings_the_old_item() -> None:
    with scripted(REFUSED) as (dynamodb, server, _):
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as met:
            dynamodb.update_item(TableName="t")
        assert len(server.seen) == 1
    assert isinstance(met.value, ClientError)
    assert met.value.response["Item"] == {"holds": {"M": {}}}
    assert met.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert met.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_what_does_not_end_is_said_after_the_last_try() -> None:
    with scripted(*[BUSY] * 4) as (dynamodb, _, __), pytest.raises(ClientError, match="slow"):
        dynamodb.get_item(TableName="t")
    with scripted(*[BROKEN] * 4) as (dynamodb, _, __), pytest.raises(EndpointConnectionError) as met:
        dynamodb.get_item(TableName="t")
    assert SECRET not in str(met.value)


def test_a_service_that_is_silent_is_waited_for_twice() -> None:
    waits: list[float] = []
    # The kernel takes the connections and nobody answers: a process that hangs, or was stopped.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        own = client(f"http://127.0.0.1:{silent.getsockname()[1]}", silence=0.1, sleep=waits.append)
        began = time.monotonic()
        with pytest.raises(EndpointConnectionError):
            own.get_item(TableName="t")
        assert 0.2 <= time.monotonic() - began < 1
        own.close()
        asked = [silent.accept()[0] for _ in range(2)]
        with pytest.raises(BlockingIOError):
            silent.accept()
        for connection in asked:
            connection.close()
    assert len(waits) == 1


def test_a_silence_among_quick_failures_uses_up_two_tries() -> None:
    with scripted(BROKEN, DOWN) as (dynamodb, server, waits), pytest.raises(EndpointConnectionError):
        sent = dynamodb._send

        def then_silent(*given: Any) -> Any:
            if len(server.seen) == 2:
                raise httpcore.ReadTimeout
            return sent(*given)

        dynamodb._send = then_silent  # type: ignore[method-assign]
        dynamodb.get_item(TableName="t")
    assert len(server.seen) == len(waits) == 2


def test_pages_are_followed() -> None:
    pages = [(200, {"Items": [1], "LastEvaluatedKey": {"pk": {"S": "a"}}}), (200, {"Items": [2]})]
    with scripted(*pages) as (dynamodb, server, _):
        found = [page["Items"] for page in dynamodb.get_paginator("query").paginate(TableName="t")]
    assert found == [[1], [2]]
    assert json.loads(server.seen[1][1])["ExclusiveStartKey"] == {"pk": {"S": "a"}}


def test_the_address_is_the_regions() -> None:
    assert aws._endpoint("kms", "eu-west-1") == "https://kms.eu-west-1.amazonaws.com"
    assert aws._endpoint("dynamodb", "cn-north-1") == "https://dynamodb.cn-north-1.amazonaws.com.cn"
