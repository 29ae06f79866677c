"""What the scripted upstream says to calls that are no chat: OpenAI's other endpoints, and the common rerank. Pure, as scripted_answer."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.scripted_answer import Body, Script, count_tokens, number_of

SECONDS_OF_SOUND = 7


@dataclass(frozen=True, slots=True)
class Said:
    """One answer: `whole` at once, or piece by piece as `content_type` says. A piece is a frame, or bytes."""

    content_type: str = "application/json"
    whole: bytes = b""
    pieces: tuple[bytes, ...] = ()


def fields_of(raw: bytes, content_type: str) -> dict[str, str]:
    """The fields of a form, and of a file its name under `<field>.filename`: what this server asks of a form is no more."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    found: dict[str, str] = {}
    for part in raw.split(b"--" + boundary[1].encode())[1:-1] if boundary else ():
        head, _, data = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'(\bname|filename)="([^"]*)"', head.decode()))
        if "filename" in names:
            found[f"{names['name']}.filename"] = names["filename"]
            found[f"{names['name']}.size"] = str(len(data) - 2)
        else:
            found[names["name"]] = data[:-2].decode()
    return found


def knows(path: str) -> bool:
    return path in _ENDPOINTS


def said(path: str, body: Body, script: Script, created: int) -> Said:
    """The answer to a POST of `body` (JSON, or a form's fields) at an endpoint it `knows`."""
    return _ENDPOINTS[path](body, script, created)


def _json(value: Any) -> Said:
    return Said(whole=json.dumps(value).encode())


def _events(frames: Iterator[tuple[str, Mapping[str, Any]]], *, named: bool = True) -> Said:
    return Said(
        "text/event-stream",
        pieces=tuple(
            (f"event: {name}\n" if named else "").encode()
            + b"data: "
            + json.dumps({"type": name, **data}).encode()
            + b"\n\n"
            for name, data in frames
        ),
    )


def _streams(body: Body, script: Script) -> bool:
    return body.get("stream") in (True, "true") and not script.nostream


def _embeddings(body: Body, script: Script, _: int) -> Said:
    given = body["input"]
    rows = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    vectors = [
        [(place + 1) / (at + 1) for at in range(number_of(body, "dimensions", 8, 10_000))] for place in range(len(rows))
    ]
    as_text = body.get("encoding_format") == "base64" and not script.floats
    data = [
        {"object": "embedding", "index": place, "embedding": _packed(vector) if as_text else vector}
        for place, vector in enumerate(vectors)
    ]
    spent = sum(count_tokens(row) if isinstance(row, str) else len(row) for row in rows)
    prompt = script.prompt if script.prompt >= 0 else spent
    usage = {} if script.nousage else {"usage": {"prompt_tokens": prompt, "total_tokens": prompt}}
    return _json({"object": "list", "data": data, "model": body["model"], **usage})


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _moderations(body: Body, script: Script, _: int) -> Said:
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    results = [{"flagged": "bad" in str(one), "categories": {"violence": "bad" in str(one)}} for one in given]
    return _json({"id": "modr-1", "model": body["model"], "results": results})


def _rerank(body: Body, script: Script, _: int) -> Said:
    words = set(body["query"].lower().split())
    texts = [one["text"] if isinstance(one, dict) else one for one in body["documents"]]
    scored = [(len(words & set(text.lower().split())) / len(words), place) for place, text in enumerate(texts)]
    best = sorted(scored, key=lambda row: (-row[0], row[1]))[: body.get("top_n") or len(texts)]
    results = [{"index": place, "relevance_score": score} for score, place in best]
    if script.searches >= 0:
        return _json({"id": "r1", "results": results, "meta": {"billed_units": {"search_units": script.searches}}})
    prompt = script.prompt if script.prompt >= 0 else sum(map(count_tokens, texts))
    usage = {} if script.nousage else {"usage": {"total_tokens": prompt}}
    return _json({"id": "r1", "model": body["model"], "results": results, **usage})


def _completions(body: Body, script: Script, created: int) -> Said:
    prompt = body.get("prompt", "")
    prompts = prompt if isinstance(prompt, list) and isinstance(prompt[0], str | list) else [prompt]
    text = script.text or "and so it went on"
    head = {"id": "cmpl-1", "object": "text_completion", "created": created, "model": body["model"]}
    choices = [{"text": text, "index": n, "logprobs": None, "finish_reason": "stop"} for n in range(len(prompts))]
    counts = (script.prompt if script.prompt >= 0 else len(prompts), len(prompts) * count_tokens(text))
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}
    if not _streams(body, script):
        return _json({**head, "choices": choices, **({} if script.nousage else {"usage": usage})})
    words = re.findall(r"\S+\s*", text)
    deltas = [{"text": word, "index": 0, "logprobs": None, "finish_reason": None} for word in words]
    frames = [{**head, "choices": [one]} for one in (*deltas, {**deltas[-1], "text": "", "finish_reason": "stop"})]
    if (body.get("stream_options") or {}).get("include_usage") and not script.nousage:
        frames.append({**head, "choices": [], "usage": usage})
    lines = [json.dumps(frame) for frame in frames] + ([] if script.nodone else ["[DONE]"])
    return Said("text/event-stream", pieces=tuple(f"data: {line}\n\n".encode() for line in lines))


def _image(number: int) -> str:
    return base64.b64encode(f"picture {number}".encode()).decode()


def _images(event: str) -> Callable[[Body, Script, int], Said]:
    def answer(body: Body, script: Script, created: int) -> Said:
        count = number_of(body, "n", 1, 10)
        looks = {"background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"}
        prompt = script.prompt if script.prompt >= 0 else count_tokens(body["prompt"])
        made = script.completion if script.completion >= 0 else 272 * count
        details = {"text_tokens": prompt, "image_tokens": script.cached}
        told = {
            "input_tokens": prompt,
            "input_tokens_details": details,
            "output_tokens": made,
            "total_tokens": prompt + made,
        }
        usage = {} if script.nousage else {"usage": told}
        if not _streams(body, script):
            return _json(
                {"created": created, "data": [{"b64_json": _image(n)} for n in range(count)], **looks, **usage}
            )
        partials = [
            (
                f"{event}.partial_image",
                {"b64_json": _image(n), "partial_image_index": n, "created_at": created, **looks},
            )
            for n in range(min(3, int(body.get("partial_images") or 0)))
        ]
        whole = (f"{event}.completed", {"b64_json": _image(0), "created_at": created, **looks, **usage})
        return _events(iter([*partials, whole]))

    return answer


def _speech(body: Body, script: Script, _: int) -> Said:
    spent = count_tokens(body["input"])
    sounds = [f"sound {n};".encode() for n in range(script.chunks or 4)]
    if body.get("stream_format") != "sse":
        return Said("audio/mpeg", pieces=tuple(sounds))
    deltas = [("speech.audio.delta", {"audio": base64.b64encode(sound).decode()}) for sound in sounds]
    usage = {"input_tokens": spent, "output_tokens": 10 * len(sounds), "total_tokens": 0}
    return _events(iter([*deltas, ("speech.audio.done", {} if script.nousage else {"usage": usage})]), named=False)


def _transcriptions(body: Body, script: Script, _: int) -> Said:
    text = script.text or f"what {body['file.filename']} says in {body['file.size']} bytes"
    match body.get("response_format"):
        case "text":
            return Said("text/plain; charset=utf-8", whole=f"{text}\n".encode())
        case "srt":
            return Said("text/plain; charset=utf-8", whole=f"1\n00:00:00,000 --> 00:01:04,500\n{text}\n\n".encode())
        case "verbose_json":
            told: dict[str, Any] = {"task": "transcribe", "language": "english", "duration": 8.47, "segments": []}
            return _json({**told, "text": text})
    usage: dict[str, Any] = {"type": "duration", "seconds": SECONDS_OF_SOUND}
    if script.completion >= 0:
        counts = {"input_tokens": script.prompt, "output_tokens": script.completion}
        usage = {"type": "tokens", **counts, "input_token_details": {"audio_tokens": script.prompt, "text_tokens": 0}}
    told = {"text": text, **({} if script.nousage else {"usage": usage})}
    if not _streams(body, script):
        return _json(told)
    deltas = [("transcript.text.delta", {"delta": word}) for word in re.findall(r"\S+\s*", text)]
    return _events(iter([*deltas, ("transcript.text.done", told)]), named=False)


_ENDPOINTS: Mapping[str, Callable[[Body, Script, int], Said]] = {
    "/audio/speech": _speech,
    "/audio/transcriptions": _transcriptions,
    "/audio/translations": _transcriptions,
    "/completions": _completions,
    "/embeddings": _embeddings,
    "/images/edits": _images("image_edit"),
    "/images/generations": _images("image_generation"),
    "/moderations": _moderations,
    "/rerank": _rerank,
}
