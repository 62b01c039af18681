"""Where a result came from: host, time, versions, device, memory, in a log beside the outs, never in them."""

import datetime
import json
import platform
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wm.checkpoint import state_folder
from wm.code import versions


@contextmanager
def record(stage: str) -> Iterator[None]:
    """Append a line of JSON to `log/STAGE.jsonl` in the state folder when the block ends, well or not."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    try:
        yield
    finally:
        error = sys.exception()
        entry = {
            "stage": stage,
            "outcome": "finished" if error is None else type(error).__name__,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 1),
            "computing_seconds": round(computing_seconds(), 1),
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": versions(),
            "device": device(),
            "peak_mib": peak(resource.RUSAGE_SELF),
            "peak_mib_of_largest_child": peak(resource.RUSAGE_CHILDREN),
        }
        append(stage, entry)


def append(stage: str, entry: dict[str, object]) -> None:
    folder = state_folder() / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{stage}.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:  # a log must not fail a stage whose result is there
        print(f"wm: the log was not written: {error.strerror}", file=sys.stderr)


def computing_seconds() -> float:
    """Time spent on what a progress bar shows: without imports, reading settings, writing results."""
    if "wm.progress" not in sys.modules:
        return 0.0
    from wm.progress import Bar

    return Bar.seconds


def device() -> str:
    """The device that networks computed on; `none` for a stage without networks."""
    if "torch" not in sys.modules:
        return "none"
    import torch

    from wm import devices

    where = devices.device()
    return torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"


def peak(whose: int) -> int:
    """Peak resident memory in MiB (Linux counts in KiB)."""
    return resource.getrusage(whose).ru_maxrss // 1024
