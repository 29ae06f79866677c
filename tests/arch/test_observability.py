"""Alarms and dashboard as code, held against what the code tells and what AWS documents: a renamed metric fails here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from samtranslator.yaml_helper import yaml_parse

from sluice import signals
from tests.alarms import ALARMS, STACK, resolved

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
OWN = {metric.name: metric for metric in signals.METRICS}

# Amazon API Gateway, AWS Lambda and Amazon SQS developer guides: "metrics and dimensions" of each.
DOCUMENTED: dict[tuple[str, str], set[frozenset[str]]] = {
    **{
        ("AWS/ApiGateway", name): {frozenset({"ApiName", "Stage"})}
        for name in ("Count", "4XXError", "5XXError", "Latency", "IntegrationLatency")
    },
    **{
        ("AWS/Lambda", name): {frozenset({"FunctionName"})}
        for name in ("Errors", "Throttles", "Invocations", "Duration", "ConcurrentExecutions", "IteratorAge")
    },
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {frozenset({"QueueName"})},
}
MISSING = {"missing", "ignore", "breaching", "notBreaching"}
ACTIONS = {"Fn::If": ["HasEmail", [{"Ref": "Alarms"}], {"Ref": "AWS::NoValue"}]}

Use = tuple[str, str, frozenset[str]]
"""Namespace, metric, and the names of its dimensions."""


def template(name: str) -> dict[str, Any]:
    return dict(yaml_parse((ROOT / name).read_text(encoding="utf-8")))


def alarm_use(alarm: dict[str, Any]) -> Use:
    return alarm["Namespace"], alarm["MetricName"], frozenset(one["Name"] for one in alarm["Dimensions"])


def dashboard() -> dict[str, Any]:
    return dict(json.loads(resolved(STACK["Resources"]["Dashboard"]["Properties"]["DashboardBody"])))


def dashboard_uses(body: dict[str, Any]) -> Iterator[Use]:
    for widget in body["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                yield from searched(metric[0]["expression"])
            else:
                namespace, name, *rest = [one for one in metric if isinstance(one, str)]
                yield namespace, name, frozenset(rest[::2])


def searched(expression: str) -> Iterator[Use]:
    found = re.fullmatch(r"""SEARCH\('\{([^}]*)\} MetricName="(\w+)" Prefix="sluice"', '\w+', \d+\)""", expression)
    assert found, expression
    namespace, *names = found[1].split(",")
    yield namespace, found[2], frozenset(names)


def unknown(use: Use) -> bool:
    """Whether nobody tells such a metric: neither our code nor AWS."""
    namespace, name, dimensions = use
    if namespace != signals.NAMESPACE:
        return dimensions not in DOCUMENTED.get((namespace, name), set())
    kept = OWN[name].by if name in OWN else None
    return kept is None or dimensions not in [{signals.PREFIX}, *({signals.PREFIX, one} for one in kept)]


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_an_alarm_listens_for_what_is_told(name: str) -> None:
    assert not unknown(alarm_use(ALARMS[name]))


def test_the_dashboard_shows_what_is_told() -> None:
    uses = list(dashboard_uses(dashboard()))
    assert len(uses) > 30
    assert [use for use in uses if unknown(use)] == []


def test_the_dashboard_shows_every_metric_there_is() -> None:
    assert set(OWN) == {name for namespace, name, _ in dashboard_uses(dashboard()) if namespace == signals.NAMESPACE}


@pytest.mark.parametrize(
    "use",
    [
        ("Sluice", "Fault", frozenset({"Prefix"})),
        ("Sluice", "Faults", frozenset({"Prefix", "ErrorKind"})),
        ("Sluice", "Faults", frozenset()),
        ("AWS/Lambda", "Throttled", frozenset({"FunctionName"})),
        ("AWS/Lambda", "Throttles", frozenset({"Function"})),
        ("AWS/ApiGateway", "5XXError", frozenset({"ApiName"})),
    ],
)
def test_what_nobody_tells_is_noticed(use: Use) -> None:
    assert unknown(use)


def test_the_widgets_do_not_lie_upon_each_other() -> None:
    cells = [
        (x, y)
        for widget in dashboard()["widgets"]
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_an_alarm_says_what_silence_means_and_rings_somewhere(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["TreatMissingData"] in MISSING - {"missing"}
    assert alarm["AlarmActions"] == alarm["OKActions"] == ACTIONS
    assert alarm["Period"] * alarm["EvaluationPeriods"] <= 86_400, (
        "the longest that CloudWatch looks back at such periods"
    )
    assert ("Statistic" in alarm) != ("ExtendedStatistic" in alarm)


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_the_page_says_what_to_do_when_it_rings(name: str) -> None:
    assert f"`{resolved(ALARMS[name]['AlarmName']).removeprefix('sluice-')}`" in PAGE


def test_the_page_has_every_metric_as_the_code_declares_it() -> None:
    for metric in signals.METRICS:
        by = ", ".join(f"`{one}`" for one in metric.by) or "–"
        assert f"| `{metric.name}` | {metric.unit} | {by} | {metric.moved_by} |" in PAGE
    assert len(re.findall(r"^\| `[A-Z]\w+` \|", PAGE, re.MULTILINE)) == len(signals.METRICS)


def test_the_page_says_how_many_series_there_are() -> None:
    by = {name: sum(name in metric.by for metric in signals.METRICS) for name in get_args(signals.Dimension)}
    counted = f"{len(OWN)} for an environment, {by['Model']} for each model, {by['Channel']} for each channel"
    assert f"{counted}, {by['ErrorKind']} for each kind of error" in PAGE


def test_the_parts_are_called_what_the_alarms_call_them() -> None:
    """This stack is given the prefix alone: it knows the others' names by the rule they are made by."""
    found: dict[str, set[str]] = {"ApiName": set(), "FunctionName": set(), "QueueName": set(), "Stage": set()}
    for path in (ROOT / "template.yaml", *sorted((ROOT / "infra").glob("*.yaml"))):
        for logical, one in template(str(path.relative_to(ROOT)))["Resources"].items():
            given = one.get("Properties", {})
            match one["Type"]:
                case "AWS::Serverless::Function":
                    usual = {"Fn::Sub": "${Prefix}-" + logical.lower()}
                    found["FunctionName"].add(resolved(given.get("FunctionName", usual)))
                case "AWS::Serverless::Api":
                    found["ApiName"].add(resolved(given["Name"]))
                    found["Stage"].add(resolved(given["StageName"]))
                case "AWS::SQS::Queue":
                    found["QueueName"].add(resolved(given["QueueName"]))
    asked = {(one["Name"], resolved(one["Value"])) for alarm in ALARMS.values() for one in alarm["Dimensions"]}
    for name, value in asked - {("Prefix", "sluice")}:
        assert value in found[name], name
    assert {value for name, value in asked if name == "FunctionName"} == found["FunctionName"]
