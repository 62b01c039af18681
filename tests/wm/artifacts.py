"""Untrained networks in a data folder, and settings small enough for tests."""

from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

import wm
from tests.noise import noise
from wm import paths, weights
from wm.dream import Starts, save_dreamer
from wm.memory import Memory
from wm.settings import FACTS
from wm.tasks import load_task
from wm.vision import Vision

LATENT, HIDDEN, MIXTURES = 6, 8, 3

EVOLUTION = {
    "population": 4,
    "episodes": 2,
    "generations": 2,
    "sigma": 0.5,
    "covariance": "full",
    "patience": 0,
    "selection_every": 2,
    "selection_episodes": 2,
    "block": 3,
    "precision": "float32",
    "seed": 1,
}

AGENTS: dict[str, dict[str, Any]] = {
    "carracing": {"task": "carracing", "memory": "memory/trained", "place": "reality", "reads": ["z", "h"]},
    "carracing-z": {"task": "carracing", "memory": "vision", "place": "reality", "reads": ["z"]},
    "takecover": {
        "task": "takecover",
        "memory": "memory/trained",
        "place": "dream",
        "reads": ["z", "c", "h"],
    },
}


def values() -> dict[str, Any]:
    """What a params.yaml for tests holds."""
    games = {name: game(name) for name in FACTS}
    rest = {"pool": "cpu", "temperature": 1.0, "hidden_size": 0, "bias": True}
    agents = {name: {**rest, **agent, "evolution": dict(EVOLUTION)} for name, agent in AGENTS.items()}
    for name in (
        "carracing",
        "carracing-z",
    ):  # nobody is patient when selected, and 1,000 steps take a second
        agents[name]["evolution"] |= {"patience": 5, "selection_episodes": 1}
    return {"tasks": list(FACTS), **games, "agents": agents}


def game(name: str) -> dict[str, Any]:
    """The smoke preset's settings of a game, with networks smaller still."""
    preset = YAML(typ="safe").load(Path(wm.__file__).parent / "presets" / "smoke.yaml")[name]
    preset["vision"]["latent_size"] = LATENT
    preset["memory"] |= {"hidden_size": HIDDEN, "mixtures": MIXTURES}
    preset["evaluation"] |= {"episodes": 3, "renderer": FACTS[name].renderers[0], "block": 2}
    return preset


def write_params(folder: Path, content: dict[str, Any]) -> None:
    YAML().dump(content, folder / paths.PARAMS)


def vision() -> Vision:
    """With random weights and the ranges of noise."""
    return Vision(LATENT).initialise(1).measure_ranges([noise(4, 1)]).eval().requires_grad_(False)


def memory(task_name: str) -> Memory:
    task = load_task(task_name)
    network = Memory(LATENT, task.action_size, HIDDEN, MIXTURES, task.ends).initialise(2)
    if task.ends:
        network.head.bias.data[-1] = -0.2  # dreams of some dozens of steps
    return network.eval().requires_grad_(False)


def starts() -> Starts:
    stream = torch.Generator().manual_seed(3)
    means = torch.randn(5, LATENT, generator=stream)
    return Starts(means, torch.full((5, LATENT), -2.0))


def write_artifacts(root: Path) -> None:
    """V, M and the dream's starts of both games under a data folder."""
    for name in FACTS:
        for folder in (paths.vision(name, root), paths.memory(name, root=root)):
            folder.mkdir(parents=True)
        weights.save(paths.vision(name, root) / paths.WEIGHTS, vision().state_dict())
        save_dreamer(paths.memory(name, root=root) / paths.WEIGHTS, memory(name), starts())
