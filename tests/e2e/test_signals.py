"""What is seen from outside: a line for every request, and a planted failure of each kind moves the metric its alarm listens for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from sluice import signals
from sluice.errors import Unavailable
from sluice.jobs import Jobs
from sluice.stores.entries import Entries
from sluice.stores.wallets import Wallets, wallet_pk
from sluice.types import Receipt, Usage
from tests.alarms import ALARMS, rings
from tests.contract.conftest import Tables
from tests.e2e.conftest import MESSAGES, PROMPT, Caller, House
from tests.emf import Told, points

ANSWER = "text=An%20answer%20of%20azure%20plovers,prompt=30,completion=5,cached=10"
SPAN, TRACE = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"
RECEIPT = Receipt("m", "c", "k", Usage(1, 1), "done", "v")


async def chat(caller: Caller, model: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"model": model, "messages": MESSAGES, **more}
    return await caller.http.post("/v1/chat/completions", json=body, headers=headers or {})


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_is_one_line_with_all_there_is_to_know(house: House, told: Told, stream: bool) -> None:
    caller, model = await house.caller(), await house.model("status=500", ANSWER)
    response = await chat(caller, model, stream=stream)
    await house.settled()
    entry = await house.last_charge(caller)
    assert entry.receipt is not None
    (line,) = told.of("request")
    expected = {
        "level": "INFO",
        "logger": "sluice.signals",
        "request_id": response.headers["x-request-id"],
        "trace_id": response.headers["traceresponse"].split("-")[1],
        "user": caller.user.id,
        "key_id": entry.receipt.key_id,
        "model": model,
        "channel": entry.receipt.channel_id,
        "attempts": list(entry.receipt.attempts),
        "streamed": stream,
        "input": 30,
        "output": 5,
        "cached": 10,
        "units": {},
        "usage_source": "provider",
        "cost_nano": -entry.delta,
        "end_reason": "done",
        "error": "",
    }
    assert line | expected == line
    assert 0 < line["ttft_ms"] <= line["duration_ms"]
    assert line["time"].endswith("+00:00")
    assert {"Requests", "Faults", "Latency", "TokensIn", "NanoCharged"} <= {name for name, _ in points(line)}
    assert ("TimeToFirstToken" in line) is stream
    (attempt,) = told.of("an attempt failed")
    assert (attempt["error"], attempt["status"], attempt["request_id"]) == ("server", 500, line["request_id"])


async def test_no_line_holds_what_was_said(house: House, told: Told) -> None:
    caller, model = await house.caller(), await house.model(ANSWER)
    await chat(caller, model)
    await chat(caller, model, stream="yes")
    written = json.dumps(told.lines)
    assert len(told.lines) == 2
    assert PROMPT not in written
    assert "azure" not in written
    assert caller.key not in written


async def test_what_is_refused_before_its_hold_has_its_line(house: House, told: Told) -> None:
    caller, poor, model = await house.caller(), await house.caller(nano=0), await house.model("ok")
    chats = "/v1/chat/completions"

    async def line(asked: Any) -> tuple[int, Any, Any, Any, Any, Any]:
        response = await asked
        found = told.last()
        assert found["request_id"] == response.headers["x-request-id"]
        assert found["status"] == response.status_code
        assert "Channel" not in found
        return tuple(found[name] for name in ("status", "error", "route", "method", "user", "model"))  # type: ignore[return-value]

    user = caller.user.id
    wrong = {"authorization": f"Bearer sk-{'x' * 40}"}
    assert await line(chat(caller, model, wrong)) == (401, "invalid_api_key", chats, "POST", "", "")
    assert await line(chat(poor, model)) == (402, "insufficient_quota", chats, "POST", poor.user.id, model)
    assert await line(chat(caller, "made-up")) == (404, "model_not_found", chats, "POST", user, "")
    assert await line(chat(caller, model, n=0)) == (400, "invalid_request", chats, "POST", user, "")
    assert await line(caller.http.get("/v1/models")) == (200, "", "/v1/models", "GET", user, "")
    assert await line(caller.http.get(f"/v1/models/{model}")) == (200, "", "/v1/models/{model:path}", "GET", user, "")
    assert await line(caller.http.get("/v1/made-up?key=x")) == (404, "not_found", "", "GET", "", "")
    assert await line(caller.http.request("PROPFIND", chats)) == (405, "not_found", "", "", "", "")
    kinds = ("invalid_api_key", "insufficient_quota", "model_not_found", "invalid_request", "not_found")
    assert [told.sum("Errors", ErrorKind=kind) for kind in kinds] == [1, 1, 1, 1, 2]
    assert (told.sum("Requests"), told.sum("Errors"), told.sum("Faults")) == (8, 6, 0)
    assert told.sum("Requests", Model=model) == 1
    assert told.values("Requests", Model="made-up") == []


async def test_health_is_no_request(house: House, told: Told) -> None:
    caller = await house.caller()
    for path in ("/health", "/health?deep=1"):
        assert (await caller.http.get(path)).status_code == 200
    assert told.lines == []


async def test_a_key_known_from_memory_is_a_hit(house: House, told: Told) -> None:
    caller = await house.caller()
    for _ in range(3):
        await caller.http.get("/v1/models")
    assert told.values("IdentityCacheHits") == [0, 1, 1]


# --- traces ----------------------------------------------------------------------------------------------------------


async def test_a_trace_goes_through_to_the_provider(house: House, told: Told) -> None:
    caller = await house.caller()
    model = await house.model("status=500", "ok")
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=a:b"}
    response = await chat(caller, model, headers)
    spans = [call.headers["traceparent"].split("-") for call in house.up.calls]
    assert [(span[0], span[1], span[3]) for span in spans] == [("00", TRACE, "01")] * 2
    assert len({span[2] for span in spans} | {SPAN}) == 3
    assert [call.headers["tracestate"] for call in house.up.calls] == ["vendor=a:b"] * 2
    assert response.headers["traceresponse"].startswith(f"00-{TRACE}-")
    await house.settled()
    assert {line["trace_id"] for line in told.lines} == {TRACE}


async def test_without_one_a_trace_begins_here(house: House, told: Told) -> None:
    caller, model = await house.caller(), await house.model("ok")
    await chat(caller, model, {"traceparent": "00-nonsense", "tracestate": "vendor=1"})
    (call,) = house.up.calls
    assert "tracestate" not in call.headers
    await house.settled()
    assert call.headers["traceparent"].split("-")[1] == told.last()["trace_id"]
    await chat(caller, model, {"x-amzn-trace-id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"})
    assert house.up.calls[1].headers["traceparent"].split("-")[1] == TRACE


# --- planted failures, and the alarms that ring at them ----------------------------------------------------------------


async def test_providers_that_fail(house: House, told: Told) -> None:
    caller, good, bad = await house.caller(), await house.model("ok"), await house.model("status=503", "status=503")
    await chat(caller, good)
    assert not rings("ErrorRate", told)
    assert (await chat(caller, bad)).status_code == 503
    await house.settled()
    assert rings("ErrorRate", told)
    assert (told.sum("Errors", ErrorKind="upstream_overloaded"), told.sum("Faults", Model=bad)) == (1, 1)
    assert told.sum("FailedAttempts") == told.sum("FailedAttempts", ErrorKind="overloaded") == len(house.up.calls) - 1
    broken = await house.model("cut=2,chunks=5")
    await chat(caller, broken, stream=True)
    await house.settled()
    assert told.sum("Errors", ErrorKind="upstream_broken") == 1
    assert told.last()["end_reason"] == "upstream_cut"


async def test_a_failure_that_another_channel_makes_up_for(house: House, told: Told) -> None:
    caller, model = await house.caller(), await house.model()
    refused = await house.channel(model, "status=401", priority=0)
    await house.channel(model, "ok", priority=1)
    assert (await chat(caller, model)).status_code == 200
    await house.settled()
    assert told.sum("FailedAttempts", Channel=refused) == told.sum("FailedAttempts", ErrorKind="auth") == 1
    assert (told.sum("Errors"), rings("ErrorRate", told)) == (0, False)


async def test_a_request_at_fault_is_no_failure_of_its_channel(house: House, told: Told) -> None:
    caller, model = await house.caller(), await house.model("status=400,code=voice_not_supported")
    assert (await chat(caller, model)).status_code == 400
    await house.settled()
    # The code is the provider's own word, and might quote the prompt.
    assert told.last()["error"] == "invalid_request"
    assert told.sum("Errors", ErrorKind="invalid_request") == 1
    assert (told.sum("FailedAttempts"), told.sum("Faults")) == (0, 0)


async def test_a_first_token_that_is_slow(house: House, told: Told) -> None:
    caller, model = await house.caller(), await house.model("stall=0,chunks=3")
    late = [0.0]
    clock: Callable[[], float] = lambda: time.time() + late[0]  # noqa: E731
    object.__setattr__(house.relay.deps, "clock", clock)
    asked = asyncio.create_task(chat(caller, model, stream=True))
    while not house.up.calls:
        await asyncio.sleep(0.005)
    late[0] = 25.0
    house.up.release()
    assert (await asked).status_code == 200
    await house.settled()
    (slow,) = told.values("TimeToFirstToken", Model=model)
    assert 25_000 <= slow <= told.values("Latency", Model=model)[0]
    assert told.values("TimeToFirstToken", Channel=told.last()["channel"]) == [slow]
    assert rings("SlowFirstToken", told)


async def test_a_settlement_that_fails(house: House, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: Any) -> int:
        raise Unavailable("no answer")

    caller, model = await house.caller(), await house.model("ok")
    with monkeypatch.context() as patch:
        patch.setattr(house.relay.deps.ledger, "settle", down)
        await chat(caller, model)
        await house.settled()
    assert rings("Unsettled", told)
    (line,) = told.of("a request is not settled: its hold is left to the sweep")
    assert (line["level"], line["error"], line["request_id"]) == ("ERROR", "unavailable", told.last()["request_id"])
    assert (told.last()["cost_nano"], told.sum("Faults")) == (0, 1)


async def test_holds_that_a_killed_process_leaves(house: House, told: Told, tables: Tables) -> None:
    caller, ledger = await house.caller(nano=10**6), house.relay.deps.ledger
    wallets, entries = Wallets(tables.client, tables.ledger), Entries(tables.client, tables.ledger)
    assert rings("SweepSilent", told)
    await Jobs(wallets, entries, time.time).sweep()
    assert not rings("SweepSilent", told)
    assert not rings("ManySwept", told)
    for number in range(20):
        await ledger.hold(caller.user.id, f"req_left_{number}", 1_000)
    await Jobs(wallets, entries, lambda: time.time() + 1_300).sweep()
    assert rings("ManySwept", told)
    assert told.sum("NanoSwept") >= 20_000
    assert told.last("expired holds were swept") | {"holds": told.values("HoldsSwept")[-1]} == told.last(
        "expired holds were swept"
    )
    assert (await house.wallet(caller)).available == 10**6


async def test_a_wallet_that_was_tampered_with(house: House, told: Told, tables: Tables) -> None:
    caller = await house.caller(nano=10**6)
    await house.proof(caller)
    key = {"pk": {"S": wallet_pk(caller.user.id)}, "sk": {"S": "WALLET"}}

    async def differences(change: int) -> float:
        """How many wallets do not add up once this one was given so much."""
        tables.client.update_item(
            TableName=tables.ledger,
            Key=key,
            UpdateExpression="ADD balance :n, available :n",
            ExpressionAttributeValues={":n": {"N": str(change)}},
        )
        told.lines.clear()
        await house.jobs.prove_all()
        assert told.sum("WalletsProved") >= 1
        return told.sum("ProofDifferences")

    before = await differences(0)
    assert await differences(7) == before + 1
    assert rings("ProofDifference", told)
    assert await differences(-7) == before
    assert rings("ProofDifference", told) is (before > 0)


async def test_a_journal_that_trails(house: House, told: Told) -> None:
    await house.caller(nano=10**6)
    await house.jobs.prove_all()
    assert told.sum("ProofBehind") >= 1


async def test_a_record_that_cannot_be_read(house: House, told: Told) -> None:
    caller = await house.caller(nano=10**6)
    await house.entries(caller)
    assert told.sum("EntriesWritten") >= 1
    assert not rings("Unreadable", told)
    changes = [one for one in house.tables.records() if one["dynamodb"]["Keys"]["sk"] == {"S": "WALLET"}]
    odd = deepcopy(changes[-1])
    odd["dynamodb"]["NewImage"]["seq"] = {"N": "what"}
    assert await house.jobs.consume([odd]) == [odd["dynamodb"]["SequenceNumber"]]
    assert rings("Unreadable", told)


async def test_what_no_wallet_can_cover(house: House, told: Told) -> None:
    caller = await house.caller(nano=1_000)
    await house.entries(caller)
    assert not rings("Losses", told)
    hold = await house.relay.deps.ledger.hold(caller.user.id, "req_lost", 600)
    assert await house.relay.deps.ledger.settle(hold, 2 * 10**9, RECEIPT) == 1_000
    await house.entries(caller)
    assert told.sum("NanoLost") == 2 * 10**9 - 1_000
    assert rings("Losses", told)


def test_every_alarm_of_ours_was_made_to_ring(request: pytest.FixtureRequest) -> None:
    """Of AWS's own metrics there is nothing here that could move them: tests/arch holds their names to what AWS documents."""
    source = request.path.read_text(encoding="utf-8")
    ours = {name for name, one in ALARMS.items() if one["Namespace"] == signals.NAMESPACE}
    assert {name for name in ours if f'assert rings("{name}", told)' in source} == ours
