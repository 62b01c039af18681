"""The pipeline on this machine: `python -m flows.pipeline [STAGE ...]`.

Every stage that is ready runs, several at once up to a limit for each pool, as a task of one Prefect flow,
against the server that PREFECT_API_URL names or one that is started for the occasion. DVC decides what is
stale, writes dvc.lock, and keeps the outs: a plain `dvc repro` gives the same.
"""

import argparse
import os
import queue
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect reads it

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph import read_graph, read_reasons, set_params, with_ancestors, words
from flows.schedule import Schedule
from flows.server import ServerFailed, server
from flows.stage import Groups, StageFailed, run_stage

Ended = queue.SimpleQueue[tuple[str, PrefectFuture[Any]]]
"""Stages that have ended, with their tasks' futures, as they do."""

THREADS: Any = ThreadPoolTaskRunner(max_workers=64)
"""More than any limit: the schedule holds stages back, not the runner."""


@flow(name="pipeline", task_runner=THREADS, validate_parameters=False)
def pipeline(targets: list[str], limits: dict[str, int], root: Path) -> list[str]:
    """Bring the targets up to date; the names of the stages that DVC was asked to run.

    A stage that is not stale is asked for only if one that it needs was. Raises StageFailed after the stages
    that were running have ended; what they wrote is kept.
    """
    logger, groups = get_run_logger(), Groups()
    graph = with_ancestors(read_graph(root), targets)
    reasons = read_reasons(root)
    schedule = Schedule(graph, limits)
    asked: list[str] = []
    failures: list[str] = []
    ended: Ended = queue.SimpleQueue()
    try:
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
                    future = run_stage.submit(stage, root, reason, groups)
                    future.add_done_callback(partial(announce, ended, name))
            if not schedule.running:
                break
            name, future = ended.get()
            future.wait()
            schedule.finish(name, future.state.is_completed())
            if not future.state.is_completed():
                error = future.result(raise_on_failure=False)
                failures.append(str(error if isinstance(error, StageFailed) else future.state.message))
    finally:
        groups.end()
    if failures:
        raise StageFailed("; ".join(failures))
    return asked


def announce(ended: Ended, name: str, future: PrefectFuture[Any]) -> None:
    ended.put((name, future))


def upstream(needs: frozenset[str], asked: Sequence[str]) -> str:
    """Why a stage that is not stale may become so."""
    ran = sorted(needs & set(asked))
    return f"{', '.join(ran)} ran; DVC looks whether anything it gave has changed" if ran else ""


def default_limits(cores: int) -> dict[str, int]:
    """Training uses all cores by itself, and so do worker processes: two CPU stages overlap their ends."""
    return {"gpu": 1, "cpu": max(2, cores // 8)}


def main(arguments: list[str] | None = None) -> int:
    """Run the flow: 0 done, 1 a stage failed, 2 something in the input is wrong."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=__doc__.split("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="with all that they need (default: all)")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", dest="params")
    for pool, limit in default_limits(cores).items():
        parser.add_argument(
            f"--{pool}", type=int, default=limit, metavar="N", help=f"{pool} stages at once ({limit})"
        )
    parsed = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, stop)
    root = Path.cwd()
    try:
        limits = check_limits({"cpu": parsed.cpu, "gpu": parsed.gpu})
        if parsed.params:
            set_params(root, parsed.params)
        with_ancestors(read_graph(root), parsed.stages)
    except ValueError as error:
        return complain(error, 2)
    try:
        with server() as url, temporary_settings({PREFECT_API_URL: url}):
            print(f"flows: watch at {url.removesuffix('/api')}", file=sys.stderr, flush=True)
            try:
                pipeline(parsed.stages, limits, root)
            finally:
                APILogHandler().flush()  # while there is a server to take what was logged
    except (StageFailed, ServerFailed) as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on where it was", 130)
    return 0


def check_limits(limits: Mapping[str, int]) -> dict[str, int]:
    for pool, limit in limits.items():
        if limit < 1:
            raise ValueError(f"--{pool} must be at least 1, but is {limit}")
    return dict(limits)


def complain(message: object, code: int) -> int:
    print(f"flows: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code


def stop(signum: int, frame: FrameType | None) -> None:
    """SIGTERM: leave as for Ctrl-C, which ends the process groups."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
