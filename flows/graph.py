"""The pipeline's graph as DVC sees it: the one module that touches DVC's internals (pinned by a test)."""

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

POOLS = ("cpu", "gpu")

DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
"""DVC of this Python; two calls at once wait for each other's short critical sections."""

Reasons = Mapping[str, Sequence[Any]]
"""Of stages that are stale: what `dvc status` says has changed."""


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, templates filled in."""

    name: str  # as DVC addresses it: vision@takecover
    pool: str  # cpu or gpu
    description: str
    needs: frozenset[str]  # stages whose outs it depends on
    outs: tuple[str, ...]  # paths relative to the root


def read_graph(root: Path) -> dict[str, Stage]:
    """All stages by name. Raises ValueError where dvc.yaml or params.yaml is wrong, or a pool is unknown."""
    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            stages = [
                Stage(
                    name=address(found),
                    pool=(found.meta or {}).get("pool", "cpu"),
                    description=found.desc or "",
                    needs=frozenset(address(other) for other in graph.successors(found)),
                    outs=tuple(os.path.relpath(out.fs_path, root) for out in found.outs),
                )
                for found in graph.nodes
            ]
    except DvcException as error:
        raise ValueError(f"{root}: {error}") from error
    for stage in stages:
        if stage.pool not in POOLS:
            raise ValueError(
                f"dvc.yaml: the pool of {stage.name} is {stage.pool!r}; allowed: {', '.join(POOLS)}"
            )
    return {stage.name: stage for stage in sorted(stages, key=lambda stage: stage.name)}


def address(found: Any) -> str:
    """The name under which `dvc repro`, called in the root, knows a stage of DVC's index."""
    name = getattr(found, "name", None)
    if not name:
        return str(found.path_in_repo)
    return str(name if found.path_in_repo == "dvc.yaml" else f"{found.path_in_repo}:{name}")


def with_ancestors(graph: Mapping[str, Stage], targets: Sequence[str]) -> dict[str, Stage]:
    """The targets and all that they need; everything where none is named. Raises ValueError."""
    for target in targets:
        if target not in graph:
            near = difflib.get_close_matches(target, graph, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{target!r} is no stage; {hint}(dvc stage list shows all)")
    wanted, waiting = set(), list(targets) or list(graph)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += graph[name].needs
    return {name: stage for name, stage in graph.items() if name in wanted}


def read_reasons(root: Path) -> Reasons:
    """Why stages are stale; those that are not are left out. Raises ValueError where DVC cannot tell."""
    command = [*DVC, "status", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"dvc status failed: {done.stderr.strip()}")
    return {name: reasons for name, reasons in json.loads(done.stdout).items() if name != "always changed"}


def set_params(root: Path, assignments: Sequence[str]) -> None:
    """Change params.yaml as `dvc exp run -S` does: `key=value` each. Raises ValueError."""
    try:
        apply_overrides(root / "params.yaml", list(assignments))
    except DvcException as error:
        raise ValueError(f"-S {' '.join(assignments)}: {error}") from error


def words(reasons: Sequence[Any]) -> str:
    """What `dvc status` says of a stage, in a line: `changed deps: params.yaml (takecover.vision)`."""
    texts = []
    for reason in reasons:
        if not isinstance(reason, Mapping):
            texts.append(str(reason))
            continue
        for kind, changes in reason.items():
            listed = ", ".join(describe(path, change) for path, change in changes.items())
            texts.append(f"{kind}: {listed}")
    return "; ".join(texts)


def describe(path: str, change: Any) -> str:
    return f"{path} ({', '.join(change)})" if isinstance(change, Mapping) else f"{path} {change}"
