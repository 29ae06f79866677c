"""What an environment builds once."""

from __future__ import annotations

import ssl

import pytest

from sluice import wiring
from sluice.settings import AwsEnvironment, Settings
from sluice.types import Secret


def test_the_trust_store_is_loaded_once_for_aws_and_for_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        loaded.append(load())
        return loaded[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    clients = wiring.Clients(Settings(), AwsEnvironment("eu-west-1", "AKIA", Secret("s")))
    relay = wiring.build_relay(Settings(), clients)
    assert clients.kms() is not clients.dynamodb
    for proxy in ("", "http://127.0.0.1:1"):
        assert relay.deps.upstream._pool(proxy)._ssl_context is loaded[0]
    assert len(loaded) == 1
    assert clients.trust().verify_mode is ssl.CERT_REQUIRED
    clients.close()


def test_where_the_system_has_no_trust_store_certifi_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert wiring.Clients(Settings(), AwsEnvironment("eu-west-1")).trust().cert_store_stats()["x509_ca"] > 50
