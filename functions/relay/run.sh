#!/bin/sh
# The Lambda Web Adapter's wrapper runs this file in place of the managed runtime's loop: the name is the function's Handler.
# Behind it is a plain web server, so that the same line serves anywhere.
export PYTHONPATH="${LAMBDA_TASK_ROOT:-.}:/opt/python${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m uvicorn --factory relay_lambda:create_app \
  --host 127.0.0.1 --port "${AWS_LWA_PORT:-8080}" \
  --loop asyncio --http httptools --ws none --lifespan on \
  --timeout-keep-alive 65 --no-access-log --no-server-header --log-level warning
