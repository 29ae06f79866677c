"""What every dialect asks of a client's body. Each raises BadRequest naming the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson

from sluice.errors import BadRequest

DEEPEST = 200
"""Levels of nesting a body may have: what is deeper cannot be written again by the JSON library."""


def json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    # Only a body with that many brackets can be that deep, and most have fewer.
    if body.count(b"{") + body.count(b"[") > DEEPEST and _deeper(fields, DEEPEST):
        raise BadRequest(f"The body is nested deeper than {DEEPEST} levels.", code="invalid_json")
    return fields


def objects(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects, empty where there is none."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise BadRequest(f"`{name}` must be a list of objects.", param=name)
    return value


_IS: Mapping[str, Callable[[Any], bool]] = {
    "a number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "a string": lambda value: isinstance(value, str),
}
NUMBER, WHOLE, BOOLEAN, STRING = _IS
"""Kinds of values, by the words an error has for them."""

Shape = str | Mapping[str, Any] | Sequence[Any]
"""A kind; an object with the shapes of its fields, others being free; a list of one shape; or a tuple of shapes, any of which will do."""


def shaped(value: Any, shape: Shape, where: str = "") -> None:
    """Checks the types of the fields that a shape knows, as far down as it goes. What is null is not there."""
    options = shape if isinstance(shape, tuple) else (shape,)
    if not any(_fits(value, option, where) for option in options):
        raise BadRequest(f"`{where}` must be {' or '.join(map(_worded, options))}.", param=where)


def _fits(value: Any, option: Shape, where: str) -> bool:
    if isinstance(option, str):
        return _IS[option](value)
    if isinstance(option, list):
        if not isinstance(value, list):
            return False
        for at, one in enumerate(value):
            shaped(one, option[0], f"{where}[{at}]")
        return True
    if not isinstance(value, dict):
        return False
    for name, inner in cast(Mapping[str, Any], option).items():
        if (one := value.get(name)) is not None:
            shaped(one, inner, f"{where}.{name}" if where else name)
    return True


def _worded(option: Shape) -> str:
    return option if isinstance(option, str) else "a list" if isinstance(option, list) else "an object"


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


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
