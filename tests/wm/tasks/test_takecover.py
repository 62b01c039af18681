import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import vizdoom
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wm.tasks import FRAME_SHAPE, load_task
from wm.tasks.takecover.shrink import Shrinker

TASK = load_task("takecover")
LEFT, STAND, RIGHT = (np.array([move], np.float32) for move in (-1, 0, 1))


@pytest.fixture(scope="module")
def game():
    game = TASK.make_game("native")
    yield game
    game.close()


def play(game, seed, policy=None):
    """An episode's frames (the first one included), rewards, and its last two flags."""
    policy = policy or TASK.random_policy(np.random.default_rng(seed))
    frames, rewards = [game.reset(seed)], []
    while True:
        frame, reward, terminated, truncated = game.step(policy.act())
        frames.append(frame)
        rewards.append(reward)
        if terminated or truncated:
            return np.array(frames), rewards, terminated, truncated


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_same_pixels_as_plain_vizdoom(game, tmp_path, monkeypatch):
    """Against ViZDoom set up plainly, its buttons pressed by hand."""
    monkeypatch.chdir(tmp_path)  # it writes there
    plain = vizdoom.DoomGame()
    plain.load_config(os.path.join(vizdoom.scenarios_path, "take_cover.cfg"))
    plain.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    plain.set_screen_format(vizdoom.ScreenFormat.RGB24)
    plain.set_window_visible(False)
    plain.set_episode_start_time(14)
    plain.set_doom_config_path(os.devnull)
    plain.init()
    assert plain.get_doom_skill() == 4
    for seed in (0, 2**31 - 1):
        plain.set_seed(seed)
        plain.new_episode()
        frames, _, terminated, _ = play(game, seed)
        policy = TASK.random_policy(np.random.default_rng(seed))
        for frame in frames[:-1]:
            screen = Image.fromarray(plain.get_state().screen_buffer)
            assert np.array_equal(frame, np.asarray(screen.resize((64, 64), Image.Resampling.BILINEAR)))
            move = policy.act()[0]
            plain.make_action([bool(move < 0), bool(move > 0)])
        assert plain.is_player_dead()
        assert terminated
    plain.close()


def test_same_seed_same_episode(game):
    """Fresh, reused, and after an episode that was left half-way."""
    reference = play(game, 7)
    play(game, 8)
    again = play(game, 7)
    game.reset(9)
    for _ in range(20):
        game.step(LEFT)
    abandoned = play(game, 7)
    fresh_game = TASK.make_game("native")
    fresh = play(fresh_game, 7)
    fresh_game.close()
    other = play(game, 8)
    for episode in (again, abandoned, fresh):
        assert np.array_equal(episode[0], reference[0])
        assert episode[1:] == reference[1:]
    assert not np.array_equal(other[0][:100], reference[0][:100])


def test_frames_are_kept_apart(game):
    """A frame that was handed out does not change with the next step."""
    first = game.reset(1)
    copy = first.copy()
    for _ in range(5):
        game.step(RIGHT)
    assert np.array_equal(first, copy)


def test_death(game):
    frames, rewards, terminated, truncated = play(game, 3)
    assert (terminated, truncated) == (True, False)
    assert rewards == [1.0] * len(rewards)
    assert len(rewards) < TASK.horizon
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == FRAME_SHAPE
    assert np.array_equal(frames[-1], frames[-2])


def test_horizon(game):
    """An invulnerable player lives for exactly 2100 steps."""
    game.reset(4)
    game._game.send_game_command("god")
    for step in range(1, TASK.horizon + 1):
        frame, reward, terminated, truncated = game.step(STAND)
        assert (terminated, truncated) == (False, step == TASK.horizon)
    assert reward == 1.0
    assert frame.shape == FRAME_SHAPE
    assert play(game, 3)[2:] == (True, False)


def test_moves(game):
    """Left and right shift the view in opposite directions, standing leaves it."""

    def position(move):
        game.reset(5)
        before = game._game.get_game_variable(vizdoom.GameVariable.POSITION_Y)
        for _ in range(8):
            game.step(move)
        return game._game.get_game_variable(vizdoom.GameVariable.POSITION_Y) - before

    left, stand, right = position(LEFT), position(STAND), position(RIGHT)
    assert stand == 0
    assert left * right < 0
    assert abs(left) == pytest.approx(abs(right), rel=0.01)


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=20))
def test_squash(raw):
    """Thirds of tanh's range: the borders are atanh(1/3) = ln(2) / 2."""
    moves = TASK.squash(np.array(raw, np.float32)[:, None])
    assert moves.dtype == np.float32
    assert moves.shape == (len(raw), 1)
    for value, move in zip(raw, moves[:, 0], strict=True):
        if abs(abs(value) - np.log(2) / 2) > 1e-6:
            assert move == np.sign(value) * (abs(value) > np.log(2) / 2)


def test_action_space():
    assert TASK.action_space.n == 3
    assert [TASK.from_space(np.int64(choice)).tolist() for choice in range(3)] == [[-1], [0], [1]]
    assert TASK.from_space(2).dtype == np.float32


def test_data_policy_holds_its_actions():
    """Runs of 1 to 10 steps (longer where the next action is the same), all three actions alike."""
    policy = TASK.data_policy(np.random.default_rng(0), 10)
    moves = np.array([policy.act()[0] for _ in range(60_000)])
    changes = np.flatnonzero(np.diff(moves)) + 1
    runs = np.diff(changes)
    # A draw differs from the one before with chance 2/3, so a run has 1.5 draws of 5.5 steps in the mean.
    assert runs.mean() == pytest.approx(8.25, rel=0.03)
    assert runs.min() == 1
    assert [np.mean(moves == move) for move in (-1, 0, 1)] == pytest.approx([1 / 3] * 3, abs=0.02)


@pytest.mark.parametrize("make", [lambda rng: TASK.data_policy(rng, 10), TASK.random_policy])
def test_policies_follow_their_generator(make):
    def actions(seed):
        policy = make(np.random.default_rng(seed))
        return [float(policy.act()[0]) for _ in range(100)]

    assert actions(1) == actions(1)
    assert actions(1) != actions(2)
    assert policy_types(make) == {(np.dtype(np.float32), (1,))}


def policy_types(make):
    policy = make(np.random.default_rng(0))
    return {(action.dtype, action.shape) for action in (policy.act() for _ in range(20))}


def test_random_policy_is_uniform():
    policy = TASK.random_policy(np.random.default_rng(0))
    moves = np.array([policy.act()[0] for _ in range(10_000)])
    assert [np.mean(moves == move) for move in (-1, 0, 1)] == pytest.approx([1 / 3] * 3, abs=0.02)


def test_random_policy_survives_as_in_the_paper(game):
    """210 +- 108 in the paper, so about 210 +- 14 over 60 episodes."""
    lengths = [len(play(game, seed)[1]) for seed in range(60)]
    assert 170 < np.mean(lengths) < 250
    assert 60 < np.std(lengths) < 160


@pytest.mark.parametrize("kind", ["noise", "constant", "edges", "columns"])
def test_screens_are_shrunk_as_by_pillow(kind):
    draw, shrinker = np.random.default_rng(1), Shrinker()
    for _ in range(20):
        screen = draw.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        if kind == "constant":
            screen[:] = screen[0, 0]
        elif kind == "edges":
            screen = np.where(screen > 127, 255, 0).astype(np.uint8)
        elif kind == "columns":
            screen[:] = screen[0]
        expected = Image.fromarray(screen).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(shrinker.shrink(screen), np.asarray(expected))


def test_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children()
    game = TASK.make_game("native")
    assert len(children() - before) == 1
    play(game, 1)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/dev/shm", f"ViZDoomSM{game._game.get_instance_id()}").exists()
    game.close()
    assert children() <= before
    assert list(tmp_path.iterdir()) == []


def test_game_outlives_the_thread_that_started_it():
    """The kernel's notice of a parent's death is one of its thread's."""
    games = []
    thread = threading.Thread(target=lambda: games.append(TASK.make_game("native")))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert len(play(games[0], 1)[1]) > 1
    games[0].close()


@pytest.mark.parametrize("deed", ["step", "reset"])
def test_killed_game_is_told(deed):
    before = children()
    game = TASK.make_game("native")
    game.reset(1)
    for pid in children() - before:
        psutil.Process(pid).kill()
    time.sleep(0.2)
    with pytest.raises(RuntimeError, match="Take Cover game died"):
        game.step(STAND) if deed == "step" else game.reset(2)
    with pytest.raises(RuntimeError, match="Take Cover game died"):
        game.step(STAND)
    game.close()
    assert children() <= before


def test_game_killed_in_mid_play_is_told():
    before = children()
    game = TASK.make_game("native")
    game.reset(1)
    (pid,) = children() - before
    threading.Timer(0.3, psutil.Process(pid).kill).start()
    with pytest.raises(RuntimeError, match="Take Cover game died"):
        for seed in range(10_000):
            play(game, seed)
    game.close()


def test_temporary_folder_without_programs(monkeypatch):
    """As on a file system mounted `noexec`."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RuntimeError, match="TMPDIR"):
        TASK.make_game("native")
