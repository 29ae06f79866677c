"""Multipart bodies, read whole: what sound and pictures come in (RFC 7578)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.errors import BadRequest
from sluice.types import FormPart, Inbound

_MOST_PARTS = 200


def is_form(inbound: Inbound) -> bool:
    return inbound.headers.get("content-type", "").lower().startswith("multipart/form-data")


def parts(inbound: Inbound) -> tuple[FormPart, ...]:
    """The parts of a form in their order. Raises BadRequest on what is none."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    if not is_form(inbound):
        raise BadRequest("The body must be multipart/form-data.", code="invalid_form")
    boundary = parse_options_header(inbound.headers["content-type"])[1].get(b"boundary", b"")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        parser.write(inbound.body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"The body is not a valid form: {error}.", code="invalid_form") from None
    if not reader.whole:
        raise BadRequest("The form's last boundary is missing: the body is cut.", code="invalid_form")
    return tuple(reader.parts)


def fields(form: tuple[FormPart, ...]) -> dict[str, Any]:
    """The form's plain fields as JSON would have them: those named twice, or `name[]`, are lists."""
    found: dict[str, Any] = {}
    for part in form:
        if part.filename:
            continue
        try:
            value = part.data.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"`{part.name}` is not valid UTF-8.", param=part.name) from None
        if part.name.endswith("[]"):
            found.setdefault(part.name[:-2], []).append(value)
        else:
            found[part.name] = value
    return found


def files(form: tuple[FormPart, ...], name: str) -> tuple[FormPart, ...]:
    """The files of one field. Raises BadRequest where there is none."""
    found = tuple(part for part in form if part.filename and part.name in (name, f"{name}[]"))
    if not found:
        raise BadRequest(f"`{name}` must be a file.", param=name)
    return found


def number(values: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    """A whole number in a form, where everything is text. Raises BadRequest."""
    text = values.get(name)
    if text is None:
        return None
    if (
        not isinstance(text, str)
        or not text.isdecimal()
        or int(text) < least
        or (most is not None and int(text) > most)
    ):
        limits = f"of at least {least}" if most is None else f"between {least} and {most}"
        raise BadRequest(f"`{name}` must be a whole number {limits}.", param=name)
    return int(text)


def truth(values: Mapping[str, Any], name: str) -> bool:
    text = values.get(name, "false")
    if text not in ("true", "false", "True", "False", "1", "0"):
        raise BadRequest(f"`{name}` must be true or false.", param=name)
    return text in ("true", "True", "1")


class _Reader:
    """What the parser's callbacks put together."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.whole = False
        self._field = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, []
        if len(self.parts) >= _MOST_PARTS:
            raise BadRequest(f"The form has more than {_MOST_PARTS} parts.", code="invalid_form")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        told = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if b"name" not in told:
            raise BadRequest("A part of the form has no name.", code="invalid_form")
        text = {name: told.get(name, b"").decode("utf-8", "replace") for name in (b"name", b"filename")}
        content_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self.parts.append(FormPart(text[b"name"], b"".join(self._data), text[b"filename"], content_type))

    def _finish(self) -> None:
        self.whole = True
