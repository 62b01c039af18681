"""200 trivial stages, 20 wide and 10 deep, through the flows; with `-s` it prints what a stage costs."""

import time
from pathlib import Path

import pytest

from tests.flows.machines import Pools
from tests.flows.toy import Toy
from tests.s3 import serving

WIDE, DEEP = 20, 10
NEEDS = {
    f"s{layer}x{place}": [f"s{layer - 1}x{(place + step) % WIDE}" for step in (0, 7)] if layer else []
    for layer in range(DEEP)
    for place in range(WIDE)
}
POOLS = {name: "gpu" for place, name in enumerate(NEEDS) if place % 5 == 0}

pytestmark = pytest.mark.heavy


def lengths() -> dict[str, int]:
    """Of each stage's out, by arithmetic."""
    found: dict[str, int] = {}
    for name, needs in NEEDS.items():
        found[name] = len(f"{name} 1") + sum(1 + found[other] for other in needs)
    return found


def check(toy: Toy) -> None:
    entries = toy.lock()["stages"]
    assert set(entries) == set(NEEDS)
    expected = lengths()
    for name, entry in entries.items():
        assert {out["path"]: out["size"] for out in entry["outs"]}[f"{name}.out"] == expected[name]
        assert {dep["path"] for dep in entry.get("deps", [])} == {f"{other}.out" for other in NEEDS[name]}


def told(what: str, seconds: float) -> None:
    print(f"\n{what}: {len(NEEDS)} stages in {seconds:.0f} s, {seconds / len(NEEDS):.2f} s a stage")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The lock file of a plain `dvc repro`, which takes one stage after the other."""
    toy = Toy(tmp_path_factory.mktemp("plain") / "toy", NEEDS, POOLS)
    start = time.monotonic()
    toy.run("dvc", "repro")
    told("dvc repro", time.monotonic() - start)
    check(toy)
    return (toy.folder / "dvc.lock").read_bytes()


def test_the_local_flow(tmp_path: Path, api: str, plain: bytes) -> None:
    toy = Toy(tmp_path / "toy", NEEDS, POOLS)
    toy.server = {"PREFECT_API_URL": api}
    start = time.monotonic()
    toy.flow("--cpu", "2", "--gpu", "1", seconds=3600)
    told("local", time.monotonic() - start)
    assert (toy.folder / "dvc.lock").read_bytes() == plain
    start = time.monotonic()
    toy.flow()
    told("local, nothing to do", time.monotonic() - start)
    assert len(toy.ran) == len(NEEDS)


def test_the_pools(tmp_path: Path, api: str, plain: bytes) -> None:
    with serving(tmp_path / "s3") as endpoint:
        pools = Pools(tmp_path, endpoint, api, NEEDS, POOLS)
        try:
            start = time.monotonic()
            pools.toy.flow("--pools", "--cpu", "2", "--gpu", "1", seconds=3600)
            told("pools", time.monotonic() - start)
        finally:
            pools.end()
        assert (pools.toy.folder / "dvc.lock").read_bytes() == plain
        assert sorted(pools.machines["gpu"].ran) == sorted(POOLS)
        assert sorted(pools.machines["cpu"].ran + pools.machines["gpu"].ran) == sorted(NEEDS)
