"""One stage of a pipeline as a Prefect task, wherever it runs."""

from pathlib import Path
from typing import Protocol

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts
from flows.commands import Commands
from flows.graph import Stage


class Runner(Protocol):
    """Brings stages up to date, several at once."""

    def run(self, stage: Stage, reason: str) -> None:
        """Until the stage's outs and its entry in dvc.lock are there. Raises StageFailed."""
        ...

    def end(self) -> None:
        """End all that runs, which then fails; nothing more is started."""
        ...


class Local:
    """Runs stages on this machine, in the root's own working tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands = Commands()

    def run(self, stage: Stage, reason: str) -> None:
        with artifacts.progress(stage) as progress:
            command = ["repro", "--single-item", stage.name]
            self.commands.run(stage.name, command, self.root, progress.tell)
        artifacts.show(stage, self.root, reason)

    def end(self) -> None:
        self.commands.end()


@task(task_run_name="{stage.name}", retries=0, cache_policy=NO_CACHE)
def run_stage(stage: Stage, reason: str, runner: Runner) -> None:
    """Let DVC run the stage if it is stale. `reason`: why it may be."""
    get_run_logger().info("%s: %s", stage.name, reason)
    runner.run(stage, reason)
