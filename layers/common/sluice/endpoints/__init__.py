"""Level 1: one file per kind of call that is no chat. A file that is here is an endpoint that exists; nothing lists them."""

from __future__ import annotations

import pkgutil
from functools import cache, lru_cache
from importlib import import_module

from sluice.endpoints._base import Answer, Endpoint

__all__ = ["Answer", "Endpoint", "available", "load"]


@lru_cache(maxsize=1)
def available() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@cache
def load(name: str) -> Endpoint:
    """An endpoint, imported on first use. Raises LookupError on a name that does not exist."""
    if name not in available():
        raise LookupError(f"no endpoint {name!r}; there are {', '.join(sorted(available()))}")
    endpoint: Endpoint = import_module(f"{__name__}.{name}").ENDPOINT
    return endpoint
