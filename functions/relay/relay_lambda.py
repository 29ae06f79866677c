"""Where a web server finds the relay: `uvicorn --factory relay_lambda:create_app`, on Lambda and anywhere."""

from starlette.applications import Starlette

import relay_app
from sluice import wiring


def create_app() -> Starlette:
    return relay_app.create_app(wiring.build_relay())
