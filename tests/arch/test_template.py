"""The templates as CloudFormation will see them: SAM's own transform, offline, and what must hold of its result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from sluice.settings import Settings

ROOT = Path(__file__).parents[2]
INFRA = sorted((ROOT / "infra").glob("*.yaml"))
FUNCTIONS = ("Relay", "Auth", "Admin", "Jobs")


class NoManagedPolicies:
    """SAM asks AWS for the ARNs of managed policies; ours name none."""

    def load(self) -> dict[str, str]:
        return {}


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    return dict(yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def transformed() -> dict[str, Any]:
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        for local in ("CodeUri", "ContentUri"):  # as `sam package` leaves them
            if local in resource.get("Properties", {}):
                resource["Properties"][local] = "s3://artifacts/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return dict(transform(template, {}, NoManagedPolicies()))


def routes(transformed: dict[str, Any], function: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(METHOD, path) -> integration, of the routes that reach `function`."""
    paths = transformed["Resources"]["Api"]["Properties"]["Body"]["paths"]
    return {
        (method.upper(), path): operation["x-amazon-apigateway-integration"]
        for path, methods in paths.items()
        for method, operation in methods.items()
        if f"${{{function}.Arn}}" in str(operation.get("x-amazon-apigateway-integration", {}).get("uri"))
    }


def test_every_relay_route_streams(transformed: dict[str, Any]) -> None:
    relay = routes(transformed, "Relay")
    assert relay
    for route, integration in relay.items():
        uri = integration["uri"]["Fn::Sub"]
        assert ":lambda:path/2021-11-15/functions/" in uri, route
        assert uri.endswith("/response-streaming-invocations"), route
        assert integration["responseTransferMode"] == "STREAM", route
        assert integration["timeoutInMillis"] == 900_000, route


def test_forms_reach_the_relay_as_bytes(transformed: dict[str, Any]) -> None:
    body = transformed["Resources"]["Api"]["Properties"]["Body"]
    assert body["x-amazon-apigateway-binary-media-types"] == ["multipart/form-data"]


def test_every_route_of_the_relay_is_reached(transformed: dict[str, Any]) -> None:
    import relay_app

    app = relay_app.create_app(SimpleNamespace(deps=None))
    folders = [path.removesuffix("{proxy+}") for _, path in routes(transformed, "Relay") if path.endswith("{proxy+}")]
    assert sorted(set(folders)) == ["/v1/", "/v1beta/"]
    served = {route.path for route in app.routes}
    assert {path for path in served if not path.startswith(tuple(folders))} == {"/health"}
    for route in app.routes:
        folder = next((f"{folder}{{proxy+}}" for folder in folders if route.path.startswith(folder)), route.path)
        for method in route.methods - {"HEAD"}:
            assert (method, folder) in routes(transformed, "Relay"), route.path


def test_no_answer_of_the_relay_is_asked_for_without_a_body(transformed: dict[str, Any]) -> None:
    """tests/host/test_hosts.py: the adapter sends no byte for HEAD, and behind a stream a client may wait for one."""
    assert {method for method, _ in routes(transformed, "Relay")} == {"GET", "POST", "DELETE"}


@pytest.mark.parametrize("function", ["Auth", "Admin"])
def test_routes_of_mangum_do_not_stream(transformed: dict[str, Any], function: str) -> None:
    """Mangum answers in one piece: behind a streaming route every answer of it would be a 502."""
    found = routes(transformed, function)
    assert found
    assert all("2015-03-31" in one["uri"]["Fn::Sub"] for one in found.values())


def test_every_route_reaches_a_function(transformed: dict[str, Any]) -> None:
    paths = transformed["Resources"]["Api"]["Properties"]["Body"]["paths"]
    everything = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert everything == {route for function in FUNCTIONS for route in routes(transformed, function)}


def test_the_relay_runs_behind_the_adapter(transformed: dict[str, Any]) -> None:
    relay = transformed["Resources"]["Relay"]["Properties"]
    variables = relay["Environment"]["Variables"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
    assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
    assert relay["Timeout"] == 900
    assert "LambdaAdapterLayer" in str(relay["Layers"])
    # The adapter overwrites what a client sent under this name; without an adapter nobody does.
    assert variables["SLUICE_DEADLINE_HEADER"] == "x-amzn-lambda-context"
    assert relay["Timeout"] > 10 * float(variables["SLUICE_DEADLINE_MARGIN_SECONDS"])


@pytest.mark.parametrize("function", ["Auth", "Admin", "Jobs"])
def test_no_other_function_takes_a_deadline_from_a_header(transformed: dict[str, Any], function: str) -> None:
    variables = transformed["Resources"][function]["Properties"]["Environment"]["Variables"]
    assert variables["SLUICE_DEADLINE_HEADER"] == ""


def test_every_handler_exists(source: dict[str, Any]) -> None:
    for name in FUNCTIONS:
        properties = source["Resources"][name]["Properties"]
        folder = ROOT / properties["CodeUri"]
        if properties["Handler"].endswith(".sh"):
            assert os.access(folder / properties["Handler"], os.X_OK), name
            continue
        module, _, function = properties["Handler"].partition(".")
        code = (folder / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(def {function}\b|{function}\b.*=)", code, re.MULTILINE), name


def test_the_relays_start_script_names_a_factory_that_exists() -> None:
    folder = ROOT / "functions" / "relay"
    found = re.search(r"--factory (\w+):(\w+)", (folder / "run.sh").read_text(encoding="utf-8"))
    assert found
    module, factory = found.groups()
    assert re.search(rf"^def {factory}\(\)", (folder / f"{module}.py").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_setting_is_declared_in_every_function(transformed: dict[str, Any]) -> None:
    wanted = {f"SLUICE_{one.name.upper()}" for one in fields(Settings)}
    for name in FUNCTIONS:
        variables = transformed["Resources"][name]["Properties"]["Environment"]["Variables"]
        assert {one for one in variables if one.startswith("SLUICE_")} == wanted, name


def test_a_setting_the_template_spells_out_is_the_default(source: dict[str, Any]) -> None:
    """One fact in two files: whoever changes the default in one of them is told of the other."""
    variables = source["Globals"]["Function"]["Environment"]["Variables"]
    parameters = {name: str(one["Default"]) for name, one in source["Parameters"].items()}
    said: dict[str, str] = {}
    for name, value in variables.items():
        if isinstance(value, str) and name.startswith("SLUICE_"):
            said[name] = value
        elif isinstance(value, dict) and value.get("Ref") in parameters:
            said[name] = parameters[value["Ref"]]
    assert len(said) > 5
    assert Settings.from_env(said) == Settings()


def statements(transformed: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in FUNCTIONS:
        for policy in transformed["Resources"][f"{name}Role"]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                granted = statement["Fn::If"][1] if "Fn::If" in statement else statement
                yield name, granted


def test_no_function_may_do_everything_or_to_everything(transformed: dict[str, Any]) -> None:
    found = list(statements(transformed))
    assert {name for name, _ in found} == set(FUNCTIONS)
    for name, statement in found:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions), (name, statement["Sid"])
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert not any(one == "*" for one in resources), (name, statement["Sid"])


def test_only_logging_comes_from_a_managed_policy(transformed: dict[str, Any]) -> None:
    for name in FUNCTIONS:
        arns = transformed["Resources"][f"{name}Role"]["Properties"]["ManagedPolicyArns"]
        # SAM adds the one for VPCs wherever a function can be in one; ours denies the function what that one grants.
        arns = [one for one in arns if "VPCAccessExecutionRole" not in str(one) and "JoinVpcPolicy" not in str(one)]
        assert len(arns) == 1, name
        assert str(arns[0]).endswith("AWSLambdaBasicExecutionRole"), name


def test_the_relay_cannot_touch_what_it_need_not(transformed: dict[str, Any]) -> None:
    granted = {str(one["Resource"]): one["Action"] for name, one in statements(transformed) if name == "Relay"}
    writes = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "GenerateDataKey")
    may_write = [resource for resource, actions in granted.items() if any(word in str(actions) for word in writes)]
    assert ["LedgerTableArn" in one for one in may_write] == [True, False]
    assert "ConversationsTableArn" in may_write[1]


def test_the_stream_is_read_in_batches_that_can_fail_in_part(source: dict[str, Any]) -> None:
    mapping = source["Resources"]["LedgerChanges"]["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert "OnFailure" in mapping["DestinationConfig"]


def test_every_output_asked_of_a_nested_stack_is_there(source: dict[str, Any]) -> None:
    nested = {
        name: yaml_parse((ROOT / one["Properties"]["TemplateURL"]).read_text(encoding="utf-8"))
        for name, one in source["Resources"].items()
        if one["Type"] == "AWS::CloudFormation::Stack"
    }
    asked = re.findall(r"'(\w+)\.Outputs\.(\w+)'|'(\w+)', 'Outputs\.(\w+)'", str(source))
    pairs = {(a or c, b or d) for a, b, c, d in asked}
    assert len(pairs) > 8
    for stack, output in pairs:
        assert output in nested[stack]["Outputs"], f"{stack}.{output}"
    for name, stack in nested.items():
        given = set(source["Resources"][name]["Properties"].get("Parameters", {}))
        assert given <= set(stack.get("Parameters", {})), name


@pytest.mark.parametrize("makefile", ["Makefile", "layers/common/Makefile"])
def test_the_layer_is_built_for_what_the_template_runs_on(source: dict[str, Any], makefile: str) -> None:
    said = dict(re.findall(r"^(RUNTIME|ARCHITECTURE) \?= (\S+)$", (ROOT / makefile).read_text("utf-8"), re.MULTILINE))
    defaults = {name.upper(): source["Parameters"][name]["Default"] for name in ("Runtime", "Architecture")}
    assert said == defaults


def test_what_sam_builds_has_a_target(source: dict[str, Any]) -> None:
    makefile = (ROOT / "layers/common/Makefile").read_text("utf-8")
    built = [
        name for name, one in source["Resources"].items() if one.get("Metadata", {}).get("BuildMethod") == "makefile"
    ]
    assert set(built) == {*FUNCTIONS, "Common"}
    for name in built:
        assert re.search(rf"^build-.*\b{name}\b.*:", makefile.replace(".PHONY", "#"), re.MULTILINE), name


def test_cfn_lint_finds_nothing() -> None:
    run = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "--regions", "us-east-1", "--", "template.yaml"]
    done = subprocess.run([*command, *map(str, INFRA)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
