"""The pipeline on this machine: `python -m flows.pipeline [STAGE ...]`.

Every stage that is ready runs, several at once up to a limit for each pool, as a task of one Prefect flow,
against the server that PREFECT_API_URL names or one that is started for the occasion. DVC decides what is
stale, writes dvc.lock, and keeps the outs: a plain `dvc repro` gives the same.
"""

import os
import queue
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows import command, machine, pools
from flows.checkout import check_params
from flows.commands import StageFailed
from flows.graph import (
    POOLS,
    Reasons,
    Stage,
    lock_entries,
    read_graph,
    read_reasons,
    set_params,
    sort_lock,
    with_ancestors,
    words,
)
from flows.schedule import Schedule
from flows.stage import Local, Runner, run_stage

Ended = queue.SimpleQueue[tuple[str, PrefectFuture[Any]]]
"""Stages that have ended, with their tasks' futures, as they do."""

LOOK_SECONDS = 3.0
"""Between two looks whether the run has been cancelled."""

THREADS: Any = ThreadPoolTaskRunner(max_workers=len(POOLS) * command.MOST)
"""As many as all limits allow: the schedule holds stages back, not the runner."""


def run_name() -> str:
    """What the UI calls a run of the pipeline."""
    targets: list[str] = (runtime.flow_run.parameters or {}).get("targets") or []
    return ", ".join(targets) or "whole pipeline"


@flow(name="pipeline", flow_run_name=run_name, task_runner=THREADS, validate_parameters=False)
def pipeline(targets: list[str], limits: dict[str, int], root: Path, where: str = "local") -> list[str]:
    """Bring the targets up to date; the names of the stages that DVC was asked to run.

    `where`: local, or pools. A stage that is not stale is asked for only if one that it needs was. Raises
    StageFailed after the stages that were running have ended; what they wrote is kept, and dvc.lock is in the
    order of a plain `dvc repro`.
    """
    whole = read_graph(root)
    graph, before = with_ancestors(whole, targets), list(lock_entries(root))
    runner: Runner
    if where == "local":
        runner, reasons = Local(root), read_reasons(root)
    else:
        runner, reasons = pools.Pools(root), pools.reasons(root, graph)
    try:
        asked, failures = run_all(graph, limits, reasons, runner)
    finally:
        sort_lock(root, before, list(whole))
    if failures:
        raise StageFailed("; ".join(failures))
    return asked


def run_all(
    graph: Mapping[str, Stage], limits: Mapping[str, int], reasons: Reasons, runner: Runner
) -> tuple[list[str], list[str]]:
    """Run what is stale as soon as it is ready; the stages asked for, and what went wrong.

    When it is left, however it is, nothing of it runs any more.
    """
    futures: list[PrefectFuture[Any]] = []
    try:
        return run_ready(graph, limits, reasons, runner, futures)
    finally:
        runner.end()
        wait(futures)


def run_ready(
    graph: Mapping[str, Stage],
    limits: Mapping[str, int],
    reasons: Reasons,
    runner: Runner,
    futures: list[PrefectFuture[Any]],
) -> tuple[list[str], list[str]]:
    """`run_all`; every task that is started is added to `futures`."""
    logger, schedule, ended = get_run_logger(), Schedule(graph, limits), Ended()
    asked: list[str] = []
    failures: list[str] = []
    while True:
        while ready := schedule.ready():
            for name in ready:
                stage = graph[name]
                schedule.start(name)
                reason = words(reasons[name]) if name in reasons else upstream(stage.needs, asked)
                if not reason:
                    logger.info("%s: nothing has changed", name)
                    schedule.finish(name, True)
                    continue
                asked.append(name)
                futures.append(future := run_stage.submit(stage, reason, runner))
                future.add_done_callback(partial(announce, ended, name))
        if not schedule.running:
            return asked, failures
        name, future = first(ended)
        future.wait()
        schedule.finish(name, future.state.is_completed())
        if not future.state.is_completed():
            error = future.result(raise_on_failure=False)
            failures.append(str(error if isinstance(error, StageFailed) else future.state.message))


def first(ended: Ended) -> tuple[str, PrefectFuture[Any]]:
    """The next stage that ends. Raises StageFailed when the run is cancelled in the UI meanwhile."""
    while True:
        try:
            return ended.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(UUID(str(runtime.flow_run.id))).state
            if state and (state.is_cancelling() or state.is_cancelled()):
                raise StageFailed("the run was cancelled; the same command goes on where it was") from None


def announce(ended: Ended, name: str, future: PrefectFuture[Any]) -> None:
    ended.put((name, future))


def upstream(needs: frozenset[str], asked: Sequence[str]) -> str:
    """Why a stage that is not stale may become so."""
    ran = sorted(needs & set(asked))
    return f"{', '.join(ran)} ran; DVC looks whether anything it gave has changed" if ran else ""


@flow(name="pipeline", validate_parameters=True)
def driver(stages: list[str] = [], cpu: int = 64, gpu: int = 64) -> None:  # noqa: B006 - Prefect shows these defaults
    """The deployment `driver`: the pipeline on the pools, from the clone of the machine that runs it.

    `cpu` and `gpu` limit how many stages of a pool run at once. Other parameters than those in the clone's
    params.yaml are what the deployment of sweeps is for: its experiments leave the clone as it is.
    """
    root = machine.HOME
    command.check_settings(root, root)
    check_pools(root)
    pipeline(stages, command.check_limits({"cpu": cpu, "gpu": gpu}), root, "pools")


def check_pools(root: Path) -> None:
    """Raise ValueError where machines could not run what this working tree holds."""
    if "PREFECT_API_URL" not in os.environ:
        raise ValueError("--pools needs the server that the workers use; set PREFECT_API_URL")
    pools.committed(root)
    check_params((root / "params.yaml").read_text())


def main(arguments: list[str] | None = None) -> int:
    """Run the flow; `command.carry_out` says what comes back."""
    parser = command.parser("pipeline", __doc__.split("\n")[0])
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="params",
        help="set a value in params.yaml, where it stays",
    )
    parsed = parser.parse_args(arguments)
    root, where = Path.cwd(), "pools" if parsed.pools else "local"

    def check() -> None:
        command.check_root(root)
        command.limits(parsed)
        before = (root / "params.yaml").read_bytes() if parsed.params else b""
        try:
            if parsed.params:
                set_params(root, parsed.params)
            command.check_settings(root, root)
            with_ancestors(read_graph(root), parsed.stages)
            if parsed.pools:
                check_pools(root)
            else:
                command.share_cores(command.limits(parsed))
        except ValueError:
            if parsed.params:
                (root / "params.yaml").write_bytes(before)
            raise

    def run() -> None:
        pipeline(parsed.stages, command.limits(parsed), root, where)

    return command.carry_out(check, run, None if parsed.pools else root)


if __name__ == "__main__":
    sys.exit(main())
