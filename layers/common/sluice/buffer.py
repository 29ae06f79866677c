"""Level 1: what an answer has been so far, known at any event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sluice.types import (
    MOST_COUNTED,
    UNITS,
    Call,
    Choice,
    Completion,
    Event,
    Finish,
    Nano,
    Raw,
    Reasoning,
    Start,
    Text,
    ToolCall,
    Usage,
)

ANYTHING = Usage(MOST_COUNTED, MOST_COUNTED, units=dict.fromkeys(UNITS, MOST_COUNTED))
"""A bound that only what is absurd is above."""

BYTES_PER_TOKEN = 3
"""As `tokens.estimate` takes it: high rather than low."""


class Buffer:
    """Takes every event of one answer.

    Tokens are the provider's where it said, else a high estimate on top of the last exact recount. `prompt_tokens` is the
    estimate of the request's input, used until the provider says. `most` bounds what it can say: a count above it is none, and
    kept in `unbelieved`. No answer has more tokens than bytes, so that what was received is always believed.

    Input and output are said each for itself: a half of 0, though there is something of it, is as good as never said.
    """

    def __init__(self, prompt_tokens: int = 0, most: Usage = ANYTHING) -> None:
        self.prompt_tokens = prompt_tokens
        self.most = most
        self.unbelieved: Usage | None = None
        self.start = Start()
        self.choices: dict[int, Choice] = {}
        self._usage: Usage | None = None
        self._usage_is_last = False
        self._uncounted = 0
        self._counted = 0
        self._bytes = 0

    def believes(self, event: Event) -> bool:
        """Whether an event is what it says it is: all are, but a count that cannot be."""
        if not isinstance(event, Usage):
            return True
        return event.within(replace(self.most, output=max(self.most.output, self._bytes)))

    def add(self, event: Event) -> None:
        match event:
            case Text(text, choice):
                self._choice(choice).text += text
                self._received(text)
            case Reasoning():
                _reason(self._choice(event.choice), event)
                self._received(event.text)
            case ToolCall():
                self._call(event)
                self._received(event.name + event.arguments)
            case Usage() if self.believes(event):
                self._usage, self._usage_is_last = _with_input(event, self._usage), True
            case Usage():
                self.unbelieved = event
            case Finish(reason, choice):
                self._choice(choice).finish_reason = reason
            case Raw(_, choice):
                self._choice(choice).extras.append(event)
            case Start():
                self.start = event

    @property
    def text(self) -> str:
        return self.choices[0].text if 0 in self.choices else ""

    @property
    def tool_calls(self) -> list[Call]:
        return self.choices[0].tool_calls if 0 in self.choices else []

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason if 0 in self.choices else None

    @property
    def usage(self) -> Usage | None:
        """What the provider said it counted, once both halves of it cover everything received; None until then."""
        if self._usage is None or not self._usage_is_last:
            return None
        halves = (self._usage.input or not self.prompt_tokens) and (self._usage.output or not self._bytes)
        return self._usage if halves else None

    @property
    def told(self) -> Usage:
        """What the provider said of each half, kinds included. A half it never said, or not of all that came, is 0."""
        told = self._usage or Usage()
        if not told.input:
            told = replace(told, cached=0, cache_write=0, audio_input=0, image_input=0)
        if not told.output or not self._usage_is_last:
            told = replace(told, output=0, reasoning=0, audio_output=0)
        return told

    @property
    def output_tokens(self) -> int:
        """Output so far: the provider's count, else a high estimate."""
        if self._usage and self._usage_is_last and self._usage.output:
            return self._usage.output
        return self._counted + -(-self._uncounted // BYTES_PER_TOKEN)

    def cost(self, price: Callable[[Usage], Nano]) -> Nano:
        """What the answer has cost so far, high rather than low until the provider says; `price` prices a usage."""
        return price(self.usage or Usage(self.prompt_tokens, self.output_tokens, source="counted"))

    def recount(self, count: Callable[[str], int]) -> int:
        """Counts all output received with a tokenizer and takes that as the new base of the estimate."""
        self._counted = sum(count(text) for choice in self.choices.values() for text in _outputs(choice))
        self._uncounted = 0
        return self._counted

    def completion(self, usage: Usage) -> Completion:
        return Completion(self.start, self.choices, usage)

    def _received(self, text: str) -> None:
        if text:
            size = len(text.encode("utf-8", "replace"))
            self._uncounted += size
            self._bytes += size
            self._usage_is_last = False

    def _choice(self, index: int) -> Choice:
        if index not in self.choices:
            self.choices[index] = Choice()
        return self.choices[index]

    def _call(self, delta: ToolCall) -> None:
        call = self._choice(delta.choice).calls.setdefault(delta.index, Call())
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        call.arguments += delta.arguments
        call.signature = call.signature or delta.signature


def _with_input(told: Usage, before: Usage | None) -> Usage:
    """A count that says nothing of the input leaves standing what was said of it before."""
    if told.input or before is None or not before.input:
        return told
    return replace(
        told,
        input=before.input,
        cached=before.cached,
        cache_write=before.cache_write,
        audio_input=before.audio_input,
        image_input=before.image_input,
    )


def _reason(choice: Choice, delta: Reasoning) -> None:
    """A block of reasoning is open until its signature comes; an encrypted one is whole at once."""
    choice.reasoning += delta.text
    if delta.data:
        choice.details.append({"type": "reasoning.encrypted", "data": delta.data})
        return
    last = choice.details[-1] if choice.details else {}
    if last.get("type") != "reasoning.text" or last["signature"]:
        last = {"type": "reasoning.text", "text": "", "signature": ""}
        choice.details.append(last)
    last["text"] += delta.text
    last["signature"] += delta.signature


def _outputs(choice: Choice) -> list[str]:
    calls = [call.name + call.arguments for call in choice.tool_calls]
    return [text for text in (choice.text, choice.reasoning, *calls) if text]
