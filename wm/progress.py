"""Progress of long work: a bar with rate and remaining time on a terminal, elsewhere a line now and then."""

import sys

from tqdm import tqdm

LINE_SECONDS = 15.0


class Lines:
    """tqdm's file where nobody watches: each refresh is a line of its own."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Bar(tqdm):
    """A bar that adds the time it stood to this process's computing time."""

    seconds = 0.0

    def close(self) -> None:
        if not self.disable:
            Bar.seconds += float(self.format_dict["elapsed"])
        super().close()


def bar(title: str, total: int, unit: str, start: int = 0) -> Bar:
    """A progress bar of `total` units of which `start` were done by an earlier run (and say so)."""
    watched = sys.stderr.isatty()
    if start:
        print(f"{title}: resumed at {start} of {total} {unit}", file=sys.stderr, flush=True)
    return Bar(
        total=total,
        initial=start,
        desc=title,
        unit=f" {unit}",
        dynamic_ncols=watched,
        mininterval=0.2 if watched else LINE_SECONDS,
        maxinterval=1.0 if watched else 2 * LINE_SECONDS,
        file=sys.stderr if watched else Lines(),
        leave=True,
    )
