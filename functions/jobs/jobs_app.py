"""The jobs' door: schedules come as {"task": name}, changes of the ledger table as its stream's records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.jobs import Jobs

log = logging.getLogger("sluice.jobs_app")

Answer = dict[str, Any]


async def sweep(jobs: Jobs) -> Answer:
    """How many expired holds were given back, and their sum in nano-dollars."""
    return asdict(await jobs.sweep())


async def prove(jobs: Jobs) -> Answer:
    """The daily proof. Raises RuntimeError when a wallet's books do not add up: the function fails, which its error metric counts."""
    proofs = await jobs.prove_all()
    wrong = [proof for proof in proofs if not proof.holds_true]
    for proof in wrong:
        log.error("a wallet's books do not add up", extra={"fields": asdict(proof)})
    if wrong:
        raise RuntimeError(f"the books of {len(wrong)} of {len(proofs)} wallets do not add up; the log names them")
    return {"wallets": len(proofs), "behind": sum(proof.behind for proof in proofs)}


async def bootstrap(jobs: Jobs) -> Answer:
    """The first admin's key, shown this once; an empty answer where an admin has a key that works."""
    from sluice import wiring

    made = await wiring.build_accounts().bootstrap_admin()
    return {"user_id": made[0].id, "admin_key": made[1].reveal()} if made else {}


TASKS: dict[str, Callable[[Jobs], Awaitable[Answer]]] = {"sweep": sweep, "prove": prove, "bootstrap": bootstrap}


async def handle(jobs: Jobs, event: Mapping[str, Any]) -> Answer:
    """Raises ValueError for an event that is neither a task of ours nor a stream's records."""
    if "Records" in event:
        failed = await jobs.consume(event["Records"])
        return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
    task = TASKS.get(event.get("task", ""))
    if not task:
        raise ValueError(f"no such task: {event.get('task')!r}; there are {', '.join(TASKS)}")
    return await task(jobs)


def handler(event: Mapping[str, Any], context: object) -> Answer:
    return asyncio.run(handle(_jobs(), event))


@cache
def _jobs() -> Jobs:
    from sluice import wiring
    from sluice.settings import Settings

    return wiring.build_jobs(Settings.from_env())
