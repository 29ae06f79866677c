"""What the relay's own AWS client saves over botocore's: CPU of a hold and its settlement, and CPU of being loaded.

    python -m benchmarks.aws_client        (needs what `make test` installs)

Both speak to the same MiniStack, in blocks that take turns. CPU is this process's own, so that MiniStack's does not count.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from infra.local import ministack

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "layers" / "common"))

from sluice.aws import AwsClient  # noqa: E402
from sluice.settings import AwsEnvironment  # noqa: E402
from sluice.stores.wallets import Wallets  # noqa: E402
from sluice.types import Receipt, Secret, Usage  # noqa: E402

EXECUTABLE = Path(os.environ.get("SLUICE_MINISTACK") or ROOT / ".venv/ministack/bin/ministack")
BLOCKS, PAIRS, STARTS = 10, 50, 10
RECEIPT = Receipt("model", "channel", "key", Usage(100, 20), "done", "v1", ("channel=ok",), 900, 200)
LOADS = {
    "botocore": "import botocore.session; botocore.session.get_session().create_client('dynamodb', region_name='us-east-1')",
    "ours": "from sluice.aws import AwsClient, AwsEnvironment; AwsClient('dynamodb', AwsEnvironment('us-east-1', endpoint='http://l'))",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pairs(client: Any, table: str, block: int) -> float:
    """Milliseconds of CPU a hold and its settlement take."""
    wallets, now = Wallets(client, table), int(time.time())
    began = time.process_time()
    for number in range(PAIRS):
        hold = wallets.hold("w", f"{id(client)}-{block}-{number}", 1_000, now, now + 900)
        wallets.settle(hold, 500, now, RECEIPT)
    return (time.process_time() - began) / PAIRS * 1_000


def load(code: str) -> float:
    """Milliseconds of CPU until the client is there, over a bare interpreter's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "layers" / "common")}

    def cpu(script: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)
        after = os.times()
        return (after.children_user + after.children_system - before.children_user - before.children_system) * 1_000

    return cpu(code) - cpu("pass")


def main() -> None:
    running = ministack.start(EXECUTABLE, None, free_port())
    try:
        outputs = ministack.deploy(running.endpoint, ROOT / "infra" / "data.yaml", "bench", {"Prefix": "bench"})
        environment = AwsEnvironment(ministack.REGION, "local", Secret("local"), endpoint=running.endpoint)
        clients = {
            "botocore": ministack.client("dynamodb", running.endpoint),
            "ours": AwsClient("dynamodb", environment),
        }
        table = outputs["LedgerTable"]
        Wallets(clients["ours"], table).credit("w", 10**15, "opening", int(time.time()))
        found: dict[str, list[float]] = {name: [] for name in clients}
        for block in range(BLOCKS + 1):
            for name, client in clients.items():
                found[name].append(pairs(client, table, block))
    finally:
        running.stop()
    print("|          | CPU per hold + settle | CPU to load |\n|----------|-----------------------|-------------|")
    for name, blocks in found.items():
        loading = statistics.median(load(LOADS[name]) for _ in range(STARTS))
        print(f"| {name:8} | {statistics.median(blocks[1:]):18.2f} ms | {loading:8.0f} ms |")


if __name__ == "__main__":
    main()
