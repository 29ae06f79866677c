"""The entry on Lambda. The app is built at the first event: importing this file must not reach for AWS."""

from __future__ import annotations

from functools import cache
from typing import Any

from mangum import Mangum

from admin_app import create_app
from sluice import wiring
from sluice.settings import Settings


@cache
def _door() -> Mangum:
    return Mangum(create_app(wiring.build_admin(Settings.from_env())), lifespan="off")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    answer: dict[str, Any] = _door()(event, context)
    return answer
