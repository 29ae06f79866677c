"""Pictures from a text and pictures. Wire: openai-python 3.52 `types/image_edit_params.py`.

A form with `image` or `image[]`, `mask` and plain fields; or JSON with `images`, whose addresses are the provider's to fetch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice.dialects._checks import boolean, integer, json_object, model_name
from sluice.endpoints import _forms, _images
from sluice.endpoints._base import Answer
from sluice.errors import BadRequest
from sluice.types import CallRequest, FormPart, Inbound, Usage


@dataclass(frozen=True, slots=True)
class ImageEdits:
    kind: str = "image_edits"
    dialect: str = "openai"
    paths: tuple[str, ...] = ("/v1/images/edits",)

    def parse(self, inbound: Inbound) -> CallRequest:
        form: tuple[FormPart, ...] = ()
        if _forms.is_form(inbound):
            form = _forms.parts(inbound)
            fields = _forms.fields(form)
            _forms.files(form, "image")
            _forms.number(fields, "n", 1, _images.MOST_IMAGES)
            _forms.number(fields, "partial_images", 0, 3)
            streams = _forms.truth(fields, "stream")
        else:
            fields = json_object(inbound.body)
            if not isinstance(fields.get("images"), list) or not fields["images"]:
                raise BadRequest("`images` must be a list of at least one picture.", param="images")
            integer(fields, "n", 1, _images.MOST_IMAGES)
            integer(fields, "partial_images", 0, 3)
            streams = boolean(fields, "stream")
        if not isinstance(fields.get("prompt"), str) or not fields["prompt"]:
            raise BadRequest("`prompt` must be a text.", param="prompt")
        return CallRequest(self.kind, model_name(fields), fields, form, "events" if streams else "whole")

    def most(self, call: CallRequest, output_cap: int) -> Usage:
        given = sum(1 for part in call.form if part.filename) or len(call.body["images"]) + 1
        return _images.most(call, output_cap, given)

    def answer(self, call: CallRequest, alias: str) -> Answer:
        return _images.ImagesAnswer(call, alias, "image_edit")


ENDPOINT = ImageEdits()
