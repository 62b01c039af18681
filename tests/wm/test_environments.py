import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wm  # noqa: F401 - registers the environments
from tests.wm import artifacts
from wm import paths
from wm.reality import Reality
from wm.tasks import load_task

LATENT_IDS = ("wm/CarRacing-v0", "wm/TakeCover-v0", "wm/CarRacingDream-v0", "wm/TakeCoverDream-v0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    artifacts.write_artifacts(root)
    return root


def test_importing_the_package_imports_neither_torch_nor_a_game():
    code = "import sys, wm; assert not {'torch', 'vizdoom', 'Box2D', 'pygame'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", LATENT_IDS)
@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning", "ignore:.*Box action spaces:UserWarning")
def test_latent_environments_pass_gymnasiums_check(data, name):
    environment: Any = gymnasium.make(name, data=data, render_mode="rgb_array")
    check_env(environment.unwrapped)
    z, info = environment.reset(seed=1)
    assert z.shape == (artifacts.LATENT,) and z.dtype == np.float32
    assert info["h"].shape == info["c"].shape == (artifacts.HIDDEN,)
    frame = environment.render()
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    environment.close()


@pytest.mark.parametrize(
    ("name", "renderer"),
    [("CarRacing", "fast"), ("CarRacing", "exact"), ("CarRacing", "stock"), ("TakeCover", None)],
)
@pytest.mark.filterwarnings("ignore:.*Box action spaces:UserWarning")
def test_pixel_environments_pass_gymnasiums_check(name, renderer):
    environment: Any = gymnasium.make(f"wm/{name}Pixels-v0", renderer=renderer, render_mode="rgb_array")
    check_env(environment.unwrapped)
    frame, _ = environment.reset(seed=7)
    game = load_task(name.lower()).make_game(renderer or "native")
    assert np.array_equal(frame, game.reset(7)), "the episode of a seed is the pipeline's"
    assert np.array_equal(environment.render(), frame)
    game.close()
    environment.close()


def test_latent_environment_plays_the_episode_of_its_seed(data):
    environment = gymnasium.make("wm/TakeCover-v0", data=data)
    task = load_task("takecover")
    place = Reality(task, "native", artifacts.vision(), artifacts.memory("takecover"), "float32")
    z, _ = environment.reset(seed=11)
    assert np.array_equal(z, place.reset([11]).z[0].numpy())
    z, reward, terminated, truncated, info = environment.step(2)
    features, rewards, _ = place.step(np.array([[1.0]], np.float32))
    assert np.array_equal(z, features.z[0].numpy()) and np.array_equal(info["h"], features.h[0].numpy())
    assert (reward, terminated, truncated) == (rewards[0], False, False)
    place.close()
    environment.close()


@pytest.mark.parametrize(("name", "steps"), [("wm/TakeCover-v0", 150), ("wm/TakeCoverDream-v0", 150)])
def test_a_batch_is_what_single_environments_are(data, name, steps):
    """Against Gymnasium's own vector environment; Take Cover's episodes end often when nobody moves away."""
    batched: Any = gymnasium.make_vec(name, num_envs=3, data=data, render_mode="rgb_array")
    assert type(batched).__name__.endswith("VectorEnv") and batched.num_envs == 3
    assert batched.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    single = SyncVectorEnv(
        [lambda: gymnasium.make(name, data=data)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    batched.action_space.seed(5)
    z, info = batched.reset(seed=20)
    expected_z, expected_info = single.reset(seed=20)
    ends = 0
    for _ in range(steps):
        assert z in batched.observation_space
        assert np.allclose(z, expected_z, atol=1e-5)
        assert np.allclose(info["h"], expected_info["h"], atol=1e-5)
        assert info.keys() == expected_info.keys()
        actions = np.full(3, 1) if "Dream" not in name else batched.action_space.sample()
        z, rewards, terminations, truncations, info = batched.step(actions)
        expected_z, *expected, expected_info = single.step(actions)
        for found, wanted in zip((rewards, terminations, truncations), expected, strict=True):
            assert np.array_equal(found, wanted)
        for row in np.flatnonzero(terminations | truncations):
            ends += 1
            assert info["_final_obs"][row] and expected_info["_final_obs"][row]
            assert np.allclose(info["final_obs"][row], expected_info["final_obs"][row], atol=1e-5)
            for key in ("h", "c"):
                last, wanted = info["final_info"][key][row], expected_info["final_info"][key][row]
                assert np.allclose(last, wanted, atol=1e-5)
    assert ends >= 2
    assert len(batched.render()) == 3
    batched.close()
    single.close()


def test_seeds_may_be_listed(data):
    batched: Any = gymnasium.make_vec("wm/TakeCoverDream-v0", num_envs=2, data=data)
    listed, _ = batched.reset(seed=[8, 7])
    counted, _ = batched.reset(seed=7)
    assert np.array_equal(listed[0], counted[1]) and np.array_equal(listed[1], counted[0])
    with pytest.raises(ValueError, match="3 seeds for 2"):
        batched.reset(seed=[1, 2, 3])


def test_temperature_changes_the_dream(data):
    last = []
    for temperature in (0.1, 1.3):
        environment = gymnasium.make("wm/TakeCoverDream-v0", data=data, temperature=temperature)
        environment.reset(seed=1)
        last.append(environment.step(1)[0])
    assert not np.allclose(*last)


def test_a_dream_is_cut_off_at_the_horizon_and_carracings_gives_no_reward(data):
    environment = gymnasium.make("wm/CarRacingDream-v0", data=data)
    environment.reset(seed=1)
    action = np.array([0, 1, 0], np.float32)
    steps = [environment.step(action)[1:4] for _ in range(1000)]
    assert steps == [(0.0, False, False)] * 999 + [(0.0, False, True)]


def test_mistakes_are_told_in_a_line(data, tmp_path):
    with pytest.raises(ValueError, match="vision.*does not exist"):
        gymnasium.make("wm/TakeCover-v0", data=tmp_path)
    with pytest.raises(ValueError, match="temperature must be more than 0"):
        gymnasium.make("wm/TakeCoverDream-v0", data=data, temperature=0)
    with pytest.raises(ValueError, match="memory is 'best'"):
        gymnasium.make("wm/TakeCover-v0", data=data, memory="best")
    with pytest.raises(ValueError, match="renderer is 'fats'; did you mean fast"):
        gymnasium.make("wm/CarRacingPixels-v0", renderer="fats")
    folder = paths.vision("takecover", tmp_path)
    folder.mkdir(parents=True)
    (folder / paths.WEIGHTS).write_bytes(b"nothing of use")
    with pytest.raises(ValueError, match="damaged"):
        gymnasium.make("wm/TakeCover-v0", data=tmp_path)
