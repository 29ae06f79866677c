"""What every dialect asks of a client's body. Each raises BadRequest naming the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from sluice.errors import BadRequest


def json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    return fields


def model_name(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must name a model.", param="model")
    return model


def mapping(fields: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    """An object, empty where there is none. `where` is what stands before the field's name in the error."""
    value = fields.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise BadRequest(f"`{where}{name}` must be an object.", param=f"{where}{name}")
    return value or {}


def boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"`{name}` must be true or false.", param=name)
    return bool(value)


def integer(fields: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"between {least} and {most}"
        raise BadRequest(f"`{name}` must be a whole number {limits}.", param=name)
    return value
