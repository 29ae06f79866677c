"""Level 2: the client of a Valkey: its certificate checked, and with ElastiCache a token signed by IAM for a password.

Importing this file loads the client, which costs more than the rest of the cache: whoever needs it imports it then.

One plain client, also for ElastiCache Serverless, which speaks the cluster protocol: docs/decisions/2026-11-26-valkey-client.md.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from valkey.asyncio import Valkey
from valkey.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from valkey.credentials import CredentialProvider
from valkey.exceptions import AuthenticationError

from sluice.adapters._sigv4 import Credentials, presigned

_CONNECT_SECONDS = 2.0
"""TCP, TLS and the password. Nobody waits for it: marks are read and written off the way of a request."""
_ANSWER_SECONDS = 1.0
_TOKEN_SECONDS = 900
"""As long as ElastiCache takes one; a connection that it let in outlives its token, by up to 12 hours."""


class IamTokens(CredentialProvider):
    """Signs a token for each connection that is made, so that none is ever stale.

    `cache` is the name of the serverless cache, not its address. `credentials` is asked each time: those of a server's role
    change while it runs. Where it raises OSError, the connection is refused as with a wrong password.
    """

    def __init__(
        self, cache: str, user: str, region: str, credentials: Callable[[], Credentials], clock: Callable[[], float]
    ) -> None:
        self._cache = cache
        self._user = user
        self._region = region
        self._credentials = credentials
        self._clock = clock

    def get_credentials(self) -> tuple[str, str]:
        try:
            credentials = self._credentials()
        except OSError as error:
            raise AuthenticationError(str(error)) from error
        return self._user, iam_token(self._cache, self._user, self._region, credentials, self._clock())


def iam_token(cache: str, user: str, region: str, credentials: Credentials, now: float) -> str:
    """What ElastiCache takes for the password of an IAM user: a signed `connect` to the cache, without its scheme.

    Source: "Authenticating with IAM" in the ElastiCache user guide. `now` is in epoch seconds.
    """
    query = urlencode({"Action": "connect", "User": user, "ResourceType": "ServerlessCache"})
    # ElastiCache keeps names in lower case, whatever they were given in, and signs by what it keeps.
    address = f"http://{cache.lower()}/?{query}"
    signed = presigned(
        address, credentials=credentials, region=region, service="elasticache", now=now, seconds=_TOKEN_SECONDS
    )
    return signed.removeprefix("http://")


class TrustingConnection(SSLConnection):
    """The library reads the trust store for each connection; here it is read once, and the host's name is checked."""

    def __init__(self, trust: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = trust


def connect(url: str, trust: Callable[[], ssl.SSLContext], tokens: CredentialProvider | None = None) -> Valkey:
    """A client of `valkey://host:port` or, with TLS, `valkeys://`. Nothing is sent yet.

    `trust` gives what its certificate is judged by; `?ssl_ca_certs=FILE` in the address names who vouches for the server where
    the system's authorities do not. Raises ValueError on an address it cannot read.
    """
    arguments = {
        **parse_url(url),
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _ANSWER_SECONDS,
        "credential_provider": tokens,
        # What the library would say of itself takes a right more, and two answers more on each connection.
        "lib_name": None,
        "lib_version": None,
    }
    if arguments.get("connection_class") is SSLConnection:
        authorities = arguments.pop("ssl_ca_certs", None)
        judged_by = ssl.create_default_context(cafile=authorities) if authorities else trust()
        arguments |= {"connection_class": TrustingConnection, "trust": judged_by}
    return Valkey.from_pool(ConnectionPool(**arguments))
