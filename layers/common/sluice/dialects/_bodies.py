"""A provider's own JSON where a dialect has to write a name in it anew.

Half a surrogate pair, which orjson refuses both ways, is wrong and common: the standard library reads and writes it as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson


def read(data: str) -> dict[str, Any]:
    """Raises ValueError on what is no JSON."""
    try:
        value: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = json.loads(data)
    return value


def written(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
