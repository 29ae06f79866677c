"""Each official SDK on each of four protocols: a stream of text, a stream of parallel calls, a whole answer, and what it is charged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from sluice.types import Secret
from tests.e2e.conftest import MESSAGES, Caller, House
from tests.e2e.playback import Playback, Recording

CASES = Path(__file__).parents[1] / "adapters" / "cases"
PROMPT = MESSAGES[0]["content"]
AWS = "application/vnd.amazon.eventstream"


@dataclass(slots=True)
class Said:
    """What a client heard: its text, and each call's name with its arguments."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Protocol:
    folder: str = ""
    stream: str = "sse"
    channel: dict[str, Any] = field(default_factory=dict)


PROTOCOLS = {
    "openai": Protocol("/v1"),
    "anthropic": Protocol("/v1"),
    "gemini": Protocol("/v1beta"),
    "bedrock": Protocol("", "eventstream.bin", {"secret": Secret("AKIDEXAMPLE:secret/of+aws")}),
}


async def openai_says(caller: Caller, url: str, model: str, *, stream: bool) -> Said:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=caller.key, max_retries=0) as sdk:
        if not stream:
            return _completed(await sdk.chat.completions.create(model=model, messages=MESSAGES))
        async with sdk.chat.completions.stream(model=model, messages=MESSAGES) as answer:
            return _completed(await answer.get_final_completion())


def _completed(completion: Any) -> Said:
    message = completion.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return Said(message.content or "", calls)


async def anthropic_says(caller: Caller, url: str, model: str, *, stream: bool) -> Said:
    asked: Any = {"model": model, "max_tokens": 400, "messages": MESSAGES}
    async with anthropic.AsyncAnthropic(base_url=url, api_key=caller.key, max_retries=0) as sdk:
        if stream:
            async with sdk.messages.stream(**asked) as answer:
                message = await answer.get_final_message()
        else:
            message = await sdk.messages.create(**asked)
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    return Said("".join(block.text for block in message.content if block.type == "text"), calls)


async def gemini_says(caller: Caller, url: str, model: str, *, stream: bool) -> Said:
    async with _gemini(caller, url) as sdk:
        if stream:
            pieces = [piece async for piece in await sdk.models.generate_content_stream(model=model, contents=PROMPT)]
        else:
            pieces = [await sdk.models.generate_content(model=model, contents=PROMPT)]
    parts = [part for piece in pieces for one in piece.candidates or () for part in (one.content.parts or ())]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    return Said("".join(part.text for part in parts if part.text and not part.thought), calls)


@asynccontextmanager
async def _gemini(caller: Caller, url: str) -> AsyncIterator[Any]:
    client = genai.Client(api_key=caller.key, http_options=types.HttpOptions(base_url=url))
    yield client.aio
    await client.aio.aclose()
    client.close()


SDKS: dict[str, Callable[..., Awaitable[Said]]] = {
    "openai": openai_says,
    "anthropic": anthropic_says,
    "google-genai": gemini_says,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("case", ["text", "tools", "whole"])
async def test_every_sdk_on_every_protocol(
    house: House, playback: Playback, sdk: str, protocol: str, case: str
) -> None:
    given = PROTOCOLS[protocol]
    file = CASES / protocol / ("whole.json" if case == "whole" else f"{case}.{given.stream}")
    caller, model = await house.caller(), await house.model()
    kind = "application/json" if case == "whole" else AWS if protocol == "bedrock" else "text/event-stream"
    tape = playback.tape(model, Recording(file.read_bytes(), content_type=kind))
    await house.channel(model, type=protocol, endpoint=f"{tape.url}{given.folder}", **given.channel)
    said = await SDKS[sdk](caller, house.url, model, stream=case != "whole")
    expected = json.loads((CASES / protocol / f"{case}.expected.json").read_bytes())
    first = expected["choices"]["0"]
    assert said.text == first["text"]
    assert said.calls == [(name, json.loads(arguments)) for _, name, arguments in first["tool_calls"]]
    receipt = (await house.last_charge(caller)).receipt
    assert receipt is not None
    assert (receipt.usage.input, receipt.usage.output) == (expected["usage"]["input"], expected["usage"]["output"])
    assert (receipt.usage.source, receipt.end_reason) == ("provider", "done")
