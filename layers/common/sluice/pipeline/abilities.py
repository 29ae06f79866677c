"""What a model can do, and which channels can do what a request asks for."""

from __future__ import annotations

from sluice import models
from sluice.types import Catalog, Channel, Model


def described(catalog: Catalog, name: str, channels: tuple[Channel, ...]) -> Model:
    """The model as the operator describes it, and else as what serves it is known: its name where that is what is asked of
    providers, or the one name that it is mapped to."""
    asked = {channel.upstream_model(name) for channel in channels}
    served = asked.pop() if len(asked) == 1 else name
    return models.over(catalog.described.get(name), models.default(served), name)
