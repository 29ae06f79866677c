"""Pictures from a text. Wire: openai-python 3.52 `types/image_generate_params.py`."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.dialects._checks import boolean, integer, json_object, model_name
from sluice.endpoints import _images
from sluice.endpoints._base import Answer
from sluice.errors import BadRequest
from sluice.types import CallRequest, Inbound, Usage


@dataclass(frozen=True, slots=True)
class ImageGenerations:
    kind: str = "image_generations"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/images/generations",)

    def parse(self, inbound: Inbound) -> CallRequest:
        fields = json_object(inbound.body)
        if not isinstance(fields.get("prompt"), str) or not fields["prompt"]:
            raise BadRequest("`prompt` must be a text.", param="prompt")
        integer(fields, "n", 1, _images.MOST_IMAGES)
        integer(fields, "partial_images", 0, 3)
        streams = boolean(fields, "stream")
        return CallRequest(self.kind, model_name(fields), fields, answer="events" if streams else "whole")

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        return _images.most(call, output_cap)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return _images.ImagesAnswer(call, alias, "image_generation")


ENDPOINT = ImageGenerations()
