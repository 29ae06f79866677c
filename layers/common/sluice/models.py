"""Level 1: what is known of models before any operator says anything, and how an operator's word goes over it.

The facts are data: `models.json`, with the day they were gathered and where from. They are read when first asked for.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from decimal import Decimal
from functools import cache
from typing import Any

from sluice.types import Channel, Model

_SNAPSHOT = re.compile(r"[-@](?:\d{8}|\d{4}-\d\d-\d\d)$")


def default(name: str) -> Model | None:
    """What is known of a model by a provider's own name for it. A dated snapshot is what its family is."""
    known = catalogue()
    found = known.get(name) or known.get(_SNAPSHOT.sub("", name))
    return found and replace(found, id=name)


def over(row: Model | None, base: Model | None, name: str) -> Model:
    """The model `name` as `row` says, and where that is silent as `base` does."""
    return replace(base or Model(name), **{**(said(row) if row else {}), "id": name})


def said(model: Model) -> dict[str, Any]:
    """The fields of `model` that say something."""
    values = {one.name: getattr(model, one.name) for one in fields(Model)}
    return {field: value for field, value in values.items() if value is False or value}


def described(name: str, channels: Iterable[Channel], row: Model | None) -> Model:
    """A client's model as the operator's `row` describes it, and else as what serves it is known.

    That is the one name the channels map it to; where they map it to several, the client's own name for it.
    """
    asked = {channel.upstream_model(name) for channel in channels}
    return over(row, default(asked.pop() if len(asked) == 1 else name), name)


@cache
def catalogue() -> Mapping[str, Model]:
    """Every model of the default catalogue by each of its names."""
    known: dict[str, Model] = {}
    for row in _data()["models"]:
        model = _model(row)
        known.update({name: replace(model, id=name) for name in (model.id, *row.get("also", ()))})
    return known


def dated() -> str:
    """The day (YYYY-MM-DD) the facts were gathered."""
    return str(_data()["date"])


@cache
def _data() -> Mapping[str, Any]:
    body = pkgutil.get_data("sluice", "models.json")
    if body is None:
        raise LookupError("models.json is not in the package")
    data: Mapping[str, Any] = json.loads(body)
    return data


def _model(row: Mapping[str, Any]) -> Model:
    known = {one.name: row[one.name] for one in fields(Model) if one.name in row}
    for name in ("input", "output"):
        known[name] = tuple(known.get(name, ()))
    known["prices"] = {kind: Decimal(usd) for kind, usd in known.get("prices", {}).items()}
    return Model(**known)
