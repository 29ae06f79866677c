"""Level 1: what an answer has been so far, known at any event."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice import prices, tokens
from sluice.types import Event, Finish, Nano, Price, Raw, Reasoning, Start, Text, ToolCall, Usage


@dataclass(slots=True)
class Call:
    """A tool call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """One of the answer's `n` choices."""

    texts: list[str] = field(default_factory=list)
    reasonings: list[str] = field(default_factory=list)
    signature: str = ""
    calls: dict[int, Call] = field(default_factory=dict)
    extras: list[Raw] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.reasonings)

    @property
    def tool_calls(self) -> list[Call]:
        return [self.calls[index] for index in sorted(self.calls)]


class Buffer:
    """Takes every event of one answer. Tokens are the provider's where it said, else an estimate that a recount makes exact.

    `prompt_tokens` is the estimate of the request's input, used until the provider says.
    """

    def __init__(self, prompt_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.choices: dict[int, Choice] = {}
        self.start = Start()
        self._usage: Usage | None = None
        self._usage_is_last = False
        self._uncounted = 0
        self._counted = 0

    def add(self, event: Event) -> None:
        match event:
            case Text(text, choice):
                self._choice(choice).texts.append(text)
                self._received(text)
            case Reasoning(text, signature, choice):
                self._choice(choice).reasonings.append(text)
                self._choice(choice).signature += signature
                self._received(text)
            case ToolCall():
                self._call(event)
                self._received(event.name + event.arguments)
            case Usage():
                self._usage, self._usage_is_last = event, True
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
        """What the provider said it counted, once it covers everything received; None until then."""
        return self._usage if self._usage_is_last else None

    @property
    def output_tokens(self) -> int:
        """Output so far: the provider's count, else a high estimate on top of the last exact recount."""
        if self.usage:
            return self.usage.output
        return self._counted + -(-self._uncounted // tokens.BYTES_PER_TOKEN)

    def cost(self, price: Price) -> Nano:
        """What the answer has cost so far, high rather than low until the provider says."""
        return prices.cost(self.usage or Usage(input=self.prompt_tokens, output=self.output_tokens), price)

    def recount(self, model: str) -> int:
        """Counts the output received with the model's tokenizer (slow the first time) and keeps that as the new base."""
        self._counted = sum(tokens.count(text, model) for text in self._outputs())
        self._uncounted = 0
        return self._counted

    def counted(self, prompt_tokens: int, model: str) -> Usage:
        """Usage by our own tokenizer: for an answer whose provider never said."""
        return Usage(input=prompt_tokens, output=self.recount(model), source="counted")

    def _outputs(self) -> list[str]:
        return [
            text
            for choice in self.choices.values()
            for text in (choice.text, choice.reasoning, *(call.name + call.arguments for call in choice.tool_calls))
            if text
        ]

    def _received(self, text: str) -> None:
        self._uncounted += len(text.encode("utf-8", "replace"))
        if text:
            self._usage_is_last = False

    def _choice(self, index: int) -> Choice:
        return self.choices.setdefault(index, Choice())

    def _call(self, delta: ToolCall) -> None:
        call = self._choice(delta.choice).calls.setdefault(delta.index, Call())
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        call.arguments += delta.arguments
