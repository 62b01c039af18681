"""Sweeps for real: a DVC experiment for each point, what points share computed once."""

import csv
import io
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from flows.sweep import point_name
from tests.flows.toy import Toy

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
SWEEP = ("-S", "b=2,3", "-S", "d=5,6")


@pytest.fixture
def toy(tmp_path: Path, api: str) -> Toy:
    made = Toy(tmp_path / "toy", DIAMOND, {"c": "gpu"})
    made.server = {"PREFECT_API_URL": api, "TOY_RAN": str(tmp_path / "ran")}
    made.commit()
    return made


def ran(toy: Toy) -> Counter[str]:
    return Counter((toy.folder.parent / "ran").read_text().split())


def experiments(toy: Toy) -> dict[str, dict[str, str]]:
    """The rows of `dvc exp show` by experiment."""
    rows = csv.DictReader(io.StringIO(toy.run("dvc", "exp", "show", "--csv", "--drop", "Created")))
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


def test_every_point_is_an_experiment_and_what_they_share_runs_once(toy: Toy) -> None:
    toy.flow(*SWEEP, module="flows.sweep")
    assert ran(toy) == {"a": 1, "b": 2, "c": 1, "d": 4}
    found = experiments(toy)
    assert sorted(found) == sorted(f"b-{b}_d-{d}" for b in (2, 3) for d in (5, 6))
    assert found["b-2_d-5"]["d"] == "5" and found["b-2_d-5"]["d.json:length"] == "19"
    assert (
        toy.run("git", "status", "--porcelain") == "" and toy.run("git", "worktree", "list").count("\n") == 1
    )
    toy.flow(*SWEEP, module="flows.sweep")
    assert ran(toy) == {"a": 1, "b": 2, "c": 1, "d": 4}
    toy.run("dvc", "exp", "apply", "b-3_d-6")
    toy.run("dvc", "checkout")
    assert (toy.folder / "d.out").read_text() == "d 6 b 3 a 1 c 1 a 1"


def test_a_sweep_of_some_stages_alone(toy: Toy) -> None:
    toy.flow("-S", "b=2,3", "b", module="flows.sweep")
    assert ran(toy) == {"a": 1, "b": 2} and sorted(experiments(toy)) == ["b-2", "b-3"]


def test_an_interrupted_sweep_goes_on(toy: Toy) -> None:
    process = toy.start("-S", "d=wait,4", module="flows.sweep")
    deadline = time.monotonic() + 120
    while not list(toy.folder.glob(".dvc/tmp/flows/*/d.started")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    toy.flow("-S", "d=5,4", module="flows.sweep")
    assert ran(toy)["a"] == ran(toy)["b"] == ran(toy)["c"] == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-S", "e=1,2"), "flows: -S e=1"),
        (("-S", "b=1,1"), "flows: two points of the grid are called b-1"),
        (("-S", "b=2", "e"), "flows: 'e' is no stage;"),
    ],
)
def test_bad_input_is_one_line(toy: Toy, arguments: tuple[str, ...], complaint: str) -> None:
    text = toy.flow(*arguments, expect=2, module="flows.sweep")
    assert text.startswith(complaint) and text.count("\n") == 1


def test_names_of_points() -> None:
    assert point_name(["agents.takecover.temperature=0.5", "+takecover.x=[1, 2]"]) == "temperature-0.5_x--1-2"
