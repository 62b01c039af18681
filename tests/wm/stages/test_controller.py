import pandas as pd
import pytest

from tests.wm import artifacts
from tests.wm.stages import checkout
from wm import paths
from wm.agent import shape
from wm.controller import load_controller
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.stages import controller


@pytest.fixture
def folder(tmp_path, monkeypatch):
    checkout.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WM_WORKERS", "1")
    return tmp_path


def test_outs_are_the_same_bytes_for_any_number_of_workers_and_after_a_kill(folder, monkeypatch):
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("WM_WORKERS", count)
        monkeypatch.setenv("WM_RESUME", "0")
        controller.run("takecover")
        found.append(checkout.digests(paths.controller("takecover")))
    assert set(found[0]) == {"weights.safetensors", "fitness.csv", "fitness.png", "metrics.json"}
    assert found[0] == found[1]
    check_content()
    monkeypatch.delenv("WM_RESUME")
    log = checkout.kill_and_resume(folder, "controller", "takecover", saves=4, workers=2)
    assert "controller@takecover: resumed at 11 of 20 episodes" in log, (
        "3 + 3 + 2 of a generation, 3 of the next"
    )
    assert checkout.digests(paths.controller("takecover")) == found[0]


def check_content() -> None:
    settings = read_settings(read_yaml(paths.PARAMS))
    c = shape(settings.agents["takecover"], settings.games["takecover"])
    assert load_controller("takecover", c).any()
    curve = pd.read_csv(paths.controller("takecover") / "fitness.csv")
    assert curve.generation.tolist() == [1, 2]
    assert curve.mean_score.isna().tolist() == [True, False]
    assert (curve.worst <= curve["mean"]).all() and (curve["mean"] <= curve.best).all()


def test_weights_of_another_latent_size_are_refused(folder):
    values = artifacts.values()
    values["takecover"]["vision"]["latent_size"] = artifacts.LATENT + 1
    artifacts.write_params(folder, values)
    with pytest.raises(ValueError, match="another latent_size or hidden_size"):
        controller.run("takecover")
