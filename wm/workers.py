"""Worker processes for fixed blocks of work: nothing hangs, and nothing is left behind.

Python's own pools notice a dead worker late or never: games started by a worker inherit the pipes whose
closing would tell of its death. Here a worker's pipes end with it, its games end with it, and the one thread
per worker that hands out blocks sees both at once.
"""

import atexit
import contextlib
import importlib
import math
import multiprocessing
import os
import pickle
import queue
import secrets
import signal
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self, TypeVar

from wm.errors import BadInput, Failure
from wm.orphans import (
    END_SECONDS,
    adopt_orphans,
    die_with,
    end_family,
    keep_descriptors_from_children,
    sweep_shared_memory,
)

B = TypeVar("B")
R = TypeVar("R")

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",  # PyTorch reads it, too
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
MARK = "WM_WORKERS_FAMILY"  # in the environment of workers and of whatever they start


class WorkerDied(Failure):
    """A worker process ended in the middle of its work, such as by a signal or for want of memory."""


def worker_count() -> int:
    """Worker processes to start: WM_WORKERS, or the cores available. ValueError for another WM_WORKERS."""
    text = os.environ.get("WM_WORKERS", "")
    if text == "":
        return available_cores()
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise BadInput(f"WM_WORKERS: {text!r} is not a whole number of at least 1")
    return int(text)


def available_cores() -> int:
    """Cores that this process may use: its affinity, and a container's limit where there is one."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


_kept: dict[Hashable, Any] = {}
_ahead: list["Workers"] = []


def worker_local(key: Hashable, make: Callable[[], R]) -> R:
    """This process's object of that key, made on first use: a started game, a loaded network.

    Blocks that run in one worker share it; it must not carry anything from block to block that changes a
    result. What has a `close` is closed when the process ends of its own accord.
    """
    if key not in _kept:
        _kept[key] = make()
    return _kept[key]


@atexit.register
def _close_kept() -> None:
    for kept in _kept.values():
        if hasattr(kept, "close"):
            kept.close()
    _kept.clear()


@contextlib.contextmanager
def started_ahead(imports: str) -> Iterator[None]:
    """Workers start and import a module of ours, while this process goes on with its own imports.

    Both take seconds where PyTorch is needed. The next `take_workers` hands them out; if nobody takes them,
    they end with the block.
    """
    workers = Workers(imports=imports)
    _ahead.append(workers)
    try:
        workers.start()
        yield
    finally:
        if workers in _ahead:
            _ahead.remove(workers)
            workers._end()


def take_workers() -> "Workers":
    """The workers that were started ahead, or new ones; enter them by `with`."""
    return _ahead.pop() if _ahead else Workers()


class Workers:
    """Worker processes, each with one compute thread and a temporary working directory of its own.

    They are started by spawn (forked after PyTorch has run threads, they deadlock) when the `with` block is
    entered, if not by `start` before, and ended with all that they have started when it is left. They do not
    outlive the thread that started them, however it ends. Paths handed to them must be absolute.
    """

    def __init__(self, count: int | None = None, imports: str | None = None) -> None:
        """`count` processes (>= 1; None: `worker_count()`), which import the module `imports` first."""
        self._count = worker_count() if count is None else count
        self._imports = imports
        assert self._count >= 1, count
        self._failure: WorkerDied | None = None
        self._failing = threading.Lock()
        self._tasks: queue.SimpleQueue[tuple[Future, bytes] | None] = queue.SimpleQueue()
        self._processes: list[BaseProcess] = []
        self._threads: list[threading.Thread] = []
        self._mark = secrets.token_hex(8)

    def __enter__(self) -> Self:
        if not self._processes:
            self.start()
        return self

    def start(self) -> None:
        """Start the processes."""
        assert not self._processes, "a Workers object is used once"
        sweep_shared_memory()
        self._was_adopting = adopt_orphans(True)
        self._folder = tempfile.TemporaryDirectory(prefix="wm-workers-", ignore_cleanup_errors=True)
        resource_tracker.ensure_running()  # before the mark is set: it serves the whole process
        settings = {name: "1" for name in THREAD_SETTINGS} | {MARK: self._mark}
        try:
            with _environment(settings), _interrupts_blocked():
                for index in range(self._count):
                    self._start(index)
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        self._end()

    def map(self, function: Callable[[B], R], blocks: Iterable[B]) -> Iterator[R]:
        """`function` of every block, in the blocks' order; at most 2 blocks per worker are under way.

        `function` is a picklable callable (at a module's top level, or a `functools.partial` of one). What it
        raises is raised here with the worker's traceback as a note; `WorkerDied` when a worker died.
        """
        under_way: deque[Future] = deque()
        try:
            for block in blocks:
                under_way.append(self._submit(function, block))
                if len(under_way) == 2 * self._count:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def _submit(self, function: Callable, block: object) -> Future:
        assert self._processes, "the workers are started by `with`"
        future: Future = Future()
        payload = pickle.dumps((function, block))
        with self._failing:
            if self._failure is not None:
                raise self._failure
            self._tasks.put((future, payload))
        return future

    def _start(self, index: int) -> None:
        folder = Path(self._folder.name) / str(index)
        folder.mkdir()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, os.getpid(), str(folder), self._imports), daemon=True
        )
        process.start()
        theirs.close()
        self._processes.append(process)
        thread = threading.Thread(target=self._serve, args=(process, ours), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _serve(self, process: BaseProcess, connection: Connection) -> None:
        """Hand blocks to one worker until there are no more or it dies."""
        with connection:
            while (task := self._tasks.get()) is not None:
                future, payload = task
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    connection.send_bytes(payload)
                    answer = connection.recv_bytes()
                except (EOFError, OSError):
                    process.join(END_SECONDS)
                    future.set_exception(self._fail(_cause(process)))
                    return
                _settle(future, answer)
        self._tasks.put(None)  # for the next thread

    def _fail(self, message: str) -> WorkerDied:
        """Give up: end all workers and every block that waits. The first cause is the one that is told."""
        with self._failing:
            if self._failure is not None:
                return self._failure
            self._failure = WorkerDied(message)
            for process in self._processes:
                process.kill()
            while True:
                try:
                    task = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if task is not None and task[0].set_running_or_notify_cancel():
                    task[0].set_exception(self._failure)
            self._tasks.put(None)
        return self._failure

    def _end(self) -> None:
        """End all processes and threads, and remove what they have left. Nothing in them is worth saving."""
        self._fail("the workers have been ended")
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.join(END_SECONDS)
        end_family(MARK, self._mark)
        adopt_orphans(self._was_adopting)
        self._folder.cleanup()
        sweep_shared_memory()


def _cause(process: BaseProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"worker process {process.pid} ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"worker process {process.pid} was killed by {name}{hint}"


def _settle(future: Future, answer: bytes) -> None:
    try:
        succeeded, value = pickle.loads(answer)
    except BaseException as error:  # whatever it is, it is the caller's, not this thread's
        future.set_exception(error)
        return
    if succeeded:
        future.set_result(value)
    else:
        future.set_exception(value)


def _work(connection: Connection, parent: int, folder: str, imports: str | None) -> None:
    """A worker's life: answer blocks until the parent closes the pipe."""
    die_with(parent)
    keep_descriptors_from_children()
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    if imports is not None:
        importlib.import_module(imports)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(payload: bytes) -> bytes:
    try:
        function, block = pickle.loads(payload)
        return pickle.dumps((True, function(block)))
    except BaseException as error:  # all of them are the caller's
        return _pack_error(error, "In a worker process:\n" + traceback.format_exc())


def _pack_error(error: BaseException, note: str) -> bytes:
    """The error, or one of the same words where it does not survive the journey or would end the parent."""
    error.add_note(note)
    if isinstance(error, Exception):
        with contextlib.suppress(
            pickle.PickleError, TypeError, AttributeError, ValueError, ImportError, RuntimeError
        ):
            packed = pickle.dumps((False, error))
            pickle.loads(packed)
            return packed
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    plain.add_note(note)
    return pickle.dumps((False, plain))


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What is started meanwhile never sees Ctrl-C: the parent ends it, without a traceback from each."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
