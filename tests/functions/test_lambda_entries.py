"""The entries of the two doors on Lambda: an event of API Gateway in, its answer out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import admin_lambda
import auth_lambda


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    """Mangum takes the thread's event loop, as it finds it on Lambda; here it is closed afterwards."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.set_event_loop(None)


def event(path: str) -> dict[str, Any]:
    """What a REST API's proxy integration hands on, as far as it matters here."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "GET",
        "headers": {"Host": "gateway.test", "Accept": "*/*"},
        "multiValueHeaders": {"Host": ["gateway.test"], "Accept": ["*/*"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"httpMethod": "GET", "path": f"/prod{path}", "stage": "prod", "requestId": "1"},
        "body": None,
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    ("door", "path"), [(admin_lambda, "/api/admin/users"), (auth_lambda, "/api/v1/users/me")], ids=["admin", "auth"]
)
def test_an_event_reaches_the_door_again_and_again(door: Any, path: str) -> None:
    for _ in range(2):
        answer = door.handler(event(path), None)
        assert answer["statusCode"] == 401
        assert json.loads(answer["body"])["error"]["code"] == "missing_api_key"


def test_the_documentation_comes_through_as_text() -> None:
    answer = admin_lambda.handler(event("/api/admin/docs"), None)
    assert answer["statusCode"] == 200
    assert answer["isBase64Encoded"] is False
    assert "openapi.json" in answer["body"]
