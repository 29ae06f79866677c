"""What wallets and journal promise: the fake, moto and MiniStack alike."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from sluice.errors import Conflict, InsufficientQuota, NotFound, RateLimited, SluiceError, Unavailable
from sluice.stores import wallets as wallets_module
from sluice.stores.entries import Entries, entries_of_image, is_wallet
from sluice.stores.wallets import Wallets
from sluice.types import Entry, Hold, Receipt, Usage, Wallet
from tests.contract.conftest import Tables
from tests.fakes import MemoryEntries, MemoryWallets

NOW = 1_763_700_000
DAY = "2025-11-21"
LATER = NOW + 1200


@dataclass
class Books:
    """Both stores of one kind, and what their stream says."""

    wallets: Any
    entries: Any
    records: Callable[[], list[dict[str, Any]]]

    def journal(self) -> list[Entry]:
        writes = [one["dynamodb"] for one in self.records() if is_wallet(one["dynamodb"]["Keys"])]
        return [entry for write in writes for entry in entries_of_image(write["NewImage"])]

    def write_journal(self) -> list[Entry]:
        entries = self.journal()
        self.entries.put(entries)
        self.entries.count(entries)
        return entries

    def wallet(self, wallet_id: str = "ann") -> Wallet:
        found: Wallet = self.wallets.get(wallet_id)
        assert found.available == found.balance - found.held >= 0
        return found


@pytest.fixture(params=["memory", "moto", "ministack"])
def books(request: pytest.FixtureRequest) -> Books:
    if request.param == "memory":
        wallets = MemoryWallets()
        return Books(wallets, MemoryEntries(), lambda: wallets.records)
    tables: Tables = request.getfixturevalue(f"{request.param}_tables")
    return real_books(tables)


def real_books(tables: Tables) -> Books:
    return Books(Wallets(tables.client, tables.ledger), Entries(tables.client, tables.ledger), tables.records)


def receipt(model: str = "gpt", output: int = 7) -> Receipt:
    usage = Usage(5, output, cached=2, reasoning=1, cache_write=1, units={"image": 2}, audio_output=output // 2)
    return Receipt(model, "c1", "k1", usage, "done", "p1", attempts=("c0=server/500", "c1=ok/200"), duration_ms=9)


def held(books: Books, request_id: str = "r1", amount: int = 40, credit: int = 100) -> Hold:
    books.wallets.credit("ann", credit, f"for {request_id}", NOW)
    hold: Hold = books.wallets.hold("ann", request_id, amount, NOW, LATER)
    return hold


# --- credit ---


def test_a_credit_makes_the_wallet_and_counts_once(books: Books) -> None:
    assert books.wallets.get("ann") is None
    assert books.wallets.credit("ann", 100, "ref", NOW) == Wallet("ann", 100, 100, 1)
    assert books.wallets.credit("ann", 100, "ref", NOW) == Wallet("ann", 100, 100, 1)
    assert books.wallets.credit("ann", 20, "other", NOW) == Wallet("ann", 120, 120, 2)


def test_a_reference_that_comes_with_another_amount_is_a_conflict_and_changes_nothing(books: Books) -> None:
    books.wallets.credit("ann", 100, "ref", NOW)
    for amount in (99, 0, -100):
        with pytest.raises(Conflict, match=r"\$0\.0000001 already"):
            books.wallets.credit("ann", amount, "ref", NOW)
    assert books.wallet() == Wallet("ann", 100, 100, 1)


def test_a_mark_of_before_that_does_not_tell_its_amount_counts_once_all_the_same(dynamodb: Tables) -> None:
    wallets = Wallets(dynamodb.client, dynamodb.ledger)
    wallets.credit("ann", 100, "ref", NOW)
    dynamodb.client.update_item(
        TableName=dynamodb.ledger,
        Key={"pk": {"S": "W#ann"}, "sk": {"S": "WALLET"}},
        UpdateExpression="REMOVE holds.#mark.c",
        ExpressionAttributeNames={"#mark": "credit#ref"},
    )
    assert wallets.credit("ann", 100, "ref", NOW) == Wallet("ann", 100, 100, 1)


def test_a_correction_takes_no_more_than_is_available(books: Books) -> None:
    held(books, amount=40, credit=100)
    with pytest.raises(InsufficientQuota, match=r"takes \$0\.000000061 .* has \$0\.00000006 available"):
        books.wallets.credit("ann", -61, "too much", NOW)
    assert books.wallets.credit("ann", -60, "just", NOW).available == 0
    with pytest.raises(InsufficientQuota):
        books.wallets.credit("bob", -1, "no wallet", NOW)
    assert books.wallets.get("bob") is None


# --- hold ---


def test_a_hold_sets_aside(books: Books) -> None:
    hold = held(books)
    assert hold == Hold("ann", "r1", 40, LATER)
    assert books.wallet() == Wallet("ann", 100, 60, 2, {"r1": hold})


def test_a_hold_sent_again_is_the_same_hold(books: Books) -> None:
    hold = held(books)
    assert books.wallets.hold("ann", "r1", 40, NOW + 1, LATER + 1) == hold
    assert books.wallet().seq == 2


def test_a_hold_of_nothing_is_a_hold(books: Books) -> None:
    books.wallets.credit("ann", 0, "opened", NOW)
    hold = books.wallets.hold("ann", "free", 0, NOW, LATER)
    assert books.wallet().holds == {"free": hold}
    assert books.wallets.settle(hold, 0, NOW, receipt()) == 0


@pytest.mark.parametrize("amount", [0, 1])
def test_no_wallet_no_hold(books: Books, amount: int) -> None:
    with pytest.raises(InsufficientQuota):
        books.wallets.hold("nobody", "r1", amount, NOW, LATER)
    assert books.wallets.get("nobody") is None


def test_a_wallet_that_does_not_cover_it_refuses(books: Books) -> None:
    held(books, amount=60)
    with pytest.raises(InsufficientQuota):
        books.wallets.hold("ann", "r2", 41, NOW, LATER)
    assert books.wallet().available == 40
    books.wallets.hold("ann", "r2", 40, NOW, LATER)
    assert books.wallet().available == 0


def test_the_refusal_says_what_there_is_and_what_it_takes(dynamodb: Tables) -> None:
    books = real_books(dynamodb)
    books.wallets.credit("ann", 1_500_000_000, "ref", NOW)
    with pytest.raises(InsufficientQuota, match=r"\$1\.5 available and this needs \$2\b.*Add credit"):
        books.wallets.hold("ann", "r1", 2_000_000_000, NOW, LATER)


def test_a_hold_after_its_settle_changes_nothing(books: Books) -> None:
    hold = held(books)
    books.wallets.settle(hold, 30, NOW, receipt())
    before = books.wallet()
    with pytest.raises(Conflict):
        books.wallets.hold("ann", "r1", 40, NOW, LATER)
    assert books.wallet() == before


def test_too_many_open_holds_are_refused_and_not_confused_with_no_credit(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallets_module, "MOST_HOLDS", 3)
    monkeypatch.setattr("tests.fakes.MOST_HOLDS", 3)
    books.wallets.credit("ann", 100, "ref", NOW)  # its mark is the first row
    for name in ("r1", "r2"):
        books.wallets.hold("ann", name, 1, NOW, LATER)
    with pytest.raises(RateLimited):
        books.wallets.hold("ann", "r3", 1, NOW, LATER)
    assert set(books.wallet().holds) == {"r1", "r2"}


def test_an_expired_hold_makes_room_for_the_next_when_it_has_to(books: Books) -> None:
    held(books, "dead", 70)
    alive = books.wallets.hold("ann", "alive", 10, NOW, LATER + 500)
    books.wallets.hold("ann", "small", 20, LATER + 1, LATER + 600)  # fits without
    assert "dead" in books.wallet().holds
    fresh = books.wallets.hold("ann", "fresh", 70, LATER + 1, LATER + 600)
    assert set(books.wallet().holds) == {"alive", "small", "fresh"}
    assert books.wallet().holds["alive"] == alive
    assert books.wallet().holds["fresh"] == fresh
    last = [(entry.kind, entry.request_id, entry.held) for entry in books.journal()][-2:]
    assert sorted(last) == [("hold", "fresh", 70), ("sweep", "dead", -70)]


def test_expired_holds_that_would_not_do_are_left(books: Books) -> None:
    held(books, "dead", 70)
    with pytest.raises(InsufficientQuota):
        books.wallets.hold("ann", "fresh", 101, LATER + 1, LATER + 600)
    assert "dead" in books.wallet().holds


# --- extend ---


def test_a_hold_grows(books: Books) -> None:
    hold = books.wallets.extend(held(books), 70, NOW + 5, LATER + 5)
    assert hold == Hold("ann", "r1", 70, LATER + 5)
    assert books.wallet() == Wallet("ann", 100, 30, 3, {"r1": hold})
    with pytest.raises(InsufficientQuota):
        books.wallets.extend(hold, 101, NOW, LATER)
    assert books.wallets.extend(hold, 100, NOW, LATER).amount == 100


def test_an_extend_sent_again_grows_once(books: Books) -> None:
    hold = held(books)
    first = books.wallets.extend(hold, 70, NOW, LATER)
    assert books.wallets.extend(hold, 70, NOW, LATER) == first
    assert books.wallet().available == 30


def test_an_extend_from_an_older_hold_adds_only_the_difference(books: Books) -> None:
    hold = held(books)
    books.wallets.extend(hold, 50, NOW, LATER)
    books.wallets.extend(hold, 70, NOW, LATER)
    assert books.wallet().available == 30


def test_an_ended_request_does_not_grow(books: Books) -> None:
    hold = held(books)
    books.wallets.settle(hold, 10, NOW, receipt())
    with pytest.raises(Conflict):
        books.wallets.extend(hold, 70, NOW, LATER)
    assert books.wallet().available == 90


def test_a_swept_hold_that_grows_is_set_aside_anew(books: Books) -> None:
    hold = held(books)
    books.wallets.sweep("ann", LATER + 1)
    again = books.wallets.extend(hold, 60, LATER + 2, LATER + 900)
    assert books.wallet() == Wallet("ann", 100, 40, books.wallet().seq, {"r1": again})


def test_an_expired_hold_that_grows_makes_room_of_others_and_not_of_itself(books: Books) -> None:
    hold = held(books, "r1", 40, credit=100)
    books.wallets.hold("ann", "dead", 60, NOW, LATER)
    with pytest.raises(InsufficientQuota):
        books.wallets.extend(hold, 101, LATER + 1, LATER + 900)
    grown = books.wallets.extend(hold, 70, LATER + 1, LATER + 900)
    assert books.wallet() == Wallet("ann", 100, 30, 4, {"r1": grown})


# --- settle and release ---


def test_a_settle_charges_and_gives_the_rest_back(books: Books) -> None:
    assert books.wallets.settle(held(books), 25, NOW, receipt()) == 25
    assert books.wallet() == Wallet("ann", 75, 75, 3)


def test_a_settle_sent_again_charges_once_and_says_what(books: Books) -> None:
    hold = held(books)
    for _ in range(3):
        assert books.wallets.settle(hold, 25, NOW, receipt()) == 25
    assert books.wallets.settle(hold, 99, NOW, receipt()) == 25
    assert books.wallet() == Wallet("ann", 75, 75, 3)


def test_more_than_the_hold_comes_out_of_what_is_available(books: Books) -> None:
    assert books.wallets.settle(held(books), 90, NOW, receipt()) == 90
    assert books.wallet().balance == 10


def test_what_the_wallet_cannot_cover_is_a_loss_and_other_holds_are_not_touched(books: Books) -> None:
    hold = held(books, "r1", 40)
    other = books.wallets.hold("ann", "r2", 50, NOW, LATER)
    assert books.wallets.settle(hold, 75, NOW, receipt()) == 50  # 40 held, 10 available
    assert books.wallet() == Wallet("ann", 50, 0, 4, {"r2": other})
    settle = books.journal()[-1]
    assert (settle.kind, settle.delta, settle.held, settle.loss) == ("settle", -50, -40, 25)
    assert books.wallets.settle(hold, 75, NOW, receipt()) == 50


def test_a_settle_with_an_older_hold_gives_back_all_that_is_held(books: Books) -> None:
    hold = held(books)
    books.wallets.extend(hold, 70, NOW, LATER)
    assert books.wallets.settle(hold, 60, NOW, receipt()) == 60
    assert books.wallet() == Wallet("ann", 40, 40, 4)


def test_a_release_charges_nothing(books: Books) -> None:
    hold = held(books)
    assert books.wallets.settle(hold, 0, NOW, None, "release") == 0
    assert books.wallets.settle(hold, 0, NOW, None, "release") == 0
    assert books.wallet() == Wallet("ann", 100, 100, 3)


def test_a_settle_after_the_sweep_charges_what_is_available_once(books: Books) -> None:
    hold = held(books, amount=40, credit=50)
    books.wallets.sweep("ann", LATER + 1)
    other = books.wallets.hold("ann", "r2", 30, LATER + 1, LATER + 900)
    for _ in range(2):
        assert books.wallets.settle(hold, 35, LATER + 2, receipt()) == 20
    assert books.wallet() == Wallet("ann", 30, 0, 5, {"r2": other})
    settle = books.journal()[-1]
    assert (settle.delta, settle.held, settle.loss) == (-20, 0, 15)


def test_a_settle_of_an_unknown_request_charges_nothing(books: Books) -> None:
    books.wallets.credit("ann", 100, "ref", NOW)
    assert books.wallets.settle(Hold("ann", "never", 10, LATER), 10, NOW, receipt()) is None
    assert books.wallet() == Wallet("ann", 100, 100, 1)
    with pytest.raises(NotFound):
        books.wallets.settle(Hold("nobody", "never", 10, LATER), 10, NOW, receipt())


@pytest.mark.parametrize("change", ["hold", "settle"])
def test_negative_amounts_are_a_mistake(dynamodb: Tables, change: str) -> None:
    books = real_books(dynamodb)
    hold = held(books)
    with pytest.raises(ValueError):
        books.wallets.hold("ann", "r2", -1, NOW, LATER) if change == "hold" else books.wallets.settle(hold, -1, NOW)
    assert books.wallet().available == 60


# --- sweep ---


def test_a_sweep_gives_back_what_expired_and_nothing_else(books: Books) -> None:
    held(books, "dead", 30)
    alive = books.wallets.hold("ann", "alive", 20, NOW, LATER + 100)
    assert [hold.request_id for hold in books.wallets.sweep("ann", LATER + 1)] == ["dead"]
    assert books.wallets.sweep("ann", LATER + 1) == []
    assert books.wallet() == Wallet("ann", 100, 80, 4, {"alive": alive})
    assert books.wallets.sweep("nobody", LATER) == []


def test_a_sweep_of_many_takes_all_of_them(books: Books) -> None:
    books.wallets.credit("ann", 100, "ref", NOW)
    for number in range(60):
        books.wallets.hold("ann", f"r{number}", 1, NOW, LATER)
    assert len(books.wallets.sweep("ann", LATER + 1)) == 60
    assert books.wallet().available == 100
    assert sum(entry.held for entry in books.journal()) == 0


def test_pages_show_every_wallet(books: Books) -> None:
    for number in range(120):
        books.wallets.credit(f"w{number}", number, "ref", NOW)
    hold = books.wallets.hold("w7", "r", 3, NOW, LATER)
    seen = {wallet.id: wallet for page in books.wallets.pages() for wallet in page}
    assert len(seen) == 120
    assert seen["w7"].holds == {"r": hold}


# --- the item stays small ---


def test_a_busy_wallet_tidies_its_marks_away(dynamodb: Tables) -> None:
    books = real_books(dynamodb)
    books.wallets.credit("ann", 10_000, "ref", NOW)
    for number in range(wallets_module.MARKS_KEPT + 30):
        hold = books.wallets.hold("ann", f"r{number}", 1, NOW, LATER)
        books.wallets.settle(hold, 1, NOW, receipt())
    assert len(rows(dynamodb)) <= wallets_module.MARKS_KEPT + 3
    assert "credit#ref" in rows(dynamodb), "a credit's mark is kept until its time is over"
    # A settle so late that its mark is gone still charges nothing twice.
    assert books.wallets.settle(Hold("ann", "r0", 1, LATER), 1, NOW, receipt()) is None
    assert books.wallet().balance == 10_000 - wallets_module.MARKS_KEPT - 30


def test_expired_marks_go_even_when_they_are_few(dynamodb: Tables) -> None:
    books = real_books(dynamodb)
    books.wallets.settle(held(books, "old"), 1, NOW)
    much_later = NOW + 2 * wallets_module.CREDIT_SECONDS
    fresh = books.wallets.hold("ann", "new", 1, much_later, much_later + 1)
    assert set(fresh.stale) == {"old", "credit#for old"}
    books.wallets.settle(fresh, 1, much_later)
    assert set(rows(dynamodb)) == {"new"}


def test_tidying_never_takes_a_request_that_was_opened_again(dynamodb: Tables) -> None:
    books = real_books(dynamodb)
    books.wallets.settle(held(books, "again"), 1, NOW)
    much_later = NOW + wallets_module.DONE_SECONDS + 1
    first = books.wallets.hold("ann", "first", 1, much_later, LATER)
    second = books.wallets.hold("ann", "second", 1, much_later, LATER)
    assert first.stale == second.stale == ("again",)
    books.wallets.settle(first, 1, much_later)
    reopened = books.wallets.hold("ann", "again", 9, much_later, LATER)
    assert books.wallets.settle(second, 1, much_later) == 1
    assert books.wallet().holds == {"again": reopened}


def rows(tables: Tables) -> dict[str, Any]:
    key = {"pk": {"S": "W#ann"}, "sk": {"S": "WALLET"}}
    item = tables.client.get_item(TableName=tables.ledger, Key=key, ConsistentRead=True)["Item"]
    found: dict[str, Any] = item["holds"]["M"]
    return found


# --- many at once ---


def test_a_hundred_at_once_on_a_wallet_for_ten_are_exactly_ten(ministack_tables: Tables) -> None:
    books = real_books(ministack_tables)
    books.wallets.credit("ann", 1000, "ref", NOW)

    def spend(number: int) -> str:
        try:
            hold = books.wallets.hold("ann", f"r{number}", 100, NOW, LATER)
        except SluiceError as error:
            return error.code
        books.wallets.settle(hold, 100, NOW, receipt())
        return "ok"

    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(spend, range(100)))
    assert sorted(outcomes) == ["insufficient_quota"] * 90 + ["ok"] * 10
    assert books.wallet() == Wallet("ann", 0, 0, 21)
    books.write_journal()
    proof = books.entries.prove(books.wallet(), NOW + 5000)
    assert proof.holds_true
    assert proof.seq == 21
    assert books.entries.usage("ann", DAY, DAY)[0].requests == 10


def test_a_crowd_on_one_wallet_never_meets_a_conflict(ministack_tables: Tables) -> None:
    books = real_books(ministack_tables)
    books.wallets.credit("ann", 64 * 20, "ref", NOW)

    def carry(number: int) -> int | None:
        hold = books.wallets.hold("ann", f"r{number}", 10, NOW, LATER)
        hold = books.wallets.extend(hold, 15, NOW, LATER)
        charged: int | None = books.wallets.settle(hold, 20, NOW, receipt())
        return charged

    with ThreadPoolExecutor(32) as pool:
        charged = list(pool.map(carry, range(64)))
    assert charged == [20] * 64
    assert books.wallet().balance == 0


def test_a_crowd_tidies_faster_than_it_leaves_marks(ministack_tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallets_module, "MOST_HOLDS", 100)
    books = real_books(ministack_tables)
    books.wallets.credit("ann", 10_000, "ref", NOW)

    def carry(number: int) -> int:
        books.wallets.settle(books.wallets.hold("ann", f"r{number}", 10, NOW, LATER), 1, NOW, receipt())
        return len(rows(ministack_tables)) if number % 20 == 0 else 0

    with ThreadPoolExecutor(24) as pool:
        assert max(pool.map(carry, range(400))) < 100
    assert books.wallet().balance == 9600


def test_a_full_map_is_opened_by_the_hold_that_meets_it(dynamodb: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    books = real_books(dynamodb)
    books.wallets.credit("ann", 100, "ref", NOW)
    for number in range(20):
        books.wallets.settle(books.wallets.hold("ann", f"r{number}", 1, NOW, LATER), 1, NOW)
    before = len(rows(dynamodb))
    monkeypatch.setattr(wallets_module, "MOST_HOLDS", 5)
    monkeypatch.setattr(wallets_module, "MARKS_KEPT", 2)
    assert books.wallets.hold("ann", "next", 1, NOW, LATER).amount == 1
    assert len(rows(dynamodb)) < before


def test_a_settle_sent_by_many_threads_charges_once(ministack_tables: Tables) -> None:
    books = real_books(ministack_tables)
    hold = held(books, amount=40)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: books.wallets.settle(hold, 30, NOW, receipt()), range(16))) == {30}
    assert books.wallet() == Wallet("ann", 70, 70, 3)


def test_a_credit_sent_by_many_threads_counts_once(ministack_tables: Tables) -> None:
    books = real_books(ministack_tables)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: books.wallets.credit("ann", 30, "ref", NOW), range(16)))
    assert books.wallet() == Wallet("ann", 30, 30, 1)


# --- the journal ---


def test_entries_add_up_to_the_wallet_at_every_write(books: Books) -> None:
    hold = held(books)
    books.wallets.settle(books.wallets.extend(hold, 60, NOW, LATER), 50, NOW, receipt())
    entries = books.write_journal()
    assert [(one.seq, one.kind, one.delta, one.held) for one in entries] == [
        (1, "credit", 100, 0),
        (2, "hold", 0, 40),
        (3, "extend", 0, 20),
        (4, "settle", -50, -60),
    ]
    for position, entry in enumerate(entries, start=1):
        assert entry.balance == sum(one.delta for one in entries[:position])
        assert entry.balance - entry.available == sum(one.held for one in entries[:position])
    assert books.entries.after("ann", 0) == entries
    assert books.entries.after("ann", 1, limit=2) == entries[1:3]
    assert books.entries.after("bob", 0) == []


def test_a_receipt_is_read_by_its_request_and_only_by_its_owner(books: Books) -> None:
    hold = held(books)
    books.wallets.settle(hold, 25, NOW, receipt())
    books.wallets.settle(books.wallets.hold("ann", "r2", 1, NOW, LATER), 0, NOW, None, "release")
    books.write_journal()
    found = books.entries.receipt("ann", "r1")
    assert found.receipt == receipt()
    assert found.delta == -25
    assert books.entries.receipt("ann", "r2").kind == "release"
    assert books.entries.receipt("bob", "r1") is None
    assert books.entries.credited("ann", "for r1").delta == 100
    assert books.entries.receipt("ann", "for r1") is None


def test_what_the_stream_says_twice_is_written_and_counted_once(books: Books) -> None:
    books.wallets.credit("ann", 1000, "ref", NOW)
    for number in range(6):
        hold = books.wallets.hold("ann", f"r{number}", 10, NOW, LATER)
        books.wallets.settle(hold, number, NOW, receipt("gpt" if number % 2 else "claude/3#x"))
    entries = books.journal()
    for batch in (entries[:5], entries[3:9], entries[:9], entries[9:] + entries[9:], entries):
        books.entries.put(batch)
        books.entries.count(batch)
    assert books.entries.after("ann", 0) == entries
    usage = {one.model: one for one in books.entries.usage("ann", DAY, DAY)}
    assert (usage["gpt"].requests, usage["gpt"].cost, usage["gpt"].output) == (3, 9, 21)
    assert (usage["claude/3#x"].requests, usage["claude/3#x"].cost) == (3, 6)


def test_usage_is_by_day(books: Books) -> None:
    books.wallets.credit("ann", 1000, "ref", NOW)
    for day in range(3):
        at = NOW + day * 86_400
        books.wallets.settle(books.wallets.hold("ann", f"r{day}", 10, at, at + 100), 5, at, receipt())
    books.write_journal()
    assert [one.day for one in books.entries.usage("ann", "2025-11-22", "2025-11-23")] == ["2025-11-22", "2025-11-23"]
    assert books.entries.usage("ann", "2025-11-01", "2025-11-20") == []


# --- the proof ---


def test_the_proof_goes_on_from_the_last_one(books: Books) -> None:
    hold = held(books)
    books.write_journal()
    first = books.entries.prove(books.wallet(), NOW)
    assert (first.holds_true, first.seq, first.balance, first.held, first.behind) == (True, 2, 100, 40, 0)
    books.wallets.settle(hold, 30, NOW, receipt())
    late = books.entries.prove(books.wallet(), NOW)
    assert (late.holds_true, late.seq, late.behind) == (True, 2, 1)
    books.write_journal()
    second = books.entries.prove(books.wallet(), NOW)
    assert (second.holds_true, second.seq, second.balance, second.held, second.behind) == (True, 3, 70, 0, 0)


def test_a_lost_entry_fails_the_proof_once_it_cannot_be_late_any_more(books: Books) -> None:
    books.wallets.settle(held(books), 30, NOW, receipt())
    books.entries.put([entry for entry in books.journal() if entry.seq != 2])
    soon = books.entries.prove(books.wallet(), NOW + 10)
    assert (soon.holds_true, soon.seq, soon.behind) == (True, 1, 2)
    lost = books.entries.prove(books.wallet(), NOW + 5000)
    assert not lost.holds_true
    assert lost.missing == (2,)
    books.write_journal()
    assert books.entries.prove(books.wallet(), NOW + 5000).holds_true


def test_an_entry_that_lies_fails_the_proof(books: Books) -> None:
    books.wallets.settle(held(books), 30, NOW, receipt())
    *true, settle = books.journal()
    lie = Entry(**{name: getattr(settle, name) for name in settle.__slots__} | {"delta": -29})
    books.entries.put([*true, lie])
    proof = books.entries.prove(books.wallet(), NOW)
    assert not proof.holds_true
    assert (proof.balance, proof.entries_balance) == (70, 71)


def test_a_wallet_changed_by_hand_fails_the_proof(dynamodb: Tables) -> None:
    books = real_books(dynamodb)
    held(books)
    books.write_journal()
    assert books.entries.prove(books.wallet(), NOW).holds_true
    key = {"pk": {"S": "W#ann"}, "sk": {"S": "WALLET"}}
    more = {"UpdateExpression": "ADD available :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}
    dynamodb.client.update_item(TableName=dynamodb.ledger, Key=key, **more)
    proof = books.entries.prove(books.wallets.get("ann"), NOW)
    assert not proof.holds_true
    assert proof.drift == -1


# --- the ledger is down ---


def test_a_ledger_that_is_down_is_unavailable(dynamodb: Tables) -> None:
    gone = Wallets(dynamodb.client, "no-such-table")
    with pytest.raises(Unavailable):
        gone.hold("ann", "r1", 1, NOW, LATER)
    with pytest.raises(Unavailable):
        gone.get("ann")
    with pytest.raises(Unavailable):
        Entries(dynamodb.client, "no-such-table").after("ann", 0)
