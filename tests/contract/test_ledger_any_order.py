"""Any interleaving of what can happen to a wallet, each thing sent again at will: the money stays right throughout.

What is known here is only what the callers were told. From that the balance follows, and everything else has to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moto import mock_aws

from sluice.errors import Conflict, InsufficientQuota
from sluice.jobs import Jobs
from sluice.stores.entries import entries_of_image, is_wallet
from sluice.types import Entry, Hold
from tests.contract.conftest import deployed, moto_client
from tests.contract.test_ledger_stores import NOW, Books, real_books, receipt
from tests.fakes import MemoryEntries, MemoryWallets

HOLD_SECONDS = 1200
REQUESTS = st.sampled_from([f"r{number}" for number in range(6)])
ANY = st.integers(0, 5)
AMOUNTS = st.integers(0, 60)
MODELS = {f"r{number}": f"model-{number % 2}" for number in range(6)}


class AnyOrder(RuleBasedStateMachine):
    """One wallet, six request ids that are used again and again, a clock that only goes forward."""

    make_books: Callable[[], Books]

    def __init__(self) -> None:
        super().__init__()
        self.books = self.make_books()
        self.now = NOW
        self.jobs = Jobs(self.books.wallets, self.books.entries, lambda: self.now)
        self.credits: dict[str, int] = {}
        self.holds: dict[str, Hold] = {}
        self.charged: dict[str, int] = {}
        self.spent = 0
        self.used = {"model-0": 0, "model-1": 0}
        self.delivered = 0

    @initialize()
    def open_wallet(self) -> None:
        self.credit("first", 100)

    @rule(reference=st.sampled_from("abc"), amount=st.integers(-40, 80))
    def credit(self, reference: str, amount: int) -> None:
        try:
            self.books.wallets.credit("ann", amount, reference, self.now)
        except InsufficientQuota:
            assert amount < 0
            assert reference not in self.credits
        except Conflict:
            assert self.credits[reference] != amount
        else:
            assert self.credits.setdefault(reference, amount) == amount

    @rule(request_id=REQUESTS, amount=AMOUNTS)
    def hold(self, request_id: str, amount: int) -> None:
        before = self.books.wallet()
        try:
            hold = self.books.wallets.hold("ann", request_id, amount, self.now, self.now + HOLD_SECONDS)
        except InsufficientQuota:
            alive = sum(hold.amount for hold in before.holds.values() if hold.expires >= self.now)
            assert before.balance - alive < amount, "refused although it would have been covered"
        except Conflict:
            assert request_id in self.holds
        else:
            self.holds[request_id] = hold
            if request_id not in before.holds:
                self.charged.pop(request_id, None)  # its mark was tidied away: a new request of the same name

    @precondition(lambda self: self.holds)
    @rule(which=ANY, amount=AMOUNTS)
    def extend(self, which: int, amount: int) -> None:
        hold = self._known(which)
        try:
            self.holds[hold.request_id] = self.books.wallets.extend(
                hold, hold.amount + amount, self.now, self.now + HOLD_SECONDS
            )
        except (InsufficientQuota, Conflict):
            assert amount > 0

    @precondition(lambda self: self.holds)
    @rule(which=ANY, cost=st.integers(0, 90), times=st.integers(1, 3))
    def settle(self, which: int, cost: int, times: int) -> None:
        hold = self._known(which)
        model = MODELS[hold.request_id]
        for _ in range(times):
            charged = self.books.wallets.settle(hold, cost, self.now, receipt(model))
            self._note(hold.request_id, cost, charged, model)

    @precondition(lambda self: self.holds)
    @rule(which=ANY)
    def release(self, which: int) -> None:
        hold = self._known(which)
        self._note(hold.request_id, 0, self.books.wallets.settle(hold, 0, self.now, None, "release"), None)

    def _known(self, which: int) -> Hold:
        """A hold that a caller was given, open still or long ended."""
        return list(self.holds.values())[which % len(self.holds)]

    def _note(self, request_id: str, cost: int, charged: int | None, model: str | None) -> None:
        if request_id in self.charged:
            assert charged in (None, self.charged[request_id]), "the second settle said something else than the first"
        elif charged is not None:
            assert 0 <= charged <= cost
            self.charged[request_id] = charged
            self.spent += charged
            if model:
                self.used[model] += charged

    @rule()
    def sweep(self) -> None:
        expired = [hold for hold in self.books.wallet().holds.values() if hold.expires < self.now]
        assert sorted(self.books.wallets.sweep("ann", self.now), key=str) == sorted(expired, key=str)

    @rule(seconds=st.sampled_from([1, 200, 400, 1300, 4000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(again=st.integers(0, 8), more=st.integers(0, 12))
    def deliver(self, again: int, more: int) -> None:
        """A batch of the stream: some of it was delivered before, in a batch cut elsewhere."""
        records = self.books.records()
        batch = records[max(0, self.delivered - again) : self.delivered + more]
        self.delivered = max(self.delivered, min(len(records), self.delivered + more))
        self._consume(batch)

    def _consume(self, records: list[dict[str, Any]]) -> None:
        entries = [
            entry
            for record in records
            if is_wallet(record["dynamodb"]["Keys"])
            for entry in entries_of_image(record["dynamodb"]["NewImage"])
        ]
        self.books.entries.put(entries)
        self.books.entries.count(entries)

    @invariant()
    def the_wallet_is_right(self) -> None:
        if not self.credits:
            return
        wallet = self.books.wallet()  # asserts available == balance - held >= 0
        assert wallet.balance == sum(self.credits.values()) - self.spent >= 0

    def teardown(self) -> None:
        if not self.credits:
            return
        self._consume(self.books.records())
        self._consume(self.books.records()[-3:] * 2)
        wallet = self.books.wallet()
        entries: list[Entry] = self.books.entries.after("ann", 0, limit=10_000)
        assert sum(entry.delta for entry in entries) == wallet.balance
        assert sum(entry.held for entry in entries) == wallet.held
        assert sorted({entry.seq for entry in entries}) == list(range(1, wallet.seq + 1))
        proof = self.books.entries.prove(wallet, self.now)
        assert proof.holds_true
        assert (proof.seq, proof.behind) == (wallet.seq, 0)
        used = dict.fromkeys(self.used, 0)
        for day in self.books.entries.usage("ann", "2025-01-01", "2027-01-01"):
            used[day.model] += day.cost
        assert used == self.used


def run(make: Callable[[], Books], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(type("Ordered", (AnyOrder,), {"make_books": staticmethod(make)}), settings=chosen)


def test_the_fake_is_right_in_any_order() -> None:
    def make() -> Books:
        wallets = MemoryWallets()
        return Books(wallets, MemoryEntries(), lambda: wallets.records)

    run(make, examples=300, steps=40)


@pytest.mark.timeout(300)
def test_the_real_store_is_right_in_any_order() -> None:
    with mock_aws():
        run(lambda: real_books(deployed(moto_client)), examples=20, steps=30)
