"""A provider is one file, a client's format is one file: written here, put where the others are, and used through everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice import adapters, dialects
from tests.e2e.conftest import MESSAGES, House
from tests.e2e.playback import Playback, Recording

PROVIDER = '''
"""Made up: reasoning under another name, a finish reason and an error code of its own."""
from sluice.adapters._openai import OpenAICompatible

ADAPTER = OpenAICompatible(
    name="madeup",
    base_url="https://api.madeup.test/v3",
    rename={"max_tokens": "cap"},
    reasoning=("musing",),
    finish={"fin": "stop"},
    kinds={"E7": "invalid_request"},
)
'''

DIALECT = '''
"""Made up: one line of text in, lines of text out."""
import json
from sluice.dialects import Route
from sluice.errors import BadRequest
from sluice.types import ChatRequest, Frame, Text


class Lines:
    def relay(self, frame): return ()
    def encode(self, event): return (Frame(event.text, "say"),) if isinstance(event, Text) else ()
    def end(self, usage): return (Frame("over", "end"),)
    def whole(self, frame): return b""
    def completion(self, completion): return json.dumps({"said": completion.choices[0].text}).encode()


class MadeUp:
    name = "madeup"
    routes = (Route("POST", "/madeup/{model}", "chat"),)

    def claims(self, headers): return False

    def parse(self, inbound):
        fields = json.loads(inbound.body)
        if "line" not in fields:
            raise BadRequest("`line` is what to answer.", param="line")
        messages = [{"role": "user", "content": fields["line"]}]
        stream = bool(fields.get("stream"))
        body = {"model": inbound.path["model"], "messages": messages, "stream": stream}
        return ChatRequest(inbound.path["model"], body, stream=stream, dialect=self.name, raw=fields)

    def encoder(self, chat, request_id, created, alias): return Lines()
    def error(self, error, request_id): return json.dumps({"oh": error.message}).encode()
    def error_frame(self, error, request_id): return Frame(error.message, "oh")
    def models(self, models): return b"[]"
    def model(self, model): return b"{}"
    def counted(self, tokens): return b"0"


DIALECT = MadeUp()
'''

STREAM = b"""data:{"id":"1","choices":[{"index":0,"delta":{"musing":"hm"},"finish_reason":""}]}

data:{"id":"1","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":""}]}

data:{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"fin"}],"usage":{"prompt_tokens":5,"completion_tokens":7}}

data:[DONE]

"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more file in each of the two folders, as far as Python can see."""
    for package, source in ((adapters, PROVIDER), (dialects, DIALECT)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "madeup.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        package.available.cache_clear()
    yield
    for package in (adapters, dialects):
        package.available.cache_clear()
        package.load.cache_clear()


async def test_a_provider_of_one_file_serves_openais_sdk(made_up: None, house: House, playback: Playback) -> None:
    caller, model = await house.caller(), await house.model()
    tape = playback.tape("madeup", Recording(STREAM))
    await house.channel(model, type="madeup", endpoint=f"{tape.url}/v3")
    stream = await caller.sdk.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=9, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert "".join(delta.content or "" for delta in deltas) == "Hello"
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "hm"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, "stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1
    assert tape.calls[0].path == "/v3/chat/completions"
    assert tape.calls[0].body["cap"] == 9
    entry = await house.last_charge(caller)
    assert entry.delta == -(5 * 1_000 + 7 * 10_000)


async def test_a_dialect_of_one_file_reaches_a_provider_of_another(
    made_up: None, house: House, playback: Playback
) -> None:
    caller, model = await house.caller(), await house.model("text=Hello%20there")
    whole = await caller.http.post(f"/madeup/{model}", json={"line": "hi"})
    assert whole.json() == {"said": "Hello there"}
    streamed = await caller.http.post(f"/madeup/{model}", json={"line": "hi", "stream": True})
    said = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert ("".join(said[:-1]), said[-1]) == ("Hello there", "over")
    refused = await caller.http.post(f"/madeup/{model}", json={})
    assert (refused.status_code, refused.json()) == (400, {"oh": "`line` is what to answer."})
    assert [call.body["messages"][0]["content"] for call in house.up.calls] == ["hi", "hi"]
