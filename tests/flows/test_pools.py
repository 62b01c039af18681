"""The pipeline on work pools for real: a server, a worker in a clone for each pool, an S3 endpoint."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import State
from ruamel.yaml import YAML

from flows.checkout import check_params, check_words, checkout
from flows.graph import lock_entries
from tests.flows.machines import PATIENCE, Machine, Pools, wait_until
from tests.flows.toy import ROOT, Toy
from tests.s3 import Endpoint, serving

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with serving(tmp_path / "s3") as endpoint:
        yield endpoint


@pytest.fixture
def pools(tmp_path: Path, endpoint: Endpoint, api: str) -> Iterator[Pools]:
    made = Pools(tmp_path, endpoint, api, DIAMOND, {"c": "gpu"})
    try:
        yield made
    finally:
        made.end()


def test_the_pools_write_the_lock_of_dvc_repro_and_nothing_runs_twice(pools: Pools, tmp_path: Path) -> None:
    toy = pools.toy
    toy.flow("--pools")
    assert pools.machines["cpu"].ran == ["a", "b", "d"] and pools.machines["gpu"].ran == ["c"]
    assert toy.ran == [] and not (toy.folder / "a.out").exists()
    plain = Toy(tmp_path / "plain", DIAMOND, {"c": "gpu"})
    plain.run("dvc", "repro")
    assert (toy.folder / "dvc.lock").read_bytes() == (plain.folder / "dvc.lock").read_bytes()
    text = toy.flow("--pools")
    assert text.count("nothing has changed") == 4
    toy.flow("--pools", "-S", "b=2")
    assert pools.machines["cpu"].ran == ["a", "b", "d", "b", "d"] and pools.machines["gpu"].ran == ["c"]
    toy.run("dvc", "pull")
    assert toy.run("dvc", "status").strip() == "Data and pipelines are up to date."
    for machine in pools.machines.values():
        git = ["git", "worktree", "list"]
        assert subprocess.check_output(git, cwd=machine.folder, text=True).count("\n") == 1


def waits_for(pools: Pools, name: str, pool: str) -> bool:
    """Whether the stage, told to wait, has begun on the pool's machine."""
    return bool(list(pools.machines[pool].folder.glob(f".dvc/tmp/flows/*/{name}.started")))


def begin(pools: Pools, **params: object) -> "subprocess.Popen[str]":
    """The flow in the background, until the stages told to wait do so."""
    pools.toy.set(dict.fromkeys(DIAMOND, 1) | params)
    process = pools.toy.start("--pools")
    for name, told in params.items():
        if told == "wait":
            pool = "gpu" if name == "c" else "cpu"
            wait_until(
                lambda name=name, pool=pool: process.poll() is not None or waits_for(pools, name, pool)
            )
    assert process.poll() is None, process.communicate()[0]
    return process


def ended(process: "subprocess.Popen[str]", expect: int) -> str:
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == expect, text
    return text


def idle(machine: Machine) -> bool:
    """Whether only the worker itself is left."""
    return len(machine.family()) == 1


@contextmanager
def client_of(pools: Pools) -> Iterator[SyncPrefectClient]:
    address = pools.toy.server["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        yield client


def runs_named(pools: Pools, *names: str) -> list[FlowRun]:
    with client_of(pools) as client:
        named = FlowRunFilter(name=FlowRunFilterName(any_=list(names)))
        return client.read_flow_runs(flow_run_filter=named)


def state_of(pools: Pools, stage: str, to: str) -> None:
    """Set the state of a stage's run, as the UI does."""
    (run,) = [run for run in runs_named(pools, stage) if run.state and run.state.is_running()]
    with client_of(pools) as client:
        client.set_flow_run_state(run.id, State(type=to))


@pytest.mark.heavy
def test_a_cancelled_stage_ends_on_its_machine_and_the_others_are_kept(pools: Pools) -> None:
    process = begin(pools, b="wait")
    state_of(pools, "b", "CANCELLING")
    text = ended(process, 1)
    assert "b cancelled on its machine" in text.splitlines()[-1]
    machine = pools.machines["cpu"]
    wait_until(lambda: idle(machine))
    assert (
        machine.folder.with_suffix(".ran.saved").read_text() == "b"
    )  # it was asked to end before it was killed
    assert set(pools.toy.lock()["stages"]) == {"a", "c"}
    pools.toy.set(dict.fromkeys(DIAMOND, 1))
    pools.toy.flow("--pools")
    assert pools.machines["cpu"].ran == ["a", "b", "d"] and pools.machines["gpu"].ran == ["c"]


@pytest.mark.heavy
def test_a_cancelled_pipeline_ends_its_stages(pools: Pools) -> None:
    process = begin(pools, b="wait", c="wait")
    state_of(pools, "whole pipeline", "CANCELLING")
    assert "the run was cancelled" in ended(process, 1).splitlines()[-1]
    wait_until(lambda: all(map(idle, pools.machines.values())))
    assert set(pools.toy.lock()["stages"]) == {"a"}


@pytest.mark.heavy
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_driver_ends_its_stages(pools: Pools, how: signal.Signals) -> None:
    process = begin(pools, b="wait")
    process.send_signal(how)
    ended(process, 130)
    wait_until(lambda: idle(pools.machines["cpu"]))


@pytest.mark.heavy
def test_an_ended_driver_does_not_wait_for_a_worker_that_is_not_there(pools: Pools) -> None:
    pools.machines["cpu"].end()
    process = pools.toy.start("--pools")
    wait_until(lambda: bool(runs_named(pools, "a")) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 130, text
    wait_until(lambda: all(run.state and run.state.is_final() for run in runs_named(pools, "a")))


@pytest.mark.heavy
def test_a_killed_driver_leaves_its_runs_to_the_next(pools: Pools) -> None:
    """A run that goes on is adopted; nothing is computed twice."""
    process = begin(pools, b="pause")
    wait_until(lambda: waits_for(pools, "b", "cpu"))
    process.kill()
    process.communicate()
    pools.toy.flow("--pools")
    assert pools.machines["cpu"].ran == ["a", "b", "d"] and pools.machines["gpu"].ran == ["c"]


@pytest.mark.heavy
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_flow_engine_is_told_and_leaves_nothing(pools: Pools, how: signal.Signals) -> None:
    process = begin(pools, b="wait")
    machine = pools.machines["cpu"]
    engine = machine.family()[1]
    assert "prefect" in " ".join(engine.cmdline())
    engine.send_signal(how)
    assert "b crashed on its machine" in ended(process, 1).splitlines()[-1]
    wait_until(lambda: idle(machine))


@pytest.mark.heavy
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_worker_leaves_nothing_and_another_goes_on(pools: Pools, how: signal.Signals) -> None:
    process = begin(pools, b="pause")
    machine = pools.machines["cpu"]
    worker, *started = machine.family()
    worker.send_signal(how)
    assert machine.process is not None
    machine.process.wait(PATIENCE)
    machine.start()
    process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    assert not alive
    pools.toy.flow("--pools")
    assert sorted(set(pools.toy.lock()["stages"])) == list("abcd")
    assert machine.ran.count("a") == machine.ran.count("d") == 1


@pytest.mark.heavy
def test_a_machine_that_vanishes_is_replaced(pools: Pools) -> None:
    process = begin(pools, b="wait")
    pools.machines["cpu"].end()
    toy = pools.toy
    folder = pools.machines["cpu"].folder.with_name("machine-new")
    pools.machines["cpu"] = Machine("cpu", toy.folder, folder, toy.environment)
    pools.machines["cpu"].start()
    wait_until(lambda: waits_for(pools, "b", "cpu"))  # given to it once the other counts as lost
    process.terminate()
    ended(process, 130)
    wait_until(lambda: idle(pools.machines["cpu"]))


@pytest.mark.heavy
def test_a_remote_that_is_down_is_told_and_nothing_is_lost(pools: Pools) -> None:
    toy = pools.toy
    toy.flow("--pools", "a")
    pools.endpoint.stop()
    text = toy.flow("--pools", expect=1)
    assert "c: pulling what it needs failed" in text.splitlines()[-1]
    assert set(toy.lock()["stages"]) == {"a"}
    pools.endpoint.start()
    toy.flow("--pools")
    assert sorted(pools.machines["cpu"].ran + pools.machines["gpu"].ran) == ["a", "b", "c", "d"]


@pytest.mark.heavy
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_on_a_machine_is_told_and_the_next_run_goes_on(pools: Pools, tmp_path: Path) -> None:
    machine = pools.machines["gpu"]
    machine.end()
    places = machine.folder / ".dvc" / "tmp" / "flows"
    places.mkdir(parents=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(places)])
    try:
        (places / "ballast").write_bytes(bytes(2**20 - 64 * 1024))
        machine.start()
        text = pools.toy.flow("--pools", expect=1)
        assert "c failed on its machine" in text.splitlines()[-1] and "no space left" in text
        assert set(pools.toy.lock()["stages"]) >= {"a"} and "c" not in pools.toy.lock()["stages"]
        wait_until(lambda: idle(machine))
    finally:
        machine.end()
        subprocess.check_call(["umount", "--lazy", str(places)])
    machine.start()
    pools.toy.flow("--pools")
    assert pools.machines["gpu"].ran == ["c"]


@pytest.mark.heavy
def test_a_remote_that_goes_down_during_a_run_is_told_at_the_push(pools: Pools) -> None:
    process = begin(pools, a="pause")
    wait_until(lambda: waits_for(pools, "a", "cpu"))
    pools.endpoint.stop()
    assert "a: pushing its data failed" in ended(process, 1).splitlines()[-1]
    assert not (pools.toy.folder / "dvc.lock").exists() or not pools.toy.lock()["stages"]
    pools.endpoint.start()
    pools.toy.flow("--pools")
    assert pools.machines["cpu"].ran == ["a", "b", "d"]  # a's result was in the machine's own cache


@pytest.mark.heavy
def test_the_driver_runs_as_a_deployment_and_nightly(pools: Pools, tmp_path: Path) -> None:
    toy = pools.toy
    for pool in pools.machines:
        toy.run("prefect", "work-queue", "create", "nightly", "--pool", pool)
    environment = toy.environment | {"FLOWS_QUEUE": "nightly"}
    driver = Machine("driver", toy.folder, tmp_path / "machine-driver", environment)
    driver.start()
    ask = ("prefect", "deployment", "run", "--watch")
    try:
        toy.run(*ask, "pipeline/driver")
        toy.run(*ask, "sweep/driver", "--param", 'assignments=["b=1,2"]')
        toy.run(*ask, "pipeline/driver")
    finally:
        driver.end()
    assert driver.ran == [] and pools.machines["cpu"].ran == ["a", "b", "d", "b", "d"]
    entries = YAML(typ="safe").load(driver.folder / "dvc.lock")["stages"]
    assert list(entries) == list("abcd")
    shown = subprocess.check_output(["dvc", "exp", "list", "--name-only"], cwd=driver.folder, text=True)
    assert sorted(shown.split()) == ["b-1", "b-2"]
    toy.run("prefect", "deployment", "schedule", "create", "pipeline/driver", "--cron", "0 2 * * *")
    assert sum(run.work_queue_name == "nightly" for run in runs_named(pools, *DIAMOND)) == 4 + 6
    assert "0 2 * * *" in toy.run("prefect", "deployment", "schedule", "ls", "pipeline/driver")


def test_code_that_is_not_committed_is_refused(pools: Pools) -> None:
    (pools.toy.folder / "stage.py").write_text("print('another')")
    text = pools.toy.flow("--pools", expect=2)
    assert text.startswith("flows: commit first") and "stage.py" in text


@pytest.mark.parametrize("value", ["x; touch y", "$(id)", "`id`", "a b", "../x", "-x", "a\nb"])
def test_parameters_that_a_shell_would_read_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml"):
        check_params(f"agents:\n  name: {json.dumps(value)}\n")
    with pytest.raises(ValueError, match=r"params\.yaml"):
        check_params(f"agents:\n  {json.dumps(value)}: 1\n")


@pytest.mark.parametrize("value", ["!!binary JChpZCk=", "!!set {x}", "2026-01-01", "{[a, b]: 1}"])
def test_parameters_that_are_no_plain_values_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml"):
        check_params(f"agents:\n  name: {value}\n")


@pytest.mark.parametrize("digest", ["ab/../../../x", "$(id)", "", "0" * 31, "../" + "0" * 32, 5])
def test_entries_that_lead_out_of_the_cache_are_refused(tmp_path: Path, digest: object) -> None:
    entries = {"a": {"cmd": "python stage.py a", "outs": [{"path": "a.out", "md5": digest}]}}
    with (
        pytest.raises(ValueError, match=r"dvc\.lock.*md5"),
        checkout(tmp_path, "0" * 40, "a: 1", entries),
    ):
        pass


def test_parameters_and_entries_of_this_repository_are_allowed() -> None:
    check_params((ROOT / "params.yaml").read_text())
    entries = lock_entries(ROOT)
    assert len(entries) > 20
    for entry in json.loads(json.dumps(entries)).values():
        check_words("dvc.lock", entry)
