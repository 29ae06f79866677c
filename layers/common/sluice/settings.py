"""Level 0: the only reader of the environment. Every field here is declared in template.yaml (a test holds that)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sluice.types import Secret


@dataclass(frozen=True, slots=True)
class Settings:
    """Configuration of one environment. Seconds and tokens as plain numbers; tables by name."""

    prefix: str = "sluice"
    """The environment's name, and the first part of every other; metrics are told apart by it."""
    accounts_table: str = "sluice-accounts"
    ledger_table: str = "sluice-ledger"
    catalog_table: str = "sluice-catalog"
    conversations_table: str = "sluice-conversations"
    vault_key_id: str = "alias/sluice-vault"
    valkey_url: str = ""
    """`valkey://host:port` or `valkeys://` with TLS, a Valkey 9; empty: no shared cache, marks stay in the process."""
    valkey_cache: str = ""
    """The name of the ElastiCache Serverless cache behind `valkey_url`, for which IAM tokens are signed; empty: none are."""
    valkey_user: str = "default.iam-user"
    """Who the tokens are for: an ElastiCache user that IAM vouches for. Without `valkey_cache` it says nothing."""
    default_max_tokens: int = 4096
    """Output tokens held for when neither the request nor the model's price row says a cap."""
    hold_seconds: int = 1200
    """How long a hold lives: longer than the longest request (900 s), so that only a killed process leaves one."""
    kept_seconds: int = 30 * 24 * 3600
    """How long an answer is kept that a client wants to go on from."""
    catalog_poll_seconds: float = 2.0
    identity_ttl_seconds: float = 5.0
    heartbeat_seconds: float = 15.0
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 120.0
    """The longest silence of a provider before the attempt counts as timed out."""
    first_content_seconds: float = 300.0
    """How long a stream may bring no content before the next channel is asked, whatever keeps it alive."""
    drain_seconds: float = 120.0
    """How long the reader goes on for the usage event after the client has left."""
    deadline_header: str = ""
    """The header in which the host says when it ends a request (AWS's adapter: `x-amzn-lambda-context`). Only where the host
    overwrites what a client sent under that name; empty: there is no such host, and no client can set a deadline."""
    deadline_margin_seconds: float = 10.0
    """How long before that an answer is ended, so that it is settled and its last word sent."""
    max_body_bytes: int = 10 * 1024 * 1024
    max_upload_bytes: int = 25 * 1024 * 1024
    """The same for forms, which carry sound and pictures. On AWS less comes through: docs/endpoints.md."""
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Reads `SLUICE_<FIELD>` for each field. Raises ValueError naming the variable that does not parse."""
        source = os.environ if env is None else env
        found: dict[str, object] = {}
        for name, kind in cls.__annotations__.items():
            variable = f"SLUICE_{name.upper()}"
            if variable in source:
                found[name] = _parse(variable, source[variable], kind)
        return cls(**found)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """What AWS itself sets for a function: its region and the credentials of its role. `endpoint` is a local AWS's address."""

    region: str
    access_key: str = ""
    secret_key: Secret = Secret("")
    session_token: Secret = Secret("")
    endpoint: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> AwsEnvironment:
        """`access_key` is empty where the host has no credentials in its environment (a role of a server, a profile)."""
        source = os.environ if env is None else env
        return cls(
            region=source.get("AWS_REGION") or source.get("AWS_DEFAULT_REGION") or "us-east-1",
            access_key=source.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=Secret(source.get("AWS_SECRET_ACCESS_KEY", "")),
            session_token=Secret(source.get("AWS_SESSION_TOKEN", "")),
            endpoint=source.get("AWS_ENDPOINT_URL", ""),
        )


_KINDS = {"int": int, "float": float, "str": str}


def _parse(variable: str, text: str, kind: str) -> object:
    try:
        return _KINDS[kind](text)
    except ValueError:
        raise ValueError(f"{variable}={text!r} is not a valid {kind}") from None
