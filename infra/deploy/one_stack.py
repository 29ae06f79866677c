"""`make local`: the root template with the API of infra/api.yaml beside the functions, because `sam local` follows no function's ARN
into a nested stack.

    python -m infra.deploy.one_stack FOLDER     what `sam build` left there; writes FOLDER/local.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

FUNCTIONS = {"RelayArn": "Relay", "AuthArn": "Auth", "AdminArn": "Admin"}
"""The API's parameter -> the function whose ARN it is."""


def together(root: dict[str, Any], api: dict[str, Any]) -> dict[str, Any]:
    """Root and API as one template. Nothing of the API but its routes: that is all `sam local` looks at."""
    body = json.dumps(api["Resources"]["Api"]["Properties"]["DefinitionBody"])
    for parameter, function in FUNCTIONS.items():
        body = body.replace(f"${{{parameter}}}", f"${{{function}.Arn}}")
    # It reads the buffered kind of URI only, and answers in one piece.
    body = body.replace("2021-11-15", "2015-03-31").replace("response-streaming-invocations", "invocations")
    properties = {
        "StageName": "live",
        "DefinitionBody": {**json.loads(body), "info": {"title": "local", "version": "1"}},
    }
    properties["BinaryMediaTypes"] = api["Resources"]["Api"]["Properties"]["BinaryMediaTypes"]
    resources = {name: one for name, one in root["Resources"].items() if name not in ("Api", "Web")}
    resources["Api"] = {"Type": "AWS::Serverless::Api", "Properties": properties}
    return {name: part for name, part in root.items() if name != "Outputs"} | {"Resources": resources}


def main(build: Path) -> None:
    root, api = (
        yaml_parse((build / name).read_text(encoding="utf-8")) for name in ("template.yaml", "Api/template.yaml")
    )
    (build / "local.yaml").write_text(json.dumps(together(root, api), default=str), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
