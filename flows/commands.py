"""DVC's commands as a flow runs them: in process groups that can be ended at once, their lines as log."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import get_run_logger

from flows.graph import DVC
from flows.groups import PATIENCE, Group

PERCENT = re.compile(r"\b(\d{1,3})%\|")
"""In a line of a progress bar, such as `vision takecover:  40%|####      |`."""


class StageFailed(RuntimeError):  # noqa: N818 - it says what happened
    """A stage did not come to its end; the message says why and what to do."""


class Commands:
    """The commands that run now, by title."""

    def __init__(self) -> None:
        self.running: dict[str, Group] = {}
        self.ended = False
        self.changing = threading.Lock()

    def run(
        self,
        title: str,
        arguments: Sequence[str],
        folder: Path,
        progress: Callable[[float], None] = lambda percent: None,
    ) -> None:
        """`dvc ARGUMENTS` to its end; `progress` is told the percentages in its lines. Raises StageFailed."""
        logger, last = get_run_logger(), deque[str](maxlen=3)
        with self.changing:
            if self.ended:
                raise StageFailed(f"{title} was not started: the run is ending")
            self.running[title] = group = Group([*DVC, *arguments], folder)

        def line(text: str) -> None:
            if text:
                logger.info(text)
                last.append(text)
            if found := PERCENT.search(text):
                progress(float(found[1]))

        try:
            code = group.follow(line)
        except BaseException:  # Prefect's, too, when the run is cancelled
            group.end()
            raise
        finally:
            del self.running[title]
            group.close()
        if code:
            told = " / ".join(last)
            raise StageFailed(f"{title} failed (exit code {code}): {told}; start again to go on where it was")

    def end(self) -> None:
        """End all that runs; nothing more is started."""
        with self.changing:
            self.ended = True
        groups, deadline = list(self.running.values()), time.monotonic() + PATIENCE
        for group in groups:
            group.ask()
        for group in groups:
            group.end(max(0.0, deadline - time.monotonic()))
