import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

import wm
from tests.wm.small import small_files
from wm import checkpoint, packing, weights
from wm.checkpoint import Checkpoint
from wm.episodes import LATENTS, ROLLOUTS, Store, Writer, open_parts
from wm.stages import latents
from wm.vision import Vision

SMOKE = Path(wm.__file__).parent / "presets" / "smoke.yaml"
PARTS = {0: [5, 20, 9], 3: [11]}


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two parts of noise and an untrained V; small files and batches, a checkpoint after every batch."""
    monkeypatch.setattr(latents, "BATCH", 6)
    monkeypatch.setattr(checkpoint, "INTERVAL", -1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WM_DEVICE", "cpu")
    values = YAML(typ="safe").load(SMOKE)
    values["takecover"]["parts"] = list(PARTS)
    YAML(typ="safe").dump(values, tmp_path / "params.yaml")
    data = tmp_path / "data" / "takecover"
    (data / "rollouts").mkdir(parents=True)
    (data / "vision").mkdir()
    latent_size = values["takecover"]["vision"]["latent_size"]
    weights.save(data / "vision" / "weights.safetensors", Vision(latent_size).initialise(1).state_dict())
    with small_files():
        for part, lengths in PARTS.items():
            record(data / "rollouts" / str(part), part, lengths)
        yield tmp_path


def record(path: Path, part: int, lengths: list[int]) -> None:
    draw, steps = np.random.default_rng(part), sum(lengths)
    writer = Writer(path, ROLLOUTS)
    for length in lengths:
        writer.append_frames(packing.pack(draw.integers(0, 256, (length, 64, 64, 3))))
    writer.append({"rewards": np.ones(steps)})
    writer.append({"actions": draw.standard_normal((steps, 1)), "terminations": draw.random(steps) < 0.2})
    writer.append({"ends": np.cumsum(lengths)})
    writer.finish({"task": "takecover", "attempts": 9})


def content(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_latents_are_what_vision_sees(project: Path) -> None:
    latents.run("takecover")
    data = project / "data" / "takecover"
    seen = open_parts(data / LATENTS, PARTS)
    vision = Vision(seen[0].arrays["means"].shape[1]).initialise(1).eval()
    for store, rollouts in zip(seen, open_parts(data / ROLLOUTS, PARTS), strict=True):
        steps = rollouts.steps
        with torch.inference_mode():
            means, logvars = vision.encode(torch.from_numpy(rollouts.frames(0, steps)))
        np.testing.assert_allclose(store.means(0, steps), means, atol=1e-5)
        np.testing.assert_allclose(store.logvars(0, steps), logvars, atol=1e-5)
        np.testing.assert_array_equal(store.actions(0, steps), rollouts.actions(0, steps))
        np.testing.assert_array_equal(store.terminations(0, steps), rollouts.terminations(0, steps))
        np.testing.assert_array_equal(store.ends, rollouts.ends)


@pytest.mark.parametrize("batches", [1, 5, 6, 7])
def test_a_killed_run_goes_on_to_the_same_bytes(
    project: Path, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part has 6 batches, the second 2; each is followed by a checkpoint, as is the first part."""
    folder = project / "data" / "takecover" / "latents"
    latents.run("takecover")
    expected = content(folder)
    shutil.rmtree(folder)
    shutil.rmtree(project / "state")
    save, saved = Checkpoint.save, []

    def dying(self: Checkpoint, state: dict) -> None:
        save(self, state)
        saved.append(state["at"])
        if len(saved) == batches + (batches > 6):
            raise Killed

    with monkeypatch.context() as dead, pytest.raises(Killed):
        dead.setattr(Checkpoint, "save", dying)
        latents.run("takecover")
    assert not folder.exists()
    looked = []
    look = latents.look
    monkeypatch.setattr(latents, "look", lambda *batch: looked.append(batch[2:]) or look(*batch))
    for _ in range(2):
        latents.run("takecover")
        assert content(folder) == expected
        assert len(looked) == 8 - batches
        shutil.rmtree(folder)


def test_bytes_do_not_depend_on_the_number_of_threads(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in (1, 2, 3):
        values = YAML(typ="safe").load(project / "params.yaml")
        values["takecover"]["vision"]["threads"] = threads
        YAML(typ="safe").dump(values, project / "params.yaml")
        latents.run("takecover")
        results.append(content(project / "data" / "takecover" / "latents"))
    assert results[0] == results[1] == results[2]


def test_a_batch_that_cannot_be_read_ends_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store, start: int, stop: int) -> np.ndarray:
        if start < 12:
            return original(self, start, stop)
        raise OSError("no such chunk")

    original = Store.frames
    monkeypatch.setattr(Store, "frames", broken)
    with pytest.raises(OSError, match="no such chunk"):
        latents.run("takecover")
    assert not (project / "data" / "takecover" / "latents").exists()


def test_weights_of_another_latent_size_are_refused(project: Path) -> None:
    values = YAML(typ="safe").load(project / "params.yaml")
    values["takecover"]["vision"]["latent_size"] += 1
    YAML(typ="safe").dump(values, project / "params.yaml")
    with pytest.raises(ValueError, match="latent_size"):
        latents.run("takecover")
