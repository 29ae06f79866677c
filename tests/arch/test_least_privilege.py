"""Each function may do what its code can do and nothing else. `privileges.py` derives the one from the source; the other is the template.

What Lambda itself does in a function's name (read a stream, set aside what failed, write the log) is derived from the template.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.arch.privileges import Program, Reach, uses

ROOT = Path(__file__).parents[2]
FUNCTIONS = ("Relay", "Auth", "Admin", "Jobs")
READ_A_STREAM = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
CACHE = "sluice.wiring.Clients.valkey"

Template = dict[str, Any]
Right = tuple[str, str]
"""(action, resource), a resource as Stack.LogicalName or LogicalName, with what follows it in an ARN."""


@cache
def nested(url: str) -> Template:
    return dict(yaml_parse((ROOT / url).read_text(encoding="utf-8")))


@pytest.fixture
def template() -> Template:
    return dict(yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def reached() -> dict[str, Reach]:
    return reaches(Program())


def reaches(program: Program) -> dict[str, Reach]:
    return {name: uses(program, *handler(name)) for name in FUNCTIONS}


def handler(name: str) -> tuple[str, str]:
    """Module and function that a function of the template starts with."""
    properties = nested("template.yaml")["Resources"][name]["Properties"]
    if not properties["Handler"].endswith(".sh"):
        module, function = properties["Handler"].split(".")
        return module, function
    script = (ROOT / properties["CodeUri"] / properties["Handler"]).read_text(encoding="utf-8")
    module, function = re.findall(r"--factory (\w+):(\w+)", script)[0]
    return module, function


# --- what the template says ------------------------------------------------------------------------------------------


def resource(template: Template, node: Any) -> str:
    """What a reference of the root template comes to, through the outputs of the nested stacks."""
    match node:
        case {"Ref": name}:
            return str(name)
        case {"Fn::GetAtt": target}:
            stack, _, output = (target if isinstance(target, str) else ".".join(target)).partition(".Outputs.")
            if not output:
                return stack.partition(".")[0]
            inner = nested(template["Resources"][stack]["Properties"]["TemplateURL"])
            return f"{stack}.{_named(inner, output)}"
        case {"Fn::Sub": [str(text), dict(names)]}:
            for name, value in names.items():
                text = text.replace(f"${{{name}}}", resource(template, value))
            return str(text).rpartition("log-group:")[2]
    raise AssertionError(f"a resource that is no reference: {node}")


def _named(inner: Template, output: str) -> str:
    """The resource of a nested stack that an output is the name or the ARN of; of an alias, the key."""
    match inner["Outputs"][output]["Value"]:
        case {"Ref": name}:
            target = inner["Resources"][name]["Properties"].get("TargetKeyId")
            return str(target["Ref"] if target else name)
        case {"Fn::GetAtt": target}:
            name, _, attribute = (target if isinstance(target, str) else ".".join(target)).partition(".")
            return f"{name}/stream/*" if attribute == "StreamArn" else name
    return output


def granted(template: Template, function: str) -> Iterator[Right]:
    role = template["Resources"][function]["Properties"]["Role"]
    for policy in template["Resources"][resource(template, role)]["Properties"]["Policies"]:
        for one in _with_branches(policy["PolicyDocument"]["Statement"]):
            assert one.keys() == {"Sid", "Effect", "Action", "Resource"}, f"{one} says less than it seems, or more"
            assert one["Effect"] == "Allow", one
            for action in _listed(one["Action"]):
                for target in _listed(one["Resource"]):
                    yield action, resource(template, target)


def _with_branches(statements: list[Any]) -> Iterator[dict[str, Any]]:
    """Every statement, those under a condition too: what may be granted is looked at as if it were."""
    for one in statements:
        if "Fn::If" in one:
            yield from _with_branches(one["Fn::If"][1:])
        elif one != {"Ref": "AWS::NoValue"}:
            yield one


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def needed(template: Template, function: str, reach: Reach) -> dict[Right, str]:
    """Each right a function needs, and why."""
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    found: dict[Right, str] = {}
    for use, place in reach.uses.items():
        kept = resource(template, variables[f"SLUICE_{use.setting.upper()}"])
        found[f"{use.service}:{use.operation}", kept + (f"/index/{use.index}" if use.index else "")] = place
    if any(one.name == CACHE for one in reach.functions):
        found |= {("elasticache:Connect", f"Cache.{one}"): CACHE for one in ("Cache", "User")}
    return found | dict.fromkeys(_of_lambda(template, function), "Lambda itself")


def _of_lambda(template: Template, function: str) -> Iterator[Right]:
    properties = template["Resources"][function]["Properties"]
    group = resource(template, properties["LoggingConfig"]["LogGroup"])
    yield from ((f"logs:{action}", f"{group}:*") for action in ("CreateLogStream", "PutLogEvents"))
    destinations = [properties.get("EventInvokeConfig", {}).get("DestinationConfig")]
    for one in template["Resources"].values():
        if one["Type"] == "AWS::Lambda::EventSourceMapping" and one["Properties"]["FunctionName"] == {"Ref": function}:
            stream = resource(template, one["Properties"]["EventSourceArn"])
            yield from ((f"dynamodb:{action}", stream) for action in READ_A_STREAM)
            destinations.append(one["Properties"].get("DestinationConfig"))
    for destination in filter(None, destinations):
        yield "sqs:SendMessage", resource(template, destination["OnFailure"]["Destination"])


def findings(template: Template, reached: Mapping[str, Reach]) -> list[str]:
    """One sentence for each grant without a use and each use without a grant."""
    found = []
    for name in FUNCTIONS:
        needs, grants = needed(template, name, reached[name]), set(granted(template, name))
        found += [f"{name} may {action} on {target} and never does" for action, target in sorted(grants - needs.keys())]
        found += [
            f"{name} may not {action} on {target}, and {needs[action, target]} does"
            for action, target in sorted(needs.keys() - grants)
        ]
    return found


# --- held ------------------------------------------------------------------------------------------------------------


def test_every_function_may_do_what_it_does_and_no_more(template: Template, reached: dict[str, Reach]) -> None:
    assert findings(template, reached) == []


def test_every_index_that_is_asked_exists(template: Template, reached: dict[str, Reach]) -> None:
    asked = {use for reach in reached.values() for use in reach.uses if use.index}
    assert {use.index for use in asked} == {"users", "wallets"}
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    for use in asked:
        table = resource(template, variables[f"SLUICE_{use.setting.upper()}"]).removeprefix("Data.")
        properties = nested("infra/data.yaml")["Resources"][table]["Properties"]
        assert use.index in [one["IndexName"] for one in properties["GlobalSecondaryIndexes"]]


def test_every_class_with_a_client_gets_it_in_wiring_and_is_seen() -> None:
    """A store the derivation does not know of would be one whose grants nobody checks."""
    program = Program()
    with_client = {one.name for one in program.classes if "_client" in {**one.fields, **one.set_values}}
    of_valkey = {"Marks"}  # one grant, to connect: CACHE above
    assert with_client == program.bindings.keys() | of_valkey


JOIN_THE_VPC = {"Fn::If": ["InVpc", {"Fn::GetAtt": "Cache.Outputs.JoinVpcPolicy"}, {"Ref": "AWS::NoValue"}]}
"""The one policy that is over every resource, and denied to the function's own code: infra/cache.yaml says why."""


def test_no_policy_is_managed_or_has_a_wildcard(template: Template) -> None:
    roles = {name: one for name, one in template["Resources"].items() if one["Type"] == "AWS::IAM::Role"}
    assert roles.keys() == {f"{name}Role" for name in FUNCTIONS}
    for name, role in roles.items():
        in_vpc = "VpcConfig" in template["Resources"][name.removesuffix("Role")]["Properties"]
        assert _dotted(role["Properties"].get("ManagedPolicyArns", [])) == ([JOIN_THE_VPC] if in_vpc else []), name
    for name in FUNCTIONS:
        assert "Policies" not in template["Resources"][name]["Properties"], "SAM would add to the role"
        for action, target in granted(template, name):
            assert "*" not in action, (name, action)
            assert target.removesuffix("/stream/*").removesuffix(":*").count("*") == 0, (name, target)


def _dotted(node: Any) -> Any:
    """`node` with each Fn::GetAtt in its form as one text."""
    match node:
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return {"Fn::GetAtt": f"{name}.{attribute}"}
        case dict():
            return {key: _dotted(value) for key, value in node.items()}
        case list():
            return [_dotted(one) for one in node]
    return node


GIVES_RIGHTS = re.compile(r"AWS::IAM::|::\w*Policy$|^AWS::KMS::Key$|::Permission$")
GIVEN = {
    "template.yaml": {*(f"{name}Role" for name in FUNCTIONS), "SchedulesMaySetAside"},
    "infra/api.yaml": {"MayCallRelay", "MayCallAuth", "MayCallAdmin", "AccountRole"},
    "infra/cache.yaml": {"JoinVpc"},
    "infra/data.yaml": {"DataKey", "VaultKey"},
    "infra/media.yaml": {"MediaByTls"},
}
"""Everything that gives somebody a right. One more is to be looked at, and then named here."""


def test_rights_are_given_nowhere_else() -> None:
    for path in ("template.yaml", *(f"infra/{one.name}" for one in sorted((ROOT / "infra").glob("*.yaml")))):
        found = {name for name, one in nested(path)["Resources"].items() if GIVES_RIGHTS.search(one["Type"])}
        assert found == GIVEN.get(path, set()), path
        for name, one in nested(path)["Resources"].items():
            assert "ResourcePolicy" not in str(one.get("Properties")), (path, name)


def test_only_lambda_takes_a_functions_role(template: Template) -> None:
    for name in FUNCTIONS:
        (trust,) = template["Resources"][f"{name}Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust == {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }


def test_what_is_open_to_everybody_is_so_on_a_condition() -> None:
    for path, names in GIVEN.items():
        for name in names:
            for document in _documents(nested(path)["Resources"][name]["Properties"]):
                for one in _with_branches(document["Statement"]):
                    principal = one.get("Principal", {})
                    everybody = principal == "*" or "*" in principal.values()
                    assert not everybody or one["Effect"] == "Deny" or one.get("Condition"), (name, one)


def test_the_vaults_key_is_the_accounts_alone() -> None:
    (statement,) = nested("infra/data.yaml")["Resources"]["VaultKey"]["Properties"]["KeyPolicy"]["Statement"]
    assert statement["Principal"]["AWS"]["Fn::Sub"].endswith(":iam::${AWS::AccountId}:root")


def test_a_queue_is_open_to_our_schedules_alone(template: Template) -> None:
    (statement,) = template["Resources"]["SchedulesMaySetAside"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert "aws:SourceArn" in statement["Condition"]["ArnEquals"]


def _documents(properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("PolicyDocument", "KeyPolicy", "AssumeRolePolicyDocument"):
        if name in properties:
            yield properties[name]


# --- and what it takes to make it fail -------------------------------------------------------------------------------


def statements(template: Template, function: str) -> list[dict[str, Any]]:
    document = template["Resources"][f"{function}Role"]["Properties"]["Policies"][0]["PolicyDocument"]
    return list(_with_branches(document["Statement"]))


def test_a_grant_taken_away_is_missed(template: Template, reached: dict[str, Reach]) -> None:
    taken = 0
    for name in FUNCTIONS:
        for number, statement in enumerate(statements(template, name)):
            for action in _listed(statement["Action"]):
                less = copy.deepcopy(template)
                changed = statements(less, name)[number]
                changed["Action"] = [one for one in _listed(statement["Action"]) if one != action]
                found = findings(less, reached)
                assert found, (name, action)
                assert all(one.startswith(f"{name} may not {action} on ") for one in found), found
                taken += 1
    assert taken > 40


@pytest.mark.parametrize("change", [{"Effect": "Deny"}, {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}])
def test_a_grant_that_is_none_is_told(template: Template, reached: dict[str, Reach], change: dict[str, Any]) -> None:
    statements(template, "Relay")[2].update(change)
    with pytest.raises(AssertionError):
        findings(template, reached)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("action", ["dynamodb:Scan", "dynamodb:DeleteTable", "dynamodb:*", "kms:Encrypt"])
def test_a_grant_too_many_is_told(template: Template, reached: dict[str, Reach], name: str, action: str) -> None:
    statement = statements(template, name)[1]
    statement["Action"] = [*_listed(statement["Action"]), action]
    (found,) = findings(template, reached)
    assert re.fullmatch(rf"{name} may {re.escape(action)} on Data\.\w+ and never does", found)


def test_a_grant_on_another_table_is_told(template: Template, reached: dict[str, Reach]) -> None:
    statement = statements(template, "Auth")[1]
    statement["Resource"] = [statement["Resource"], {"Fn::GetAtt": "Data.Outputs.CatalogTableArn"}]
    assert findings(template, reached) == ["Auth may dynamodb:GetItem on Data.CatalogTable and never does"]


STORES = "layers/common/sluice/stores"
PLANTED = {
    "a call in a store": (
        f"{STORES}/conversations.py",
        "        head = self._get(user_id, answer_id, 0)\n",
        "        self._client.scan(TableName=self._table)\n",
        {"Relay": "dynamodb:Scan on Data.ConversationsTable"},
    ),
    "a call through an index": (
        f"{STORES}/wallets.py",
        '        """The wallet as it is now, by a consistent read."""\n',
        '        self._client.query(TableName=self._table, IndexName="wallets")\n',
        {"Auth": "dynamodb:Query on Data.LedgerTable/index/wallets"},
    ),
    "a part of a transaction": (
        f"{STORES}/accounts.py",
        "        key = _key(item)\n",
        '        also = {"Delete": {"TableName": self._table}}\n',
        {"Admin": "dynamodb:DeleteItem on Data.AccountsTable"},
    ),
    "a store asked by a story": (
        "layers/common/sluice/ledger.py",
        "        wanted = Hold(wallet_id, request_id, amount, now + self._hold_seconds)\n",
        "        await asyncio.to_thread(self._entries.put, [])\n",
        {"Relay": "dynamodb:BatchWriteItem on Data.LedgerTable"},
    ),
    "a story asked by a door": (
        "functions/auth/auth_app.py",
        "        caller = who(request)\n",
        "        await deps.ledger.credit(caller.user_id, 1, 'mine')\n",
        {"Auth": "dynamodb:UpdateItem on Data.LedgerTable"},
    ),
    "a key asked by name": (
        "layers/common/sluice/vault.py",
        "        from cryptography.exceptions import InvalidTag\n",
        '        self._ask("encrypt", KeyId=self._key_id)\n',
        {"Relay": "kms:Encrypt on Data.VaultKey"},
    ),
    "a store built by another door": (
        "functions/jobs/jobs_app.py",
        '    """How many expired holds were given back, and their sum in nano-dollars."""\n',
        "    from sluice import wiring\n    await wiring.build_relay().catalog.poll()\n",
        {"Jobs": "dynamodb:GetItem on Data.CatalogTable"},
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_use_that_is_planted_is_found(template: Template, what: str) -> None:
    file, after, planted, expected = PLANTED[what]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert text.count(after) == 1, "the place to plant it has moved"
    program = Program({file: text.replace(after, after + planted)})
    for name, use in expected.items():
        reach = {one: uses(program, *handler(one)) if one == name else Reach(program) for one in FUNCTIONS}
        found = [one for one in findings(template, reach) if one.startswith(f"{name} may not ")]
        assert any(one.startswith(f"{name} may not {use}, and ") for one in found), found


def test_a_use_that_is_gone_leaves_a_grant_too_many(template: Template) -> None:
    file = f"{STORES}/catalog.py"
    text = (ROOT / file).read_text(encoding="utf-8")
    without = text.replace("self._client.delete_item(TableName=self._table, Key=key)", "pass").replace(
        '"Delete":', '"Put":'
    )
    assert without != text
    found = findings(template, reaches(Program({file: without})))
    assert found == ["Admin may dynamodb:DeleteItem on Data.CatalogTable and never does"]
