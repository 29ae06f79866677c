"""What the gateway's process holds at this moment, for who looks for leaks: GET /_vitals, on the local stack and nowhere else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PATH = "/_vitals"


@dataclass(frozen=True, slots=True)
class Vitals:
    """`readers` are requests that are not settled yet; `resident` is in bytes, `processor_seconds` since the process's start."""

    readers: int
    tasks: int
    threads: int
    files: int
    resident: int
    processor_seconds: float


def take(readers: Sized) -> Vitals:
    """Of this process, from within its loop; the task that asks counts too."""
    return Vitals(
        readers=len(readers),
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        # One of them is the listing itself.
        files=len(os.listdir("/dev/fd")) - 1,  # noqa: PTH208 - names are enough, and Path makes an object of each
        resident=_resident(),
        processor_seconds=time.process_time(),
    )


def create_app(readers: Callable[[], Sized]) -> Starlette:
    async def vitals(_: Request) -> Response:
        return JSONResponse(asdict(take(readers())))

    return Starlette(routes=[Route(PATH, vitals)])


def _resident() -> int:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except FileNotFoundError:
        command = ["ps", "-p", str(os.getpid()), "-o", "rss="]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
