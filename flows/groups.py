"""Commands in process groups of their own, none of which outlives the process that started it.

Between us and the command stands a guard (this file, run as a program), the group's leader. It holds one end
of a pipe; the kernel closes the other when we die, however we die, and the guard ends the group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 10.0
"""Seconds between asking a group to end (SIGTERM) and ending it (SIGKILL)."""
KEPT: set[int] = set()
"""File descriptors that stay open for as long as a group lives: locks on what it writes to."""


class Group:
    """A running command with all that it starts."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        ours, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", __file__, str(ours), *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=[ours, *KEPT],
            )
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(ours)
        self.pipe = theirs
        self.closing = threading.Lock()

    def follow(self, line: Callable[[str], None]) -> int:
        """Hand over what the command prints, line by line; its exit code (minus the signal that ended it).

        What the command leaves behind is ended: it would keep the pipe open.
        """
        assert self.process.stdout is not None
        threading.Thread(target=self._end_with_leader, daemon=True).start()
        with self.process.stdout:
            for text in self.process.stdout:
                line(text.rstrip())
        code = self.process.wait()
        self.close()
        return code

    def ask(self) -> None:
        """Ask the group to end, so that stages save their state."""
        self._signal(signal.SIGTERM)

    def end(self, patience: float = PATIENCE) -> None:
        """End the group: politely first."""
        self.ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.close()

    def _end_with_leader(self) -> None:
        self.process.wait()
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Whatever is left of the group goes."""
        with self.closing:
            if self.pipe < 0:
                return
            self._signal(signal.SIGKILL)
            self.process.wait()
            os.close(self.pipe)
            self.pipe = -1

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def guard(pipe: int, command: Sequence[str]) -> int:
    """Run the command in this group; end the group when the pipe closes."""
    os.set_inheritable(pipe, False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command gets it, too, and we wait for it
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    orphaned = threading.Event()
    threading.Thread(target=watch, args=(pipe, orphaned), daemon=True).start()
    code = process.wait()
    if orphaned.is_set():
        os.killpg(0, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def watch(pipe: int, orphaned: threading.Event) -> None:
    """Wait until whoever started us is gone, and end the group."""
    os.read(pipe, 1)
    orphaned.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
