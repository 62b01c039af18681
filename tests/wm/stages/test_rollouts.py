import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace, TracebackType

import numpy as np
import pytest
from ruamel.yaml import YAML

import wm
from tests.wm.small import small_files
from wm import checkpoint, recording
from wm.episodes import Writer, open_store
from wm.recording import Start
from wm.stages import rollouts
from wm.tasks import load_task

SMOKE = Path(wm.__file__).parent / "presets" / "smoke.yaml"
EPISODES, BLOCK = 6, 2
Play = Callable[[list[Start]], list]


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with few, short episodes in params.yaml and a state folder of its own."""
    values = YAML(typ="safe").load(SMOKE)
    values["takecover"]["rollouts"] = {
        "episodes": EPISODES,
        "block": BLOCK,
        "persistence": [10],
        "seed": 4,
    }
    values["takecover"]["parts"] = [0, 1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    YAML(typ="safe").dump(values, tmp_path / "params.yaml")
    return tmp_path


class Here:
    """Workers without processes: blocks are played in this one."""

    def __enter__(self) -> "Here":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def map(self, function: Play, blocks: Iterable[list[Start]]) -> Iterator[list]:
        return map(function, blocks)


class FakeGame:
    """Noise that lasts as long as the seed says; half of the episodes are too short to be kept."""

    def reset(self, seed: int) -> np.ndarray:
        self.draw, self.steps, self.length = np.random.default_rng(seed), 0, 2 + seed % 8
        return self.draw.integers(0, 256, (64, 64, 3), np.uint8)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self.steps += 1
        frame = self.draw.integers(0, 256, (64, 64, 3), np.uint8)
        return frame, 1.0, self.steps == self.length, False


FAKE = SimpleNamespace(
    name="takecover",
    action_size=1,
    horizon=9,
    kept_above=5,
    make_game=lambda renderer: FakeGame(),
    data_policy=load_task("takecover").data_policy,
    random_policy=load_task("takecover").random_policy,
)


@pytest.fixture
def fake(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project with a fake game, small files, and a checkpoint after every block."""
    kept: dict[object, object] = {}
    monkeypatch.setattr(rollouts, "load_task", lambda name: FAKE)
    monkeypatch.setattr(recording, "load_task", lambda name: FAKE)
    monkeypatch.setattr(recording, "worker_local", lambda key, make: kept.setdefault(key, make()))
    monkeypatch.setattr(rollouts, "take_workers", Here)
    monkeypatch.setattr(checkpoint, "INTERVAL", -1.0)
    with small_files():
        yield project


def content(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def part(project: Path, number: int = 0) -> Path:
    return project / "data" / "takecover" / "rollouts" / str(number)


def test_the_first_long_episodes_are_kept_in_order(fake: Path) -> None:
    rollouts.run("takecover", 0)
    store = open_store(part(fake))
    lengths, frames, tried = [], [], 0
    while len(lengths) < EPISODES:
        begin = recording.start(10, 4, "takecover", "rollouts", 0, tried)
        tried += 1
        game = FakeGame()
        first = game.reset(begin.game)
        if game.length > FAKE.kept_above:
            lengths.append(game.length)
            frames.append(first)
    assert store.lengths.tolist() == lengths
    assert store.attributes["attempts"] == tried > EPISODES
    for start, frame in zip(store.starts, frames, strict=True):
        np.testing.assert_array_equal(store.frames(start, start + 1)[0], frame)
    assert np.flatnonzero(store.terminations(0, store.steps)).tolist() == (store.ends - 1).tolist()


def test_parts_differ(fake: Path) -> None:
    rollouts.run("takecover", 0)
    rollouts.run("takecover", 1)
    assert open_store(part(fake, 0)).digest != open_store(part(fake, 1)).digest


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_a_killed_recording_goes_on_to_the_same_bytes(
    fake: Path, blocks: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rollouts.run("takecover", 0)
    expected = content(part(fake))
    shutil.rmtree(fake / "data")
    shutil.rmtree(fake / "state")

    played = []

    class Dying(Here):
        def map(self, function: Play, starts: Iterable[list[Start]]) -> Iterator[list]:
            for count, block in enumerate(starts):
                if count == blocks:
                    raise Killed
                yield function(block)

    class Counting(Here):
        def map(self, function: Play, starts: Iterable[list[Start]]) -> Iterator[list]:
            for block in starts:
                played.append(block)
                yield function(block)

    monkeypatch.setattr(rollouts, "take_workers", Dying)
    with pytest.raises(Killed):
        rollouts.run("takecover", 0)
    assert not part(fake).exists()
    monkeypatch.setattr(rollouts, "take_workers", Counting)
    rollouts.run("takecover", 0)
    assert content(part(fake)) == expected
    assert played[0][0].game == recording.start(10, 4, "takecover", "rollouts", 0, blocks * BLOCK).game


def test_what_was_recorded_is_not_recorded_again(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill may fall between the stage's end and DVC's record of it."""
    rollouts.run("takecover", 0)
    expected = content(part(fake))
    shutil.rmtree(fake / "data")
    monkeypatch.setattr(rollouts, "take_workers", None)
    rollouts.run("takecover", 0)
    assert content(part(fake)) == expected


@pytest.mark.parametrize("resume", ["0", "1"])
def test_a_damaged_checkpoint_is_not_used(fake: Path, resume: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts.run("takecover", 0)
    expected = content(part(fake))
    shutil.rmtree(fake / "data")
    for file in (fake / "state").rglob("frames/c/0/0/0/0"):
        file.write_bytes(b"")
    monkeypatch.setenv("WM_RESUME", resume)
    rollouts.run("takecover", 0)
    assert content(part(fake)) == expected


def test_a_full_disk_fails_cleanly_and_the_recording_goes_on(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts.run("takecover", 0)
    expected = content(part(fake))
    shutil.rmtree(fake / "data")
    shutil.rmtree(fake / "state")
    original, writes = Writer.write, []

    def full(self: Writer, name: str, rows: np.ndarray) -> None:
        writes.append(name)
        if len(writes) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, name, rows)

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(OSError, match="No space left"):
        rollouts.run("takecover", 0)
    assert content(fake / "data") == {}
    monkeypatch.setattr(Writer, "write", original)
    rollouts.run("takecover", 0)
    assert content(part(fake)) == expected


def test_bytes_do_not_depend_on_the_number_of_workers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real game, in real processes."""
    results = []
    for workers in ("1", "2", "3"):
        monkeypatch.setenv("WM_WORKERS", workers)
        monkeypatch.setenv("WM_STATE", str(project / f"state-{workers}"))
        rollouts.run("takecover", 0)
        results.append(content(part(project)))
    assert results[0] == results[1] == results[2]
    attributes = json.loads((part(project) / "zarr.json").read_text())["attributes"]
    assert attributes["kept"] == EPISODES
    assert min(open_store(part(project)).lengths) > 100
