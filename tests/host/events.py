"""Events as a REST API's proxy integration makes them (payload version 1.0), and what its answers are made of."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

Headers = Sequence[tuple[str, str]]


def request(
    method: str, target: str, headers: Headers = (), body: bytes = b"", *, base64d: bool = False
) -> dict[str, Any]:
    """`base64d` as API Gateway does for the binary media types: forms, in our template."""
    path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
    many: dict[str, list[str]] = {}
    for name, value in [("Host", "abc.execute-api.us-east-1.amazonaws.com"), *headers]:
        many.setdefault(name, []).append(value)
    return {
        "resource": "/v1/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in many.items()},
        "multiValueHeaders": many,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.removeprefix("/v1/")},
        "stageVariables": None,
        "requestContext": _context(method, path),
        "body": _text(body, base64d) if body else None,
        "isBase64Encoded": base64d,
    }


def post(path: str, key: str, body: Any, *more: tuple[str, str]) -> dict[str, Any]:
    headers = [("authorization", f"Bearer {key}"), ("content-type", "application/json"), *more]
    return request("POST", path, headers, json.dumps(body).encode())


def _text(body: bytes, base64d: bool) -> str:
    return base64.b64encode(body).decode() if base64d else body.decode()


def _context(method: str, path: str) -> dict[str, Any]:
    return {
        "accountId": "123456789012",
        "apiId": "abc",
        "domainName": "abc.execute-api.us-east-1.amazonaws.com",
        "httpMethod": method,
        "identity": {"sourceIp": "203.0.113.7", "userAgent": "test"},
        "path": f"/live{path}",
        "protocol": "HTTP/1.1",
        "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        "requestTime": "26/Nov/2026:10:00:00 +0000",
        "requestTimeEpoch": 1795687200000,
        "resourceId": "0vi2z8",
        "resourcePath": "/v1/{proxy+}",
        "stage": "live",
    }
