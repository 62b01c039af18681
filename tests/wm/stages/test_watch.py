"""A GIF of an episode shows its start and every step that was asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.wm import artifacts
from wm import agent as agents
from wm import paths
from wm.controller import save_controller
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.stages import watch


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.write_artifacts(tmp_path / "data")
    artifacts.write_params(tmp_path, artifacts.values())
    monkeypatch.chdir(tmp_path)
    read = read_settings(read_yaml(paths.PARAMS))
    for name in ("carracing", "takecover"):
        shape = agents.shape(read.agents[name], read.games[read.agents[name].task])
        (tmp_path / paths.controller(name)).mkdir(parents=True)
        save_controller(tmp_path / paths.controller(name) / paths.WEIGHTS, shape, np.zeros(shape.size))


@pytest.mark.parametrize(
    ("name", "place", "width"), [("carracing", "reality", 130), ("takecover", "dream", 64)]
)
def test_it_shows_as_many_steps_as_asked_for(
    name: str,
    place: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save, filmed = watch.save, list[np.ndarray]()  # the file has fewer frames where some are the same
    monkeypatch.setattr(watch, "save", lambda frames, out: save(filmed.extend(frames) or frames, out))
    watch.run(name, place, None, 4, 1, Path("a.gif"))
    assert [frame.shape for frame in filmed] == [(64, width, 3)] * 5
    with Image.open("a.gif") as image:
        assert image.size == (4 * width, 4 * 64)
    assert "was left after 4 steps" in capsys.readouterr().err
