"""What every process of the local stack that is ours does: end when the one that started it has ended."""

from __future__ import annotations

import os
import signal
import threading
import time


def end_with_parent(seconds: float = 1.0) -> None:
    """Asks this process to end (SIGTERM) once its parent is gone, so that a killed stack leaves nobody behind."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
