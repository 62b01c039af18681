"""Checkpoints: kept per stage and key, held by one process, forgotten under another key."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from wm import checkpoint, code
from wm.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WM_STATE", str(tmp_path))
    return tmp_path


def test_what_was_saved_under_a_key_is_loaded_under_it() -> None:
    with Checkpoint("vision@takecover", {"steps": 1}) as held:
        assert held.load() is None
        held.save({"step": 7})
    with Checkpoint("vision@takecover", {"steps": 1}) as held:
        assert held.load() == {"step": 7}


def test_another_key_starts_afresh_and_forgets_the_former() -> None:
    with Checkpoint("vision@takecover", {"steps": 1}) as held:
        held.save(1)
    with Checkpoint("vision@carracing", {"steps": 2}) as other:
        other.save(2)
    with Checkpoint("vision@takecover", {"steps": 2}) as held:
        assert held.load() is None
    with Checkpoint("vision@takecover", {"steps": 1}) as held:
        assert held.load() is None
    with Checkpoint("vision@carracing", {"steps": 2}) as other:
        assert other.load() == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    ],
    ids=["cut early", "cut late", "emptied", "a bit flipped"],
)
def test_what_is_damaged_is_told_and_starts_afresh(
    damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with Checkpoint("vision@takecover", {}) as held:
        held.save({"weights": 1.5})
        (held.folder / "partial").touch()
        state = held.folder / "state"
    state.write_bytes(damage(state.read_bytes()))
    with Checkpoint("vision@takecover", {}) as held:
        assert held.load() is None
        assert not list(held.folder.iterdir())
        held.save(2)
        assert held.load() == 2
    assert capsys.readouterr().err.count("damaged; starting afresh") == 1


def test_what_a_kill_left_half_written_is_removed() -> None:
    with Checkpoint("vision@takecover", {}) as held:
        held.save(1)
        aside = held.folder / ".state.123"
        aside.touch()
    with Checkpoint("vision@takecover", {}) as held:
        assert not aside.exists() and held.load() == 1


def test_a_key_in_use_is_not_forgotten() -> None:
    with Checkpoint("vision@takecover", {"steps": 1}) as held:
        held.save(1)
        with Checkpoint("vision@takecover", {"steps": 2}):
            pass
        assert held.load() == 1


def test_wm_resume_0_ignores_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoint("vision@takecover", {}) as held:
        held.save(1)
    monkeypatch.setenv("WM_RESUME", "0")
    with Checkpoint("vision@takecover", {}) as held:
        assert held.load() is None


def test_other_versions_start_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoint("vision@takecover", {}) as held:
        held.save(1)
    monkeypatch.setattr("wm.code.versions", lambda: {"torch": "1.0"})
    with Checkpoint("vision@takecover", {}) as held:
        assert held.load() is None


def test_a_queued_experiment_shares_the_checkouts_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WM_STATE")
    folder = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert checkpoint.state_folder() == tmp_path / ".wm"


def test_other_code_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoint("vision@takecover", {}) as held:
        held.save(1)
    monkeypatch.setattr("wm.code.digest", lambda: "of another loss")
    with Checkpoint("vision@takecover", {}) as held:
        assert held.load() is None


def test_the_digest_covers_code_that_computes_and_not_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("wm.vision")
    names = {str(path.relative_to(code.ROOT)) for path in code.loaded()}
    assert "vision.py" in names and "__main__.py" not in names and "checkpoint.py" not in names
