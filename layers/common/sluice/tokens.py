"""Level 1: how many tokens a text is.

Two answers. `estimate` is arithmetic on bytes, cheap enough for every request, and meant to be high: it sizes holds. `count` is
the tokenizer, and loads its tables (tens of megabytes, a third of a second) on first use: only for answers whose provider
sent no usage.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson

log = logging.getLogger(__name__)

Size = Callable[[str], int]

BYTES_PER_TOKEN = 3
"""English runs at 4 to 5 bytes a token, Chinese at about 3 (one character), so that bytes / 3 is on the high side of both."""

_IN_WORDS = bytes(byte for byte in range(256) if byte >= 128 or chr(byte).isalnum() or chr(byte).isspace())

MESSAGE_TOKENS = 4
"""What framing a message costs beside its text, and once more for the answer's opening (OpenAI's cookbook on counting)."""

IMAGE_TOKENS = 2_500
"""The dearest fixed size among providers' image accounting for one picture, rounded up."""

_MEDIA_BYTES_PER_TOKEN = 16
_SLICE = 100_000

# tiktoken names a table's file by the SHA-1 of its address; facts: tiktoken 0.14 load.py.
_TABLES = {
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}


def estimate(text: str) -> int:
    """Tokens of `text`, high rather than low: punctuation is a token a piece, words and other scripts are by their bytes."""
    raw = text.encode("utf-8", "replace")
    wide = len(raw) - len(text)
    marks = len(raw.translate(None, _IN_WORDS))
    plain = len(raw) - marks - wide
    return marks + -(-plain // BYTES_PER_TOKEN) + -(-wide // 2)


def estimate_prompt(body: Mapping[str, Any]) -> int:
    """Tokens of a canonical chat request's input, high rather than low: texts, tool schemas, images and files."""
    return _measure(body, estimate)


def count(text: str, model: str) -> int:
    """Tokens of `text` by the model's tokenizer, or its estimate where the tables are not at hand."""
    encode = _encoder(_table(model))
    if encode is None:
        return estimate(text)
    return sum(encode(text[at : at + _SLICE]) for at in range(0, len(text), _SLICE))


def count_prompt(body: Mapping[str, Any], model: str) -> int:
    """Tokens of a canonical chat request's input by the model's tokenizer; media as `estimate_prompt` takes them."""
    return _measure(body, lambda text: count(text, model))


def _measure(body: Mapping[str, Any], size: Callable[[str], int]) -> int:
    messages = body.get("messages") or []
    total = MESSAGE_TOKENS * (len(messages) + 1)
    for message in messages:
        total += _content(message.get("content"), size)
        rest = {name: value for name, value in message.items() if name not in ("role", "content")}
        total += size(_json(rest)) if rest else 0
    extras = [body[name] for name in ("tools", "functions", "response_format") if body.get(name)]
    return total + sum(size(_json(extra)) for extra in extras)


def _content(content: Any, size: Callable[[str], int]) -> int:
    if isinstance(content, str):
        return size(content)
    if not isinstance(content, list):
        return 0
    return sum(_part(part, size) for part in content)


def _part(part: Any, size: Callable[[str], int]) -> int:
    if not isinstance(part, Mapping):
        return size(_json(part))
    text = part.get("text")
    told = size(text) if isinstance(text, str) else 0
    if part.get("type") in ("image_url", "image", "input_image"):
        return told + IMAGE_TOKENS
    if isinstance(text, str):
        return told
    return sum(len(text) for text in _strings(part)) // _MEDIA_BYTES_PER_TOKEN


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _table(model: str) -> str:
    old = model.startswith(("gpt-3.5", "gpt-4-")) or model == "gpt-4"
    return "cl100k_base" if old else "o200k_base"


@lru_cache(maxsize=2)
def _encoder(table: str) -> Callable[[str], int] | None:
    """The tokenizer of `table`, or None where its file did not ship: never a download on the way of a request."""
    file = files("sluice").joinpath("encodings", _TABLES[table])
    if not file.is_file():
        log.warning("tokenizer table %s is not in the layer: counting by bytes", table)
        return None
    import tiktoken
    from tiktoken_ext import openai_public

    def shipped(*_: object, **__: object) -> dict[bytes, int]:
        lines = file.read_bytes().splitlines()
        return {b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}

    # tiktoken finds its tables through an environment variable, and downloads them where that is not set.
    vars(openai_public)["load_tiktoken_bpe"] = shipped
    encoding = tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[table]())
    return lambda text: len(encoding.encode_ordinary(text))
