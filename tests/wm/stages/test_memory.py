"""The stages `memory` and `untrained`: the same bytes, killed or not; the dream beside reality."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.wm import artifacts
from tests.wm.stages import stores
from tests.wm.stages.checkout import digests, kill_and_resume
from wm import calibration, paths, weights
from wm.dream import load_starts
from wm.memory import PART
from wm.stages import memory, untrained

STEPS = 60


def prepare(folder: Path, task: str, actions: int) -> None:
    values = artifacts.values()
    values[task]["memory"] |= {"steps": STEPS, "batch_size": 2, "sequence_length": 10, "threads": 1}
    if task == "takecover":
        values[task]["memory"]["calibration_episodes"] = 8
    artifacts.write_params(folder, values)
    stores.write_latents(folder / paths.latents(task) / "0", task, actions, artifacts.LATENT)
    (folder / paths.vision(task)).mkdir()
    weights.save(folder / paths.vision(task) / paths.WEIGHTS, artifacts.vision().state_dict())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    return tmp_path


def test_take_cover_s_dream_is_held_against_reality(folder: Path) -> None:
    prepare(folder, "takecover", 1)
    memory.run("takecover")
    out = paths.memory("takecover")
    found = json.loads((out / paths.METRICS).read_text())
    assert found["survival_in_reality"] == sum(stores.LENGTHS) / len(stores.LENGTHS)
    assert found["share_kept_in_reality"] == len(stores.LENGTHS) / stores.ATTEMPTS
    assert 0 <= found["survival_in_dream"] <= 2100 and 0 <= found["share_kept_in_dream"] <= 1
    assert load_starts("takecover", artifacts.LATENT).means.shape == (3, artifacts.LATENT)
    assert Image.open(out / "dream.png").height == 2 * 128
    header = (out / "losses.csv").read_text().splitlines()[0]
    assert "held_out_nll" in header and "held_out_end" in header


def test_carracing_s_memory_knows_no_end(folder: Path) -> None:
    prepare(folder, "carracing", 3)
    memory.run("carracing")
    found = json.loads((paths.memory("carracing") / paths.METRICS).read_text())
    assert set(found) == {"held_out_nll", "train_nll"}


def test_killed_and_resumed_it_writes_the_same_bytes(folder: Path) -> None:
    prepare(folder, "takecover", 1)
    memory.run("takecover")
    expected = digests(paths.memory("takecover"))
    log = kill_and_resume(folder, "memory", "takecover", saves=7, workers=1)
    assert "resumed at" in log
    assert digests(paths.memory("takecover")) == expected


def test_calibrating_dreams_are_kept_when_it_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(folder, "takecover", 1)
    memory.run("takecover")
    expected = digests(paths.memory("takecover"))
    (kept,) = (folder / "state").rglob("dreams.json")
    kept.write_text(json.dumps(json.loads(kept.read_text())[:3]))
    monkeypatch.setattr(memory, "DREAM_BLOCK", 5)
    dreamt = []
    original = calibration.survival

    def counting(*arguments: Any) -> Any:
        dreamt.append(list(arguments[4]))
        return original(*arguments)

    monkeypatch.setattr(calibration, "survival", counting)
    memory.run("takecover")
    assert dreamt == [[3, 4, 5, 6, 7]]
    assert digests(paths.memory("takecover")) == expected


def test_the_untrained_memory_has_the_trained_one_s_shape_and_its_seed_s_weights(folder: Path) -> None:
    prepare(folder, "carracing", 3)
    memory.run("carracing")
    untrained.run("carracing")
    first = digests(paths.memory("carracing", "untrained"))
    untrained.run("carracing")
    assert digests(paths.memory("carracing", "untrained")) == first
    drawn, trained = (
        weights.load(paths.memory("carracing", kind) / paths.WEIGHTS, shapes(), PART)
        for kind in ("untrained", "trained")
    )
    assert not torch.equal(drawn["head.weight"], trained["head.weight"])


def shapes() -> dict[str, torch.Size]:
    return {name: t.shape for name, t in artifacts.memory("carracing").state_dict().items()}


def test_latents_of_another_size_are_refused(folder: Path) -> None:
    prepare(folder, "takecover", 1)
    values = artifacts.values()
    values["takecover"]["vision"]["latent_size"] = artifacts.LATENT + 1
    artifacts.write_params(folder, values)
    with pytest.raises(ValueError, match="latent"):
        memory.run("takecover")
