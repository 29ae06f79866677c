"""What every test stands on: dummy credentials, no way out but loopback, and an ear for every log line."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from sluice import signals
from tests.emf import Told

pytest_plugins = ["tests.canary"]

settings.register_profile("sluice", deadline=None, max_examples=100)
settings.load_profile("sluice")

for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(autouse=True)
def _no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for another machine fails, and says which."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
            raise AssertionError(f"a test reached for {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _every_log_is_heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that builds a real door starts its logging: it ends with the test, or `caplog` would hear no other."""
    logger = logging.getLogger("sluice")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    logger.setLevel(logging.DEBUG)
    yield
    for one in (logger, signals.log):
        one.setLevel(logging.NOTSET)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The lines that carry metrics, as they are written."""
    heard = Told()
    monkeypatch.setattr(signals.log, "handlers", [heard])
    return heard
