"""Level 3: the way of a chat request. `chat` reads like the list in the design; each step is one call.

Two tasks share an `Exchange`. The reader asks channels until one answers, counts, and settles: it belongs to the request, not to
the client. The writer hands what has come to the client: when the client leaves, the writer ends and the reader goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from sluice import models as known
from sluice import prices, tokens, trail
from sluice.dialects import Dialect
from sluice.endpoints import Endpoint
from sluice.errors import BadRequest, Forbidden, ModelNotFound
from sluice.pipeline import abilities, bounds
from sluice.pipeline.answers import ASKS, Ask, resumed
from sluice.pipeline.calls import CallExchange, offering
from sluice.pipeline.chat import ChatExchange
from sluice.pipeline.needs import Deps, Reply
from sluice.settings import Settings
from sluice.types import Catalog, Channel, ChatRequest, Identity, Inbound, Model, Price, Usage

__all__ = ["ASKS", "Ask", "Deps", "Reply", "call", "chat", "count", "model", "models"]

T = TypeVar("T")


async def chat(deps: Deps, dialect: Dialect, token: str | None, inbound: Inbound, request_id: str) -> Reply:
    """One chat request from a client's token and body to the reply. Raises SluiceError while no byte is committed."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    request = await resumed(deps, dialect, who, _parsed(dialect.parse, inbound))
    price, channels = _route(catalog, who, request.model)
    channels = abilities.able(catalog, request, channels)
    known_cap = abilities.most_output(catalog, request, channels)
    request = replace(request, output_cap=_output_cap(request, price, known_cap, deps.settings))
    prompt_tokens = tokens.estimate_prompt(request.body)
    amount = prices.most(_most(request, prompt_tokens), price)
    hold = await deps.ledger.hold(who.user_id, request_id, amount)
    window = abilities.widest(catalog, request, channels)
    bound = bounds.of_chat(request, prompt_tokens, price, window=window, cap=known_cap)
    exchange = ChatExchange(deps, request_id, who, price, channels, hold, dialect, request, prompt_tokens, bound)
    return await exchange.started(inbound.deadline)


async def call(deps: Deps, endpoint: Endpoint, token: str | None, inbound: Inbound, request_id: str) -> Reply:
    """One request that is no chat, on the same way. Raises SluiceError while no byte is committed."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    request = _parsed(endpoint.parse, inbound)
    price, channels = _route(catalog, who, request.model)
    channels = offering(channels, request, deps.clock())
    most = endpoint.most(request, price.max_output or deps.settings.default_max_tokens)
    hold = await deps.ledger.hold(who.user_id, request_id, prices.most(most, price))
    bound = bounds.of_call(most)
    exchange = CallExchange(deps, request_id, who, price, channels, hold, endpoint, request, bound)
    return await exchange.started(inbound.deadline)


async def count(deps: Deps, dialect: Dialect, token: str | None, inbound: Inbound) -> int:
    """The tokens of a chat request's input by our own tokenizer. Costs nothing."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    request = await resumed(deps, dialect, who, _parsed(dialect.parse, inbound))
    _route(catalog, who, request.model)
    return await asyncio.to_thread(tokens.count_prompt, request.body, request.model)


async def models(deps: Deps, token: str | None) -> list[Model]:
    """The models this caller can use now: served to its group, priced, allowed to its key."""
    who, catalog = await asyncio.gather(deps.callers.identify(token), deps.catalog.current())
    names = (name for name in catalog.models(who.group) if name in catalog.prices and who.may_use(name))
    described = catalog.described
    return [known.described(name, catalog.serving(name, who.group), described.get(name)) for name in names]


async def model(deps: Deps, token: str | None, name: str) -> Model:
    """The model `name` if this caller can use it. Raises ModelNotFound."""
    for found in await models(deps, token):
        if found.id == name:
            return found
    raise ModelNotFound(f"The model `{name}` does not exist or is not open to you.", param="model")


def _parsed(parse: Callable[[Inbound], T], inbound: Inbound) -> T:
    """A client's request, read. Reading is pure: what trips over a body of no known shape is the body's fault. Raises BadRequest."""
    try:
        return parse(inbound)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadRequest("A field of the body has the wrong type.", code="invalid_type") from error


def _route(catalog: Catalog, who: Identity, model: str) -> tuple[Price, tuple[Channel, ...]]:
    """The price of the model and the channels that may serve it to this caller. Raises Forbidden, ModelNotFound."""
    if not who.may_use(model):
        raise Forbidden(f"This key may not use the model `{model}`.", param="model", code="model_not_allowed")
    channels = catalog.serving(model, who.group)
    if not channels:
        raise ModelNotFound(f"The model `{model}` does not exist or is not open to you.", param="model")
    trail.note_model(model)
    if model not in catalog.prices:
        raise ModelNotFound(f"The model `{model}` has no price yet: ask the operator to set one.", param="model")
    return catalog.prices[model], channels


def _most(request: ChatRequest, prompt_tokens: int) -> Usage:
    """The most this request can use: its input, and its cap on output for each choice."""
    return Usage(prompt_tokens, request.n * request.output_cap)


def _output_cap(request: ChatRequest, price: Price, known: int, settings: Settings) -> int:
    """The lowest cap on output tokens that client and price set, else the default; `known`, the model's own, only lowers."""
    caps = [cap for cap in (request.max_tokens, price.max_output) if cap]
    cap = min(caps) if caps else settings.default_max_tokens
    return min(cap, known) if known else cap
