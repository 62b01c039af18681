"""The pipeline's graph as DVC sees it: the one module that touches DVC's internals (pinned by a test)."""

import contextlib
import difflib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency import param
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from ruamel.yaml import YAML

POOLS = ("cpu", "gpu")

STEADFAST = """\
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
from dvc.cli import main
sys.exit(main(sys.argv[1:]))"""
DVC = (sys.executable, "-c", STEADFAST, "--wait-for-lock")
"""DVC of this Python; two calls at once wait for each other's short critical sections.

A SIGTERM to the group ends the stage's command, which DVC then reports; DVC itself may be in the middle of
writing dvc.lock, which it does in place, and comes to the end of that.
"""

LOCK = "dvc.lock"

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
    work: str = ""  # digest of its command and its parameters' values


def read_graph(root: Path) -> dict[str, Stage]:
    """All stages by name, in the order in which a plain `dvc repro` runs them.

    Raises ValueError where dvc.yaml or params.yaml is wrong, or a pool is unknown.
    """
    try:
        with Repo(str(root)) as repo, parsing_params_once():
            graph = repo.index.graph
            stages = [
                Stage(
                    name=address(found),
                    pool=(found.meta or {}).get("pool", "cpu"),
                    description=found.desc or "",
                    needs=frozenset(address(other) for other in graph.successors(found)),
                    outs=tuple(os.path.relpath(out.fs_path, root) for out in found.outs),
                    work=work(found),
                )
                for found in plan_repro(get_active_graph(graph))
            ]
    except DvcException as error:
        raise ValueError(f"{root}: {error}") from error
    for stage in stages:
        if stage.pool not in POOLS:
            raise ValueError(
                f"dvc.yaml: the pool of {stage.name} is {stage.pool!r}; allowed: {', '.join(POOLS)}"
            )
    return {stage.name: stage for stage in stages}


@contextlib.contextmanager
def parsing_params_once() -> Iterator[None]:
    """In the block, DVC parses a file of parameters once, instead of once for every stage."""
    parse, parsed = param.load_path, dict[str, Any]()

    def load_path(path: str, *others: Any, **options: Any) -> Any:
        if path not in parsed:
            parsed[path] = parse(path, *others, **options)
        return parsed[path]

    param.load_path = load_path
    try:
        yield
    finally:
        param.load_path = parse


def work(found: Any) -> str:
    """What a stage of DVC's index does: its command, with the values of its parameters."""
    values = [
        (dep.def_path, dep.read_params()) for dep in found.deps if isinstance(dep, param.ParamsDependency)
    ]
    text = json.dumps([found.cmd, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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
    path = root / "params.yaml"
    for assignment in assignments:
        if "=" not in assignment and not assignment.startswith("~"):
            raise ValueError(f"-S {assignment}: must be KEY=VALUE")
    try:
        apply_overrides(path, list(assignments))
    except DvcException as error:
        hint = nearest(assignments, YAML(typ="safe").load(path))
        raise ValueError(f"-S {' '.join(assignments)}: {hint}{error}") from error


def nearest(assignments: Sequence[str], values: Any) -> str:
    """`did you mean KEY? ` for the first assignment whose key is not in `values` but resembles one."""
    known, waiting = set(), [("", values)]
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, Mapping):
            known |= {f"{prefix}{key}" for key in value}
            waiting += [(f"{prefix}{key}.", inner) for key, inner in value.items()]
    for key in (assignment.partition("=")[0] for assignment in assignments):
        if key not in known and (near := difflib.get_close_matches(key, known, n=1)):
            return f"did you mean {near[0]}? "
    return ""


@contextlib.contextmanager
def changing_lock(root: Path) -> Iterator[dict[str, Any]]:
    """dvc.lock's entries by stage, to be changed in the block; written whole, or as before on an error.

    It is DVC's own lock that keeps other processes out, and DVC's own form in which the file is written.
    """
    path = root / LOCK
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        text = path.read_text() if path.exists() else ""
        data = parse_yaml_for_update(text, str(path)) or {"schema": "2.0"}
        stages = data.setdefault("stages", {})
        yield stages
        if (changed := dumps_yaml(data)) != text:
            aside = path.with_name(f".{LOCK}.partial")
            aside.write_text(changed)
            os.replace(aside, path)


def lock_entries(root: Path) -> dict[str, Any]:
    """dvc.lock's entries by stage, in the file's order; DVC, which writes it in place, is kept out."""
    path = root / LOCK
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        data = parse_yaml_for_update(path.read_text(), str(path)) if path.exists() else None
    return dict((data or {}).get("stages", {}))


def sort_lock(root: Path, before: Sequence[str], plan: Sequence[str]) -> None:
    """Put dvc.lock's entries in the order of a `dvc repro`: those of `before` first, then by the plan."""
    places = {name: place for place, name in enumerate(dict.fromkeys([*before, *plan]))}
    with changing_lock(root) as stages:
        ordered = sorted(stages.items(), key=lambda item: places.get(item[0], len(places)))
        if [name for name, _ in ordered] != list(stages):
            stages.clear()
            stages.update(ordered)


def stale_without_data(root: Path) -> Reasons:
    """`read_reasons` for a clone without the data: what is missing there counts as being what dvc.lock says.

    DVC cannot tell so whether a folder that holds other stages' outs is what it was.
    """
    found: dict[str, Sequence[Any]] = {}
    try:
        with Repo(str(root), _wait_for_lock=True) as repo, repo.lock, parsing_params_once():
            graph = repo.index.graph
            for stage in graph.nodes:
                if stage.changed(allow_missing=True, upstream=list(graph.successors(stage))):
                    listed = stage.status().get(stage.addressing, [])
                    found[address(stage)] = [*filter(None, map(without_missing, listed))] or [
                        "inputs changed"
                    ]
    except DvcException as error:
        raise ValueError(f"{root}: {error}") from error
    return found


def without_missing(reason: Any) -> Any:
    """A reason of `dvc status` less the files that are missing; empty where nothing is left."""
    if not isinstance(reason, Mapping):
        return reason
    missing = ("deleted", "not in cache")
    kinds = {
        kind: {path: change for path, change in changes.items() if change not in missing}
        for kind, changes in reason.items()
    }
    return {kind: changes for kind, changes in kinds.items() if changes}


SAVE = """\
import sys
from dvc.cli import main
from dvc.repo import Repo
Repo.commit = lambda repo, *_, **__: list(repo.index.stages)
sys.exit(main(["exp", "save", "--force", "--name", sys.argv[1]]))"""


def save_experiment(root: Path, name: str) -> None:
    """Make what params.yaml and dvc.lock say an experiment, as `dvc exp save` does. Raises ValueError.

    But for hashing the outs anew: they need not be here, and dvc.lock vouches for them.
    """
    command = [sys.executable, "-c", SAVE, name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"dvc exp save failed in {root}: {done.stderr.strip()}")


def cache_folder(root: Path) -> Path:
    """Where the repository at `root` has its cache."""
    with Repo(str(root)) as repo:
        return Path(repo.cache.local_cache_dir)


def configure(root: Path, name: str, value: str) -> None:
    """Set one of DVC's local settings (.dvc/config.local). Raises ValueError."""
    command = [*DVC, "config", "--local", name, value]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"dvc config failed: {done.stderr.strip()}")


def grid(assignments: Sequence[str]) -> list[tuple[str, ...]]:
    """Every point of a sweep as assignments, `key=1,2` standing for two. Raises ValueError."""
    try:
        return [tuple(point["params.yaml"]) for point in get_hydra_sweeps({"params.yaml": list(assignments)})]
    except Exception as error:  # hydra's parser has many
        raise ValueError(f"-S {' '.join(assignments)}: {' '.join(str(error).split())}") from error


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
