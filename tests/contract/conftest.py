"""The real tables: in moto (in this process) and in MiniStack (a process of its own), deployed from the template; the latter
both through botocore and through the relay's own client.

Every test gets tables of its own. What a store does is said once, in a test that takes `dynamodb`, and holds on both.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from infra.local import ministack
from sluice.aws import AwsClient
from sluice.settings import AwsEnvironment
from sluice.types import Secret

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "infra" / "data.yaml"
EXECUTABLE = Path(os.environ.get("SLUICE_MINISTACK", ROOT / ".venv" / "ministack" / "bin" / "ministack"))

SESSION = botocore.session.get_session()

_numbers = count(1)


@dataclass(frozen=True)
class Tables:
    """A DynamoDB and a KMS client, a streams client, and the names of what infra/data.yaml made there."""

    client: Any
    streams: Any
    kms: Any
    accounts: str
    ledger: str
    catalog: str
    conversations: str
    vault_key: str

    def records(self) -> list[dict[str, Any]]:
        """All that the ledger table's stream has to say, as Lambda hands it on.

        moto tells an update that makes an item as two changes, the first of the bare key: DynamoDB has no such record.
        """
        stream = self.client.describe_table(TableName=self.ledger)["Table"]["LatestStreamArn"]
        shards = self.streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]
        records = [record for shard in shards for record in self._shard(stream, shard["ShardId"])]
        return [record for record in records if record["dynamodb"]["NewImage"].keys() != {"pk", "sk"}]

    def _shard(self, stream: str, shard: str) -> Iterator[dict[str, Any]]:
        iterator = self.streams.get_shard_iterator(StreamArn=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        while iterator:
            page = self.streams.get_records(ShardIterator=iterator)
            yield from page["Records"]
            iterator = page.get("NextShardIterator") if page["Records"] else None


@pytest.fixture(params=["moto", "ministack", "own_client"])
def dynamodb(request: pytest.FixtureRequest) -> Tables:
    tables: Tables = request.getfixturevalue(f"{request.param}_tables")
    return tables


@pytest.fixture
def moto_tables() -> Iterator[Tables]:
    with mock_aws():
        yield deployed(moto_client)


def moto_client(service: str) -> Any:
    # Named, because moto does not know the host that botocore otherwise makes of the account id in a stream's ARN.
    host = "https://streams.dynamodb.us-east-1.amazonaws.com" if service == "dynamodbstreams" else None
    return SESSION.create_client(service, region_name=ministack.REGION, endpoint_url=host)


@pytest.fixture
def ministack_tables(ministack_endpoint: str) -> Tables:
    return deployed(_ministack_client(ministack_endpoint))


@cache
def _ministack_client(endpoint: str) -> Callable[[str], Any]:
    return cache(lambda service: ministack.client(service, endpoint))


@pytest.fixture
def own_client_tables(ministack_endpoint: str, ministack_tables: Tables) -> Iterator[Tables]:
    environment = AwsEnvironment(ministack.REGION, "local", Secret("local"), endpoint=ministack_endpoint)
    dynamodb, kms = AwsClient("dynamodb", environment), AwsClient("kms", environment)
    yield replace(ministack_tables, client=dynamodb, kms=kms)
    dynamodb.close()
    kms.close()


@pytest.fixture(scope="session")
def running_ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ministack.MiniStack]:
    if not EXECUTABLE.exists():
        pytest.fail(f"no MiniStack at {EXECUTABLE}: run `make test`, which installs it, or set SLUICE_MINISTACK")
    log = tmp_path_factory.mktemp("ministack") / "ministack.log"
    running = ministack.start(EXECUTABLE, None, _free_port(), log)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def ministack_endpoint(running_ministack: ministack.MiniStack) -> str:
    return running_ministack.endpoint


def deployed(client: Callable[[str], Any]) -> Tables:
    prefix = f"t{os.getpid()}-{next(_numbers)}"
    outputs = ministack.deploy_with(client("cloudformation"), TEMPLATE, prefix, {"Prefix": prefix})
    return Tables(
        client=client("dynamodb"),
        streams=client("dynamodbstreams"),
        kms=client("kms"),
        accounts=outputs["AccountsTable"],
        ledger=outputs["LedgerTable"],
        catalog=outputs["CatalogTable"],
        conversations=outputs["ConversationsTable"],
        vault_key=outputs["VaultAlias"],
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
