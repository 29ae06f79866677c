"""DynamoDB's item format to plain values and back, and the client's type.

Why not boto3's serializer: importing boto3 costs the relay s3transfer; why not PynamoDB: docs/decisions/2026-11-21-botocore.md.
Numbers are integers here (money is nano-dollars, times are seconds); anything fractional is kept as a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Client = Any
"""A botocore DynamoDB client (botocore ships no types)."""

Item = Mapping[str, Any]


def pack(value: Any) -> dict[str, Any]:
    """A plain value as a DynamoDB attribute value. Raises TypeError on what has no place (a float, a set)."""
    match value:
        case bool():
            return {"BOOL": value}
        case None:
            return {"NULL": True}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case bytes():
            return {"B": value}
        case list() | tuple():
            return {"L": [pack(one) for one in value]}
        case Mapping():
            return {"M": pack_item(value)}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def pack_item(values: Item) -> dict[str, Any]:
    return {name: pack(value) for name, value in values.items()}


def unpack(attribute: Mapping[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value)
        case "L":
            return [unpack(one) for one in value]
        case "M":
            return unpack_item(value)
        case "NULL":
            return None
    return value


def unpack_item(item: Item) -> dict[str, Any]:
    return {name: unpack(attribute) for name, attribute in item.items()}
