"""The command lines of the flows: common options, Prefect's server for the occasion, exit codes."""

import os

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect reads it

import argparse
import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.commands import StageFailed
from flows.groups import KEPT
from flows.server import ServerFailed, server

INTERRUPTED = 130
MOST = 1000
"""Stages of a pool that may run at once: each is a thread of the driver."""


def default_limits(cores: int) -> dict[str, int]:
    """Training uses all cores by itself; CPU stages share them (`share_cores`), and overlap their ends."""
    return {"gpu": 1, "cpu": max(2, cores // 8)}


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"flows: {message} (see {self.prog} --help)\n")


def parser(name: str, description: str) -> Parser:
    """With the options that all flows have."""
    made = Parser(prog=f"python -m flows.{name}", description=description)
    made.add_argument("stages", nargs="*", metavar="STAGE", help="with all that they need (default: all)")
    for pool, limit in default_limits(os.cpu_count() or 1).items():
        made.add_argument(
            f"--{pool}", type=int, default=limit, metavar="N", help=f"{pool} stages at once ({limit})"
        )
    made.add_argument("--pools", action="store_true", help="on the workers of the pools (see README)")
    return made


def check_root(root: Path) -> None:
    """Raise ValueError where `root` is not a repository's root, in the words of `wm`."""
    for name in ("dvc.yaml", "params.yaml"):
        if not (root / name).is_file():
            raise ValueError(f"{name} does not exist here; run this in the repository's root")


def limits(parsed: argparse.Namespace) -> dict[str, int]:
    return check_limits({"cpu": parsed.cpu, "gpu": parsed.gpu})


def check_limits(limits: Mapping[str, int]) -> dict[str, int]:
    """The limits of the pools. Raises ValueError."""
    for pool, limit in limits.items():
        if not 1 <= limit <= MOST:
            raise ValueError(f"--{pool} must be from 1 to {MOST}, but is {limit}")
    return dict(limits)


def share_cores(limits: Mapping[str, int]) -> None:
    """Let CPU stages side by side have fewer worker processes each, unless WM_WORKERS says how many.

    On two cores, two stages with one worker each take less time than with two: workers cost their start.
    """
    os.environ.setdefault("WM_WORKERS", str(max(1, (os.cpu_count() or 1) // limits["cpu"])))


def check_settings(root: Path, folder: Path) -> None:
    """Raise ValueError where `wm check`, the wm at `root`, does not like the params.yaml in `folder`."""
    if not (root / "wm").is_dir():
        return
    path = f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "wm", "check"]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"wm check ended with exit code {done.returncode}"]
        raise ValueError(said[-1].removeprefix("wm: "))


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only one in the repository who runs stages; where another does, wait for its end.

    DVC would refuse: of two `dvc repro` that touch the same files, one fails at once. And while a stage runs,
    nobody is to set its parameters.
    """
    if not (root / ".dvc").is_dir():  # which will be told
        yield
        return
    folder = root / ".dvc" / "tmp"
    folder.mkdir(exist_ok=True)
    with open(folder / "flows.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("flows: another flow runs stages here; waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        KEPT.add(lock.fileno())
        try:
            yield
        finally:
            KEPT.discard(lock.fileno())


def carry_out(check: Callable[[], None], run: Callable[[], object], root: Path | None) -> int:
    """Check, then run with a server: 0 done, 1 a stage failed, 2 something in the input is wrong.

    Where a `root` is given, no other flow does so there meanwhile.
    """
    signal.signal(signal.SIGTERM, stop)
    try:
        with alone(root) if root else nullcontext():
            return carry_out_now(check, run)
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on where it was", INTERRUPTED)


def carry_out_now(check: Callable[[], None], run: Callable[[], object]) -> int:
    """`carry_out`, with nobody else at it."""
    try:
        check()
        with server() as url, temporary_settings({PREFECT_API_URL: url}):
            print(f"flows: watch at {url.removesuffix('/api')}", file=sys.stderr, flush=True)
            try:
                run()
            finally:
                APILogHandler().flush()  # while there is a server to take what was logged
    except ValueError as error:
        return complain(error, 2)
    except (StageFailed, ServerFailed) as error:
        return complain(error, 1)
    return 0


def complain(message: object, code: int) -> int:
    print(f"flows: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code


def stop(signum: int, frame: FrameType | None) -> None:
    """SIGTERM: leave as for Ctrl-C, which ends the process groups."""
    raise KeyboardInterrupt
