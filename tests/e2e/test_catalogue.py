"""What models can do and how channels are, seen through the official SDK and by the operator, on real parts."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from sluice.types import Model
from tests.e2e.conftest import MESSAGES, House

TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
IMAGE: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]


async def describe(house: House, model: Model) -> None:
    await house.admin.catalog.put_model(model)
    await house.relay.catalog.poll()


async def test_what_a_model_lacks_is_a_400_that_names_the_field_and_costs_nothing(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")
    await describe(house, Model(model, input=("text",), tools=False))
    for asked, param in (
        ({"messages": MESSAGES, "tools": TOOLS}, "tools"),
        ({"messages": [*MESSAGES, {"role": "user", "content": IMAGE}]}, "messages[1].content[0]"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await caller.sdk.chat.completions.create(model=model, **asked)
        assert refused.value.param == param
        assert refused.value.code == "unsupported_by_model"
    assert not house.up.calls
    assert [entry.kind for entry in await house.entries(caller)] == ["credit"]
    assert (await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)).choices[0].message.content


async def test_a_request_goes_to_the_channel_whose_model_can_do_it(house: House) -> None:
    """Two channels, mapped to names of the default catalogue: the first reads no images."""
    caller, model = await house.caller(), await house.model()
    blind = await house.channel(model, priority=0, mapping={model: "gpt-oss-120b"})
    seeing = await house.channel(model, priority=1, mapping={model: "gpt-4o"})
    content = [{"role": "user", "content": IMAGE}]
    await caller.sdk.chat.completions.create(model=model, messages=content)
    assert (len(house.asked(blind)), len(house.asked(seeing))) == (0, 1)
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert (len(house.asked(blind)), len(house.asked(seeing))) == (1, 1)


async def test_a_models_own_cap_lowers_the_hold(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok", given_input="0", output="1")
    await describe(house, Model(model, max_output=100))
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES, max_tokens=50)
    await house.settled()
    held = [entry.held for entry in await house.entries(caller) if entry.kind == "hold"]
    assert held == [100 * 1000, 50 * 1000]


async def test_the_list_of_models_tells_what_is_known(house: House) -> None:
    caller, model = await house.caller(), await house.model("ok")
    await describe(house, Model(model, name="Our own", context=1000, max_output=100, input=("text",), tools=False))
    found = await caller.sdk.models.retrieve(model)
    told = found.model_dump()
    assert (found.id, found.object, found.owned_by) == (model, "model", "sluice")
    assert (told["context_window"], told["max_output_tokens"], told["tools"]) == (1000, 100, False)
    assert told["input_modalities"] == ["text"]
    assert "reasoning" not in told
    listed = [one async for one in caller.sdk.models.list()]
    assert found in listed


async def test_an_operator_sees_a_mark_and_a_change_lifts_it_everywhere(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    channel_id = await house.channel(model, "status=401,times=1")
    with pytest.raises(openai.APIStatusError):
        await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    channel = (await house.admin.catalog.channel(channel_id)).channel
    (mark,) = (await house.admin.care.marks([channel]))[channel_id]
    assert (mark.kind, mark.model) == ("auth", "")
    assert 0 < mark.until - house.admin.clock() <= 60
    backup = await house.channel(model, "ok", priority=1)
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert (len(house.asked(channel_id)), len(house.asked(backup))) == (1, 1)
    changed = (await house.admin.catalog.change_channel(channel_id, {})).channel
    assert (await house.admin.care.marks([changed]))[channel_id] == ()
    await house.relay.catalog.poll()
    await caller.sdk.chat.completions.create(model=model, messages=MESSAGES)
    assert (len(house.asked(channel_id)), len(house.asked(backup))) == (2, 1)


async def test_a_channel_is_tested_with_its_own_secret_and_no_user_pays(house: House) -> None:
    caller, model = await house.caller(), await house.model()
    good, bad = await house.channel(model), await house.channel(model, "status=429,code=insufficient_quota")
    told = await house.admin.care.test(good)
    assert (told.kind, told.model, told.status) == ("ok", model, 200)
    assert 0 <= told.ttft_ms <= told.latency_ms
    (call,) = house.asked(good)
    assert call.headers["authorization"] == f"Bearer sk-upstream-{good}-secret"
    assert (await house.admin.care.test(bad)).kind == "quota"
    channel = (await house.admin.catalog.channel(bad)).channel
    assert (await house.admin.care.marks([channel]))[bad] == ()
    assert [entry.kind for entry in await house.entries(caller)] == ["credit"]


async def test_a_channel_takes_over_what_its_provider_offers(house: House) -> None:
    house.up.models = ("offered-1", "offered-2")
    model = await house.model()
    channel_id = await house.channel(model)
    offer = await house.admin.care.offer(channel_id)
    assert (offer.added, offer.gone) == (("offered-1", "offered-2"), (model,))
    assert (await house.admin.catalog.channel(channel_id)).channel.models == (model,)
    await house.admin.care.adopt(channel_id)
    assert (await house.admin.catalog.channel(channel_id)).channel.models == ("offered-1", "offered-2")
