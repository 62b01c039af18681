import dataclasses
import pickle

import numpy as np
import pytest

from tests.wm import artifacts
from wm import agent as agents
from wm import files, paths
from wm.blocks import cut
from wm.dream import Dream
from wm.playing import play
from wm.reading import read_yaml
from wm.reality import Reality
from wm.settings import read_settings
from wm.tasks import load_task


@pytest.fixture
def settings(tmp_path, monkeypatch):
    artifacts.write_artifacts(tmp_path / "data")
    artifacts.write_params(tmp_path, artifacts.values())
    monkeypatch.chdir(tmp_path)
    return read_settings(read_yaml(paths.PARAMS))


def placed(settings, name: str, place: str) -> agents.Placement:
    agent = settings.agents[name]
    task = settings.games[agent.task]
    return agents.placement(agent, task, place, task.renderer)


@pytest.mark.parametrize(
    ("name", "place", "used"),
    [
        ("carracing", "reality", ["vision/weights.safetensors", "memory/trained/weights.safetensors"]),
        ("carracing-z", "reality", ["vision/weights.safetensors"]),
        ("takecover", "reality", ["vision/weights.safetensors", "memory/trained/weights.safetensors"]),
        (
            "takecover",
            "dream",
            ["memory/trained/weights.safetensors"],
        ),
    ],
)
def test_a_placement_names_what_it_depends_on(settings, name, place, used):
    where = placed(settings, name, place)
    folder = paths.DATA / where.agent.task
    assert where.digests == tuple(files.digest(folder / file) for file in used)
    assert where.root.is_absolute()
    assert pickle.loads(pickle.dumps(where)) == where and hash(where)
    (folder / used[0]).unlink()
    with pytest.raises(ValueError, match="does not exist"):
        placed(settings, name, place)


def test_c_reads_what_the_settings_say(settings):
    latent, hidden = artifacts.LATENT, artifacts.HIDDEN
    expected = {"carracing": latent + hidden, "carracing-z": latent, "takecover": latent + 2 * hidden}
    for name, inputs in expected.items():
        agent = settings.agents[name]
        shape = agents.shape(agent, settings.games[agent.task])
        assert (shape.inputs, shape.outputs) == (inputs, load_task(agent.task).action_size)


def test_a_block_is_played_in_the_dream_at_the_agents_temperature(settings):
    where = placed(settings, "takecover", "dream")
    hot = dataclasses.replace(where, agent=dataclasses.replace(where.agent, temperature=1.5))
    how = agents.reader(where.agent, where.task)
    candidates = np.random.default_rng(0).standard_normal((3, how.shape.size))
    (block,) = cut(candidates, [5, 6], size=6)
    task, memory = load_task("takecover"), artifacts.memory("takecover")
    for placement in (where, hot):
        dream = Dream(task, memory, artifacts.starts(), placement.agent.temperature, "float32")
        expected = play(dream, how, block.parameters, block.seeds)
        found = agents.evaluate_block(placement, block)
        assert found.returns.tolist() == expected.returns.tolist()
    assert agents.evaluate_block(where, block).returns.tolist() != expected.returns.tolist()


def test_reality_without_memory_has_an_empty_state(settings):
    place = agents.load_place(placed(settings, "carracing-z", "reality"))
    assert isinstance(place, Reality)
    features = place.reset([1, 2])
    assert features.z.shape == (2, artifacts.LATENT) and features.h.shape == features.c.shape == (2, 0)
    place.close()


def test_a_watched_dream_has_frames(settings):
    place = agents.load_place(placed(settings, "takecover", "dream"), watched=True)
    place.reset([1, 2, 3])
    frames = place.frames()
    assert frames.shape == (3, 64, 64, 3) and frames.dtype == np.uint8


def test_weights_that_are_damaged_or_of_another_size_are_refused(settings):
    where = placed(settings, "takecover", "reality")
    memory = dataclasses.replace(where.task.memory, hidden_size=artifacts.HIDDEN + 1)
    with pytest.raises(ValueError, match="another latent_size or hidden_size"):
        agents.load_place(dataclasses.replace(where, task=dataclasses.replace(where.task, memory=memory)))
    path = paths.vision("takecover") / paths.WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        agents.load_place(where)
