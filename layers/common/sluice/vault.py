"""Provider keys at rest: AES-256-GCM under a data key that KMS wraps.

A sealed secret is nonce (12 bytes) + ciphertext + tag (16 bytes). The associated data binds it to its place: a secret
copied to another channel's row does not open there.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sluice.errors import Unavailable
from sluice.types import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

log = logging.getLogger(__name__)

_NONCE_BYTES = 12
_CONTEXT = {"purpose": "sluice-vault"}
"""KMS writes it into its audit trail and opens the data key only for the same."""


class NotOpened(Exception):
    """A sealed secret was changed, or belongs to another place or another data key."""


class Vault:
    """Seals and opens under data keys. `connect` makes the KMS client: only when a data key is first needed."""

    def __init__(
        self, connect: Callable[[], Any], key_id: str, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._connect = connect
        self._key_id = key_id
        self._random_bytes = random_bytes
        self._client: Any = None
        self._plain: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def new_data_key(self) -> bytes:
        """A fresh data key, wrapped by KMS. Raises Unavailable."""
        with self._lock:
            answer = self._ask("generate_data_key", KeyId=self._key_id, KeySpec="AES_256")
            wrapped = bytes(answer["CiphertextBlob"])
            self._plain[wrapped] = bytes(answer["Plaintext"])
        return wrapped

    def seal(self, data_key: bytes, secret: Secret, place: str) -> bytes:
        """Encrypts `secret` for `place` under the wrapped `data_key`. Raises Unavailable."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return nonce + self._cipher(data_key).encrypt(nonce, secret.reveal().encode(), place.encode())

    def open(self, data_key: bytes, sealed: bytes, place: str) -> Secret:
        """What was sealed for `place`. Raises NotOpened where it was not, and Unavailable."""
        from cryptography.exceptions import InvalidTag

        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return Secret(self._cipher(data_key).decrypt(nonce, body, place.encode()).decode())
        except (InvalidTag, ValueError):
            raise NotOpened(f"the secret of {place} does not open") from None

    def _cipher(self, data_key: bytes) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._unwrapped(data_key))

    def _unwrapped(self, data_key: bytes) -> bytes:
        with self._lock:
            if data_key not in self._plain:
                answer = self._ask("decrypt", CiphertextBlob=data_key)
                self._plain[data_key] = bytes(answer["Plaintext"])
            return self._plain[data_key]

    def _ask(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                self._client = self._connect()
            return getattr(self._client, operation)(EncryptionContext=_CONTEXT, **arguments)
        except (BotoCoreError, ClientError) as error:
            log.error("kms did not answer", extra={"fields": {"operation": operation, "error": type(error).__name__}})
            raise Unavailable("The gateway's key service did not answer. Try again in a moment.") from error
