"""`make rehearse`: the built stack on the local AWS, through CloudFormation, and one session of an operator and a user on it.

    python -m infra.deploy.rehearsal FOLDER     what `sam build` left there, built for MiniStack's own interpreter

MiniStack is no Lambda, and three things are changed on the way, each said when it is done: it answers in one piece, so the relay's
routes are buffered and its app is called through Mangum instead of the web adapter; it expands no SAM template, so the transform
that CloudFormation runs is run here; and it does not know the any-method, which is spelled out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import httpx
from botocore.config import Config
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from infra.deploy import built
from infra.local import ministack
from infra.local.demo import Operator, Unusable

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv" / "sam" / "bin" / "sam"
MINISTACK = ROOT / ".venv" / "ministack" / "bin" / "ministack"
STACK = "sluice-rehearsal"
BUCKET = "rehearsal-artifacts"
MODEL = "rehearsed"
PATIENCE_SECONDS = 60.0
CREDIT_NANO = 5 * 10**9

PARAMETERS: Mapping[str, str] = {
    "Prefix": STACK,
    "CacheMode": "none",
    "AccessLogs": "make-role",
    "Firewall": "none",
}

BUFFERED_RELAY = '''"""The relay's app in one piece, for a host that cannot stream: written by the rehearsal, and deployed nowhere else."""

from mangum import Mangum

import relay_lambda


def handler(event, context):
    return Mangum(relay_lambda.create_app(), lifespan="on")(event, context)
'''


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
layer, door = sys.argv[1:3]
sys.path[:0] = [door, layer]
import sluice
for module in pkgutil.walk_packages(sluice.__path__, "sluice."):
    importlib.import_module(module.name)
for name in sys.argv[3:]:
    importlib.import_module(name)
import botocore.session
for service in ("dynamodb", "kms", "sts"):
    botocore.session.get_session().create_client(service, region_name="us-east-1")
strangers = [name for name, module in sys.modules.items()
             if "site-packages" in str(getattr(module, "__file__", "") or "") or name.partition(".")[0] == "trio"]
assert not strangers, strangers
"""
"""Run without any site-packages: MiniStack shows its own to the functions, which would hide what the layer lacks."""


def say(step: str) -> None:
    print(f"  {step}", flush=True)


# --- what MiniStack cannot do ----------------------------------------------------------------------------------------


def adapt(build: Path) -> None:
    """Changes a copy of the built stack to what MiniStack can run."""
    say("relay routes buffered, its app behind Mangum: MiniStack neither streams nor runs the web adapter")
    api = build / "Api" / "template.yaml"
    api.write_text(json.dumps(expanded(buffered(api.read_text(encoding="utf-8")))), encoding="utf-8")
    (build / "Relay" / "rehearsed.py").write_text(BUFFERED_RELAY, encoding="utf-8")
    root = build / "template.yaml"
    text, found = re.subn(r"Handler: run\.sh", "Handler: rehearsed.handler", root.read_text(encoding="utf-8"))
    if found != 1:
        raise Unusable(f"the built template names run.sh {found} times, not once")
    root.write_text(text, encoding="utf-8")


def buffered(template: str) -> str:
    """The API's template without streaming: the other URI of Lambda, and an answer in one piece. Raises Unusable when nothing streamed."""
    text, found = re.subn(
        r"2021-11-15/functions/([^/]+)/response-streaming-invocations", r"2015-03-31/functions/\1/invocations", template
    )
    if not found:
        raise Unusable("no route of infra/api.yaml streams: there is nothing to rehearse")
    return text.replace("responseTransferMode: STREAM", "responseTransferMode: BUFFERED")


def expanded(template: str) -> dict[str, Any]:
    """A nested SAM template as CloudFormation would expand it, and each any-method as the methods it stands for."""
    parsed = yaml_parse(template)
    paths = parsed["Resources"]["Api"]["Properties"]["DefinitionBody"]["paths"]
    for path, methods in paths.items():
        if every := methods.pop("x-amazon-apigateway-any-method", None):
            paths[path] = {
                **dict.fromkeys(("get", "head", "post", "put", "patch", "delete", "options"), every),
                **methods,
            }
    return transformed(parsed)


def transformed(template: Mapping[str, Any]) -> dict[str, Any]:
    """The transform CloudFormation runs, offline."""
    os.environ.setdefault("AWS_DEFAULT_REGION", ministack.REGION)  # it asks for one, and for nothing else of AWS
    return dict(transform(dict(template), {}, _NoManagedPolicies()))


class _NoManagedPolicies:
    """SAM asks AWS for the ARNs of managed policies; ours names none that it would have to look up."""

    def load(self) -> dict[str, str]:
        return {}


def stand_alone(build: Path) -> None:
    """Imports the whole package and every door from the built layer alone. Raises Unusable with what is missing."""
    for function in built.FUNCTIONS:
        doors = sorted(path.stem for path in (build / function).glob("*.py"))
        places = [str(build / built.LAYER / "python"), str(build / function)]
        command = [str(MINISTACK.with_name("python")), "-I", "-S", "-c", IMPORT_EVERYTHING, *places, *doors]
        done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unusable(f"{function} does not import from the layer alone:\n{done.stderr[-3000:]}")
    say("every door and all of the package import from the built layer alone")


# --- AWS ---------------------------------------------------------------------------------------------------------------


@contextmanager
def local_aws(log: Path) -> Iterator[str]:
    # A Docker daemon is of no use here, and MiniStack would run the functions in it.
    os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    os.environ["TMPDIR"] = str(log.parent)  # it unpacks functions and layers there, and leaves them
    running = ministack.start(MINISTACK, None, free_port(), log)
    try:
        yield running.endpoint
    finally:
        running.stop()


def deploy(endpoint: str, build: Path) -> dict[str, str]:
    """`sam package`, the transform, and a change set. Returns the stack's outputs. Raises Unusable with what was said."""
    s3 = ministack.client("s3", endpoint)
    s3.create_bucket(Bucket=BUCKET)
    packaged = build / "packaged.yaml"
    _package(endpoint, build / "template.yaml", packaged)
    template = json.dumps(transformed(yaml_parse(packaged.read_text(encoding="utf-8"))))
    s3.put_object(
        Bucket=BUCKET, Key="root.json", Body=template.encode()
    )  # inline it would be over CloudFormation's 51,200 bytes
    cloudformation = ministack.client("cloudformation", endpoint)
    change_set = cloudformation.create_change_set(
        StackName=STACK,
        ChangeSetName="rehearsal",
        ChangeSetType="CREATE",
        TemplateURL=f"{endpoint}/{BUCKET}/root.json",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in PARAMETERS.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )["Id"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (made := cloudformation.describe_change_set(ChangeSetName=change_set))["Status"] != "CREATE_COMPLETE":
        expect(made["Status"] != "FAILED", f"the change set failed: {made.get('StatusReason')}")
        expect(time.monotonic() < deadline, "the change set is not ready yet")
        time.sleep(0.1)
    cloudformation.execute_change_set(ChangeSetName=change_set)
    return _outputs(cloudformation, deadline)


def _outputs(cloudformation: Any, deadline: float) -> dict[str, str]:
    while True:
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
        if "ROLLBACK" in stack["StackStatus"] or "FAILED" in stack["StackStatus"]:
            events = cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
            why = [
                f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason')}"
                for one in events
                if "FAILED" in one["ResourceStatus"]
            ]
            raise Unusable(f"the stack is {stack['StackStatus']}: {'; '.join(why)}")
        expect(time.monotonic() < deadline, f"the stack is still {stack['StackStatus']}")
        time.sleep(0.1)


def _package(endpoint: str, template: Path, packaged: Path) -> None:
    keys = {name.upper(): value for name, value in ministack.CREDENTIALS.items()}
    environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint, "SAM_CLI_TELEMETRY": "0"}
    command = [str(SAM), "package", "--template-file", str(template), "--output-template-file", str(packaged)]
    command += ["--s3-bucket", BUCKET, "--region", ministack.REGION, "--no-progressbar"]
    # In a folder where there is no samconfig.toml of ours.
    done = subprocess.run(command, cwd=template.parent, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"sam package failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def resources(endpoint: str) -> list[str]:
    """Every stack that was made, with how many resources it has."""
    cloudformation = ministack.client("cloudformation", endpoint)
    names = sorted(one["StackName"] for one in cloudformation.describe_stacks()["Stacks"])
    counts = {
        name: len(cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]) for name in names
    }
    return [
        f"{name.removeprefix(STACK).strip('-').partition('-')[0] or 'root'} {count}" for name, count in counts.items()
    ]


def invoke(endpoint: str, function: str, event: Mapping[str, Any]) -> Any:
    # The first invocation starts an interpreter on a machine that may be busy.
    config = Config(read_timeout=PATIENCE_SECONDS, retries={"total_max_attempts": 1})
    client = botocore.session.get_session().create_client(
        "lambda", region_name=ministack.REGION, endpoint_url=endpoint, config=config, **ministack.CREDENTIALS
    )
    answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    told = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        raise Unusable(f"{function} failed at {event}: {json.dumps(told)[:2000]}")
    return told


def gateway(endpoint: str, outputs: Mapping[str, str]) -> str:
    """Where MiniStack serves what the stack's BaseUrl names on AWS."""
    found = re.match(r"https://([a-z0-9]+)\.execute-api\.", outputs["BaseUrl"])
    if not found:
        raise Unusable(f"the stack's BaseUrl is none of API Gateway: {outputs['BaseUrl']}")
    return f"{endpoint}/restapis/{found[1]}/live/_user_request_"


# --- the session -------------------------------------------------------------------------------------------------------


def session(endpoint: str, outputs: Mapping[str, str], upstream: str) -> None:
    """An operator sets up, a user asks, the stream's consumer writes, and the books are proved. Raises Unusable on the first surprise."""
    url, jobs = gateway(endpoint, outputs), outputs["JobsFunction"]
    admin = Operator.at(url, invoke(endpoint, jobs, {"task": "bootstrap"})["admin_key"])
    admin.http.timeout = httpx.Timeout(PATIENCE_SECONDS)
    expect(invoke(endpoint, jobs, {"task": "bootstrap"}) == {}, "a second bootstrap gave a second admin")
    say("jobs: the first admin's key, and no second one")

    channel = {"id": "demo", "type": "openai", "name": "Scripted", "models": [MODEL], "endpoint": f"{upstream}/v1"}
    told = admin.call("POST", "/channels", {**channel, "secret": "sk-of-the-provider-0123456789"})
    expect("of-the-provider" not in json.dumps(told), "the channel's secret was told back")
    admin.call("PUT", f"/prices/{MODEL}", {"input": "1", "output": "2"})
    say("admin: a channel, its key sealed by KMS, and a price")

    user = admin.call("POST", "/users", {"username": "ada", "group": "default"})["id"]
    key = admin.call("POST", f"/users/{user}/keys", {"name": "rehearsal"})["key"]
    admin.call("POST", f"/users/{user}/credit", {"usd": "5", "reference": "rehearsal"})
    say("admin: a user with a key and 5 USD")

    ask = client_of(url, key)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello there"}]}
    answer = ask("/v1/chat/completions", body).json()
    expect("Hello there" in answer["choices"][0]["message"]["content"], f"the answer was {json.dumps(answer)[:300]}")
    say(f"relay: {answer['usage']['total_tokens']} tokens answered whole")
    stream = ask("/v1/chat/completions", {**body, "stream": True})
    frames = [line for line in stream.text.splitlines() if line.startswith("data: ")]
    expect(frames[-1] == "data: [DONE]" and len(frames) > 3, f"the stream was {stream.text[:300]!r}")
    say(f"relay: a stream of {len(frames)} frames (in one piece here)")
    refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE_SECONDS, trust_env=False)
    expect(refused.status_code == 401, f"without a key the relay answered {refused.status_code}")
    health = httpx.get(f"{url}/health?deep=1", timeout=PATIENCE_SECONDS, trust_env=False).json()
    expect(health["components"]["dynamodb"] == "ok", f"its health is {health}")
    say("relay: 401 without a key, and health when asked deeply")

    me = ask("/api/v1/users/me", None).json()
    spent = CREDIT_NANO - me["wallet"]["balance"]["nano"]
    expect(spent > 0, f"nothing was charged: {me['wallet']}")
    say(f"auth: the wallet is {spent} nano-dollars lighter")

    entries = await_entries(admin, user, 2)
    charged = -sum(one["delta"]["nano"] for one in entries if one["kind"] == "settle")
    expect(charged == spent, f"the journal says {charged}, the wallet {spent}")
    say(f"jobs: the table's stream became {len(entries)} entries, and they say the same")
    proof = admin.call("GET", "/proof")
    expect(proof["holds_true"] and len(proof["data"]) == 1, f"the proof is {proof}")
    told = invoke(endpoint, jobs, {"task": "prove"})
    expect(told["wallets"] == 1, f"the daily proof said {told}")
    swept = invoke(endpoint, jobs, {"task": "sweep"})
    say(f"proof: the books add up, {told['behind']} writes behind; sweep: {swept['holds']} holds to give back")
    letters = ministack.client("sqs", endpoint)
    for queue in ("LedgerDeadLetters", "JobsDeadLetters"):
        numbers = letters.get_queue_attributes(QueueUrl=outputs[queue], AttributeNames=["ApproximateNumberOfMessages"])
        expect(numbers["Attributes"]["ApproximateNumberOfMessages"] == "0", f"{queue} is not empty")
    say("no dead letters")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unusable(otherwise)


def client_of(url: str, key: str) -> Callable[[str, Mapping[str, Any] | None], httpx.Response]:
    def ask(path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        method = "POST" if body else "GET"
        answer = httpx.request(
            method, f"{url}{path}", json=body, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
        )
        expect(answer.status_code == 200, f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
        return answer

    return ask


def await_entries(admin: Operator, user: str, settled: int) -> list[Any]:
    """The journal, once it has so many settled requests. Raises Unusable when the stream's consumer does not write them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        entries: list[Any] = admin.call("GET", f"/users/{user}/entries?limit=100")["data"]
        if sum(one["kind"] == "settle" for one in entries) >= settled:
            return entries
        expect(time.monotonic() < deadline, f"the journal has only {[one['kind'] for one in entries]}")
        time.sleep(0.2)


@contextmanager
def provider(log: Path) -> Iterator[str]:
    """The scripted upstream on loopback."""
    port = free_port()
    command = [sys.executable, "-m", "infra.local.scripted_upstream", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        asyncio.run(_listening(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def _listening(port: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(build: Path) -> int:
    logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it tells of switches that only AWS has
    with tempfile.TemporaryDirectory(prefix="sluice-rehearsal-") as folder:
        logs = Path(folder)
        copy = shutil.copytree(build, logs / "build")
        try:
            stand_alone(copy)
            adapt(copy)
            with local_aws(logs / "ministack.log") as endpoint, provider(logs / "upstream.log") as upstream:
                started = time.monotonic()
                outputs = deploy(endpoint, copy)
                say(
                    f"packaged, and deployed by a change set: {time.monotonic() - started:.0f} s; resources: {', '.join(resources(endpoint))}"
                )
                session(endpoint, outputs, upstream)
        except (Unusable, RuntimeError, OSError, httpx.HTTPError) as problem:
            print(f"sluice: the rehearsal failed: {problem}", file=sys.stderr)
            for log in sorted(logs.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}", file=sys.stderr)
            return 1
    print("rehearsed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]).resolve()))
