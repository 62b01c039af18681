"""The local flow for real: Prefect's server, DVC's commands, trivial stages; then the whole of *smoke*."""

import json
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.clone import Clone
from tests.flows.toy import Toy

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@pytest.fixture
def alone(tmp_path: Path) -> Toy:
    """A repository whose flows start a server of their own."""
    return Toy(tmp_path / "toy", DIAMOND, {"c": "gpu"})


@pytest.fixture
def toy(alone: Toy, api: str) -> Toy:
    alone.server = {"PREFECT_API_URL": api}
    return alone


def test_it_writes_the_lock_of_dvc_repro_and_runs_nothing_twice(alone: Toy, tmp_path: Path) -> None:
    toy, text = alone, alone.flow()
    assert toy.ran[0] == "a" and toy.ran[-1] == "d" and sorted(toy.ran) == ["a", "b", "c", "d"]
    assert "watch at http://127.0.0.1:" in text
    plain = Toy(tmp_path / "plain", DIAMOND, {"c": "gpu"})
    plain.run("dvc", "repro")
    assert (toy.folder / "dvc.lock").read_bytes() == (plain.folder / "dvc.lock").read_bytes()
    assert toy.run("dvc", "status").strip() == "Data and pipelines are up to date."
    assert "Error" not in text
    assert "d: nothing has changed" in toy.flow()
    assert len(toy.ran) == 4


def test_the_pages_of_the_ui_find_the_server(api: str) -> None:
    with urllib.request.urlopen(f"{api.removesuffix('/api')}/ui-settings") as answer:
        assert json.load(answer)["api_url"] == "/api"


def test_progress_goes_to_the_server_of_the_flow(alone: Toy) -> None:
    """A thread of its own tells it; without the flow's context, Prefect would start another server for it."""
    alone.set({"a": "pause", "b": 1, "c": 1, "d": 1})
    text = alone.flow("a")
    assert "temporary server" not in text and "did not take" not in text


def test_only_what_depends_on_a_change_runs(toy: Toy) -> None:
    toy.run("dvc", "repro")
    text = toy.flow("-S", "b=2")
    assert toy.ran[4:] == ["b", "d"]
    assert "b: changed deps: params.yaml (b)" in text and "c: nothing has changed" in text
    toy.flow("-S", "a=3", "b")
    assert toy.ran[6:] == ["a", "b"]


def test_a_failure_is_told_and_what_was_finished_is_kept(toy: Toy) -> None:
    toy.set({"a": 1, "b": "fail", "c": 1, "d": 1})
    text = toy.flow(expect=1)
    last = text.splitlines()[-1]
    assert last.startswith("flows: b failed") and "b cannot" in last and "start again" in last
    assert set(toy.ran) == {"a", "c"} and set(toy.lock()["stages"]) == {"a", "c"}
    toy.set({"a": 1, "b": 1, "c": 1, "d": 1})
    toy.flow()
    assert toy.ran[2:] == ["b", "d"]


def test_two_pipelines_at_once_share_the_work(toy: Toy) -> None:
    toy.set({"a": "pause", "b": 1, "c": 1, "d": 1})
    texts = []
    for process in (toy.start(), toy.start()):
        texts.append(process.communicate(timeout=300)[0])
        assert process.returncode == 0, texts[-1]
    assert sum("another flow runs stages here" in text for text in texts) == 1
    assert sorted(toy.ran) == ["a", "b", "c", "d"]
    assert toy.run("dvc", "status").strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_it_leaves_no_process_behind_and_goes_on(alone: Toy, how: signal.Signals) -> None:
    toy = alone
    toy.set({"a": 1, "b": "wait", "c": "wait", "d": 1})
    process = toy.start()
    try:
        deadline = time.monotonic() + 120
        while not all((toy.folder / f"{name}.started").exists() for name in "bc"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 5  # the server, and for each stage guard, dvc and command
        process.send_signal(how)
        process.communicate(timeout=60)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert set(toy.lock()["stages"]) == {"a"}
    toy.set({"a": 1, "b": 1, "c": 1, "d": 1})
    toy.flow()
    assert toy.ran[1:] in (["b", "c", "d"], ["c", "b", "d"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["e"], "flows: 'e' is no stage;"),
        (["--cpu", "0"], "flows: --cpu must be from 1 to 1000, but is 0"),
        (["--cpu", "x"], "flows: argument --cpu: invalid int value: 'x'"),
        (["-S", "e=1"], "flows: -S e=1:"),
    ],
)
def test_bad_input_is_one_line(toy: Toy, arguments: list[str], complaint: str) -> None:
    text = toy.flow(*arguments, expect=2)
    assert text.startswith(complaint) and text.count("\n") == 1
    assert not toy.ran


def test_a_server_that_is_not_there_is_one_line(alone: Toy) -> None:
    alone.server = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    text = alone.flow(expect=1)
    assert text.startswith("flows: no Prefect server answers at PREFECT_API_URL, http://127.0.0.1:9/api")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "value", "complaint"),
    [
        (
            "flows.pipeline",
            "temperature=-5",
            "flows: params.yaml: agents.takecover.temperature must",
        ),
        (
            "flows.sweep",
            "temperature=1.3,-5",
            "flows: temperature--5: params.yaml: agents.takecover",
        ),
        ("flows.sweep", "temprature=1.3,2", "did you mean agents.takecover.temperature?"),
    ],
)
def test_a_value_that_wm_refuses_is_one_line_and_undone(
    tmp_path: Path, module: str, value: str, complaint: str
) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone")
    text = clone.run("python", "-m", module, "-S", f"agents.takecover.{value}", expect=2)
    assert complaint in text and text.count("\n") == 1
    assert clone.run("git", "status", "--porcelain", "params.yaml") == ""


@pytest.mark.pipeline
def test_the_whole_pipeline_gives_the_lock_of_dvc_repro(smoke: Clone, tmp_path: Path, api: str) -> None:
    """Computed, not restored: the clone has the lock file, as a fresh one has, but no cache."""
    other = Clone.of_working_tree(tmp_path / "clone", PREFECT_API_URL=api)
    shutil.copy(smoke.folder / "dvc.lock", other.folder / "dvc.lock")
    text = other.run("python", "-m", "flows.pipeline")
    assert text.count("Running stage '") == len(smoke.lock())
    assert (other.folder / "dvc.lock").read_text() == (smoke.folder / "dvc.lock").read_text()
