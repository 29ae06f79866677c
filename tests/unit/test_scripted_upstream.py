"""The scripted upstream keeps its word: each directive does to a real client what its name says."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local import scripted_answer, scripted_calls
from infra.local.scripted_answer import Script
from infra.local.scripted_upstream import Call, ScriptedUpstream

HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello there"}]}


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


def url(up: ScriptedUpstream, script: str) -> str:
    return f"{up.url}/{script}/v1/chat/completions"


async def streamed(http: httpx.AsyncClient, url: str, **more: Any) -> bytes:
    """The whole body; raises what httpx raises where it was cut."""
    async with http.stream("POST", url, json={**HELLO, "stream": True, **more}) as response:
        assert response.status_code == 200
        return b"".join([part async for part in response.aiter_bytes()])


def frames(body: bytes) -> list[Any]:
    data = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def text(body: bytes) -> str:
    chunks = [one for one in frames(body) if one != "[DONE]" and one["choices"]]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)


async def ended(call: Call) -> Call:
    await asyncio.wait_for(call.ended.wait(), 5)
    return call


async def test_the_official_sdk_is_at_home(up: ScriptedUpstream) -> None:
    async with openai.AsyncOpenAI(base_url=f"{up.url}/v1", api_key="sk-up") as client:
        whole = await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "one two"}], n=2
        )
        assert len(whole.choices) == 2
        assert "one two" in (whole.choices[1].message.content or "")
        assert whole.usage is not None
        assert whole.usage.prompt_tokens == 5
        assert whole.usage.completion_tokens == 2 * len((whole.choices[0].message.content or "").split())
        assert [model.id async for model in await client.models.list()] == ["demo"]
    assert up.calls[0].headers["authorization"] == "Bearer sk-up"
    assert up.calls[0].body["n"] == 2


async def test_usage_comes_only_when_asked_for(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    without = frames(await streamed(http, url(up, "chunks=3")))
    assert not any("usage" in one for one in without[:-1])
    asked = frames(await streamed(http, url(up, "chunks=3,prompt=11,cached=4"), stream_options={"include_usage": True}))
    assert asked[-1] == "[DONE]"
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["prompt_tokens"] == 11
    assert asked[-2]["usage"]["completion_tokens"] == 3
    assert asked[-2]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert all(one["usage"] is None for one in asked[:-2])


async def test_status_with_code_and_retry_after(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    answer = await http.post(url(up, "status=429,code=insufficient_quota,retry-after=2"), json=HELLO)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_times_counts_per_script(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    statuses = [(await http.post(url(up, "status=500,times=2"), json=HELLO)).status_code for _ in range(3)]
    other = await http.post(url(up, "status=500,times=2,name=b"), json=HELLO)
    assert (statuses, other.status_code) == ([500, 500, 200], 500)


@pytest.mark.parametrize("chunks", range(6))
@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_a_cut_is_an_error_at_any_place(
    up: ScriptedUpstream, http: httpx.AsyncClient, how: str, chunks: int
) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await streamed(http, url(up, f"chunks=5,{how}={chunks}"))
    call = await ended(up.calls[-1])
    assert (call.chunks_sent, call.hung_up) == (chunks, False)


async def test_a_clean_end_without_an_ending(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    assert text(await streamed(http, url(up, "chunks=5,end=2"))) == "word0 word1 "
    assert frames(await streamed(http, url(up, "chunks=5,nodone")))[-1]["choices"][0]["finish_reason"] == "stop"
    assert frames(await streamed(http, url(up, "empty"))) == ["[DONE]"]


async def test_an_error_event_in_mid_stream(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    got = frames(await streamed(http, url(up, "chunks=5,error=2")))
    assert "error" in got[-1]
    assert len(got) == 4


@pytest.mark.parametrize("script", ["refuse", "chunks=3,cut=0"])
async def test_no_answer_at_all(up: ScriptedUpstream, http: httpx.AsyncClient, script: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(url(up, script), json=HELLO)


async def test_a_stall_lasts_until_released(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    task = asyncio.create_task(streamed(http, url(up, "chunks=5,stall=2")))
    while not (up.calls and up.calls[-1].chunks_sent == 2):
        await asyncio.sleep(0.01)
    assert not task.done()
    up.release()
    assert frames(await task)[-1] == "[DONE]"


@pytest.mark.parametrize("script", ["chunks=5,stall=2", "hang"])
async def test_a_client_that_leaves_is_noticed(up: ScriptedUpstream, http: httpx.AsyncClient, script: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await http.post(url(up, script), json={**HELLO, "stream": True}, timeout=0.2)
    assert (await ended(up.calls[-1])).hung_up


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("crlf", b"\r\n\r\n"),
        ("cr", b"\r\rdata"),
        ("nospace", b"data:{"),
        ("comments", b": a comment\ndata: "),
        ("bom", b"\xef\xbb\xbfdata: "),
        ("multiline", b',\ndata: "object"'),
    ],
)
async def test_forms_of_the_wire(up: ScriptedUpstream, http: httpx.AsyncClient, wire: str, expected: bytes) -> None:
    assert expected in await streamed(http, url(up, f"chunks=2,{wire}"))


async def test_split_bytes_arrive_one_by_one_and_whole(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    script = "split=1,text=%F0%9F%92%A7%20and%E2%80%A8more,chunks=2"
    async with http.stream("POST", url(up, script), json={**HELLO, "stream": True}) as response:
        parts = [part async for part in response.aiter_raw()]
    assert text(b"".join(parts)) == "💧 and\u2028more"
    assert len(parts) > 50


async def test_huge_and_limited_answers(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    assert len(text(await streamed(http, url(up, "huge=2000000")))) == 2_000_000
    answer = (await http.post(url(up, "chunks=9"), json={**HELLO, "max_tokens": 4})).json()
    assert answer["choices"][0]["message"]["content"] == "word0 word1 word2 word3"
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 4)


async def test_tools(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    body = {"model": "demo", "messages": [{"role": "user", "content": "The weather, please"}], "tools": tools}
    one = (await http.post(url(up, "ok"), json=body)).json()["choices"][0]
    assert one["finish_reason"] == "tool_calls"
    assert one["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"city": "Berlin"}'}
    got = frames(await streamed(http, url(up, "tools"), tools=tools))
    arguments: dict[int, str] = {}
    for delta in (one["choices"][0]["delta"] for one in got[:-1]):
        for call in delta.get("tool_calls", ()):
            arguments[call["index"]] = arguments.get(call["index"], "") + call["function"]["arguments"]
    assert [json.loads(arguments[index])["number"] for index in (0, 1)] == [0, 1]


async def test_pace_is_between_the_chunks(http: httpx.AsyncClient) -> None:
    async with ScriptedUpstream(pace=0.03) as up:
        await streamed(http, url(up, "chunks=4"))
        times = up.calls[-1].chunk_times
        assert times[-1] - times[0] >= 0.08


async def test_connections_are_kept(up: ScriptedUpstream) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(limits=limits) as client:
        sockets = set()
        for _ in range(3):
            answer = await client.post(f"{up.url}/v1/chat/completions", json=HELLO)
            sockets.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(sockets) == 1


async def test_what_it_does_not_know_is_refused(up: ScriptedUpstream, http: httpx.AsyncClient) -> None:
    answer = await http.post(url(up, "stauts=500"), json=HELLO)
    assert answer.status_code == 400
    assert "stauts" in answer.json()["error"]["message"]
    assert (await http.post(f"{up.url}/v1/nothing", json=HELLO)).status_code == 404


def test_every_failure_is_gone_when_well() -> None:
    broken = Script.parse("status=500,cut=1,stall=2,hang,refuse,error=3,nodone,times=1,text=kept,split=3")
    assert broken.well() == Script.parse("text=kept,split=3")


# --- what it is sent ---

ENDPOINTS = ["/chat/completions", *sorted(scripted_calls._ENDPOINTS)]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**12), 10**12),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "text", "role", "content", "function", "name", "properties"]), inner),
    ),
    max_leaves=8,
)
FIELDS = [
    *("model", "messages", "n", "max_tokens", "tools", "stream", "stream_options", "input", "dimensions", "query"),
    *("documents", "top_n", "prompt", "partial_images", "encoding_format", "response_format", "stream_format", "file"),
]
BODIES = st.one_of(VALUES, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=len(FIELDS)))


@settings(deadline=None, max_examples=200)
@given(endpoint=st.sampled_from(ENDPOINTS), body=BODIES)
async def test_any_body_is_answered_or_refused_and_the_connection_goes_on(endpoint: str, body: Any) -> None:
    async with ScriptedUpstream() as up, httpx.AsyncClient(timeout=10, verify=False) as http:
        answer = await http.post(f"{up.url}/chunks=2/v1{endpoint}", json=body)
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 400:
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert (await http.get(f"{up.url}/v1/models")).status_code == 200
        assert all(call.ended.is_set() for call in up.calls)


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
        {"messages": [{"role": "user", "content": [{"text": "no type"}]}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": ["hello"]},
        {"messages": {}},
        {"n": 0},
        {"n": 10**9},
        {"max_tokens": "many"},
        {"max_tokens": -1},
        {"tools": [None]},
        {"stream_options": [1]},
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_malformed_chat_is_refused(
    up: ScriptedUpstream, http: httpx.AsyncClient, more: dict[str, Any], stream: bool
) -> None:
    answer = await http.post(f"{up.url}/v1/chat/completions", json={**HELLO, "stream": stream, **more})
    assert answer.status_code == 400
    assert "could not read the body" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b"\xff"),
        ("multipart/form-data; boundary=x", b"--x\r\nno name\r\n\r\n1\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nname="\xff"\r\n\r\n1\r\n--x--'),
        ("multipart/form-data", b"--x"),
    ],
)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_body_that_cannot_be_read_is_refused(
    up: ScriptedUpstream, http: httpx.AsyncClient, endpoint: str, content_type: str, content: bytes
) -> None:
    head = {"content-type": content_type}
    answer = await http.post(f"{up.url}/v1{endpoint}", content=content, headers=head)
    assert answer.status_code == 400, answer.text


async def test_a_fault_of_its_own_is_a_500_and_in_mid_stream_a_cut(
    up: ScriptedUpstream,
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scripted_answer, "completion", lambda _: 1 / 0)
    monkeypatch.setattr(scripted_answer, "wire", lambda *_: 1 / 0)
    answer = await http.post(url(up, "ok"), json=HELLO)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    with pytest.raises(httpx.TransportError):
        await streamed(http, url(up, "ok"))
    assert capsys.readouterr().err.count("ZeroDivisionError") == 2
    assert all([(await ended(call)) for call in up.calls])
