"""Watching an agent: a GIF of an episode in the real game or in its dream (the paper's figure 1)."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wm import agent as agents
from wm import paths, progress, seeds
from wm.controller import Controllers, load_controller
from wm.errors import BadInput
from wm.places import Features, Place
from wm.playing import Reader
from wm.reading import read_yaml
from wm.reality import Reality
from wm.settings import AgentSettings, read_settings

ENLARGE = 4
GAP = 8  # pixels between two pictures
MILLISECONDS = 30  # a frame is shown; the games take 20 and 29, and GIFs count in tens


def run(name: str, place: str, temperature: float | None, steps: int, seed: int, out: Path) -> None:
    """Write a GIF of at most `steps` steps of the episode of `seed`.

    Reality: the agent's frames, beside them V's reconstruction of the z that C reads. Dream: V's picture of
    each z that M imagines. Raises ValueError for values out of range and missing artifacts.
    """
    if steps < 1:
        raise BadInput(f"--steps must be at least 1, but is {steps}")
    if not 0 <= seed < 2**31:
        raise BadInput(f"--seed must be at least 0 and less than 2**31, but is {seed}")
    settings = read_settings(read_yaml(paths.PARAMS))
    agent = settings.agents[name]
    task = settings.games[agent.task]
    if place == "dream":
        agent = dreaming(agent, temperature)
    parameters = load_controller(name, agents.shape(agent, task))
    torch.set_num_threads(1)  # a batch of one is too little work for more
    where = agents.placement(agent, task, place, task.evaluation.renderer)
    world = agents.load_place(where, watched=True)
    frames = film(world, agents.reader(agent, task), parameters, steps, seeds.integer(seed, "watch"))
    world.close()
    save(frames, out)


def dreaming(agent: AgentSettings, temperature: float | None) -> AgentSettings:
    """The agent as it dreams, at a given temperature or its own; with the trained M if it reads z alone."""
    if temperature is not None and not 0 < temperature <= 100:
        raise BadInput(f"--temperature must be more than 0 and at most 100, but is {temperature}")
    memory = "memory/trained" if agent.memory == "vision" else agent.memory
    return dataclasses.replace(agent, memory=memory, temperature=temperature or agent.temperature)


@torch.inference_mode()
def film(world: Place, reader: Reader, parameters: np.ndarray, steps: int, seed: int) -> list[np.ndarray]:
    """What is seen in one episode, uint8 [height, width, 3] each: at its start and after every step."""
    controllers = Controllers(reader.shape, parameters[None], world.device)
    features, done = world.reset([seed]), False
    frames = [picture(world, features)]
    with progress.bar("watch", steps, "steps") as bar:
        while not done and len(frames) <= steps:
            raw = controllers.act(reader.inputs(features))
            features, _, dones = world.step(world.task.squash(raw.cpu().numpy()))
            frames.append(picture(world, features))
            done = bool(dones[0])
            bar.update()
    taken = len(frames) - 1
    words = f"{taken} step{'s' if taken != 1 else ''}"
    print(f"the episode {'ended' if done else 'was left'} after {words}", file=sys.stderr)
    return frames


def picture(world: Place, features: Features) -> np.ndarray:
    """The one frame of a place; of reality beside it what z retains of it."""
    seen = world.frames()[0]
    if not isinstance(world, Reality):
        return seen
    decoded = world.vision.picture(features.z)[0]
    return np.concatenate([seen, np.full((len(seen), GAP // ENLARGE, 3), 255, np.uint8), decoded], axis=1)


def save(frames: list[np.ndarray], out: Path) -> None:
    """An endless GIF, each frame drawn `ENLARGE` times as large."""
    images = []
    for frame in frames:
        image = Image.fromarray(frame)
        image = image.resize((image.width * ENLARGE, image.height * ENLARGE), Image.Resampling.NEAREST)
        images.append(image.quantize(256, dither=Image.Dither.NONE))
    images[0].save(out, format="GIF", save_all=True, append_images=images[1:], duration=MILLISECONDS, loop=0)
