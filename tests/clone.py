"""A clone of the working tree in which `dvc` runs for real, with the settings of *smoke*."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
FREQUENT = Path(__file__).parent / "frequent"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
}
SECONDS = 900


class Clone:
    """A git and DVC repository of its own: its cache, its checkpoints, its copy of the code."""

    first_output = ""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = (
            os.environ
            | IDENTITY
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(folder),
                "WM_STATE": str(folder / ".wm"),
                "WM_WORKERS": "2",
                "DVC_NO_ANALYTICS": "1",
                **environment,
            }
        )

    @classmethod
    def of_working_tree(cls, folder: Path, **environment: str) -> "Clone":
        """What git would commit, and *smoke* in params.yaml, committed."""
        listed = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
        )
        for name in filter(None, listed.split("\0")):
            if name != "dvc.lock" and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        clone = cls(folder, **environment)
        clone.run("git", "init", "--quiet")
        clone.run("wm", "preset", "smoke")
        clone.commit()
        return clone

    def copy(self, folder: Path, **environment: str) -> "Clone":
        """Another clone of the same state, its cache and outs included, its checkpoints not."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".wm"))
        return Clone(folder, **environment)

    def run(self, *command: str, expect: int | None = 0) -> str:
        """What a command prints on both streams."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert expect is None or done.returncode == expect, done.stdout
        return done.stdout

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; the stages that ran, in order."""
        return stages_run(self.run("dvc", "repro", *arguments))

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")

    def lock(self) -> dict[str, Any]:
        """dvc.lock's entries by stage."""
        return YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} holds no {old!r}"
        path.write_text(text.replace(old, new, 1))

    def set(self, key: str, value: Any) -> None:
        """Change a value of params.yaml by its dotted key."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        values = yaml.load(path)
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
        yaml.dump(values, path)

    def kill_once_saved(self, stage: str) -> None:
        """Run a stage afresh, saving often, and SIGKILL its process group after a checkpoint."""
        process = subprocess.Popen(
            ["dvc", "repro", "--force", "--single-item", stage],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": f"{FREQUENT}{os.pathsep}{self.folder}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + SECONDS
        while not list((self.folder / ".wm" / stage).glob("*/state")):
            assert process.poll() is None and time.monotonic() < deadline, "it ended before it was killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stages_run(text: str) -> list[str]:
    return re.findall(r"Running stage '(.*?)'", text)
