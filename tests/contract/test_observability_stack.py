"""The alarms and the dashboard made from their template by a CloudFormation: what MiniStack makes of them is what they say."""

from __future__ import annotations

import json

from infra.local import ministack
from tests.alarms import ALARMS, ROOT, resolved


def test_the_stack_is_made_as_it_says(ministack_endpoint: str) -> None:
    outputs = ministack.deploy(ministack_endpoint, ROOT / "infra" / "observability.yaml", "sluice-observability")
    assert outputs["RelayLogs"] == "/sluice/sluice/relay"
    cloudwatch = ministack.client("cloudwatch", ministack_endpoint)
    found = {one["AlarmName"]: one for one in cloudwatch.describe_alarms()["MetricAlarms"]}
    for alarm in ALARMS.values():
        made = found[resolved(alarm["AlarmName"])]
        assert (made["Namespace"], made["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
        assert made["TreatMissingData"] == alarm["TreatMissingData"]
        assert made["Threshold"] == float(alarm["Threshold"])
        assert made["AlarmActions"] == []
        asked = {one["Name"]: resolved(one["Value"]) for one in alarm["Dimensions"]}
        assert {one["Name"]: one["Value"] for one in made["Dimensions"]} == asked
    body = json.loads(cloudwatch.get_dashboard(DashboardName="sluice")["DashboardBody"])
    assert "${" not in json.dumps(body)
