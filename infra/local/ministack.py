"""MiniStack as the local AWS: start it, deploy a template to it, end it so that it keeps its state.

It runs in a virtual environment of its own (it pins its own botocore), so it is started by its path.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

REGION = "us-east-1"
CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}  # MiniStack asks for any, checks none
START_SECONDS = 30.0
STOP_SECONDS = 30.0


@dataclass
class MiniStack:
    """A running MiniStack. `endpoint` is what every AWS client's `endpoint_url` is set to."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ends it and waits: state is written on a clean shutdown only, so it is not hurried."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"MiniStack did not end within {STOP_SECONDS:.0f} s: its state was not saved") from None


def start(executable: Path, state_dir: Path | None, port: int, log: Path | None = None) -> MiniStack:
    """Starts MiniStack on 127.0.0.1:`port` and waits until it answers.

    With `state_dir` it loads what an earlier run saved there and saves on `stop`. Its own words go to `log`.
    Raises FileNotFoundError where there is no such executable, RuntimeError where it ends or does not answer.
    """
    environment = {**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "PERSIST_STATE": "0"}
    environment.pop("AWS_ENDPOINT_URL", None)
    if state_dir:
        state_dir.mkdir(parents=True, exist_ok=True)
        environment |= {"PERSIST_STATE": "1", "STATE_DIR": str(state_dir)}
    with Path(log or os.devnull).open("ab") as output:
        # Its own session: a Ctrl-C at the terminal must reach whoever writes to it first, and it last.
        process = subprocess.Popen([executable], env=environment, stdout=output, stderr=output, start_new_session=True)
    running = MiniStack(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_it_answers(running)
    except BaseException:
        running.stop()
        raise
    return running


def _wait_until_it_answers(running: MiniStack) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise RuntimeError(f"MiniStack ended at once with exit code {running.process.returncode}")
        if _answers(running.endpoint.removeprefix("http://")):
            return
        time.sleep(0.05)
    raise RuntimeError(f"MiniStack did not answer within {START_SECONDS:.0f} s")


def _answers(address: str) -> bool:
    # Not urllib: it would ask a proxy of the environment for a loopback address.
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def client(service: str, endpoint: str) -> Any:
    """A botocore client of `service` at a local endpoint."""
    return botocore.session.get_session().create_client(
        service, region_name=REGION, endpoint_url=endpoint, **CREDENTIALS
    )


def deploy(
    endpoint: str, template: Path, stack_name: str, parameters: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Creates the stack, or updates it; an unchanged one stays as it is. Returns the stack's outputs by name.

    Raises RuntimeError when CloudFormation ends in another state than complete.
    """
    return deploy_with(client("cloudformation", endpoint), template, stack_name, parameters or {})


def deploy_with(cloudformation: Any, template: Path, stack_name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """`deploy` on a client that is there already (the tests' in-process AWS has no endpoint)."""
    request = {
        "StackName": stack_name,
        "TemplateBody": template.read_text(encoding="utf-8"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        if _exists(cloudformation, stack_name):
            cloudformation.update_stack(**request)
        else:
            cloudformation.create_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
    return _outputs_when_complete(cloudformation, stack_name)


def _exists(cloudformation: Any, stack_name: str) -> bool:
    try:
        cloudformation.describe_stacks(StackName=stack_name)
    except ClientError as error:
        if "does not exist" in str(error):
            return False
        raise
    return True


def _outputs_when_complete(cloudformation: Any, stack_name: str) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while True:
        stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
        status = stack["StackStatus"]
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
        if not status.endswith("_IN_PROGRESS") or "ROLLBACK" in status or time.monotonic() > deadline:
            raise RuntimeError(f"stack {stack_name} is {status}: {stack.get('StackStatusReason', 'no reason given')}")
        time.sleep(0.05)
