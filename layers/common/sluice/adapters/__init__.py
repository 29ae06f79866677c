"""Level 1: one file per provider, pure translation. A file that is here is a provider that exists; nothing lists them."""

from __future__ import annotations

import pkgutil
from functools import cache, lru_cache
from importlib import import_module

from sluice.adapters._base import Adapter, CallAdapter, ListsModels, Offers, Provider

__all__ = ["Adapter", "CallAdapter", "ListsModels", "Offers", "Provider", "available", "endpoint", "load"]


@lru_cache(maxsize=1)
def available() -> frozenset[str]:
    """The channel types that exist: the names of this folder's public modules."""
    return frozenset(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


@cache
def load(name: str) -> Provider:
    """The provider of a channel type, imported on first use. Raises LookupError on a type that does not exist."""
    if name not in available():
        raise LookupError(f"no adapter {name!r}; there are {', '.join(sorted(available()))}")
    provider: Provider = import_module(f"{__name__}.{name}").ADAPTER
    return provider


def endpoint(name: str, kind: str, now: float) -> CallAdapter | None:
    """A fresh adapter for one attempt at a call that is no chat; None where the provider has no such thing."""
    provider = load(name)
    return provider.endpoint(kind, now) if isinstance(provider, Offers) else None
