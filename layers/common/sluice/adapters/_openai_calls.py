"""OpenAI's other endpoints, as a compatible provider has them: its address, credentials and errors, the canonical body.

Wire: openai-python 3.52 `resources/{embeddings,images,moderations,completions}.py`, `resources/audio/*.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from sluice.errors import ProviderError
from sluice.types import CallRequest, Channel, FormPart, Frame, UpstreamRequest

if TYPE_CHECKING:
    from sluice.adapters._openai import OpenAIAdapter


@dataclass(frozen=True, slots=True)
class CallRow:
    """A compatible provider's way to one kind of call. `rename` maps fields to its names, `drop` are those that the answer's
    way back to the client makes up for: a provider is not asked for base64 where it knows only numbers."""

    path: str
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()


ENDPOINTS: Mapping[str, CallRow] = {
    "completions": CallRow("/completions"),
    "embeddings": CallRow("/embeddings"),
    "image_edits": CallRow("/images/edits"),
    "image_generations": CallRow("/images/generations"),
    "moderations": CallRow("/moderations"),
    "rerank": CallRow("/rerank"),
    "speech": CallRow("/audio/speech"),
    "transcriptions": CallRow("/audio/transcriptions"),
    "translations": CallRow("/audio/translations"),
}
"""Rerank is none of OpenAI's, but where the servers that speak like it have it."""

EMBEDDINGS_AS_NUMBERS = CallRow("/embeddings", drop=frozenset({"encoding_format"}))
IMAGES_AT_ONCE = CallRow("/images/generations", drop=frozenset({"stream", "partial_images"}))

_ACCEPTS = {"whole": "application/json", "events": "text/event-stream", "bytes": "*/*"}


class OpenAICalls:
    """One attempt. `speaker` is the provider's adapter for chat, its row's path that of this endpoint."""

    def __init__(self, speaker: OpenAIAdapter, row: CallRow) -> None:
        self._speaker = speaker
        self._row = row

    def request(self, call: CallRequest, channel: Channel) -> UpstreamRequest:
        model, private = channel.upstream_model(call.model), self._speaker.row.private
        url, headers = self._speaker.url(channel, model), self._speaker.credentials(channel)
        if call.form:
            body, content_type = _form(call.form, model, private)
        else:
            left_out, rename = private | self._row.drop, self._row.rename
            kept = {rename.get(name, name): value for name, value in call.body.items() if name not in left_out}
            body, content_type = orjson.dumps({**kept, "model": model}), "application/json"
        headers = {"content-type": content_type, "accept": _ACCEPTS[call.answer], **headers}
        dropped = tuple(name for name in call.body if name in private)
        return UpstreamRequest(url, headers, body, proxy=channel.proxy, dropped=dropped)

    def feed(self, frame: Frame) -> Iterable[Frame]:
        # A frame may be a picture of megabytes: it is read only where it could tell of an error.
        if '"error"' in frame.data or frame.event == "error":
            self._check(frame.data)
        return (frame,)

    def whole(self, body: bytes) -> bytes:
        if body.lstrip()[:1] == b"{" and b'"error"' in body:
            self._check(body)
        return body

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return self._speaker.error(status, headers, body)

    def _check(self, data: bytes | str) -> None:
        try:
            told: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if isinstance(told, Mapping) and (told.get("error") or told.get("type") == "error"):
            raise self._speaker.told(told, 0)


def _form(parts: Iterable[FormPart], model: str, private: frozenset[str]) -> tuple[bytes, str]:
    """The client's form with the provider's name for the model, and its content type."""
    kept = [part for part in parts if part.filename or part.name not in private]
    # Of all that it parts, so that nobody can write it into that.
    boundary = blake2b(b"\0".join(part.data for part in kept), digest_size=16).hexdigest().encode()
    pieces: list[bytes] = []
    for part in kept:
        is_model = part.name == "model" and not part.filename
        pieces += [
            b"--",
            boundary,
            b"\r\n",
            _head(part),
            b"\r\n\r\n",
            model.encode() if is_model else part.data,
            b"\r\n",
        ]
    return b"".join((*pieces, b"--", boundary, b"--\r\n")), f"multipart/form-data; boundary={boundary.decode()}"


def _head(part: FormPart) -> bytes:
    """A part's headers. Names are escaped as browsers do (WHATWG, multipart/form-data encoding)."""
    lines = f'content-disposition: form-data; name="{_escaped(part.name)}"'
    if part.filename:
        lines += f'; filename="{_escaped(part.filename)}"'
    if part.content_type:
        lines += f"\r\ncontent-type: {part.content_type}"
    return lines.encode()


def _escaped(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
