"""What a failed DynamoDB call means to a caller: its own condition did not hold, or a part of ours is down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice.errors import Unavailable
from sluice.stores._items import Client

log = logging.getLogger(__name__)

_TRIES = 6


class ConditionFailed(Exception):
    """A write's own condition did not hold. `index` is the position of the failed one in its transaction."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(f"condition {index} did not hold")
        self.index = index


@contextmanager
def answers(table: str) -> Iterator[None]:
    """Runs calls of one table. Raises ConditionFailed, or Unavailable for everything that is not the caller's doing."""
    try:
        yield
    except ClientError as error:
        if _code(error) == "ConditionalCheckFailedException":
            raise ConditionFailed from None
        log.error("dynamodb refused", extra={"fields": {"table": table, "code": _code(error)}})
        raise _unavailable() from error
    except BotoCoreError as error:
        log.error("dynamodb unreachable", extra={"fields": {"table": table, "code": type(error).__name__}})
        raise _unavailable() from error


def transact(
    client: Client, table: str, writes: Sequence[Mapping[str, Any]], wait: Callable[[float], None] = time.sleep
) -> None:
    """Writes all of `writes` or none. Raises ConditionFailed naming the first whose condition failed, or Unavailable.

    Another transaction on one of the items cancels this one without a fault of either: it is then sent again.
    """
    with answers(table):
        for tries in range(1, _TRIES + 1):
            try:
                client.transact_write_items(TransactItems=list(writes))
                return
            except client.exceptions.TransactionCanceledException as error:
                reasons = [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())]
                if "ConditionalCheckFailed" in reasons:
                    raise ConditionFailed(reasons.index("ConditionalCheckFailed")) from None
                if "TransactionConflict" not in reasons or tries == _TRIES:
                    raise
            wait(0.02 * 2**tries)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _unavailable() -> Unavailable:
    return Unavailable("The gateway's database did not answer. Try again in a moment.", retry_after=1)
