"""Pictures that a model made: where they stand in what has no event of its own, and how a format that knows none says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD, _TAIL = "![picture](", ")"


def addresses(data: Mapping[str, Any]) -> list[str]:
    """The addresses of the pictures in a `Raw`, most of them data URLs."""
    images = data.get("images")
    told = (
        (image.get("image_url") for image in images if isinstance(image, Mapping)) if isinstance(images, list) else ()
    )
    urls = (one.get("url") for one in told if isinstance(one, Mapping))
    return [url for url in urls if isinstance(url, str) and url]


def inline(url: str) -> tuple[str, str]:
    """The media type and base64 of a data URL; two empty texts for any other."""
    head, comma, data = url.partition(";base64,")
    return (head.removeprefix("data:"), data) if comma and head.startswith("data:") else ("", "")


def as_text(url: str) -> str:
    """The picture in Markdown, by itself: what shows Markdown shows it."""
    return f"{_HEAD}{url}{_TAIL}"


def from_text(text: Any) -> str:
    """The data URL of what `as_text` said; empty where it is anything else."""
    if not isinstance(text, str) or not text.startswith(f"{_HEAD}data:image/") or not text.endswith(_TAIL):
        return ""
    url = text[len(_HEAD) : -len(_TAIL)]
    return url if url.partition(";base64,")[2].translate(_NO_BASE64) == "" else ""


_NO_BASE64 = dict.fromkeys(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
"""Takes out every letter of base64."""
