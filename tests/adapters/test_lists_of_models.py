"""A provider's list of models, where its adapter can ask for one: what is asked, and what is read. Adapters are discovered."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson
import pytest

from sluice import adapters
from sluice.adapters import ListsModels
from sluice.errors import ProviderError
from sluice.types import Channel, Secret

ENDPOINT = "https://host.example/base"
# As each kind of list is documented: facts/providers.md sections 2.3, 4.3 and 7.
LISTS = {
    "data": {"data": [{"id": "one"}, {"id": "two", "type": "model"}, {"no": "id"}]},
    "models": {"models": [{"name": "models/one"}, {"name": "models/two", "displayName": "Two"}]},
}


def listing(name: str) -> ListsModels | None:
    adapter = adapters.load(name).adapter(1_800_000_000.0)
    return adapter if isinstance(adapter, ListsModels) else None


def channel(name: str, secret: str) -> Channel:
    return Channel("a", name, "a", ("m",), secret=Secret(secret), endpoint=ENDPOINT, proxy="http://proxy.example")


ASKED = sorted(name for name in adapters.available() if listing(name))


def test_most_adapters_can_ask() -> None:
    assert {"openai", "anthropic", "gemini"} <= set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_the_request_is_a_get_of_the_endpoints_own_list_with_the_secret_in_a_header(name: str) -> None:
    adapter = listing(name)
    assert adapter
    request, other = (adapter.list_models(channel(name, secret)) for secret in ("sk-0123456789", "sk-9876543210"))
    assert (request.method, request.body, request.proxy) == ("GET", b"", "http://proxy.example")
    assert request.url.startswith(f"{ENDPOINT}/")
    assert urlsplit(request.url).path.endswith("/models")
    assert request.url == other.url
    assert request.headers != other.headers


@pytest.mark.parametrize("name", ASKED)
def test_a_list_is_read_and_anything_else_is_an_error(name: str) -> None:
    adapter = listing(name)
    assert adapter
    read = []
    for body in LISTS.values():
        try:
            read.append(adapter.models_of(orjson.dumps(body).decode()))
        except ProviderError as error:
            assert error.kind == "server"  # noqa: PT017
    assert read == [["one", "two"]]
    for body in ("<html>", "[]", "{}", '{"data": 5}'):
        with pytest.raises(ProviderError):
            adapter.models_of(body)
