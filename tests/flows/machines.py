"""Machines for a repository's flows: clones with caches of their own, in which workers serve the pools."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from tests.flows.toy import Toy
from tests.s3 import SECRETS, Endpoint

PATIENCE = 180


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


class Repository(Protocol):
    """A repository with flows, of trivial stages or the real ones."""

    @property
    def folder(self) -> Path: ...
    @property
    def environment(self) -> dict[str, str]: ...
    def run(self, *command: str) -> str: ...
    def commit(self) -> None: ...


class Machine:
    """A clone with a cache of its own, in which a worker serves a pool."""

    def __init__(self, pool: str, origin: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.pool, self.folder = pool, folder
        self.environment = dict(environment) | {
            "PYTHONPATH": str(folder),
            "TOY_RAN": str(folder.with_suffix(".ran")),
            "WM_STATE": str(folder / ".wm"),
        }
        subprocess.check_call(["git", "clone", "--quiet", str(origin), str(folder)])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool]
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--type", "process"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def ran(self) -> list[str]:
        """The trivial stages whose commands ran to their end on this machine."""
        path = self.folder.with_suffix(".ran")
        return path.read_text().split() if path.exists() else []

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        worker = psutil.Process(self.process.pid)
        return [worker, *worker.children(recursive=True)]

    def end(self) -> None:
        """SIGKILL to the worker and all that it has started, as when the power fails."""
        if self.process is not None:
            for process in self.family() if self.process.poll() is None else []:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
            self.process = None


def make_machines(repository: Repository, endpoint: Endpoint) -> dict[str, Machine]:
    """What the README says: a remote, pools, deployments, and a worker for each pool of stages."""
    place = repository.folder.parent
    repository.run("dvc", "remote", "add", "--default", "storage", f"s3://bucket/{place.name}")
    repository.run("dvc", "remote", "modify", "storage", "endpointurl", endpoint.url)
    repository.commit()
    for pool in ("cpu", "gpu", "driver"):
        repository.run("prefect", "work-pool", "create", pool, "--type", "process", "--overwrite")
    repository.run("prefect", "--no-prompt", "deploy", "--all")
    machines = {
        pool: Machine(pool, repository.folder, place / f"machine-{pool}", repository.environment)
        for pool in ("cpu", "gpu")
    }
    for machine in machines.values():
        machine.start()
    return machines


class Pools:
    """A repository of trivial stages with an S3 remote, and a machine for each pool."""

    def __init__(
        self,
        folder: Path,
        endpoint: Endpoint,
        api: str,
        needs: Mapping[str, Sequence[str]],
        pools: Mapping[str, str],
    ) -> None:
        self.toy = Toy(folder / "toy", needs, pools)
        self.endpoint = endpoint
        self.toy.server = {"PREFECT_API_URL": api, "FLOWS_LOST_SECONDS": "30", **SECRETS}
        self.toy.carry_flows()
        self.machines = make_machines(self.toy, endpoint)

    def end(self) -> None:
        for machine in self.machines.values():
            machine.end()
