"""What stands before an ElastiCache Serverless: a door that lets in who brings a token signed by IAM, as AWS's own code signs it."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import botocore.session
import pytest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from sluice.adapters._sigv4 import Credentials

_EVENTS = botocore.session.get_session().get_component("event_emitter")


def official_token(cache: str, user: str, region: str, credentials: Credentials, now: float) -> str:
    """What botocore's presigner makes of the same: the form of AWS's guide, "Authenticating with IAM"."""
    theirs = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.session_token or None)
    signer = RequestSigner(ServiceId("elasticache"), region, "elasticache", "v4", theirs, _EVENTS)
    url = f"https://{cache}/?Action=connect&User={user}&ResourceType=ServerlessCache"
    request: dict[str, Any] = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.fromtimestamp(now, UTC))
        signed: str = signer.generate_presigned_url(request, "connect", expires_in=900, region_name=region)
    return signed.removeprefix("https://")


class IamGate:
    """A server on loopback that takes AUTH, looks at the token, and hands everything after it to a real Valkey as `password`'s user.

    `presented` are the tokens so far. `stalls` makes it take connections and say nothing.
    """

    def __init__(
        self, cache: str, user: str, region: str, credentials: Credentials, clock: Callable[[], float], valkey_port: int
    ) -> None:
        self._who = (cache, user, region, credentials)
        self._user = user
        self._clock = clock
        self._valkey_port = valkey_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.presented: list[str] = []
        self.connections = 0
        self.stalls = False
        self.tls: list[str] = []
        self.port = 0

    async def start(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drop(self) -> None:
        """Ends every connection, as ElastiCache does after 12 hours."""
        for writer in list(self._open):
            writer.close()
        while self._open:
            await asyncio.sleep(0)

    def admits(self, user: str, token: str) -> bool:
        """As the service would: signed by us, for this cache and user, and of this time."""
        (at,) = parse_qs(urlsplit(f"http://{token}").query).get("X-Amz-Date", [""])
        with suppress(ValueError):
            signed = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
            fresh = signed <= self._clock() < signed + 900
            return user == self._user and fresh and hmac.compare_digest(token, official_token(*self._who, signed))
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if spoken := writer.get_extra_info("ssl_object"):
            self.tls.append(spoken.version())
        try:
            await self._let_in(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            command = await _command(reader)
            if self.stalls:
                await reader.read()
                return
            if command[0].upper() != "AUTH":
                writer.write(b"-NOAUTH Authentication required.\r\n")
                continue
            self.presented.append(command[2])
            if self.admits(command[1], command[2]):
                break
            writer.write(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._valkey_port)
        self._open.add(inner)
        try:
            inner.write(_packed("AUTH", self._user, "inner"))
            writer.write(await inner_reader.readuntil(b"\r\n"))
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, inner)), asyncio.create_task(_pump(inner_reader, writer))]
            )
        finally:
            self._open.discard(inner)
            inner.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
    writer.close()


async def _command(reader: asyncio.StreamReader) -> list[str]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2].decode())
    return words


def _packed(*words: str) -> bytes:
    return b"".join((f"*{len(words)}\r\n".encode(), *(f"${len(one)}\r\n{one}\r\n".encode() for one in words)))
