"""Level 1: what is known of models before any operator says anything, and how an operator's word goes over it.

The facts are data: `models.json`, with the day they were read and where. They are read when first asked for.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from decimal import Decimal
from functools import cache
from typing import Any

from sluice.types import Model

_SNAPSHOT = re.compile(r"[-@](?:\d{8}|\d{4}-\d\d-\d\d)$")


def default(name: str) -> Model | None:
    """What is known of a model by a provider's own name for it. A dated snapshot is what its family is."""
    known = catalogue()
    found = known.get(name) or known.get(_SNAPSHOT.sub("", name))
    return found and replace(found, id=name)


def over(row: Model | None, base: Model | None, name: str) -> Model:
    """The model `name` as `row` says, and where that is silent as `base` does."""
    said = {one.name: getattr(row, one.name) for one in fields(Model)} if row else {}
    known: Mapping[str, Any] = {field: value for field, value in said.items() if value is False or value}
    return replace(base or Model(name), **{**known, "id": name})


@cache
def catalogue() -> Mapping[str, Model]:
    """Every model of the default catalogue by each of its names."""
    return {
        name: replace(model, id=name) for row in _data()["models"] for model in [_model(row)] for name in _names(row)
    }


def dated() -> str:
    """The day (YYYY-MM-DD) the facts were read."""
    return str(_data()["date"])


@cache
def _data() -> Mapping[str, Any]:
    body = pkgutil.get_data("sluice", "models.json")
    if body is None:
        raise LookupError("models.json is not in the package")
    data: Mapping[str, Any] = json.loads(body)
    return data


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["id"]
    yield from row.get("also", ())


def _model(row: Mapping[str, Any]) -> Model:
    known = {one.name: row[one.name] for one in fields(Model) if one.name in row}
    for name in ("input", "output"):
        known[name] = tuple(known.get(name, ()))
    known["prices"] = {kind: Decimal(usd) for kind, usd in known.get("prices", {}).items()}
    return Model(**known)
