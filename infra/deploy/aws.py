"""`make deploy` and `make destroy`: what a person is asked and told around `sam deploy`. Runs in SAM's own venv, which has boto3.

    python -m infra.deploy.aws deploy|destroy dev|prod [Name=Value ...]

The parameters of each environment are in samconfig.toml; what is named on the command line goes over them.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv" / "sam" / "bin" / "sam"
KEPT = ("Data", "Media")
"""The nested stacks that stay when the stack goes."""


class Refused(Exception):
    """Why nothing was done, in words for the person who asked."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment of samconfig.toml."""

    name: str
    stack: str
    region: str
    parameters: Mapping[str, str]

    @classmethod
    def read(cls, name: str, file: Path = ROOT / "samconfig.toml") -> Environment:
        """Raises Refused for a name that samconfig.toml does not have."""
        config = tomllib.loads(file.read_text(encoding="utf-8"))
        if name not in ("dev", "prod") or name not in config:
            raise Refused(f"ENV={name!r} is no environment of {file.name}: there are dev and prod")
        told, deployed = config[name]["global"]["parameters"], config[name]["deploy"]["parameters"]
        return cls(name, told["stack_name"], told["region"], pairs(deployed["parameter_overrides"]))


def pairs(given: Sequence[str]) -> dict[str, str]:
    return dict(one.split("=", 1) for one in given)


def deploy_command(environment: Environment, is_first: bool, given: Mapping[str, str]) -> list[str]:
    """`sam deploy`, which asks everything the first time; afterwards it asks what samconfig.toml says it should."""
    command = [str(SAM), "deploy", "--config-env", environment.name, "--no-fail-on-empty-changeset"]
    if is_first:
        command.append("--guided")
    wanted = {**environment.parameters, **given}
    return [*command, "--parameter-overrides", *(f"{name}={value}" for name, value in wanted.items())]


def find(cloudformation: Any, stack: str) -> Mapping[str, Any] | None:
    """The stack as CloudFormation describes it; None where there is none, or only a first try that failed."""
    from botocore.exceptions import ClientError

    try:
        found: Mapping[str, Any] = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if found["StackStatus"] in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE") else found


def destroy(
    cloudformation: Any, environment: Environment, ask: Callable[[str], str], say: Callable[[str], object]
) -> None:
    """Deletes the stack, never what it keeps: tables, keys, the bucket and the ledger's dead letters stay. Raises Refused."""
    if environment.name == "prod":
        raise Refused("prod is not destroyed by a command: it holds people's money. docs/deploy.md says what it takes.")
    found = find(cloudformation, environment.stack)
    if found is None:
        raise Refused(f"there is no stack {environment.stack} in {environment.region}")
    told = {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", ())}
    if told.get("Environment") == "prod":
        raise Refused(f"{environment.stack} was deployed with Environment=prod: it is not destroyed by a command")
    kept = _kept(cloudformation, environment.stack)
    say(f"{environment.stack} in {environment.region} goes: API, functions, layer, roles, logs, cache. These stay:")
    for line in kept:
        say(f"  {line}")
    if ask(f"Type {environment.stack} to go on: ").strip() != environment.stack:
        raise Refused("nothing was done")
    cloudformation.delete_stack(StackName=environment.stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=found["StackId"])
    say("gone. What stayed is deleted by hand, or found by its name; docs/deploy.md says how.")


def _kept(cloudformation: Any, stack: str) -> list[str]:
    resources = cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    nested = [one["PhysicalResourceId"] for one in resources if one["LogicalResourceId"] in KEPT]
    inside = [
        one for name in nested for one in cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    ]
    queue = [one for one in resources if one["LogicalResourceId"] == "LedgerDeadLetters"]
    return [f"{one['ResourceType']}  {one['PhysicalResourceId']}" for one in (*inside, *queue)]


def main(verb: str, name: str, given: Sequence[str]) -> int:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        environment = Environment.read(name)
        session = boto3.Session(region_name=environment.region)
        if verb == "destroy" and name == "prod":
            destroy(None, environment, input, print)
        session.client("sts").get_caller_identity()
        cloudformation = session.client("cloudformation")
        if verb == "destroy":
            destroy(cloudformation, environment, input, print)
            return 0
        is_first = find(cloudformation, environment.stack) is None and sys.stdin.isatty()
        return subprocess.run(deploy_command(environment, is_first, pairs(given)), cwd=ROOT, check=False).returncode
    except (Refused, BotoCoreError, ClientError) as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
