"""The real pipeline at *smoke*, on the machines of pools and swept."""

import csv
import io
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from flows.graph import read_graph
from tests.clone import Clone
from tests.flows.machines import Machine, make_machines
from tests.s3 import SECRETS, serving

SWEEP = ("-S", "agents.takecover.temperature=0.5,1.0,1.3", "-S", "takecover.vision.latent_size=32,64")
ONCE = ("rollouts-carracing@0", "rollouts-takecover@0", "vision@carracing", "memory@carracing")
ONCE_PER_SIZE = ("vision@takecover", "latents@takecover", "memory@takecover", "untrained@takecover")

pytestmark = pytest.mark.heavy


def computed(state: Path) -> Counter[str]:
    """How often each stage was computed to its end, as wm logs it."""
    entries = [json.loads(line) for log in state.glob("log/*.jsonl") for line in log.read_text().splitlines()]
    return Counter(entry["stage"] for entry in entries if entry["outcome"] == "finished")


def end(machines: dict[str, Machine]) -> None:
    for machine in machines.values():
        machine.end()


def test_the_pools_give_the_lock_of_dvc_repro(smoke: Clone, tmp_path: Path, api: str) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone", PREFECT_API_URL=api, **SECRETS)
    with serving(tmp_path / "s3") as endpoint:
        machines = make_machines(clone, endpoint)
        try:
            start = time.monotonic()
            clone.run("python", "-m", "flows.pipeline", "--pools")
            print(f"\npools: {time.monotonic() - start:.0f} s")
            assert (clone.folder / "dvc.lock").read_text() == (smoke.folder / "dvc.lock").read_text()
            assert "nothing has changed" in clone.run("python", "-m", "flows.pipeline", "--pools")
        finally:
            end(machines)
    pools: dict[str, Counter[str]] = {"cpu": Counter(), "gpu": Counter()}
    for name, stage in read_graph(clone.folder).items():
        pools[stage.pool][name] += 1
    assert {pool: computed(machine.folder / ".wm") for pool, machine in machines.items()} == pools
    assert not computed(clone.folder / ".wm") and list((clone.folder / "data").iterdir()) == [
        clone.folder / "data" / ".gitignore"
    ]


def test_a_sweep_computes_once_what_points_share(tmp_path: Path, api: str) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone", PREFECT_API_URL=api)
    start = time.monotonic()
    clone.run("python", "-m", "flows.sweep", *SWEEP)
    print(f"\nsweep: {time.monotonic() - start:.0f} s")
    counts = computed(clone.folder / ".wm")
    assert all(counts[name] == 1 for name in ONCE) and all(counts[name] == 2 for name in ONCE_PER_SIZE)
    assert counts["controller@takecover"] == counts["evaluation@takecover"] == counts["tables"] == 6
    text = clone.run("dvc", "exp", "show", "--csv", "--drop", "Created")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["Experiment"]]
    assert len(rows) == 6
    scores = {(row["agents.takecover.temperature"], row["takecover.vision.latent_size"]) for row in rows}
    assert scores == {(tau, size) for tau in ("0.5", "1.0", "1.3") for size in ("32", "64")}
    assert all(row["takecover.mean"] for row in rows)
    clone.run("python", "-m", "flows.sweep", *SWEEP)
    assert computed(clone.folder / ".wm") == counts
