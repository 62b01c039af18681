"""What a request to Prefect's server costs: `python -m tests.bench.server`, on a quiet machine.

The requests are those with which a driver follows stages and machines say that they are alive, as Prefect's
own client sends them. The server is started for the occasion, with SQLite or with what
PREFECT_API_DATABASE_CONNECTION_URL names; its time is all that the machine spends but for the client's own.
"""

import argparse
import contextvars
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psutil
from prefect import flow, runtime
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import server

SECONDS = 10.0
CLIENTS = (1, 8)
"""Threads that send requests, each as fast as it is answered."""
Request = Callable[[SyncPrefectClient], Any]


@flow
def begun() -> tuple[UUID, UUID]:
    """A run to look at, and its progress."""
    progress = create_progress_artifact(0.0, key="progress")
    assert isinstance(progress, UUID)
    return UUID(str(runtime.flow_run.id)), progress


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.bench.server", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECT_HOME"] = folder
        with server() as url, temporary_settings({PREFECT_API_URL: url}):
            run, progress = begun()
            update = ArtifactUpdate(data=50.0)
            requests: dict[str, Request] = {
                "read a run": lambda client: client.read_flow_run(run),
                "update its progress": lambda client: client.update_artifact(progress, update),
            }
            print("| request | clients | requests/s | client's ms | server's ms |\n|---|---|---|---|---|")
            for name, request in requests.items():
                for clients in CLIENTS:
                    print(f"| {name} | {clients} | {measure(request, clients)} |", flush=True)


def measure(request: Request, clients: int) -> str:
    """Requests a second, and the processor's time for each here and elsewhere on the machine, in ms."""
    counts = [0] * clients
    over = threading.Event()

    def send(place: int) -> None:
        with get_client(sync_client=True) as client:
            while not over.is_set():
                request(client)
                counts[place] += 1

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(send, place))
        for place in range(clients)
    ]
    start, ours, all_of_it = time.perf_counter(), time.process_time(), busy()
    for thread in threads:
        thread.start()
    over.wait(SECONDS)
    over.set()
    for thread in threads:
        thread.join()
    seconds, ours, all_of_it = time.perf_counter() - start, time.process_time() - ours, busy() - all_of_it
    sent = sum(counts)
    return f"{sent / seconds:.0f} | {1e3 * ours / sent:.1f} | {1e3 * (all_of_it - ours) / sent:.1f}"


def busy() -> float:
    """Seconds that all cores have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


if __name__ == "__main__":
    main()
