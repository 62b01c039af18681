"""Processes that must not outlive their parent, and what they leave behind (games of ViZDoom above all).

Full use is made of Linux (prctl, /proc, /dev/shm); elsewhere only what psutil offers.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import psutil

GAME_PROCESS = "vizdoom"
SHARED_MEMORY = Path("/dev/shm")
SEGMENTS = "ViZDoom*"
END_SECONDS = 5.0

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37  # linux/prctl.h


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent, of that process id, ends (Linux).

    More exactly: when the parent's thread ends that started this process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def keep_descriptors_from_children() -> None:
    """Close this process's files in whatever it starts: a pipe held there would hide this process's death."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


def adopt_orphans(adopt: bool) -> bool:
    """Whether orphaned descendants become this process's children (Linux); returns what held before."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    before = ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    libc.prctl(PR_SET_CHILD_SUBREAPER, int(adopt))
    return bool(before.value)


def end_family(variable: str, value: str) -> None:
    """End and reap all descendants, adopted ones too, in whose environment `variable` is `value`."""
    deadline = time.monotonic() + END_SECONDS
    ended: set[int] = set()
    while (family := _family(variable, value, ended)) and time.monotonic() < deadline:
        for member in family:
            ended.add(member.pid)
            with contextlib.suppress(psutil.Error):
                member.kill()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(member.pid, os.WNOHANG)
        time.sleep(0.01)


def _family(variable: str, value: str, ended: set[int]) -> list[psutil.Process]:
    """Those processes, and games that died with their parent: a dead process has no environment any more."""
    family = []
    for process in psutil.Process().children(recursive=True):
        try:
            environment = process.environ()
        except psutil.AccessDenied:
            continue
        except psutil.NoSuchProcess:
            environment = {}
        dead_game = not environment and _name(process) == GAME_PROCESS
        if environment.get(variable) == value or process.pid in ended or dead_game:
            family.append(process)
    return family


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def sweep_shared_memory() -> None:
    """Remove this user's ViZDoom segments that no process uses, left by games that were killed as they began.

    Looking twice spares a segment that is being made just now.
    """
    if unused := _unused_segments():
        time.sleep(0.2)
        for path in unused & _unused_segments():
            path.unlink(missing_ok=True)


def _unused_segments() -> set[Path]:
    segments = set()
    if SHARED_MEMORY.is_dir():
        for path in SHARED_MEMORY.glob(SEGMENTS):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_uid == os.getuid():
                    segments.add(path)
    if segments:
        for maps in Path("/proc").glob("[0-9]*/maps"):
            with contextlib.suppress(OSError):
                text = maps.read_text(errors="replace")
                segments -= {path for path in segments if str(path) in text}
    return segments
