"""An agent put together in a worker process: V, M and a place from `data/`, C's parameters from a block."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wm import devices, files, paths
from wm.blocks import Block, Scores
from wm.controller import ControllerShape, input_size
from wm.dream import Dream, load_starts
from wm.memory import load_memory
from wm.places import Place
from wm.playing import Reader, play
from wm.reality import Reality
from wm.settings import AgentSettings, TaskSettings
from wm.tasks import load_task
from wm.vision import load_vision
from wm.workers import Workers, worker_local


@dataclass(frozen=True)
class Placement:
    """An agent in a place, as values that travel to worker processes and name what they keep."""

    agent: AgentSettings
    task: TaskSettings
    place: str  # reality or dream
    renderer: str  # of reality
    root: Path  # the data folder, absolute: workers have a working directory of their own
    digests: tuple[str, ...]  # of the networks' weights


def identity(where: Placement) -> dict[str, Any]:
    """What the agent's episodes in the place depend on (not its pool), for the key of a checkpoint."""
    described = {name: value for name, value in asdict(where.agent).items() if name != "pool"}
    return {"agent": described, "digests": where.digests, "device": devices.device().type}


def networks(agent: AgentSettings, place: str) -> list[str]:
    """The files, relative to `data/TASK`, whose content the agent's episodes in a place depend on."""
    memories = [] if agent.memory == "vision" else [f"{agent.memory}/{paths.WEIGHTS}"]
    return memories if place == "dream" else [f"vision/{paths.WEIGHTS}", *memories]


def placement(agent: AgentSettings, task: TaskSettings, place: str, renderer: str) -> Placement:
    """The agent in a place. Raises ValueError where an artifact is missing."""
    root = paths.DATA.absolute()
    digests = tuple(files.digest(root / agent.task / name) for name in networks(agent, place))
    return Placement(agent, task, place, renderer, root, digests)


def shape(agent: AgentSettings, task: TaskSettings) -> ControllerShape:
    """The shape of the agent's C."""
    inputs = input_size(agent.reads, task.vision.latent_size, task.memory.hidden_size)
    return ControllerShape(inputs, agent.hidden_size, load_task(agent.task).action_size, agent.bias)


def reader(agent: AgentSettings, task: TaskSettings) -> Reader:
    return Reader(agent.reads, shape(agent, task))


def load_place(where: Placement, watched: bool = False) -> Place:
    """Reality or the dream with the agent's networks, on `WM_DEVICE`. Raises ValueError for bad weights.

    A dream that is `watched` gets V as well, which draws its frames.
    """
    agent, settings, root = where.agent, where.task, where.root
    task, device = load_task(agent.task), devices.device()
    latent_size, precision = settings.vision.latent_size, agent.evolution.precision
    memory = vision = None
    if agent.memory != "vision":
        kind = agent.memory.removeprefix("memory/")
        memory = load_memory(task, latent_size, settings.memory, kind, root).to(device)
    if where.place == "reality" or watched:
        vision = load_vision(agent.task, settings.vision, root).to(device)
    if where.place == "dream":
        assert memory is not None
        starts = load_starts(agent.task, latent_size, root)
        return Dream(task, memory, starts, agent.temperature, precision, vision)
    assert vision is not None
    return Reality(task, where.renderer, vision, memory, precision)


def evaluate_block(where: Placement, block: Block) -> Scores:
    """Play a block in a worker process, which keeps the place for the blocks that follow."""
    place = worker_local(where, partial(load_place, where))
    return play(place, reader(where.agent, where.task), block.parameters, block.seeds, block.patience)


def evaluator(where: Placement, workers: Workers) -> Callable[[Sequence[Block]], Iterable[Scores]]:
    """What `wm.evolution.evolve` and the evaluation call: blocks in, their scores out, in order."""
    return lambda blocks: workers.map(partial(evaluate_block, where), blocks)
