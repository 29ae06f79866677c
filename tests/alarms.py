"""The alarms of infra/observability.yaml, and whether one would ring at what was told."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from tests.emf import Told

ROOT = Path(__file__).parents[1]
STACK: dict[str, Any] = yaml_parse((ROOT / "infra" / "observability.yaml").read_text(encoding="utf-8"))
ALARMS: dict[str, dict[str, Any]] = {
    name: one["Properties"] for name, one in STACK["Resources"].items() if one["Type"] == "AWS::CloudWatch::Alarm"
}
VALUES = {"Prefix": "sluice", "AWS::Region": "eu-central-1"}

COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}
STATISTICS: Mapping[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Average": lambda values: sum(values) / len(values),
    "Maximum": max,
    "SampleCount": len,
    "p99": lambda values: sorted(values)[math.ceil(0.99 * len(values)) - 1],
}


def resolved(value: Any) -> str:
    """A text with its parameters in place, as CloudFormation puts them there."""
    if isinstance(value, dict) and "Ref" in value:
        return VALUES[value["Ref"]]
    text = value["Fn::Sub"] if isinstance(value, dict) else str(value)
    return re.sub(r"\$\{([\w:]+)\}", lambda found: VALUES[found[1]], text)


def rings(name: str, told: Told) -> bool:
    """Whether the alarm's threshold is passed, were all that was told one period, and every period like it."""
    alarm = ALARMS[name]
    labels = {one["Name"]: resolved(one["Value"]) for one in alarm["Dimensions"] if one["Name"] != "Prefix"}
    values = told.values(alarm["MetricName"], **labels)
    if not values:
        return str(alarm["TreatMissingData"]) == "breaching"
    value = STATISTICS[alarm.get("Statistic") or alarm["ExtendedStatistic"]](values)
    return COMPARED[alarm["ComparisonOperator"]](value, float(alarm["Threshold"]))
