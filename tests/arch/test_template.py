"""The templates as CloudFormation will see them: SAM's own transform, offline, and what must hold of its result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
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


def as_cloudformation_sees_it(path: str) -> dict[str, Any]:
    template = yaml_parse((ROOT / path).read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        for local in ("CodeUri", "ContentUri"):  # as `sam package` leaves them
            if local in resource.get("Properties", {}):
                resource["Properties"][local] = "s3://artifacts/key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return dict(transform(template, {}, NoManagedPolicies()))


@pytest.fixture(scope="module")
def transformed() -> dict[str, Any]:
    return as_cloudformation_sees_it("template.yaml")


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    return as_cloudformation_sees_it("infra/api.yaml")


def resources(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in template["Resources"].values() if one["Type"] == kind]


def routes(api: dict[str, Any], function: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(METHOD, path) -> integration, of the routes that reach `function`."""
    paths = api["Resources"]["Api"]["Properties"]["Body"]["paths"]
    return {
        (method.upper(), path): operation["x-amazon-apigateway-integration"]
        for path, methods in paths.items()
        for method, operation in methods.items()
        if f"${{{function}Arn}}" in str(operation.get("x-amazon-apigateway-integration", {}).get("uri"))
    }


def test_every_relay_route_streams(api: dict[str, Any]) -> None:
    relay = routes(api, "Relay")
    assert relay
    for route, integration in relay.items():
        uri = integration["uri"]["Fn::Sub"]
        assert ":lambda:path/2021-11-15/functions/" in uri, route
        assert uri.endswith("/response-streaming-invocations"), route
        assert integration["responseTransferMode"] == "STREAM", route
        assert integration["timeoutInMillis"] == 900_000, route


def test_forms_reach_the_relay_as_bytes(api: dict[str, Any]) -> None:
    body = api["Resources"]["Api"]["Properties"]["Body"]
    assert body["x-amazon-apigateway-binary-media-types"] == ["multipart/form-data"]


def test_every_route_of_the_relay_is_reached(api: dict[str, Any]) -> None:
    import relay_app

    app = relay_app.create_app(SimpleNamespace(deps=None))
    folders = [path.removesuffix("{proxy+}") for _, path in routes(api, "Relay") if path.endswith("{proxy+}")]
    assert sorted(set(folders)) == ["/v1/", "/v1beta/"]
    served = {route.path for route in app.routes}
    assert {path for path in served if not path.startswith(tuple(folders))} == {"/health"}
    for route in app.routes:
        folder = next((f"{folder}{{proxy+}}" for folder in folders if route.path.startswith(folder)), route.path)
        for method in route.methods - {"HEAD"}:
            assert (method, folder) in routes(api, "Relay"), route.path


def test_no_answer_of_the_relay_is_asked_for_without_a_body(api: dict[str, Any]) -> None:
    """tests/host/test_hosts.py: the adapter sends no byte for HEAD, and behind a stream a client may wait for one."""
    assert {method for method, _ in routes(api, "Relay")} == {"GET", "POST", "DELETE"}


@pytest.mark.parametrize("function", ["Auth", "Admin"])
def test_routes_of_mangum_do_not_stream(api: dict[str, Any], function: str) -> None:
    """Mangum answers in one piece: behind a streaming route every answer of it would be a 502."""
    found = routes(api, function)
    assert found
    assert all("2015-03-31" in one["uri"]["Fn::Sub"] for one in found.values())


def test_every_route_reaches_a_function(api: dict[str, Any]) -> None:
    paths = api["Resources"]["Api"]["Properties"]["Body"]["paths"]
    everything = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert everything == {route for function in FUNCTIONS for route in routes(api, function)}
    assert len(everything) == 9


def test_changed_routes_make_another_deployment(api: dict[str, Any]) -> None:
    """The stage shows a deployment, and CloudFormation makes another one only under another name."""
    changed = yaml_parse((ROOT / "infra/api.yaml").read_text(encoding="utf-8"))
    paths = changed["Resources"]["Api"]["Properties"]["DefinitionBody"]["paths"]
    paths["/v2/{proxy+}"] = paths.pop("/v1/{proxy+}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        other = dict(transform(changed, {}, NoManagedPolicies()))

    def deployment(template: dict[str, Any]) -> str:
        (stage,) = resources(template, "AWS::ApiGateway::Stage")
        name = str(stage["Properties"]["DeploymentId"]["Ref"])
        assert template["Resources"][name]["Type"] == "AWS::ApiGateway::Deployment"
        return name

    assert deployment(api) != deployment(other)


@pytest.mark.parametrize("function", ["Relay", "Auth", "Admin"])
def test_the_api_may_call_the_functions_it_reaches(api: dict[str, Any], function: str) -> None:
    found = [
        one["Properties"]
        for one in resources(api, "AWS::Lambda::Permission")
        if one["Properties"]["FunctionName"] == {"Ref": f"{function}Arn"}
    ]
    (permission,) = found
    assert permission["SourceArn"]["Fn::Sub"].endswith("${Api}/live/*")


def test_the_access_log_holds_no_query_and_no_header(api: dict[str, Any]) -> None:
    """A caller's key is in a header, and with Gemini's clients in the query."""
    (stage,) = resources(api, "AWS::ApiGateway::Stage")
    line = stage["Properties"]["AccessLogSetting"]["Fn::If"][1]["Format"]
    fields = json.loads(line)
    assert {fields[name] for name in ("mode", "integration_ms", "first_ms", "status")} == {
        "$context.integration.responseTransferMode",
        "$context.integration.latency",
        "$context.integration.timeToFirstContent",
        "$context.status",
    }
    assert fields["route"] == "$context.resourcePath"
    told = [
        one for one in fields.values() if one.startswith("$context.identity.") and one != "$context.identity.sourceIp"
    ]
    assert not told
    assert not [
        one for one in fields.values() if re.search(r"query|\.path$|header\.|authorizer|requestOverride|xrayTrace", one)
    ]
    assert {"Ref": "Account"} in stage["Properties"]["Tags"][0]["Value"]["Fn::If"], (
        "the role comes before the stage that logs"
    )
    (settings,) = stage["Properties"]["MethodSettings"]
    assert settings["DataTraceEnabled"] is False
    assert settings["LoggingLevel"] == "OFF"
    assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottleRate"}


def test_what_the_api_answers_by_itself_is_an_error_of_ours(api: dict[str, Any]) -> None:
    answers = api["Resources"]["Api"]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX"} < answers.keys()
    statuses = {kind: one.get("statusCode") for kind, one in answers.items()}
    assert statuses["MISSING_AUTHENTICATION_TOKEN"] == "404"
    assert (statuses["THROTTLED"], statuses["REQUEST_TOO_LARGE"]) == ("429", "413")
    for kind, one in answers.items():
        said = one["responseTemplates"]["application/json"].replace("$context.error.messageString", '"words"')
        error = json.loads(said)["error"]
        assert error.keys() == {"message", "type", "param", "code", "request_id"}, kind
        assert one["responseParameters"]["gatewayresponse.header.x-request-id"] == "context.requestId"


def test_no_client_of_old_tls_comes_in(api: dict[str, Any]) -> None:
    properties = api["Resources"]["Api"]["Properties"]
    assert properties["SecurityPolicy"] == {"Fn::FindInMap": ["Tls", {"Ref": "MinimumTls"}, "Policy"]}
    assert all(one["Policy"].startswith("SecurityPolicy_TLS13_1_") for one in api["Mappings"]["Tls"].values())
    assert properties["EndpointAccessMode"] == "STRICT"  # which the policies of that kind ask for


def test_the_firewall_lets_prompts_pass() -> None:
    """A prompt is longer than any form, and quotes code, paths and addresses: a body is never what a request is refused for."""
    rules = load("infra/firewall.yaml")["Resources"]["Acl"]["Properties"]["Rules"]
    common = next(one for one in rules if one["Name"] == "common")["Statement"]["ManagedRuleGroupStatement"]
    counted = {one["Name"] for one in common["RuleActionOverrides"] if one["ActionToUse"] == {"Count": {}}}
    # The rules of AWSManagedRulesCommonRuleSet that look at the body.
    assert counted == {
        "SizeRestrictions_BODY",
        "CrossSiteScripting_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "EC2MetaDataSSRF_BODY",
    }
    assert not any(one["VisibilityConfig"]["SampledRequestsEnabled"] for one in rules), (
        "a sample shows the caller's key"
    )


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


def test_every_function_has_the_name_its_alarms_know(source: dict[str, Any]) -> None:
    for name in FUNCTIONS:
        assert source["Resources"][name]["Properties"]["FunctionName"] == {"Fn::Sub": f"${{Prefix}}-{name.lower()}"}


def load(path: str) -> dict[str, Any]:
    return dict(yaml_parse((ROOT / path).read_text(encoding="utf-8")))


def test_every_table_is_kept_encrypted_and_recoverable() -> None:
    data = load("infra/data.yaml")
    tables = {name: one for name, one in data["Resources"].items() if one["Type"] == "AWS::DynamoDB::Table"}
    assert len(tables) == 4
    for name, table in tables.items():
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
        assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
        assert properties["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": ["DataKey", "Arn"]}
    assert "StreamSpecification" in tables["LedgerTable"]["Properties"]


def test_the_data_key_is_used_through_the_services_only() -> None:
    policy = load("infra/data.yaml")["Resources"]["DataKey"]["Properties"]["KeyPolicy"]["Statement"]
    everybody = [one for one in policy if one["Principal"] == {"AWS": "*"}]
    assert len(everybody) == 1
    said = everybody[0]["Condition"]["StringEquals"]
    assert said["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
    assert [one["Fn::Sub"].partition(".")[0] for one in said["kms:ViaService"]] == ["dynamodb", "s3"]
    assert "*" not in everybody[0]["Action"]


def test_the_bucket_is_nobody_elses() -> None:
    media = load("infra/media.yaml")["Resources"]
    properties = media["Media"]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert len(properties["LifecycleConfiguration"]["Rules"]) == 2
    denied = media["MediaByTls"]["Properties"]["PolicyDocument"]["Statement"]
    assert {one["Effect"] for one in denied} == {"Deny"}
    assert any("aws:SecureTransport" in str(one["Condition"]) for one in denied)


def test_prod_has_rules_of_its_own(source: dict[str, Any]) -> None:
    prod = {"Fn::Equals": [{"Ref": "Environment"}, "prod"]}
    assert sum(one["RuleCondition"] == prod for one in source["Rules"].values()) == 2
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    for name in ("dev", "prod"):
        given = dict(one.split("=") for one in config[name]["deploy"]["parameters"]["parameter_overrides"])
        assert given["Environment"] == name
        assert given.keys() <= source["Parameters"].keys()
        for parameter, value in given.items():
            allowed = source["Parameters"][parameter].get("AllowedValues")
            assert allowed is None or value in map(str, allowed), parameter
    assert config["prod"]["deploy"]["parameters"]["confirm_changeset"] is True


@pytest.mark.parametrize(
    ("prefix", "is_one"),
    [
        *((one, True) for one in ("sluice", "sluice-dev", "a1", "a" * 32)),
        *((one, False) for one in ("a", "Sluice", "1a", "a--b", "a-", "a_b", "a" * 33)),
    ],
)
def test_a_prefix_is_a_name_for_everything(source: dict[str, Any], prefix: str, is_one: bool) -> None:
    parameter = source["Parameters"]["Prefix"]
    fits = re.fullmatch(parameter["AllowedPattern"], prefix) is not None and len(prefix) <= parameter["MaxLength"]
    assert fits is is_one


def test_what_the_schedules_could_not_do_is_set_aside(transformed: dict[str, Any]) -> None:
    (invocations,) = resources(transformed, "AWS::Lambda::EventInvokeConfig")
    assert invocations["Properties"]["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["JobsDeadLetters", "Arn"]
    }
    rules = sorted(resources(transformed, "AWS::Events::Rule"), key=lambda one: str(one["Properties"]["Name"]))
    assert [one["Properties"]["Name"]["Fn::Sub"] for one in rules] == ["${Prefix}-prove", "${Prefix}-sweep"]
    for rule in rules:
        (target,) = rule["Properties"]["Targets"]
        assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["JobsDeadLetters", "Arn"]}


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
