"""An agent's steps in the real games on one core: environment, V, M and C together."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.bench import games
from tests.bench.measure import Row, Work, repeated
from tests.bench.networks import (
    ACTIONS,
    HIDDEN,
    LATENT,
    PlainMemory,
    PlainVision,
    memory,
    products,
    vision,
)
from wm.controller import Controllers, ControllerShape
from wm.playing import Reader
from wm.reality import Reality
from wm.tasks import load_task

SIDE_BY_SIDE = 32
"""Episodes of a block, as laptop has them."""


def batched(task_name: str, renderer: str) -> Work:
    """Ours: a batch of episodes through V, M and C; an episode that ends is followed by the next."""
    task = load_task(task_name)
    place = Reality(task, renderer, vision(task_name), memory(task_name), "int8")
    reads = ("z", "h")
    shape = ControllerShape(LATENT[task_name] + HIDDEN[task_name], 0, ACTIONS[task_name], True)
    draw = np.random.default_rng(1)
    controllers = Controllers(shape, 0.1 * draw.standard_normal((SIDE_BY_SIDE, shape.size)), place.device)
    return repeated(stepping(place, Reader(reads, shape), controllers), 4, SIDE_BY_SIDE)


@torch.inference_mode()
def stepping(place: Reality, reader: Reader, controllers: Controllers) -> Iterator[None]:
    features, seed = place.reset(range(SIDE_BY_SIDE)), SIDE_BY_SIDE
    while True:
        raw = controllers.act(reader.inputs(features))
        features, _, dones = place.step(place.task.squash(raw.numpy()))
        if dones.any():
            features = place.restart(dones, range(seed, seed + int(dones.sum())))
            seed += int(dones.sum())
        yield


def plain(task_name: str, seeing: Callable[[int], Iterator[np.ndarray]]) -> Work:
    """The reference: one environment, networks at batch 1; `seeing(seed)` takes actions and yields frames."""
    v = PlainVision(LATENT[task_name]).eval()
    m = PlainMemory(LATENT[task_name], ACTIONS[task_name], HIDDEN[task_name]).eval()
    c = nn.Linear(LATENT[task_name] + HIDDEN[task_name], ACTIONS[task_name])
    squash = load_task(task_name).squash

    @torch.no_grad()
    def steps() -> Iterator[None]:
        seed = 0
        while True:
            frames, seed = seeing(seed), seed + 1
            frame = next(frames)
            state = torch.zeros(1, HIDDEN[task_name]), torch.zeros(1, HIDDEN[task_name])
            while True:
                z = v(torch.from_numpy(np.array(frame))[None])
                action = squash(c(torch.cat([z, state[0]], 1)).numpy())
                state = m.cell(torch.cat([z, torch.from_numpy(action)], 1), state)
                try:
                    frame = frames.send(action[0])  # type: ignore[attr-defined]
                except StopIteration:
                    break
                yield

    return repeated(steps(), 10, 1)


def stock_carracing(seed: int) -> Iterator[np.ndarray]:
    """The stock environment; the dashboard cropped, the rest resized."""
    import gymnasium

    env = gymnasium.make("CarRacing-v3")
    frame, _ = env.reset(seed=seed)
    done = False
    while not done:
        action = yield np.asarray(Image.fromarray(frame[:84]).resize((64, 64), Image.Resampling.BILINEAR))
        frame, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
    env.close()


def stock_takecover(seed: int) -> Iterator[np.ndarray]:
    """ViZDoom's scenario as shipped, its resolution included, resized."""
    import os

    import vizdoom

    game = vizdoom.DoomGame()
    game.load_config(os.path.join(vizdoom.scenarios_path, "take_cover.cfg"))
    game.set_window_visible(False)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_doom_config_path(os.devnull)
    game.set_seed(seed)
    with tempfile.TemporaryDirectory(prefix="wm-bench-") as folder, contextlib.chdir(folder):
        game.init()  # it leaves a folder where it starts
    try:
        while (state := game.get_state()) is not None:
            picture = Image.fromarray(state.screen_buffer)
            action = yield np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
            game.make_action([[1, 0], [0, 0], [0, 1]][int(action[0]) + 1])
    finally:
        game.close()


def bare(steps: list[Iterator[None]]) -> Work:
    """The limit: the games alone, and V's products of matrices alone."""
    pairs = products(SIDE_BY_SIDE)

    @torch.inference_mode()
    def turns() -> Iterator[None]:
        while True:
            for game in steps:
                next(game)
            for left, right in pairs:
                torch._int_mm(left, right)
            yield

    return repeated(turns(), 4, SIDE_BY_SIDE)


def dodge() -> Iterator[None]:
    """Tics of the game at 160 x 120, nothing made of the picture."""
    from wm.tasks.takecover import BUTTONS, TakeCover

    game, episode, draw = TakeCover(), 0, np.random.default_rng(1)
    while True:
        game.reset(episode)
        inner = game._game
        while inner.get_state() is not None:
            inner.make_action(BUTTONS[draw.integers(3)])
            yield
        episode += 1


def carracing() -> Row:
    return Row(
        "steps/s, one core",
        ours=lambda: batched("carracing", "fast"),
        reference=lambda: plain("carracing", stock_carracing),
        limit=lambda: bare([games.drive(games.physics()) for _ in range(SIDE_BY_SIDE)]),
    )


def takecover() -> Row:
    return Row(
        "steps/s, one core",
        ours=lambda: batched("takecover", "native"),
        reference=lambda: plain("takecover", stock_takecover),
        limit=lambda: bare([dodge()] * SIDE_BY_SIDE),
    )


ROWS: dict[str, Callable[[], Row]] = {"carracing-agent": carracing, "takecover-agent": takecover}
