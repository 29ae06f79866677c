"""An app that says what it was asked, for asking what a host does to requests and answers. run.sh finds it by LAMBDA_TASK_ROOT."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs


def create_app() -> Any:
    return app


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message.get("body", b"")
    asked = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    status = int(asked.get("status", "200"))
    headers = [(b"x-many", b"one"), (b"x-many", b"two"), (b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2")]
    headers.append((b"x-long", b"l" * int(asked.get("long", "1"))))
    if "fail" in asked:
        raise RuntimeError("before the answer began")
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for _ in range(int(asked.get("pieces", "0"))):
        await send({"type": "http.response.body", "body": bytes(range(256)) * 4, "more_body": True})
    if "break" in asked:
        raise RuntimeError("in the middle of the answer")
    last = b"" if "empty" in asked else _seen(scope, body)
    await send({"type": "http.response.body", "body": last})


def _seen(scope: Any, body: bytes) -> bytes:
    return json.dumps(
        {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "length": len(body),
            "sha256": sha256(body).hexdigest(),
        }
    ).encode()
