"""What stands between a person and AWS: what the build is refused for, what `make deploy` asks, what `make destroy` leaves alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse

from infra.deploy import aws, built, rehearsal
from infra.deploy.aws import Environment, Refused
from infra.local.demo import Unusable

ROOT = Path(__file__).parents[2]

# --- the build ---


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A small build as it should be: our own code on top of one package."""
    for name in built.FUNCTIONS:
        place(tmp_path / name / "door.py", "import orjson\nfrom sluice import wiring\n")
        place(tmp_path / name / "__pycache__" / "door.cpython-313.pyc")
    place(tmp_path / "Common/python/sluice/wiring.py", "import json\nimport orjson\n")
    place(tmp_path / "Common/python/orjson/__init__.py")
    return tmp_path


def place(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_build_as_it_should_be(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(built.faults(build, "python3.13")) == []
    assert built.main(build, "python3.13") == 0
    assert "Relay" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("Common/python/orjson/tests/test_it.py", "Common carries python/orjson/tests/test_it.py"),
        ("Relay/.mypy_cache/x.json", "Relay carries .mypy_cache/x.json"),
        ("Common/python/httpcore/_backends/trio.py", "Common carries python/httpcore/_backends/trio.py"),
        ("Common/python/orjson/__init__.pyi", "Common carries python/orjson/__init__.pyi"),
        ("Common/python/orjson/__pycache__/a.cpython-311.pyc", "Common carries bytecode of another interpreter"),
        ("Common/python/orjson/a.pyc", "Common carries bytecode of another interpreter"),
        ("Common/python/websockets/trio/client.py", "Common carries python/websockets/trio/client.py"),
        ("Common/python/boto3/__init__.py", "the layer carries boto3"),
    ],
)
def test_what_has_no_place_is_named(build: Path, path: str, fault: str) -> None:
    place(build / path)
    (found,) = built.faults(build, "python3.13")
    assert found.startswith(fault)
    assert built.main(build, "python3.13") == 1


def test_a_package_that_is_not_carried_is_named(build: Path) -> None:
    place(build / "Admin" / "more.py", "import mangum.adapter\nimport door\n")
    assert list(built.faults(build, "python3.13")) == ["the code imports mangum, which the layer does not carry"]


def test_a_layer_over_the_bound_is_too_large(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "MOST_BYTES", built.size(build / "Common") + built.size(build / "Relay") - 1)
    found = list(built.faults(build, "python3.13"))
    assert [one.partition(" ")[0] for one in found] == list(built.FUNCTIONS)


def test_what_was_not_built_is_named(build: Path) -> None:
    shutil.rmtree(build / "Jobs")
    assert list(built.faults(build, "python3.13")) == [f"{build / 'Jobs'} was not built"]


def strip(layer: Path) -> subprocess.CompletedProcess[str]:
    """The layer's strip as `make build` runs it, without the download before it."""
    command = ["make", "-f", str(ROOT / "layers/common/Makefile"), "-o", "install", "strip", f"ARTIFACTS_DIR={layer}"]
    return subprocess.run([*command, f"PYTHON={sys.executable}"], capture_output=True, text=True, env={**os.environ})


def test_the_layer_keeps_the_models_it_needs_and_no_others(tmp_path: Path) -> None:
    data = tmp_path / "python/botocore/data"
    needed = ("dynamodb/a.json", "kms/a.json", "sts/a.json")
    for name in (*needed, "s3/a.json", "ec2/a.json", "endpoints.json", "partitions.json", "_retry.json"):
        place(data / name)
    place(data / "sdk-default-configuration.json")
    assert strip(tmp_path).returncode == 0
    assert {one.relative_to(data).as_posix() for one in built.files(data)} == {
        *needed,
        "endpoints.json",
        "partitions.json",
        "_retry.json",
        "sdk-default-configuration.json",
    }
    shutil.rmtree(data / "kms")
    failed = strip(tmp_path)
    assert failed.returncode != 0
    assert "kms" in failed.stderr


# --- deploy ---

DEV = Environment(
    "dev", "sluice-dev", "us-east-1", {"Prefix": "sluice-dev", "Environment": "dev", "Runtime": "python3.13"}
)


def test_an_environment_is_what_samconfig_says() -> None:
    found = Environment.read("prod")
    assert (found.stack, found.parameters["Environment"]) == ("sluice", "prod")


@pytest.mark.parametrize("name", ["staging", "", "default"])
def test_an_environment_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="there are dev and prod"):
        Environment.read(name)


def test_the_first_deployment_asks_everything() -> None:
    assert "--guided" in aws.deploy_command(DEV, True, {})
    assert "--guided" not in aws.deploy_command(DEV, False, {})


def test_what_is_named_on_the_command_line_goes_over_samconfig() -> None:
    command = aws.deploy_command(DEV, False, {"Runtime": "python3.12"})
    given = command[command.index("--parameter-overrides") + 1 :]
    assert given == ["Prefix=sluice-dev", "Environment=dev", "Runtime=python3.12"]


# --- destroy ---


class CloudFormation:
    """A stack and what is in it."""

    def __init__(self, environment: str | None = "dev") -> None:
        self.environment = environment
        self.deleted: list[str] = []

    def describe_stacks(self, StackName: str) -> Any:
        if self.environment is None:
            response: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}}
            raise ClientError(response, "DescribeStacks")
        parameters = [{"ParameterKey": "Environment", "ParameterValue": self.environment}]
        return {"Stacks": [{"StackId": "id", "StackStatus": "UPDATE_COMPLETE", "Parameters": parameters}]}

    def list_stack_resources(self, StackName: str) -> Any:
        def one(logical: str, kind: str) -> dict[str, str]:
            return {"LogicalResourceId": logical, "PhysicalResourceId": f"{logical}-name", "ResourceType": kind}

        inside = {
            "sluice-dev": [one("Data", "Stack"), one("Api", "Stack"), one("LedgerDeadLetters", "Queue")],
            "Data-name": [one("LedgerTable", "Table")],
        }
        return {"StackResourceSummaries": inside[StackName]}

    def delete_stack(self, StackName: str) -> None:
        self.deleted.append(StackName)

    def get_waiter(self, name: str) -> Any:
        class Waiter:
            def wait(self, **_: Any) -> None: ...

        return Waiter()


def destroy(
    environment: Environment, there: CloudFormation, answer: str = "", said: Callable[[str], object] = print
) -> None:
    aws.destroy(there, environment, lambda _: answer, said)


def test_a_dev_stack_goes_when_its_name_is_typed_and_what_stays_is_said() -> None:
    there, said = CloudFormation(), []
    destroy(DEV, there, "sluice-dev\n", said.append)
    assert there.deleted == ["sluice-dev"]
    assert any("LedgerTable-name" in line for line in said)
    assert any("LedgerDeadLetters-name" in line for line in said)


@pytest.mark.parametrize(
    ("environment", "there", "why"),
    [
        (Environment("prod", "sluice", "us-east-1", {}), CloudFormation("prod"), "people's money"),
        (DEV, CloudFormation("prod"), "Environment=prod"),
        (DEV, CloudFormation(None), "there is no stack"),
        (DEV, CloudFormation(), "nothing was done"),
    ],
    ids=["prod", "prod by its parameter", "none", "not confirmed"],
)
def test_what_is_not_destroyed(environment: Environment, there: CloudFormation, why: str) -> None:
    with pytest.raises(Refused, match=why):
        destroy(environment, there, "yes")
    assert there.deleted == []


# --- the rehearsal ---


def test_the_rehearsal_streams_nothing_and_loses_no_route() -> None:
    text = rehearsal.buffered((ROOT / "infra/api.yaml").read_text(encoding="utf-8"))
    assert "STREAM" not in re.sub(r"#.*", "", text)
    before = yaml_parse(text)["Resources"]["Api"]["Properties"]["DefinitionBody"]["paths"]
    paths = rehearsal.expanded(text)["Resources"]["Api"]["Properties"]["Body"]["paths"]
    assert paths.keys() == before.keys()
    assert paths["/health"].keys() == {"get"}
    assert "post" in paths["/v1/{proxy+}"]
    assert "/invocations" in str(paths["/v1/{proxy+}"]["post"]["x-amazon-apigateway-integration"]["uri"])


def test_there_is_no_rehearsal_of_an_api_that_does_not_stream() -> None:
    with pytest.raises(Unusable, match="nothing to rehearse"):
        rehearsal.buffered("Resources: {}")
