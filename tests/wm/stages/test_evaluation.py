import numpy as np
import pandas as pd
import pytest

from tests.wm import artifacts
from tests.wm.stages import checkout
from wm import paths, seeds
from wm.agent import reader, shape
from wm.controller import save_controller
from wm.dream import Dream
from wm.files import read_json
from wm.playing import play
from wm.reading import read_yaml
from wm.reality import Reality
from wm.settings import read_settings
from wm.stages import evaluation
from wm.tasks import load_task

AGENT = "takecover"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    checkout.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WM_WORKERS", "1")
    settings = read_settings(read_yaml(paths.PARAMS))
    c = shape(settings.agents[AGENT], settings.games["takecover"])
    weights = np.random.default_rng(4).standard_normal(c.size).astype(np.float32)
    paths.controller(AGENT).mkdir(parents=True)
    save_controller(paths.controller(AGENT) / paths.WEIGHTS, c, weights)
    return tmp_path


def test_scores_are_those_of_the_episodes_played_alone(folder):
    evaluation.run(AGENT)
    table = pd.read_csv(paths.evaluation(AGENT) / "scores.csv")
    metrics = read_json(paths.evaluation(AGENT) / "metrics.json")
    settings = read_settings(read_yaml(paths.PARAMS))
    how = reader(settings.agents[AGENT], settings.games["takecover"])
    weights = np.random.default_rng(4).standard_normal((1, how.shape.size)).astype(np.float32)
    task, memory = load_task("takecover"), artifacts.memory("takecover")
    reality = Reality(task, "native", artifacts.vision(), memory, "float32")
    dream = Dream(task, memory, artifacts.starts(), 1.0, "float32")
    assert table.seed.tolist() == [seeds.integer(1, "evaluation", e) for e in range(3)]
    real = [play(reality, how, weights, [seed]).returns[0] for seed in table.seed]
    dreamt = [play(dream, how, weights, [seed]).returns[0] for seed in table.seed]
    reality.close()
    assert table.score.tolist() == real and table.steps.tolist() == real, "a step survived is a point"
    assert table.virtual_score.tolist() == dreamt
    assert metrics == {
        "mean": np.mean(real),
        "std": np.std(real),
        "episodes": 3,
        "virtual_mean": np.mean(dreamt),
        "virtual_std": np.std(dreamt),
    }


def test_killed_and_resumed_with_more_workers_it_gives_the_same_bytes(folder):
    evaluation.run(AGENT)
    expected = checkout.digests(paths.evaluation(AGENT))
    log = checkout.kill_and_resume(folder, "evaluation", AGENT, saves=1, workers=2)
    assert "evaluation@takecover: resumed at 2 of 3" in log
    assert checkout.digests(paths.evaluation(AGENT)) == expected


def test_weights_of_another_shape_are_refused(folder):
    values = artifacts.values()
    values["agents"][AGENT]["reads"] = ["z"]
    artifacts.write_params(folder, values)
    with pytest.raises(ValueError, match="output.weight has the shape"):
        evaluation.run(AGENT)
    with pytest.raises(ValueError, match="does not exist"):
        evaluation.run("carracing")
