"""A DVC experiment for every point of a grid: `python -m flows.sweep -S KEY=1,2 -S KEY=3,4`.

Each point has a working tree of its own. What several points have in common (a stage with the same command,
parameters and inputs) is one piece of work, done in the first point's tree and handed to the others with its
entry of dvc.lock. `dvc exp show` lists the points with their metrics.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import flow, get_run_logger, runtime

from flows import artifacts, command, machine, pools
from flows.checkout import checkout
from flows.commands import Commands, StageFailed
from flows.graph import (
    DVC,
    Reasons,
    Stage,
    changing_lock,
    grid,
    lock_entries,
    read_graph,
    save_experiment,
    set_params,
    sort_lock,
    with_ancestors,
)
from flows.pipeline import THREADS, check_pools, run_all
from flows.stage import Local, Runner


@dataclass(frozen=True)
class Point:
    """One point of the grid: its experiment's name, its working tree, and its stages."""

    name: str
    root: Path
    graph: Mapping[str, Stage]


@dataclass(frozen=True)
class Work:
    """One piece of work: a stage, and the points that have it in common, the first of which does it."""

    stage: Stage
    points: tuple[Point, ...]


def point_name(assignments: Sequence[str]) -> str:
    """An experiment's name: temperature-0.5_latent_size-32."""
    parts = []
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        parts.append(f"{key.lstrip('+~').split('.')[-1]}-{value}")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts)).strip(".-")


@contextmanager
def points(
    root: Path, commit: str, assignments: Sequence[Sequence[str]], targets: Sequence[str]
) -> Iterator[list[Point]]:
    """The points' working trees, of the commit and with the root's params.yaml but for the assignments."""
    params, entries = (root / "params.yaml").read_text(), lock_entries(root)
    with ExitStack() as stack:
        made = []
        for chosen in assignments:
            folder = stack.enter_context(checkout(root, commit, params, entries))
            set_params(folder, chosen)
            made.append(Point(point_name(chosen), folder, with_ancestors(read_graph(folder), targets)))
        yield made


def join(made: Sequence[Point]) -> tuple[dict[str, Stage], dict[str, Work]]:
    """The sweep's own graph and its pieces of work, by name: the stage's, with the first point's."""
    names: dict[tuple[str, str], str] = {}
    shared: dict[str, list[Point]] = {}
    graph: dict[str, Stage] = {}
    stages: dict[str, Stage] = {}
    for point in made:
        identities = identify(point.graph)
        for name, stage in point.graph.items():
            place = (name, identities[name])
            node = names.setdefault(place, f"{name} of {point.name}")
            shared.setdefault(node, []).append(point)
            if node not in graph:
                stages[node] = stage
                needs = frozenset(names[(other, identities[other])] for other in stage.needs)
                graph[node] = replace(stage, name=node, needs=needs)
    return graph, {node: Work(stages[node], tuple(shared[node])) for node in graph}


def identify(graph: Mapping[str, Stage]) -> dict[str, str]:
    """By stage, the digest of all that its outs depend on at one commit; `graph` has needs first."""
    found: dict[str, str] = {}
    for name, stage in graph.items():
        text = "\n".join([name, stage.work, *sorted(found[other] for other in stage.needs)])
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


class Sweep:
    """Runs pieces of work in their first points' trees and hands them to the others."""

    def __init__(self, work: Mapping[str, Work], runners: Mapping[str, Runner], local: bool) -> None:
        """`runners` by the points' names."""
        self.work = work
        self.runners = runners
        self.local = local
        self.commands = Commands()

    def run(self, stage: Stage, reason: str) -> None:
        work = self.work[stage.name]
        first, *others = work.points
        self.runners[first.name].run(work.stage, reason)
        entry = lock_entries(first.root)[work.stage.name]
        for point in others:
            with changing_lock(point.root) as stages:
                stages[work.stage.name] = entry
            if self.local:
                title = f"{work.stage.name} to {point.name}"
                self.commands.run(title, ["checkout", "--force", work.stage.name], point.root)

    def end(self) -> None:
        self.commands.end()
        for runner in self.runners.values():
            runner.end()


def run_name() -> str:
    """What the UI calls a run of a sweep."""
    return " ".join((runtime.flow_run.parameters or {}).get("assignments") or ["sweep"])


@flow(name="sweep", flow_run_name=run_name, task_runner=THREADS, validate_parameters=False)
def sweep(
    assignments: list[str], targets: list[str], limits: dict[str, int], root: Path, where: str = "local"
) -> list[str]:
    """Make an experiment for every point; their names. Raises StageFailed after the rest has ended."""
    chosen = grid(assignments)
    with points(root, pools.committed(root), chosen, targets) as made:
        graph, work = join(made)
        get_run_logger().info("%d points, %d pieces of work", len(made), len(graph))
        runners: dict[str, Runner] = {
            point.name: Local(point.root) if where == "local" else pools.Pools(point.root) for point in made
        }
        runner = Sweep(work, runners, where == "local")
        before = list(lock_entries(root))
        reasons: Reasons = {node: ["DVC looks whether it has been done"] for node in graph}
        _, failures = run_all(graph, limits, reasons, runner)
        if failures:
            raise StageFailed("; ".join(failures))
        for point in made:
            sort_lock(point.root, before, list(read_graph(point.root)))
            save(point, where)
    return [point.name for point in made]


def save(point: Point, where: str) -> None:
    """Make the point's working tree an experiment. Raises StageFailed."""
    outs = [out for stage in point.graph.values() for out in stage.outs]
    metrics = [out for out in outs if Path(out).name in artifacts.METRICS]
    if where == "pools" and metrics:  # what `dvc exp show` reads
        pull = [*DVC, "pull", *metrics]
        done = subprocess.run(pull, cwd=point.root, capture_output=True, text=True)
        if done.returncode:
            raise StageFailed(f"dvc pull failed in {point.name}: {done.stderr.strip()}")
    try:
        save_experiment(point.root, point.name)
    except ValueError as error:
        raise StageFailed(str(error)) from error


@flow(name="sweep", validate_parameters=True)
def driver(assignments: list[str], stages: list[str] = [], cpu: int = 64, gpu: int = 64) -> None:  # noqa: B006 - Prefect shows these defaults
    """The deployment `sweep`: experiments on the pools, in the clone of the machine that runs it."""
    root = machine.HOME
    check_grid(root, grid(assignments))
    check_pools(root)
    sweep(assignments, stages, command.check_limits({"cpu": cpu, "gpu": gpu}), root, "pools")


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep; `command.carry_out` says what comes back."""
    parser = command.parser("sweep", __doc__.split("\n")[0])
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        required=True,
        metavar="KEY=VALUE[,VALUE ...]",
        dest="params",
        help="values of a key of params.yaml; several keys make a grid",
    )
    parsed = parser.parse_args(arguments)
    root, where = Path.cwd(), "pools" if parsed.pools else "local"

    def check() -> None:
        command.check_root(root)
        command.limits(parsed)
        with_ancestors(read_graph(root), parsed.stages)
        check_grid(root, grid(parsed.params))
        pools.committed(root)
        if parsed.pools:
            check_pools(root)
        else:
            command.share_cores(command.limits(parsed))

    def run() -> None:
        made = sweep(parsed.params, parsed.stages, command.limits(parsed), root, where)
        print(f"flows: {len(made)} experiments; dvc exp show --only-changed lists them", file=sys.stderr)

    return command.carry_out(check, run, None)


def check_grid(root: Path, chosen: Sequence[Sequence[str]]) -> None:
    """Raise ValueError where two points would be one experiment, or a key or a value is wrong."""
    names = [point_name(assignments) for assignments in chosen]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two points of the grid are called {name}; list each value once")
    with tempfile.TemporaryDirectory() as folder:
        for assignments in chosen:
            shutil.copy(root / "params.yaml", folder)
            set_params(Path(folder), assignments)
            try:
                command.check_settings(root, Path(folder))
            except ValueError as error:
                raise ValueError(f"{point_name(assignments)}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
