"""A Prefect server for as long as a flow runs, where no other is named."""

import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.groups import Group

HOST = "127.0.0.1"
UI_API_URL = "PREFECT_SERVER_UI_API_URL"
PATIENCE = 120.0
"""Seconds until the server must answer; the first start makes a database."""


class ServerFailed(RuntimeError):  # noqa: N818 - it says what happened
    """There is no server; the message says why."""


@contextmanager
def server() -> Iterator[str]:
    """The API's address: PREFECT_API_URL, or that of a server that is started and ends with us.

    Its database is Prefect's own (PREFECT_HOME), so `prefect server start` shows the runs later.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        check_answer(url)
        yield url
        return
    port = free_port()
    start = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    command = ["env", f"{UI_API_URL}=/api", *start]  # or its pages ask for the API at port 4200
    group, last = Group(command, Path.cwd()), deque[str](maxlen=5)
    reader = threading.Thread(target=group.follow, args=(last.append,))
    reader.start()
    try:
        await_health(f"http://{HOST}:{port}/api/health", group, last)
        os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
        yield os.environ["PREFECT_API_URL"]
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        group.end()
        reader.join()


def check_answer(url: str) -> None:
    """Raise ServerFailed where nothing answers at the API's address."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=PATIENCE / 4):
            return
    except urllib.error.HTTPError:
        return  # an answer, be it that we are to say who we are
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerFailed(f"no Prefect server answers at PREFECT_API_URL, {url}: {reason}") from error


def await_health(url: str, group: Group, last: deque[str]) -> None:
    """Wait for the server's first answer. Raises ServerFailed where none comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and group.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ServerFailed(f"the Prefect server did not start: {' '.join(last)}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])
