"""A folder in which stages run in tests: settings, untrained networks, and processes to kill."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.wm import artifacts

ROOT = Path(__file__).parents[3]

RUN = """
import os, signal, sys
from importlib import import_module
root, stage, name, saves = sys.argv[1:]
sys.path.insert(0, root)
import wm.checkpoint

class Deadly(wm.checkpoint.Checkpoint):
    due = True
    left = int(saves)

    def save(self, state):
        super().save(state)
        self.left -= 1
        if self.left == 0:
            os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    module = import_module("wm.stages." + stage)
    module.Checkpoint = Deadly
    module.run(name)
"""
"""Runs a stage that saves a checkpoint whenever it may, and dies with all its children after some of them."""


def prepare(folder: Path) -> None:
    artifacts.write_artifacts(folder / "data")
    artifacts.write_params(folder, artifacts.values())


def digests(folder: Path) -> dict[str, str]:
    """The content of a folder's files."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def kill_and_resume(folder: Path, stage: str, name: str, saves: int, workers: int) -> str:
    """Start afresh, SIGKILL the whole group after some checkpoints, start again; what the second run logs."""
    for path in (folder / "state").glob("*/*/state.pickle"):
        path.unlink()
    assert run(folder, stage, name, saves, workers).returncode == -signal.SIGKILL
    resumed = run(folder, stage, name, 0, workers)
    assert resumed.returncode == 0, resumed.stderr
    return resumed.stderr


def run(folder: Path, stage: str, name: str, saves: int, workers: int) -> "subprocess.CompletedProcess[str]":
    script = folder / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "WM_STATE": str(folder / "state"), "WM_WORKERS": str(workers)}
    command = [sys.executable, str(script), str(ROOT), stage, name, str(saves)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, start_new_session=True
    )
