"""One stage as a Prefect task: `dvc repro --single-item`, its lines as log, its results as artifacts."""

import json
import threading
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.graph import DVC, Stage
from flows.groups import Group

METRICS = ("metrics.json", "scores.json")
TABLES = "tables.md"


class StageFailed(RuntimeError):  # noqa: N818 - it says what happened
    """A stage's command did not succeed; the message has its last lines."""


class Groups:
    """The process groups of running stages, so that all can be ended at once."""

    def __init__(self) -> None:
        self.running: dict[str, Group] = {}
        self.ended = False
        self.changing = threading.Lock()

    def run(self, name: str, root: Path) -> None:
        """Run one stage to its end. Raises StageFailed."""
        logger, last = get_run_logger(), [""] * 3
        command = [*DVC, "repro", "--single-item", name]
        with self.changing:
            if self.ended:
                raise StageFailed(f"{name} was not started: the pipeline is ending")
            self.running[name] = group = Group(command, root)

        def line(text: str) -> None:
            if text:
                logger.info(text)
                last[:] = [*last[1:], text]

        try:
            code = group.follow(line)
        finally:
            del self.running[name]
            group.close()
        if code:
            told = " / ".join(filter(None, last))
            raise StageFailed(f"{name} failed (exit code {code}): {told}; start again to go on where it was")

    def end(self) -> None:
        """End all that runs; nothing more is started."""
        with self.changing:
            self.ended = True
        for group in list(self.running.values()):
            group.end()


@task(task_run_name="{stage.name}", retries=0, cache_policy=NO_CACHE)
def run_stage(stage: Stage, root: Path, reason: str, groups: Groups) -> None:
    """Let DVC run the stage if it is stale, and show what came of it. `reason`: why it may be."""
    get_run_logger().info("%s: %s", stage.name, reason)
    groups.run(stage.name, root)
    show(stage, root, reason)


def show(stage: Stage, root: Path, reason: str) -> None:
    """Artifacts: why it ran, its metrics as a table, and the tables of both games."""
    key = stage.name.replace("@", "-")
    create_markdown_artifact(f"{stage.description}\n\n{reason}", key=f"{key}-reason")
    for path in (root / out for out in stage.outs):
        if path.name in METRICS:
            rows = table(json.loads(path.read_text()))
            create_table_artifact(rows, key=f"{key}-metrics", description=stage.description)
        elif path.name == TABLES:
            create_markdown_artifact(path.read_text(), key=f"{key}-tables", description=stage.description)


def table(metrics: dict[str, object]) -> list[dict[str, object]]:
    """A row per metric, or per agent where metrics are kept by agent."""
    nested = {name: value for name, value in metrics.items() if isinstance(value, dict)}
    if nested:
        return [{"name": name, **value} for name, value in nested.items()]
    return [{"metric": name, "value": value} for name, value in metrics.items()]
