"""A repository with trivial stages, in which `dvc` runs for real."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.clone import IDENTITY

ROOT = Path(__file__).parents[2]

STAGE = """
import json, os, signal, sys, time
from pathlib import Path
from ruamel.yaml import YAML
name, *needs = sys.argv[1:]
told = YAML(typ="safe").load(Path("params.yaml"))[name]
if told == "fail":
    sys.exit(f"{name} cannot")
ran = os.environ.get("TOY_RAN", "ran.txt")
if told in ("wait", "pause"):
    def save(*_):
        Path(ran + ".saved").write_text(name)
        sys.exit(1)
    signal.signal(signal.SIGTERM, save)
    Path(f"{name}.started").touch()
    time.sleep(300 if told == "wait" else 12)
with open(ran, "a") as file:
    file.write(name + "\\n")
text = " ".join([name, str(told), *(Path(f"{need}.out").read_text() for need in needs)])
Path(f"{name}.out").write_text(text)
Path(f"{name}.json").write_text(json.dumps({"length": len(text)}))
"""


class Toy:
    """Stages by name with what they need; each writes NAME.out and reads its own parameter."""

    def __init__(
        self, folder: Path, needs: Mapping[str, Sequence[str]], pools: Mapping[str, str] = {}
    ) -> None:
        self.folder = folder
        self.server: dict[str, str] = {}  # where flows find one; empty: they start their own
        folder.mkdir()
        (folder / "stage.py").write_text(STAGE)
        stages: dict[str, Any] = {}
        for name, others in needs.items():
            stages[name] = {
                "desc": f"The stage {name}",
                "cmd": f"{sys.executable} stage.py {' '.join([name, *others])}",
                "deps": [f"{other}.out" for other in others],
                "params": [name],
                "outs": [f"{name}.out"],
                "metrics": [f"{name}.json"],
                "meta": {"pool": pools.get(name, "cpu")},
            }
        with open(folder / "dvc.yaml", "w") as file:
            YAML().dump({"stages": stages}, file)
        self.set(dict.fromkeys(needs, 1))
        (folder / ".gitignore").write_text("*.out\n/*.json\n*.started\nran.txt*\n__pycache__/\n")
        for command in (("git", "init", "--quiet"), ("dvc", "init", "--quiet")):
            self.run(*command)
        self.run("dvc", "config", "core.analytics", "false")

    def commit(self) -> None:
        """Commit everything."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")

    def carry_flows(self) -> None:
        """Have the flows in the repository itself, as its clones on machines need them."""
        shutil.copytree(ROOT / "flows", self.folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", self.folder)

    def set(self, params: Mapping[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(json.dumps(params))

    @property
    def ran(self) -> list[str]:
        """The stages whose commands ran to their end, in order."""
        path = self.folder / "ran.txt"
        return path.read_text().split() if path.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        flows = self.folder if (self.folder / "flows").exists() else ROOT
        home = {"PREFECT_HOME": str(self.folder.parent / "prefect"), "PYTHONPATH": str(flows)}
        return os.environ | IDENTITY | home | self.server | {"PATH": path, "DVC_NO_ANALYTICS": "1"}

    def start(self, *arguments: str, module: str = "flows.pipeline") -> "subprocess.Popen[str]":
        """`python -m flows.pipeline` in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
        )

    def flow(
        self, *arguments: str, expect: int = 0, module: str = "flows.pipeline", seconds: float = 300
    ) -> str:
        """`python -m flows.pipeline`; what it prints."""
        process = self.start(*arguments, module=module)
        text, _ = process.communicate(timeout=seconds)
        assert process.returncode == expect, text
        return text

    def run(self, *command: str) -> str:
        """What a command prints."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def lock(self) -> Any:
        return YAML(typ="safe").load(self.folder / "dvc.lock")
