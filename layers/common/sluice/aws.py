"""Level 2: AWS's JSON protocol (DynamoDB, KMS) with the faces of a botocore client: same method names, same exceptions.

botocore knows every service; loading it is more than half of the relay's start, and a call through it costs more than the rest of
a hold. What the way of a request needs of it is one signed POST. Wire facts: botocore's data/dynamodb and data/kms service-2.json
(protocol "json"), and AWS's Signature Version 4. docs/decisions/2026-11-21-aws-wire.md has the numbers.
"""

from __future__ import annotations

import json
import logging
import random
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import httpcore
import orjson
from botocore.exceptions import ClientError, EndpointConnectionError

from sluice.adapters._sigv4 import Credentials, signed
from sluice.settings import AwsEnvironment

log = logging.getLogger(__name__)

_PROTOCOLS = {"dynamodb": ("DynamoDB_20120810", "1.0"), "kms": ("TrentService", "1.1")}
_BLOBS = frozenset({"B", "Plaintext", "CiphertextBlob"})
_THROTTLED = frozenset(
    {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "ThrottledException"}
)
_TRIES = 4
_TIMED_OUT_COUNTS = 2
"""How many tries one that ran out of time counts: whoever does not answer twice is waited for twice, not four times."""
SILENCE_SECONDS = 2.0
"""A hundred times what these services take; a request waits for two of it before it hears of an outage."""
_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


class Exceptions:
    """`client.exceptions.<Code>`: a subclass of ClientError per error code, made when first named."""

    def __init__(self) -> None:
        self._kinds: dict[str, type[ClientError]] = {}

    def __getattr__(self, code: str) -> type[ClientError]:
        if code.startswith("_"):
            raise AttributeError(code)
        return self._kinds.setdefault(code, type(code, (ClientError,), {}))


class Paginator:
    """What botocore's paginator is for a query: its pages."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        while True:
            page = self._call(**arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


class AwsClient:
    """`client.update_item(**arguments)` for any operation of the service. Threads may share it.

    Raises ClientError (or its kind by code) when AWS refuses, EndpointConnectionError when it does not answer. Both only
    after throttles, 5xx and broken connections were tried again: every call of ours may be sent twice. `silence`, in
    seconds, is the longest wait for any part of one try's answer. `trust` gives what its certificate is judged by.
    """

    def __init__(
        self,
        service: str,
        environment: AwsEnvironment,
        *,
        connections: int = 32,
        silence: float = SILENCE_SECONDS,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._service = service
        self._environment = environment
        self._timeouts = {"timeout": dict.fromkeys(("connect", "pool", "read", "write"), silence)}
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._url = environment.endpoint or _endpoint(service, environment.region)
        self._target, self._version = _PROTOCOLS[service]
        self._pool = httpcore.ConnectionPool(
            ssl_context=trust() if self._url.startswith("https:") else None,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=60,
        )
        self.exceptions = Exceptions()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, "".join(word.capitalize() for word in name.split("_")))

    def get_paginator(self, name: str) -> Paginator:
        return Paginator(getattr(self, name))

    def close(self) -> None:
        self._pool.close()

    def call(self, operation: str, **arguments: Any) -> Any:
        body = orjson.dumps(arguments, default=_blob)
        left = _TRIES
        while True:
            try:
                status, answer = self._send(operation, body)
            except _FAILURES as error:
                left -= _TIMED_OUT_COUNTS if isinstance(error, httpcore.TimeoutException) else 1
                if left <= 0:
                    raise EndpointConnectionError(endpoint_url=self._url) from error
            else:
                if status == 200:
                    return answer
                left -= 1
                code = str(answer.get("__type", status)).rpartition("#")[2]
                if left <= 0 or not (status >= 500 or code in _THROTTLED):
                    raise self._refused(operation, status, code, answer)
            self._sleep(0.05 * 2 ** (_TRIES - 1 - left) * (0.5 + self._rng.random()))

    def _send(self, operation: str, body: bytes) -> tuple[int, Any]:
        headers = list(self._signed(f"{self._target}.{operation}", body).items())
        answer = self._pool.request("POST", self._url, headers=headers, content=body, extensions=self._timeouts)
        return answer.status, _read(answer.content)

    def _refused(self, operation: str, status: int, code: str, answer: Mapping[str, Any]) -> ClientError:
        message = str(answer.get("message") or answer.get("Message") or "")
        rest = {name: value for name, value in answer.items() if name not in ("__type", "message", "Message")}
        response: Any = {
            **rest,
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        kind: type[ClientError] = getattr(self.exceptions, code) if code.isidentifier() else ClientError
        return kind(response, operation)

    def _signed(self, target: str, body: bytes) -> dict[str, str]:
        environment = self._environment
        credentials = Credentials(
            environment.access_key, environment.secret_key.reveal(), environment.session_token.reveal()
        )
        headers = {"content-type": f"application/x-amz-json-{self._version}", "x-amz-target": target}
        signed_headers = signed(
            "POST",
            self._url,
            headers,
            body,
            credentials=credentials,
            region=environment.region,
            service=self._service,
            now=self._clock(),
        )
        return {**signed_headers, "content-length": str(len(body))}


def _endpoint(service: str, region: str) -> str:
    return f"https://{service}.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _blob(value: Any) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in a request")


def _read(body: bytes) -> Any:
    """An answer's JSON with its blobs as bytes. Most have none, and are read the fast way."""
    try:
        if any(f'"{name}":'.encode() in body for name in _BLOBS):
            return json.loads(body, object_hook=_with_bytes)
        return orjson.loads(body) if body else {}
    except ValueError:
        return {"message": "the answer is no JSON"}


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    return {name: b64decode(one) if name in _BLOBS and isinstance(one, str) else one for name, one in value.items()}
