"""What a model is known to lack is refused by name; what nobody knows is the provider's to judge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice import models
from sluice.errors import BadRequest
from sluice.pipeline import abilities
from sluice.types import Catalog, Channel, ChatRequest, Model

TEXT = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
IMAGE = [{"role": "system", "content": "s"}, {"role": "user", "content": [TEXT[0], {"type": "image_url"}]}]
TOOLS = {"messages": TEXT, "tools": [{"type": "function"}]}
SCHEMA = {"messages": TEXT, "response_format": {"type": "json_schema"}}
BLIND = Model("m", input=("text",), tools=False, structured=False)


def channel(name: str, upstream: str) -> Channel:
    return Channel(name, "openai", name, ("m",), mapping={"m": upstream})


def asked(body: dict[str, Any], **more: Any) -> ChatRequest:
    return replace(ChatRequest("m", body, raw=body), **more)


def catalog(row: Model | None = None) -> Catalog:
    return Catalog(1, (), {}, {"m": row} if row else {})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default catalogue of two: one that can do everything, one that can do nothing but text."""
    able = Model("able", input=("text", "image"), tools=True, structured=True, max_output=100)
    found = {"able": able, "blind": replace(BLIND, max_output=50)}
    monkeypatch.setattr(models, "catalogue", lambda: found)


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"messages": IMAGE}, "messages[1].content[1]", "images"),
        (TOOLS, "tools", "tools"),
        (SCHEMA, "response_format", "json_schema"),
    ],
)
def test_what_the_operator_says_is_lacking_is_refused_by_its_field(body: dict[str, Any], param: str, word: str) -> None:
    with pytest.raises(BadRequest) as refused:
        abilities.able(catalog(BLIND), asked(body), (channel("a", "x"),))
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, "unsupported_by_model")
    assert word in refused.value.message
    assert "`m`" in refused.value.message


@pytest.mark.parametrize("body", [{"messages": IMAGE}, TOOLS, SCHEMA])
def test_what_nobody_knows_is_not_refused(body: dict[str, Any]) -> None:
    channels = (channel("a", "unheard-of"),)
    assert abilities.able(catalog(), asked(body), channels) == channels


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("body", [{"messages": IMAGE}, TOOLS, SCHEMA])
def test_channels_whose_model_lacks_it_are_left_out_and_the_others_asked(body: dict[str, Any]) -> None:
    able, blind = channel("a", "able"), channel("b", "blind")
    assert abilities.able(catalog(), asked(body), (blind, able)) == (able,)
    assert abilities.able(catalog(), asked({"messages": TEXT}), (blind, able)) == (blind, able)
    with pytest.raises(BadRequest):
        abilities.able(catalog(), asked(body), (blind,))


@pytest.mark.usefixtures("known")
def test_the_operators_word_goes_over_the_default_for_every_channel() -> None:
    channels = (channel("b", "blind"),)
    said = Model("m", input=("text", "image"), tools=True)
    assert abilities.able(catalog(said), asked({"messages": IMAGE, "tools": [{}]}), channels) == channels
    with pytest.raises(BadRequest):
        abilities.able(catalog(said), asked(SCHEMA), channels)


@pytest.mark.parametrize(
    ("raw", "dialect", "param"),
    [({"contents": []}, "gemini", "contents"), ({"input": []}, "responses", "input")],
)
def test_another_dialects_client_is_told_of_its_own_field(raw: dict[str, Any], dialect: str, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        abilities.able(catalog(BLIND), asked({"messages": IMAGE}, raw=raw, dialect=dialect), (channel("a", "x"),))
    assert refused.value.param == param


@pytest.mark.usefixtures("known")
def test_the_cap_on_output_is_the_largest_of_the_channels_and_none_where_one_is_unknown() -> None:
    able, blind, other = channel("a", "able"), channel("b", "blind"), channel("c", "unheard-of")
    assert abilities.most_output(catalog(), asked(TOOLS), (able, blind)) == 100
    assert abilities.most_output(catalog(), asked(TOOLS), (able, other)) == 0
    assert abilities.most_output(catalog(Model("m", max_output=7)), asked(TOOLS), (able, other)) == 7
