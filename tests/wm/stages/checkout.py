"""A folder in which stages run in tests: settings, untrained networks, and processes to kill."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.wm import artifacts

ROOT = Path(__file__).parents[3]

RUN = """
import sys
sys.path.insert(0, sys.argv[3])
import wm.checkpoint
from importlib import import_module
wm.checkpoint.INTERVAL = 0.0
if __name__ == "__main__":
    import_module("wm.stages." + sys.argv[1]).run(sys.argv[2])
"""


def prepare(folder: Path) -> None:
    artifacts.write_artifacts(folder / "data")
    artifacts.write_params(folder, artifacts.values())


def digests(folder: Path) -> dict[str, str]:
    """The content of a folder's files."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def start(folder: Path, stage: str, name: str, workers: int) -> subprocess.Popen[bytes]:
    """A stage in a process group of its own, with a checkpoint after every block."""
    script = folder / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "WM_STATE": str(folder / "state"), "WM_WORKERS": str(workers)}
    command = [sys.executable, str(script), stage, name, str(ROOT)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )


def kill_and_resume(folder: Path, stage: str, name: str, checkpoints: int, workers: int) -> str:
    """Start afresh, SIGKILL the whole group after some checkpoints, start again; what the second run logs."""
    saved = list((folder / "state").glob("*/*/state.pickle"))
    for path in saved:
        path.unlink()
    process = start(folder, stage, name, workers)
    seen: set[int] = set()
    while process.poll() is None and len(seen) < checkpoints:
        seen |= {path.stat().st_mtime_ns for path in (folder / "state").glob("*/*/state.pickle")}
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = start(folder, stage, name, workers)
    _, log = process.communicate()
    assert process.returncode == 0, log.decode()
    return log.decode()
