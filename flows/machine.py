"""One stage on a machine of a pool: the flow `stage`, which a worker started in the machine's clone runs.

Only what dvc.yaml says at the given commit is executed. Data comes from and goes to DVC's remote; the stage's
entry of dvc.lock is handed back as an artifact, after its data is there.
"""

import json
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import Artifact

from flows import artifacts
from flows.checkout import checkout
from flows.commands import Commands, StageFailed
from flows.graph import lock_entries, read_graph

HOME = Path(__file__).absolute().parents[1]
"""The machine's clone: a worker imports the flows that are installed from it."""
ENTRY = "entry"
"""The artifact with the stage's entry of dvc.lock, and its type."""


@flow(name="stage", flow_run_name="{stage}")
def run_on_machine(stage: str, commit: str, params: str, entries: dict[str, Any], reason: str) -> None:
    """Bring a stage up to date. `entries` of dvc.lock: its own, if any, and those of the stages it needs."""
    commands = Commands()
    try:
        with checkout(HOME, commit, params, entries) as root:
            graph = read_graph(root)
            if stage not in graph:
                raise StageFailed(f"{stage!r} is no stage of dvc.yaml at commit {commit}")
            found = graph[stage]
            get_run_logger().info("%s: %s", stage, reason)
            with artifacts.progress(found) as progress:
                needs = sorted(found.needs)
                if needs:
                    commands.run(f"{stage}: pulling what it needs", ["pull", *needs], root)
                commands.run(stage, ["repro", "--pull", "--single-item", stage], root, progress.tell)
                # The data before the run cache: an entry there promises the data.
                commands.run(f"{stage}: pushing its data", ["push", stage], root)
                commands.run(f"{stage}: pushing the run cache", ["push", "--run-cache", stage], root)
            artifacts.show(found, root, reason)
            entry = json.loads(json.dumps(lock_entries(root)[stage]))
            Artifact(type=ENTRY, key=artifacts.key(found, ENTRY), data=entry).create()
    finally:
        commands.end()
