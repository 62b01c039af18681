"""The stage `vision`: the same bytes, killed or not, from the listed parts alone."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.wm import artifacts
from tests.wm.stages import stores
from tests.wm.stages.checkout import digests, kill_and_resume
from wm import paths
from wm.stages import vision

STEPS = 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    values = artifacts.values()
    values["carracing"]["vision"] |= {"steps": STEPS, "batch_size": 4, "threads": 1, "salience_weight": 4.0}
    artifacts.write_params(tmp_path, values)
    stores.write_rollouts(paths.rollouts("carracing") / "0", "carracing", 3)
    return tmp_path


def test_it_writes_weights_losses_and_reconstructions(folder: Path) -> None:
    vision.run("carracing")
    out = folder / paths.vision("carracing")
    lines = (out / "losses.csv").read_text().splitlines()
    assert lines[0].startswith("step,train_loss") and "held_out_reconstruction_error" in lines[0]
    assert lines[-1].startswith(f"{STEPS},")
    assert json.loads((out / paths.METRICS).read_text())["reconstruction_error"] > 0
    assert Image.open(out / "reconstructions.png").size == (4 * 128, 2 * 128)


def test_killed_and_resumed_it_writes_the_same_bytes(folder: Path) -> None:
    vision.run("carracing")
    expected = digests(folder / paths.vision("carracing"))
    log = kill_and_resume(folder, "vision", "carracing", saves=5, workers=1)
    assert "resumed at" in log
    assert digests(folder / paths.vision("carracing")) == expected


def test_a_part_that_is_no_longer_listed_is_deleted_and_not_trained_on(folder: Path) -> None:
    vision.run("carracing")
    alone = digests(folder / paths.vision("carracing"))
    stores.write_rollouts(paths.rollouts("carracing") / "1", "carracing", 3, seed=1)
    vision.run("carracing")
    assert not (paths.rollouts("carracing") / "1").exists()
    assert digests(folder / paths.vision("carracing")) == alone


def test_a_missing_part_is_named(folder: Path) -> None:
    values = artifacts.values()
    values["carracing"]["parts"] = [0, 7]
    artifacts.write_params(folder, values)
    with pytest.raises(ValueError, match="rollouts/7 does not exist"):
        vision.run("carracing")
