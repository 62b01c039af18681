"""Stages on the machines of work pools: one flow run each, of the deployment that bears the pool's name."""

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling, Crashed

from flows import artifacts
from flows.commands import StageFailed
from flows.graph import Reasons, Stage, changing_lock, lock_entries, stale_without_data
from flows.machine import ENTRY

LOOK_SECONDS = 2.0
"""Between two looks at a run, where few are followed."""
LOOKS_A_SECOND = 25
"""At all runs that this process follows: a server with SQLite answers a few hundred requests a second."""
FOLLOWED: set[UUID] = set()
"""The runs that this process follows."""
QUEUE = os.environ.get("FLOWS_QUEUE")
"""The queue of each pool in which this driver's runs wait (default: the pool's own)."""
LOST_SECONDS = float(os.environ.get("FLOWS_LOST_SECONDS", "120"))
"""After so long without a sign of life from a run that a machine has taken, the machine counts as lost."""
WAIT_SECONDS = 60.0
"""After so long without a worker that takes a run, the log says so."""
ATTEMPTS = 3
"""Machines that may be lost before the stage fails."""
SEEN = Path(".dvc", "tmp", "flows-seen.json")
"""By stage, the digest of its entry and of those it needs when it was last brought up to date."""


class MachineLost(Exception):  # noqa: N818 - it says what happened
    """A run gave no sign of life for too long."""


class Pools:
    """Runs stages of the present commit on whatever machines serve the pools; merges what they give back."""

    def __init__(self, root: Path) -> None:
        """Raises ValueError where the working tree has changes that machines would not see."""
        self.root = root
        self.commit = committed(root)
        self.params = (root / "params.yaml").read_text()
        self.ending = threading.Event()
        self.finished: dict[str, tuple[Stage, Any]] = {}  # with their entries, until they are merged
        self.merging = threading.Lock()

    def run(self, stage: Stage, reason: str) -> None:
        for _ in range(ATTEMPTS):
            try:
                entry = self.attempt(stage, reason)
            except MachineLost as lost:
                get_run_logger().warning("%s: %s; it is given to another machine", stage.name, lost)
                continue
            self.finished[stage.name] = stage, entry
            self.merge()
            return
        raise StageFailed(f"{stage.name}: {ATTEMPTS} machines were lost; are they out of memory?")

    def end(self) -> None:
        self.ending.set()

    def merge(self) -> None:
        """Put what has finished into dvc.lock, at once with what other threads have brought meanwhile.

        A change takes DVC seconds where there are many stages.
        """
        with self.merging:
            if finished := dict(self.finished):
                with changing_lock(self.root) as stages:
                    stages.update({name: entry for name, (_, entry) in finished.items()})
                    remember(self.root, [stage for stage, _ in finished.values()], stages)
                for name in finished:
                    del self.finished[name]

    def attempt(self, stage: Stage, reason: str) -> Any:
        """One run on one machine, or one that an earlier driver has begun; the stage's entry of dvc.lock."""
        entries = json.loads(json.dumps(lock_entries(self.root)))  # as they travel
        given = {
            "stage": stage.name,
            "commit": self.commit,
            "params": self.params,
            "entries": {
                name: entries[name] for name in (stage.name, *sorted(stage.needs)) if name in entries
            },
        }
        tag = f"work-{hashlib.sha256(json.dumps(given).encode()).hexdigest()[:16]}"
        with get_client(sync_client=True) as client:
            run = ask(client, stage, given | {"reason": reason}, tag)
            FOLLOWED.add(run.id)
            try:
                run = self.follow(client, run, stage)
            finally:
                FOLLOWED.discard(run.id)
            assert run.state
            if not run.state.is_completed():
                raise StageFailed(f"{stage.name} {run.state.type.value.lower()} on its machine: {why(run)}")
            return entry_of(client, run, stage)

    def follow(self, client: SyncPrefectClient, run: FlowRun, stage: Stage) -> FlowRun:
        """Wait for the run's end. Raises MachineLost; ends the run where the pipeline is ending."""
        logger, since, warned, cancelled = get_run_logger(), time.monotonic(), False, False
        sign, seen = sign_of_life(client, run, stage), since
        while not (run.state and run.state.is_final()):
            look = max(LOOK_SECONDS, len(FOLLOWED) / LOOKS_A_SECOND)
            if self.ending.wait(look) and not cancelled:
                ended = Cancelled if run.state and run.state.is_scheduled() else Cancelling
                client.set_flow_run_state(run.id, ended(message="the pipeline is ending"))
                cancelled, since = True, time.monotonic()
            elif cancelled:
                time.sleep(LOOK_SECONDS)
                if time.monotonic() - since > WAIT_SECONDS:
                    raise StageFailed(f"{stage.name}: its worker does not answer; the run is left to it")
            run = client.read_flow_run(run.id)
            assert run.state
            now = time.monotonic()
            if (last := sign_of_life(client, run, stage)) != sign:
                sign, seen = last, now
            if run.state.is_scheduled():
                if now - since > WAIT_SECONDS and not warned:
                    logger.warning(
                        "%s waits for a worker; on a machine: prefect worker start --pool %s",
                        stage.name,
                        stage.pool,
                    )
                    warned = True
            elif not run.state.is_final() and now - seen > LOST_SECONDS:
                message = f"no sign of life for {now - seen:.0f} s from the machine of {stage.name}"
                if not run.state.is_cancelling():
                    client.set_flow_run_state(run.id, Crashed(message=message), force=True)
                    raise MachineLost(message)
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        return run


def committed(root: Path) -> str:
    """The commit that machines check out. Raises ValueError where code has changed since."""
    changed = [
        line[3:]
        for line in git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
        if line[3:] not in ("params.yaml", "dvc.lock")
    ]
    if changed:
        raise ValueError(f"commit first (and push), machines run what is committed: {', '.join(changed)}")
    return git(root, "rev-parse", "HEAD").strip()


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def ask(client: SyncPrefectClient, stage: Stage, given: Mapping[str, Any], tag: str) -> FlowRun:
    """A run of this work: one that an earlier or another driver has asked for, or a new one.

    Two drivers that ask at the same time get the same. Raises StageFailed where the pool has no deployment.
    """
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
    known = client.read_flow_runs(flow_run_filter=tagged)
    if alive := [run for run in known if run.state and not run.state.is_final()]:
        return alive[0]
    name = f"stage/{stage.pool}"
    try:
        return run_deployment(  # type: ignore[return-value]
            name,
            parameters=dict(given),
            timeout=0,
            flow_run_name=stage.name,
            tags=[tag],
            idempotency_key=f"{tag}-{len(known)}",
            work_queue_name=QUEUE,
        )
    except ObjectNotFound:
        raise StageFailed(f"the server has no deployment {name}; run: prefect deploy --all") from None


def sign_of_life(client: SyncPrefectClient, run: FlowRun, stage: Stage) -> tuple[object, ...]:
    """What changes for as long as a machine works on the run: its state, then its progress.

    Whether it changes is seen by this machine's clock alone; others' may differ.
    """
    progress = client.read_artifacts(artifact_filter=of_run(run, artifacts.key(stage, "progress")))
    return run.state and run.state.type, *(artifact.updated for artifact in progress)


def entry_of(client: SyncPrefectClient, run: FlowRun, stage: Stage) -> Any:
    found = client.read_artifacts(artifact_filter=of_run(run, artifacts.key(stage, ENTRY)))
    assert found, f"{stage.name} was completed, but gave no entry of dvc.lock back"
    entry = json.loads(str(found[-1].data))
    assert isinstance(entry, Mapping), entry
    return entry


def of_run(run: FlowRun, key: str) -> ArtifactFilter:
    ids: list[UUID] = [run.id]
    return ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=ids), key=ArtifactFilterKey(any_=[key]))


def why(run: FlowRun) -> str:
    assert run.state
    return " ".join((run.state.message or "no reason was given").split())


def reasons(root: Path, graph: Mapping[str, Stage]) -> Reasons:
    """Why stages are stale, as far as a clone without data can tell; where it cannot, they are asked."""
    found = dict(stale_without_data(root))
    seen = json.loads((root / SEEN).read_text()) if (root / SEEN).exists() else {}
    entries = lock_entries(root)
    for name, stage in graph.items():
        if name not in found and seen.get(name) != digest(stage, entries):
            found[name] = ["not known to be up to date"]
    return found


def remember(root: Path, finished: Sequence[Stage], entries: Mapping[str, Any]) -> None:
    """The stages are up to date with what they need. To be called while the lock file is being changed."""
    seen = json.loads((root / SEEN).read_text()) if (root / SEEN).exists() else {}
    seen |= {stage.name: digest(stage, entries) for stage in finished}
    aside = (root / SEEN).with_suffix(".partial")
    aside.write_text(json.dumps(seen))
    os.replace(aside, root / SEEN)


def concerned(stage: Stage) -> list[str]:
    """The stage and those it needs."""
    return [stage.name, *sorted(stage.needs)]


def digest(stage: Stage, entries: Mapping[str, Any]) -> str:
    """Of the stage's entry and those it needs."""
    named = {name: entries.get(name) for name in concerned(stage)}
    return hashlib.sha256(json.dumps(named, default=dict).encode()).hexdigest()
