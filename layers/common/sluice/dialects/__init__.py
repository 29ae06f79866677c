"""Level 1: one file per client format. A file that is here is a dialect that exists; nothing lists them."""

from __future__ import annotations

import pkgutil
from functools import cache, lru_cache
from importlib import import_module

from sluice.dialects._base import Dialect, Encoder, Recorder, Remembering, Route, shown_by
from sluice.dialects._words import in_own_words, own_name

__all__ = [
    "Dialect",
    "Encoder",
    "Recorder",
    "Remembering",
    "Route",
    "available",
    "in_own_words",
    "load",
    "own_name",
    "shown_by",
]


@lru_cache(maxsize=1)
def available() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@cache
def load(name: str) -> Dialect:
    """A dialect, imported on first use. Raises LookupError on a name that does not exist."""
    if name not in available():
        raise LookupError(f"no dialect {name!r}; there are {', '.join(sorted(available()))}")
    dialect: Dialect = import_module(f"{__name__}.{name}").DIALECT
    return dialect
