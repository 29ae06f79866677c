"""A forwarder on loopback that notes each HTTP request going through it: what the relay asks, and in which order.

From outside, so that the relay under it is the one that ships. One thread per direction of a connection.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httptools

Label = Callable[[str, dict[str, str], bytes], str]
"""(path, headers, body) of a request -> the name it is noted under."""


def aws_call(path: str, headers: dict[str, str], body: bytes) -> str:
    """`UpdateItem sluice-ledger`: what DynamoDB and KMS name in a header, and the table where there is one."""
    operation = headers.get("x-amz-target", path).rpartition(".")[2]
    table = json.loads(body or b"{}").get("TableName", "")
    return f"{operation} {table}".strip()


class Tap:
    """Listens on `url` and forwards to `target`; adds to `notes`, which two taps may share, as requests are complete."""

    def __init__(self, target: str, notes: list[str], label: Label) -> None:
        address = urlsplit(target)
        self._target = (str(address.hostname), address.port or 80)
        self._notes, self._label = notes, label
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._target)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                reader = httptools.HttpRequestParser(_Reader(self._notes, self._label))
                threading.Thread(target=_pour, args=(client, server, reader.feed_data), daemon=True).start()
                threading.Thread(target=_pour, args=(server, client, lambda _: None), daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket, see: Callable[[bytes], object]) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            # Seen before it is sent: the answer, and what the relay does next, cannot overtake the note.
            see(data)
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class _Reader:
    """What httptools calls for each request of one connection."""

    def __init__(self, notes: list[str], label: Label) -> None:
        self._notes, self._label = notes, label

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", dict[str, str](), b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._notes.append(self._label(self._url.decode("latin-1"), self._headers, self._body))
