"""infra/cache.yaml and infra/network.yaml as they come out in each mode, and who may use what they make."""

from __future__ import annotations

import inspect
import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sluice import wiring

ROOT = Path(__file__).parents[2]
NOTHING = {"Ref": "AWS::NoValue"}
OWN = {"VpcId": "vpc-0123456789abcdef0", "SubnetIds": "subnet-1,subnet-2"}
FUNCTIONS = ("Relay", "Auth", "Admin", "Jobs")


def source(name: str) -> dict[str, Any]:
    return dict(yaml_parse((ROOT / name).read_text(encoding="utf-8")))


class Chosen:
    """A template with its parameters given: resources and outputs that there are, without conditions."""

    def __init__(self, name: str, **given: str) -> None:
        self.template = source(name)
        self._given = {key: one.get("Default", "") for key, one in self.template["Parameters"].items()} | given
        self.resources = self._kept("Resources")
        self.outputs = self._kept("Outputs")

    def of(self, kind: str) -> dict[str, Any]:
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}

    def _kept(self, section: str) -> dict[str, Any]:
        rows = self.template[section].items()
        return {name: self.value(one) for name, one in rows if "Condition" not in one or self.holds(one["Condition"])}

    def holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        ((function, given),) = condition.items()
        if function == "Condition":
            return self.holds(given)
        if function == "Fn::Equals":
            return bool(self.value(given[0]) == self.value(given[1]))
        found = [self.holds(one) for one in given]
        return {"Fn::Not": not found[0], "Fn::And": all(found), "Fn::Or": any(found)}[function]

    def value(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self.value(one) for one in found if one != NOTHING]
        if not isinstance(found, dict):
            return found
        if found.keys() == {"Fn::If"}:
            condition, yes, no = found["Fn::If"]
            return self.value(yes if self.holds(condition) else no)
        if found.keys() == {"Ref"} and found["Ref"] in self._given:
            return self._given[found["Ref"]]
        if found.keys() == {"Fn::Split"}:
            apart, whole = self.value(found["Fn::Split"])
            return whole.split(apart) if isinstance(whole, str) else found
        values = {name: self.value(one) for name, one in found.items()}
        return {name: one for name, one in values.items() if one != NOTHING}


def cache(**given: str) -> tuple[Chosen, dict[str, Any]]:
    chosen = Chosen("infra/cache.yaml", **given)
    (properties,) = chosen.of("AWS::ElastiCache::ServerlessCache").values()
    return chosen, properties


# --- the cache ---


def test_public_is_a_cache_and_its_user_and_no_network_at_all() -> None:
    chosen, properties = cache(Mode="public")
    kinds = sorted(one["Type"] for one in chosen.resources.values())
    assert kinds == [f"AWS::ElastiCache::{kind}" for kind in ("ServerlessCache", "User", "UserGroup")]
    assert properties["ConnectionType"] == "public"
    assert not {"SubnetIds", "SecurityGroupIds"} & properties.keys()
    assert set(chosen.outputs) == {"Arn", "UserArn", "Name", "User", "Url"}


@pytest.mark.parametrize("given", [{}, OWN], ids=["a VPC made here", "one of your own"])
def test_vpc_is_a_cache_that_only_the_functions_reach(given: dict[str, str]) -> None:
    chosen, properties = cache(Mode="vpc", **given)
    assert properties["ConnectionType"] == "vpc"
    assert properties["SecurityGroupIds"] == [{"Fn::GetAtt": ["CacheGroup", "GroupId"]}]
    (way_in,) = chosen.resources["CacheGroup"]["Properties"]["SecurityGroupIngress"]
    assert (way_in["FromPort"], way_in["ToPort"]) == (6379, 6379)
    assert way_in["SourceSecurityGroupId"] == {"Fn::GetAtt": ["FunctionsGroup", "GroupId"]}
    assert "SecurityGroupIngress" not in chosen.resources["FunctionsGroup"]["Properties"]
    assert {"FunctionsGroup", "SubnetIds", "DualStack", "JoinVpcPolicy"} < set(chosen.outputs)


def test_a_vpc_of_your_own_is_taken_as_it_is() -> None:
    chosen, properties = cache(Mode="vpc", **OWN)
    assert not chosen.of("AWS::CloudFormation::Stack")
    assert properties["SubnetIds"] == ["subnet-1", "subnet-2"]
    assert {one["VpcId"] for one in chosen.of("AWS::EC2::SecurityGroup").values()} == {OWN["VpcId"]}
    assert chosen.outputs["SubnetIds"]["Value"] == OWN["SubnetIds"]
    assert chosen.outputs["DualStack"]["Value"] == "false", "whether its subnets have IPv6 is not known"


def test_a_vpc_made_here_is_asked_for_what_it_has() -> None:
    chosen, properties = cache(Mode="vpc", Egress="ipv6")
    network = chosen.of("AWS::CloudFormation::Stack")["Network"]
    made = Chosen(f"infra/{network['TemplateURL']}")
    assert set(network["Parameters"]) <= set(made.template["Parameters"])
    assert network["Parameters"]["Egress"] == "ipv6"
    assert properties["SubnetIds"] == {"Fn::Split": [",", {"Fn::GetAtt": ["Network", "Outputs.SubnetIds"]}]}
    asked = set(re.findall(r"Network', 'Outputs\.(\w+)'|Network\.Outputs\.(\w+)", str(chosen.template)))
    assert {a or b for a, b in asked} == set(made.outputs)
    assert chosen.outputs["DualStack"]["Value"] == "true"


@pytest.mark.parametrize(("given", "together"), [({}, True), (OWN, True), ({**OWN, "SubnetIds": ""}, False)])
def test_half_a_vpc_is_refused(given: dict[str, str], together: bool) -> None:
    chosen = Chosen("infra/cache.yaml", Mode="vpc", **given)
    ((rule,),) = [one["Assertions"] for one in chosen.template["Rules"].values()]
    assert chosen.holds(rule["Assert"]) is together


def test_the_cache_has_a_user_of_its_own_that_iam_vouches_for() -> None:
    chosen, properties = cache()
    (user,) = chosen.of("AWS::ElastiCache::User").values()
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]
    rights = user["AccessString"].split()
    assert rights[0] == "on"
    assert "-@all" in rights
    assert not {"+@all", "allkeys", "~*", "&*", "allchannels", "nopass"} & set(rights)
    (group,) = chosen.of("AWS::ElastiCache::UserGroup").values()
    assert group["UserIds"] == [{"Ref": "User"}]
    assert properties["UserGroupId"] == {"Ref": "Users"}


def test_what_the_client_signs_for_is_what_there_is() -> None:
    chosen, properties = cache(Prefix="sluice-x")
    assert chosen.outputs["Name"]["Value"] == properties["ServerlessCacheName"] == "sluice-x"
    assert chosen.outputs["User"]["Value"] == {"Ref": "User"}
    assert chosen.outputs["Url"]["Value"]["Fn::Sub"].startswith("valkeys://")


def test_what_the_cache_can_come_to_cost_has_an_end() -> None:
    _, properties = cache()
    limits = properties["CacheUsageLimits"]
    assert limits["DataStorage"] == {"Maximum": 1, "Unit": "GB"}
    assert limits["ECPUPerSecond"]["Maximum"] <= 5000


def test_lambda_may_attach_a_function_and_the_function_may_not() -> None:
    chosen, _ = cache(Mode="vpc")
    (policy,) = chosen.of("AWS::IAM::ManagedPolicy").values()
    allow, deny = policy["PolicyDocument"]["Statement"]
    assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
    assert allow["Action"] == deny["Action"]
    assert {action.partition(":")[2] for action in allow["Action"]} == {
        "CreateNetworkInterface",
        "DescribeNetworkInterfaces",
        "DescribeSubnets",
        "DeleteNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
    }
    assert "lambda:SourceFunctionArn" in deny["Condition"]["ArnLike"]
    assert "Condition" not in allow


# --- the network ---


def routes(chosen: Chosen, table: str) -> dict[str, str]:
    """Destination -> what leads there, of a route table."""
    found = {}
    for route in chosen.of("AWS::EC2::Route").values():
        if route["RouteTableId"] == {"Ref": table}:
            to = route.get("DestinationCidrBlock") or route["DestinationIpv6CidrBlock"]
            found[to] = next(name for name in route if name.endswith("GatewayId"))
    return found


def test_nat_leads_the_private_subnets_out_and_nobody_in() -> None:
    chosen = Chosen("infra/network.yaml", Egress="nat")
    assert routes(chosen, "Private") == {"0.0.0.0/0": "NatGatewayId", "::/0": "EgressOnlyInternetGatewayId"}
    assert routes(chosen, "PublicTable") == {"0.0.0.0/0": "GatewayId"}
    assert len(chosen.of("AWS::EC2::NatGateway")) == 1
    assert not chosen.of("AWS::EC2::SecurityGroup")


def test_ipv6_makes_nothing_that_costs_but_the_way_to_kms() -> None:
    chosen = Chosen("infra/network.yaml", Egress="ipv6")
    assert routes(chosen, "Private") == {"::/0": "EgressOnlyInternetGatewayId"}
    for kind in ("NatGateway", "EIP", "InternetGateway"):
        assert not chosen.of(f"AWS::EC2::{kind}"), kind
    endpoints = {str(one["ServiceName"]): one["VpcEndpointType"] for one in chosen.of("AWS::EC2::VPCEndpoint").values()}
    assert {kind for name, kind in endpoints.items() if ".kms" in name} == {"Interface"}


@pytest.mark.parametrize("egress", ["nat", "ipv6"])
def test_functions_are_in_private_subnets_of_two_zones_with_dynamodb_beside_them(egress: str) -> None:
    chosen = Chosen("infra/network.yaml", Egress=egress)
    subnets = chosen.of("AWS::EC2::Subnet")
    given = re.findall(r"\$\{(\w+)\}", chosen.outputs["SubnetIds"]["Value"]["Fn::Sub"])
    assert len({str(subnets[name]["AvailabilityZone"]) for name in given}) == 2
    assert len({str(one["CidrBlock"]) for one in subnets.values()}) == len(subnets)
    assert not any(one.get("MapPublicIpOnLaunch") for one in subnets.values())
    tables = {
        one["SubnetId"]["Ref"]: one["RouteTableId"]["Ref"]
        for one in chosen.of("AWS::EC2::SubnetRouteTableAssociation").values()
    }
    assert {tables[name] for name in given} == {"Private"}
    (dynamodb,) = [one for one in chosen.of("AWS::EC2::VPCEndpoint").values() if "dynamodb" in str(one["ServiceName"])]
    assert dynamodb["VpcEndpointType"] == "Gateway"
    assert dynamodb["RouteTableIds"] == [{"Ref": "Private"}]
    (granted,) = dynamodb["PolicyDocument"]["Statement"]
    assert granted["Resource"]["Fn::Sub"].endswith(":table/${Prefix}-*")


def test_every_network_that_may_be_given_holds_its_subnets() -> None:
    chosen = Chosen("infra/network.yaml")
    whole = chosen.template["Parameters"]["Cidr"]
    shares = [one["CidrBlock"]["Fn::Select"][1]["Fn::Cidr"] for one in chosen.of("AWS::EC2::Subnet").values()]
    for size in range(8, 29):
        network = ipaddress.ip_network(f"10.0.0.0/{size}")
        if re.fullmatch(whole["AllowedPattern"].strip("^$"), str(network)):
            for _, count, bits in shares:
                assert network.num_addresses >= count * 2**bits, network
    assert re.fullmatch(whole["AllowedPattern"].strip("^$"), whole["Default"])


# --- who uses it ---


def users_of_the_cache() -> set[str]:
    """The functions whose wiring asks for the client."""
    builders = {name.title(): getattr(wiring, f"build_{name}") for name in ("relay", "auth", "admin", "jobs")}
    return {name for name, build in builders.items() if "clients.valkey" in inspect.getsource(build)}


def test_who_uses_the_cache_may_connect_to_it_and_is_where_it_is() -> None:
    resources = source("template.yaml")["Resources"]
    users = users_of_the_cache()
    assert users == {"Relay", "Admin"}
    for name in FUNCTIONS:
        properties, role = (resources[one]["Properties"] for one in (name, f"{name}Role"))
        connects = re.findall(r"elasticache:\w+", str(role))
        assert connects == (["elasticache:Connect"] if name in users else []), name
        assert ("VpcConfig" in properties) is (name in users), name
        assert ("JoinVpcPolicy" in str(role)) is (name in users), name


def test_to_connect_is_to_one_cache_as_one_user() -> None:
    resources = source("template.yaml")["Resources"]
    for name in users_of_the_cache():
        (granted,) = [
            one["Fn::If"]
            for policy in resources[f"{name}Role"]["Properties"]["Policies"]
            for one in policy["PolicyDocument"]["Statement"]
            if "elasticache" in str(one)
        ]
        condition, statement, otherwise = granted
        assert (condition, otherwise) == ("HasCache", NOTHING)
        assert statement["Resource"] == [
            {"Fn::GetAtt": f"Cache.Outputs.{arn}".split(".", 1)} for arn in ("Arn", "UserArn")
        ]


def test_the_root_offers_each_mode_and_hands_on_what_it_is_given() -> None:
    root, cached = source("template.yaml"), source("infra/cache.yaml")
    modes = root["Parameters"]["CacheMode"]["AllowedValues"]
    assert set(modes) == {"none", *cached["Parameters"]["Mode"]["AllowedValues"]}
    handed = root["Resources"]["Cache"]["Properties"]["Parameters"]
    assert set(handed) == set(cached["Parameters"])
    for name, value in handed.items():
        given, taken = root["Parameters"][value["Ref"]], cached["Parameters"][name]
        if name not in ("Prefix", "Mode"):
            assert (given.get("AllowedPattern"), given.get("AllowedValues"), given["Default"]) == (
                taken.get("AllowedPattern"),
                taken.get("AllowedValues"),
                taken["Default"],
            ), name
