import hashlib
from pathlib import Path

import pandas as pd
import pytest

from tests.wm import artifacts
from wm import paths
from wm.agent import shape
from wm.controller import load_controller
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.stages import controller


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder with untrained networks, in which the stages run."""
    artifacts.write_artifacts(tmp_path / "data")
    artifacts.write_params(tmp_path, artifacts.values())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    return tmp_path


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("agent", ["takecover", "carracing"])
def test_outs_are_the_same_bytes_for_any_number_of_workers(checkout, monkeypatch, agent):
    found = []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("WM_WORKERS", count)
        monkeypatch.setenv("WM_RESUME", "0")
        controller.run(agent)
        found.append(digests(paths.controller(agent)))
    assert set(found[0]) == {"weights.safetensors", "fitness.csv", "fitness.png", "metrics.json"}
    assert found[0] == found[1] == found[2]
    settings = read_settings(read_yaml(paths.PARAMS))
    parameters = load_controller(agent, shape(settings.agents[agent], settings.games[agent]))
    assert parameters.any()
    curve = pd.read_csv(paths.controller(agent) / "fitness.csv")
    assert curve.generation.tolist() == [1, 2]
    assert curve.mean_score.isna().tolist() == [True, False]
