"""What making and changing pictures have in common. Wire: openai-python 3.52 `types/image*.py`, fixtures/openai/images_*.json.

What a picture costs in tokens: OpenAI's image guide counts at most 6,240 output tokens for one (high quality, 1024x1536), 100
more for each partial one, and for an input picture up to 2,500 and, at high fidelity, 6,240 more.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from sluice import tokens
from sluice.endpoints._base import Answer, json_answer, objects, tokens_told, with_units
from sluice.errors import ProviderError
from sluice.types import CallRequest, Frame, Usage

MOST_IMAGES = 128
INPUT_IMAGE_TOKENS = 9_000
_OUTPUT_IMAGE_TOKENS = 8_192
_PARTIAL_IMAGE_TOKENS = 100


def most(call: CallRequest, output_cap: int, input_images: int = 0) -> Usage:
    """The most so many pictures can use, by tokens and by number. A model's cap on output is a cap on one picture."""
    images, partials = int(call.body.get("n") or 1), int(call.body.get("partial_images") or 0)
    each = max(output_cap, _OUTPUT_IMAGE_TOKENS) + partials * _PARTIAL_IMAGE_TOKENS
    prompt = tokens.estimate(str(call.body.get("prompt") or ""))
    return Usage(prompt + input_images * INPUT_IMAGE_TOKENS, images * each, units={"image": images})


class ImagesAnswer(Answer):
    """`event` is what a stream's events begin with. A picture counts when it is there, a partial one never."""

    def __init__(self, call: CallRequest, alias: str, event: str) -> None:
        super().__init__(call, alias)
        self._event = event
        self._images = 0
        self._told: Usage | None = None

    def whole(self, body: bytes) -> bytes:
        self._read(body)
        return body

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.data.startswith("[DONE]"):
            self.done = True
            return ()
        # A frame is a picture of megabytes: it is read only where it says something to be counted.
        if f"{self._event}.completed" in frame.event or f'"{self._event}.completed"' in frame.data:
            told = json_answer(frame.data)
            _check(told)
            self._count(1, tokens_told(told))
        return (frame,)

    def streamed(self, body: bytes) -> Iterable[Frame]:
        told, name = self._read(body), f"{self._event}.completed"
        kept = {key: value for key, value in told.items() if key not in ("data", "created")}
        for image in told["data"]:
            event = {"type": name, **image, **kept, "created_at": told.get("created") or 0}
            yield Frame(orjson.dumps(event).decode(), name)

    def finish(self) -> None:
        if not self._images and self.call.answer == "events":
            raise ProviderError("network", "the stream ended before the picture came")

    def counted(self) -> Usage:
        prompt = tokens.count(str(self.call.body.get("prompt") or ""), self.call.model)
        return with_units(Usage(prompt, source="counted"), image=self._images)

    def _read(self, body: bytes) -> Mapping[str, Any]:
        told = json_answer(body)
        # Of several pictures, one that was refused is an error in its place.
        made = [image for image in objects(told.get("data"), "pictures") if "error" not in image]
        for image in objects(made, "pictures"):
            _check(image)
        self._count(len(made), tokens_told(told))
        return told

    def _count(self, images: int, usage: Usage | None) -> None:
        """Streamed pictures come one by one, each with its own usage; the last one's is that of all where they are the same.

        More pictures than were asked for are the provider's present.
        """
        self._images = min(self._images + images, int(self.call.body.get("n") or 1))
        self._told = usage or self._told
        self.usage = with_units(self._told, image=self._images) if self._told else None


def _check(image: Mapping[str, Any]) -> None:
    """Raises ProviderError("server") on a picture that is neither base64 nor at an address."""
    blob, url = image.get("b64_json"), image.get("url")
    if not (_is_base64(blob) if blob is not None else isinstance(url, str) and url):
        raise ProviderError("server", "the provider's answer has a picture that is none")


def _is_base64(blob: Any) -> bool:
    """Lines of it may end."""
    try:
        return bool(b64decode("".join(blob.split()), validate=True))
    except (AttributeError, ValueError):
        return False
