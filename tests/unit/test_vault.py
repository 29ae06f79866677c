from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from sluice.errors import Unavailable
from sluice.types import Secret
from sluice.vault import NotOpened, Vault
from tests.fakes_operator import FakeKms


def vault(kms: FakeKms) -> Vault:
    return Vault(lambda: kms, "alias/test")


@given(st.text(min_size=1).filter(lambda text: text.encode("utf-8", "ignore").decode() == text))
def test_what_was_sealed_opens(text: str) -> None:
    kms = FakeKms()
    key = vault(kms).new_data_key()
    sealed = vault(kms).seal(key, Secret(text), "channel/a")
    assert vault(kms).open(key, sealed, "channel/a") == Secret(text)
    assert text.encode() not in sealed or len(text) < 3


@pytest.mark.parametrize("position", range(12 + 6 + 16))
def test_a_changed_byte_does_not_open(position: int) -> None:
    held = vault(FakeKms())
    key = held.new_data_key()
    sealed = bytearray(held.seal(key, Secret("sk-abc"), "channel/a"))
    sealed[position] ^= 1
    with pytest.raises(NotOpened):
        held.open(key, bytes(sealed), "channel/a")


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12), bytes(28)])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    held = vault(FakeKms())
    with pytest.raises(NotOpened):
        held.open(held.new_data_key(), sealed, "channel/a")


def test_a_secret_moved_to_another_channel_or_data_key_does_not_open() -> None:
    held = vault(FakeKms())
    key, other = held.new_data_key(), held.new_data_key()
    sealed = held.seal(key, Secret("sk-abc"), "channel/a")
    with pytest.raises(NotOpened):
        held.open(key, sealed, "channel/b")
    with pytest.raises(NotOpened):
        held.open(other, sealed, "channel/a")


def test_two_seals_of_one_secret_differ() -> None:
    held = vault(FakeKms())
    key = held.new_data_key()
    assert held.seal(key, Secret("sk-abc"), "channel/a") != held.seal(key, Secret("sk-abc"), "channel/a")


def test_kms_is_asked_once_per_process_and_not_before_it_is_needed() -> None:
    kms = FakeKms()
    made: list[FakeKms] = []
    key = vault(kms).new_data_key()
    sealed = vault(kms).seal(key, Secret("sk-abc"), "channel/a")
    kms.calls.clear()

    fresh = Vault(lambda: made.append(kms) or kms, "alias/test")  # type: ignore[func-returns-value]
    assert made == []
    for _ in range(3):
        fresh.open(key, sealed, "channel/a")
    assert kms.calls == ["decrypt"]
    assert len(made) == 1


def test_kms_that_is_down_is_unavailable() -> None:
    class Down(FakeKms):
        def decrypt(self, **_: object) -> dict[str, bytes]:
            raise ClientError({"Error": {"Code": "KMSInternalException"}}, "Decrypt")

    with pytest.raises(Unavailable):
        vault(Down()).open(b"wrapped", bytes(40), "channel/a")
