"""The default catalogue as data, and how an operator's word goes over it."""

from __future__ import annotations

from datetime import date

import pytest

from sluice import models
from sluice.types import RATE_KINDS, Channel, Model

MODALITIES = {"text", "image", "audio", "video", "file", "embedding"}


def test_the_catalogue_says_when_it_was_gathered() -> None:
    assert date.fromisoformat(models.dated()) >= date(2026, 11, 21)


@pytest.mark.parametrize("name", sorted(models.catalogue()))
def test_every_row_is_whole_and_plausible(name: str) -> None:
    model = models.default(name)
    assert model is not None
    assert model.id == name
    assert model.name
    assert model.owner
    assert {*model.input, *model.output} <= MODALITIES
    assert model.output, "a row says at least what comes out"
    assert 0 <= model.max_output <= 1_000_000
    assert model.context == 0 or model.context >= max(model.max_output, 512)
    assert model.prices.keys() <= {"input", "output", *RATE_KINDS}
    assert all(0 <= usd <= 1000 for usd in model.prices.values())
    cached = model.prices.get("cached_input", 0)
    assert cached <= model.prices.get("input", cached)


def test_no_name_stands_for_two_models() -> None:
    data = models._data()["models"]
    names = [name for row in data for name in (row["id"], *row.get("also", ()))]
    assert sorted(names) == sorted(set(names))
    assert len(data) > 60


def test_every_row_says_where_it_is_from() -> None:
    sources = models._data()["sources"]
    assert all(source.startswith("https://") for source in sources.values())
    assert {row["source"] for row in models._data()["models"]} == sources.keys()


def test_a_dated_snapshot_is_known_as_its_family() -> None:
    name = next(name for name in models.catalogue() if not models._SNAPSHOT.search(name))
    family = models.default(name)
    assert family is not None
    for suffix in ("-20261121", "-2026-11-21", "@20261121"):
        found = models.default(name + suffix)
        assert found is not None
        assert found.id == name + suffix
        assert found.max_output == family.max_output
    assert models.default(f"{name}-2026") is None


def test_what_is_said_goes_over_what_is_known_and_false_is_said() -> None:
    base = Model("base", name="Base", context=1000, tools=True, input=("text", "image"))
    row = Model("m", tools=False, max_output=5, input=("text",))
    assert models.over(row, base, "m") == Model(
        "m", name="Base", context=1000, max_output=5, tools=False, input=("text",)
    )
    assert models.over(None, base, "m") == Model("m", name="Base", context=1000, tools=True, input=("text", "image"))
    assert models.over(None, None, "m") == Model("m")


def test_a_mapped_model_is_known_as_what_it_is_mapped_to() -> None:
    known = next(iter(models.catalogue()))
    one = Channel("a", "openai", "a", ("alias",), mapping={"alias": known})
    two = Channel("b", "openai", "b", ("alias",), mapping={"alias": "unheard-of"})
    found = models.default(known)
    assert found is not None
    assert models.described("alias", (one,), None).name == found.name
    assert models.described("alias", (one, two), None) == Model("alias")
    assert models.described(known, (), None) == found
