"""CarRacing against gymnasium itself: the same game behind every renderer, the same pixels from "exact"."""

import numpy as np
import pygame
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pygame import gfxdraw

from wm.tasks import FRAME_SHAPE, Policy, load_task
from wm.tasks.carracing import CarRacingGame, canvas, shrink
from wm.tasks.carracing.exact import Easel
from wm.tasks.carracing.scene import BLACK, COLORS

TASK = load_task("carracing")


def stock_frame(observation: np.ndarray) -> np.ndarray:
    """The agent's frame from a stock observation, written down a second time."""
    kept = Image.fromarray(observation[:84])
    return np.array(kept.resize((64, 64), Image.Resampling.BILINEAR))


def state(env: CarRacing) -> tuple:
    """Everything that moves."""
    assert env.car is not None
    bodies = [env.car.hull, *env.car.wheels]
    motion = [(*b.position, b.angle, *b.linearVelocity, b.angularVelocity) for b in bodies]
    return motion, [(w.phase, w.omega, w.gas, w.brake) for w in env.car.wheels], env.tile_visited_count, env.t


def drive(seed: int, wild: bool) -> Policy:
    generator = np.random.default_rng(seed)
    return TASK.random_policy(generator) if wild else TASK.data_policy(generator, 12)


def follow(
    renderer: str, seed: int, steps: int, looks: range, wild: bool = False
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Drive gymnasium's own environment and a game side by side; both's frames at the steps `looks`.

    Away from `looks` the stock environment does not draw, which takes nearly all of its time.
    """

    class Blinking(CarRacing):
        looking = True

        def _render(self, mode: str):
            return super()._render(mode) if self.looking else None

    real, game, policy = Blinking(), CarRacingGame(renderer), drive(seed, wild)
    pairs = []
    observation, _ = real.reset(seed=seed)
    frame = game.reset(seed)
    if 0 in looks:
        pairs.append((stock_frame(observation), frame))
    for step in range(1, steps + 1):
        action = policy.act()
        real.looking = step in looks
        observation, reward, terminated, _, _ = real.step(action)
        frame, *result = game.step(action)
        assert result == [reward, terminated, step >= 1000]
        assert state(real) == state(game._env)
        assert frame.shape == FRAME_SHAPE and frame.dtype == np.uint8
        if real.looking:
            pairs.append((stock_frame(observation), frame))
        if terminated:
            break
    return pairs


@pytest.mark.parametrize(("seed", "wild"), [(0, False), (1, True), (2, False)])
def test_exact_gives_the_stock_pixels_from_the_opening_zoom_on(seed, wild):
    for real, frame in follow("exact", seed, 60, range(61), wild):
        np.testing.assert_array_equal(frame, real)


@pytest.mark.parametrize("seed", range(10, 18))
def test_exact_gives_the_stock_pixels_later(seed):
    for real, frame in follow("exact", seed, 1000, range(63 + seed, 1000, 61)):
        np.testing.assert_array_equal(frame, real)


def test_exact_gives_the_stock_pixels_beyond_the_edge_of_the_field():
    """The car is put at the field's corners and edges, where the black around it shows."""
    real, game = CarRacing(), CarRacingGame("exact")
    real.reset(seed=5)
    game.reset(5)
    poses = [(330, 330, 0.3), (-332, 10, 2.0), (5, -333, np.pi / 2), (330, -300, -4.0), (0, 0, 0.0)]
    for x, y, angle in poses:
        for env in (real, game._env):
            assert env.car is not None
            env.car.hull.position, env.car.hull.angle = (x, y), angle
        still = np.zeros(3, np.float32)
        np.testing.assert_array_equal(game.step(still)[0], stock_frame(real.step(still)[0]))


@pytest.mark.parametrize("seed", [0, 3])
def test_fast_is_within_a_grey_level_and_a_half(seed):
    """In the mean of every frame; of all values 99 % are within 8, and of every frame's within 20."""
    pairs = follow("fast", seed, 500, range(0, 500, 11))
    errors = np.array([np.abs(frame.astype(int) - real) for real, frame in pairs])
    assert errors.mean((1, 2, 3)).max() < 1.5
    assert np.percentile(errors, 99) < 8 and np.percentile(errors, 99, (1, 2, 3)).max() < 20


def test_stock_is_the_stock_chain():
    for real, frame in follow("stock", 4, 5, range(6)):
        np.testing.assert_array_equal(frame, real)


@pytest.mark.parametrize("renderer", ["fast", "exact"])
def test_a_reused_game_plays_as_a_fresh_one(renderer):
    def play(game):
        policy = TASK.data_policy(np.random.default_rng(7), 12)
        frames = [game.reset(7)]
        return frames + [game.step(policy.act())[0] for _ in range(80)]

    reused = CarRacingGame(renderer)
    reused.reset(8)
    for _ in range(20):
        reused.step(np.array([0.5, 1, 0], np.float32))
    np.testing.assert_array_equal(play(reused), play(CarRacingGame(renderer)))


def test_the_thousandth_step_truncates():
    game = CarRacingGame("fast")
    game.reset(1)
    still = np.zeros(3, np.float32)
    ends = [game.step(still)[2:] for _ in range(1000)]
    assert ends[:-1] == [(False, False)] * 999 and ends[-1] == (False, True)
    game.reset(1)
    assert game.step(still)[2:] == (False, False)


def test_an_unknown_renderer_is_named():
    with pytest.raises(ValueError, match="'best' is none of fast, exact, stock"):
        TASK.make_game("best")


def test_squash_is_the_published_code():
    raw = np.array([[0.3, -0.7, 0.4], [-9.0, 9.0, -2.0], [0.0, 0.0, 9.0]], np.float32)
    a = np.tanh(raw)
    expected = [[x[0], (x[1] + 1) / 2, min(max(x[2], 0), 1)] for x in a]
    action = TASK.squash(raw)
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, expected, atol=1e-7)
    middle = np.broadcast_to(np.array([0, 0.5, 0], np.float32), (2, 5, 3))
    np.testing.assert_array_equal(TASK.squash(np.zeros((2, 5, 3))), middle)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_policies_repeat_themselves_and_keep_to_the_action_space(seed):
    for policy in (lambda rng: TASK.data_policy(rng, 12), TASK.random_policy):
        first, second = (policy(np.random.default_rng(seed)) for _ in range(2))
        actions = [first.act() for _ in range(30)]
        np.testing.assert_array_equal(actions, [second.act() for _ in range(30)])
        assert all(TASK.action_space.contains(action) for action in actions)


def test_the_action_space_is_the_stock_one():
    assert TASK.action_space == CarRacing().action_space
    np.testing.assert_array_equal(TASK.from_space([0.5, 1, 0]), np.array([0.5, 1, 0], np.float32))


# The primitives one by one.


def window(easel: Easel) -> np.ndarray:
    """The canvas with every cell spelt out, RGB [700, 1000, 3]."""
    cells, pixels, _, inks = easel._canvas[:4]
    places = canvas.ROW * np.arange(canvas.ROWS)[:, None] + canvas.SLOT
    cells = cells[places // canvas.SLOTS]
    plain = inks.astype(np.uint32)[np.where(cells == canvas.MIXED, 0, cells)]
    spelt = np.where(cells == canvas.MIXED, pixels[places], plain)
    return np.stack([spelt >> 8 * channel & 255 for channel in range(3)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("low", "high"), [(-300, 1300), (300, 400), (700, 709), (-40, 1040)])
@pytest.mark.parametrize("part", [False, True])
def test_polygons_are_pygames_pixel_by_pixel(low, high, part):
    """Also concave, self-crossing, degenerate and off-screen ones."""
    generator = np.random.default_rng([low + 300, part])
    easel, surface = Easel(), pygame.Surface((1000, 800))
    for _ in range(20):
        n, count = (8 if part else 4), 6
        corners = np.zeros((count, 8, 2))
        corners[:, :n] = generator.uniform(low, high, (count, n, 2))
        paints = generator.integers(0, len(COLORS), count).astype(np.uint8)
        surface.fill((0, 0, 0))
        for polygon, paint in zip(corners[:, :n], paints, strict=True):
            points, color = [tuple(p) for p in polygon.tolist()], COLORS[paint].tolist()
            if part:
                pygame.draw.polygon(surface, color, points)
            else:
                gfxdraw.aapolygon(surface, points, color)
                gfxdraw.filled_polygon(surface, points, color)
        sizes, quads = np.full(count, n), 0 if part else count
        canvas.draw(*easel._canvas, corners, sizes, paints, quads, count, BLACK)
        expected = pygame.surfarray.array3d(surface).transpose(1, 0, 2)[::-1][:700]
        np.testing.assert_array_equal(window(easel), expected)


def test_shrinking_is_smoothscales_and_pillows():
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (800, 1000, 3), dtype=np.uint8)
    surface = pygame.Surface((1000, 800))
    pygame.surfarray.blit_array(surface, colors.transpose(1, 0, 2))
    expected = pygame.surfarray.array3d(pygame.transform.smoothscale(surface, (96, 96))).transpose(1, 0, 2)
    easel, frame = Easel(), np.empty(FRAME_SHAPE, np.uint8)
    cells, pixels = easel._canvas[:2]
    cells[:] = canvas.MIXED
    pixels.reshape(-1, canvas.ROW)[:700, canvas.SLOT] = canvas.pack(colors[:700])
    shrink.finish(*easel._window, *easel._resizing, frame)
    np.testing.assert_array_equal(frame, stock_frame(expected))
