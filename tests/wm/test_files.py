"""Files are whole or absent."""

from pathlib import Path

import pytest

from wm import files


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_folder_appears_when_it_is_full(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.output_folder(target) as folder:
        (folder / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.output_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), files.output_folder(target) as folder:
        (folder / "b").write_text("half")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="does not exist"):
        files.digest(tmp_path / "none")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="damaged"):
        files.read_json(tmp_path / "half.json")
