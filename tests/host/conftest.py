"""The house of the end-to-end tests, for a relay that runs beside it in processes of its own."""

from tests.contract.conftest import ministack_endpoint, running_ministack
from tests.e2e.conftest import clients, consumed, house, playback, settings, tables, valkey_url

__all__ = [
    "clients",
    "consumed",
    "house",
    "ministack_endpoint",
    "playback",
    "running_ministack",
    "settings",
    "tables",
    "valkey_url",
]
