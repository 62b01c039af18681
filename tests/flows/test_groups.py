"""Process groups: lines and exit codes come through, and nothing outlives whoever started it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from flows.groups import Group

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
time.sleep(300)
"""
"""A command that has a child."""

STARTER = """
import sys, time
from pathlib import Path
from flows.groups import Group
group = Group([sys.executable, "-c", sys.argv[1]], Path.cwd())
group.follow(lambda line: print(line, flush=True))
"""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_lines_and_the_exit_code_come_through(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "import os, sys; print('one'); print('two', file=sys.stderr); sys.exit(7)"
    assert Group([sys.executable, "-u", "-c", script], tmp_path).follow(lines.append) == 7
    assert lines == ["one", "two"]


def test_ended_it_takes_its_children_along(tmp_path: Path) -> None:
    lines: list[str] = []
    group = Group([sys.executable, "-c", FAMILY], tmp_path)
    follower = threading.Thread(target=group.follow, args=(lines.append,))
    follower.start()
    wait_until(lambda: bool(lines))
    group.end()
    follower.join(20)
    wait_until(lambda: gone(int(lines[0])))


def test_it_does_not_outlive_a_killed_starter() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, FAMILY],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    with starter.stdout:
        child = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        wait_until(lambda: gone(child))
