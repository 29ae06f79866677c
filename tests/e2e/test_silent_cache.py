"""A Valkey that takes connections and never answers: no request waits for it, and a deep /health says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sluice.settings import Settings
from tests.contract.conftest import Tables
from tests.e2e.conftest import MESSAGES, House


@pytest.fixture
def silent_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("sluice.valkey_client._ANSWER_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"valkey://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def settings(tables: Tables, silent_url: str) -> Settings:
    return replace(
        Settings(log_level="CRITICAL", valkey_url=silent_url),
        accounts_table=tables.accounts,
        ledger_table=tables.ledger,
        catalog_table=tables.catalog,
        conversations_table=tables.conversations,
        vault_key_id=tables.vault_key,
    )


async def test_a_request_that_fails_over_is_answered_while_the_mark_still_waits_to_be_told(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    refused = await house.channel(model, "status=401")
    good = await house.channel(model, priority=1)
    marks = house.relay.marks
    for _ in range(2):
        answer = await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
        assert answer.choices[0].message.content
    assert marks._telling is not None
    assert not marks._telling.done()
    marks._telling.cancel()
    assert (len(house.asked(refused)), len(house.asked(good))) == (1, 2)


async def test_health_says_that_it_is_down_and_the_rest_is_well(house: House) -> None:
    caller = await house.caller()
    told = await caller.http.get("/health?deep=1")
    assert told.json()["components"] == {"relay": "ok", "dynamodb": "ok", "valkey": "down"}
