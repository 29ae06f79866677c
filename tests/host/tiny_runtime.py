"""A runtime of a few lines that does what an event says and reports what the Runtime API answered it: what test_runtime_api.py asks
both the stand-in and AWS's emulator with."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any

PRELUDE = b'{"statusCode":201,"headers":{"x-a":"b"}}' + bytes(8)
STREAMING = {
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}
ROOT = "/2018-06-01/runtime/invocation/"


class Runtime:
    def __init__(self) -> None:
        self.connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        self.seen: list[Any] = []

    def run(self) -> None:
        while True:
            _, headers, body = self.call("GET", "next")
            lower = {name.lower(): value for name, value in headers}
            self.handle(json.loads(body), lower["lambda-runtime-aws-request-id"], lower)

    def handle(self, event: dict[str, Any], request_id: str, headers: dict[str, str]) -> None:
        answer = f"{request_id}/response"
        match event["do"]:
            case "report":
                told = {name: headers[name] for name in headers if name.startswith("lambda-runtime-")}
                self.call("POST", answer, json.dumps({"seen": self.seen, "told": told}).encode())
                self.seen = []
                return
            case "stream":
                self.note("POST", answer, [PRELUDE, b"one ", b"two"], STREAMING)
            case "twice":
                self.note("POST", answer, b'"once"')
                self.note("POST", answer, b'"again"')
            case "error":
                self.note("POST", f"{request_id}/error", b'{"errorMessage":"m","errorType":"T"}')
            case "error after":
                self.note("POST", answer, b'"once"')
                self.note("POST", f"{request_id}/error", b'{"errorMessage":"m","errorType":"T"}')
            case "unknown id":
                self.note("POST", "nobody/response", b'"x"')
                self.note("POST", answer, b'"known"')
            case "bad mode":
                self.note("POST", answer, b'"x"', {"Lambda-Runtime-Function-Response-Mode": "streamed"})
            case _:
                self.note("POST", answer, json.dumps(event).encode())

    def note(self, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
        status, _, said = self.call(method, path, body, headers)
        self.seen.append([status, json.loads(said).get("errorType", "") if said else ""])

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        chunked = isinstance(body, list)
        self.connection.request(
            method, ROOT + path, iter(body) if chunked else body, headers or {}, encode_chunked=chunked
        )
        response = self.connection.getresponse()
        return response.status, response.getheaders(), response.read()


if __name__ == "__main__":
    Runtime().run()
