"""Reality and dream as Gymnasium environments, for anyone's agents: single ones and batched ones.

The observation is z, float32 [Z]; h and c are in `info`; `render()` gives the frame, which in the dream is
V's picture of z. `reset(seed=s)` plays the episode of s (modulo 2**31), which is the pipeline's of that seed;
without a seed, one that the environment's own generator picks. At the task's horizon an episode is truncated.

`gymnasium.make_vec` gives N environments in one batch. Gymnasium's asynchronous ones fork, which PyTorch does
not survive once it has run threads: give them `vector_kwargs={"context": "spawn"}`, or rather take the batch.

Shapes: N environments of a batch, Z latent, H memory, A action size.
"""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import safetensors
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from wm import devices, paths, weights
from wm.dream import Dream, load_starts
from wm.errors import BadInput
from wm.memory import PART, Memory
from wm.pixels import check_renderer, episode_seed
from wm.places import Features, Place
from wm.reality import Reality
from wm.tasks import Task, load_task
from wm.vision import Vision

Info = dict[str, Any]
RENDER = {"render_modes": ["rgb_array"], "render_fps": 50}


class PlaceEnv(gymnasium.Env[np.ndarray, Any]):
    """One episode at a time in a place."""

    metadata = RENDER

    def __init__(self, place: Place, latent_size: int, render_mode: str | None) -> None:
        self.place = place
        self.render_mode = render_mode
        self.observation_space = latent_space(latent_size)
        self.action_space = place.task.action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        self.steps = 0
        z, info = unpack(self.place.reset([episode_seed(seed, self.np_random)]))
        return z[0], {name: value[0] for name, value in info.items()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        features, rewards, _ = self.place.step(self.place.task.from_space(action)[None])
        self.steps += 1
        z, info = unpack(features)
        truncated = self.steps >= self.place.horizon
        terminated = bool(self.place.terminations[0])
        return (
            z[0],
            float(rewards[0]),
            terminated,
            truncated,
            {name: value[0] for name, value in info.items()},
        )

    def render(self) -> np.ndarray | None:
        """The present frame, uint8 [64, 64, 3], where `render_mode` is rgb_array."""
        return self.place.frames()[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.place.close()


class PlaceVectorEnv(VectorEnv[np.ndarray, Any, np.ndarray]):
    """N episodes at a time in a place, through V and M in one batch.

    A finished episode's successor starts in the same step: its first z is the observation, the last z and
    info of the finished one are in `info["final_obs"]` and `info["final_info"]`. Environment i is seeded with
    `seed + i` and plays the episodes that a single environment of that seed would play.
    """

    metadata = {**RENDER, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, place: Place, latent_size: int, num_envs: int, render_mode: str | None) -> None:
        self.place = place
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = latent_space(latent_size)
        self.single_action_space = place.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self.steps = np.zeros(num_envs, np.int64)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Info | None = None
    ) -> tuple[np.ndarray, Info]:
        """Start an episode in every environment. `seed`: i gets `seed + i`, or `seed[i]`."""
        if isinstance(seed, np.integer):
            seed = int(seed)
        if seed is None or isinstance(seed, int):
            super().reset(seed=seed)
        asked = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        wanted = [None] * self.num_envs if asked is None else list(asked)
        if len(wanted) != self.num_envs:
            raise BadInput(f"seed lists {len(wanted)} seeds for {self.num_envs} environments")
        for row, one in enumerate(wanted):
            if one is not None:
                self.generators[row] = seeding.np_random(one)[0]
        self.steps[:] = 0
        episodes = [episode_seed(one, g) for one, g in zip(wanted, self.generators, strict=True)]
        z, info = unpack(self.place.reset(episodes))
        return z, self._masked(info, np.ones(self.num_envs, bool))

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        taken = np.stack([self.place.task.from_space(a) for a in iterate(self.action_space, actions)])
        features, rewards, dones = self.place.step(taken)
        self.steps += 1
        terminations, truncations = self.place.terminations.copy(), self.steps >= self.place.horizon
        z, info = unpack(features)
        infos: Info = {}
        if dones.any():
            infos = self._final(z, info, dones)
            z, info = self._restart(dones)
        infos |= self._masked(info, np.ones(self.num_envs, bool))
        return z, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The present frames, N of uint8 [64, 64, 3], where `render_mode` is rgb_array."""
        return tuple(self.place.frames()) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        self.place.close()

    def _restart(self, dones: np.ndarray) -> tuple[np.ndarray, Info]:
        self.steps[dones] = 0
        episodes = [episode_seed(None, self.generators[row]) for row in np.flatnonzero(dones)]
        return unpack(self.place.restart(dones, episodes))

    def _final(self, z: np.ndarray, info: Info, dones: np.ndarray) -> Info:
        """What finished episodes ended with, as Gymnasium's own vector environments report it."""
        last = np.full(self.num_envs, None, object)
        for row in np.flatnonzero(dones):
            last[row] = z[row]
        ended = {name: np.where(dones[:, None], value, 0) for name, value in info.items()}
        return {
            "final_obs": last,
            "_final_obs": dones.copy(),
            "final_info": self._masked(ended, dones),
            "_final_info": dones.copy(),
        }

    def _masked(self, info: Info, mask: np.ndarray) -> Info:
        """Gymnasium's form of a batch's info: beside every key, which environments it is of."""
        return info | {f"_{name}": mask.copy() for name in info}


class RealityEnv(PlaceEnv):
    """The real game through V and M."""

    def __init__(
        self,
        task: str,
        data: str | Path = paths.DATA,
        memory: str = "trained",
        renderer: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`data`: the folder with the artifacts; `memory`: trained or untrained; `renderer`: the task's.

        Raises ValueError where artifacts are missing or do not fit each other.
        """
        place, latent_size = load_reality(load_task(task), Path(data), memory, renderer)
        super().__init__(place, latent_size, render_mode)


class RealityVectorEnv(PlaceVectorEnv):
    """Real games through V and M, in one batch."""

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        data: str | Path = paths.DATA,
        memory: str = "trained",
        renderer: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """As `RealityEnv`."""
        place, latent_size = load_reality(load_task(task), Path(data), memory, renderer)
        super().__init__(place, latent_size, num_envs, render_mode)


class DreamEnv(PlaceEnv):
    """The game as M dreams it. Where M predicts no end (CarRacing), no reward comes of it either."""

    def __init__(
        self,
        task: str,
        data: str | Path = paths.DATA,
        temperature: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        """`data`: the folder with the artifacts; `temperature` > 0. Raises ValueError as `RealityEnv`."""
        place, latent_size = load_dream(load_task(task), Path(data), temperature)
        super().__init__(place, latent_size, render_mode)


class DreamVectorEnv(PlaceVectorEnv):
    """Dreams, in one batch."""

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        data: str | Path = paths.DATA,
        temperature: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        """As `DreamEnv`."""
        place, latent_size = load_dream(load_task(task), Path(data), temperature)
        super().__init__(place, latent_size, num_envs, render_mode)


def latent_space(latent_size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (latent_size,), np.float32)


def unpack(features: Features) -> tuple[np.ndarray, Info]:
    """z float32 [N, Z], and h and c float32 [N, H], copied."""
    z, h, c = (t.cpu().numpy().copy() for t in (features.z, features.h, features.c))
    return z, {"h": h, "c": c}


def load_reality(task: Task, root: Path, memory: str, renderer: str | None) -> tuple[Reality, int]:
    """Reality with the networks of a data folder, and Z."""
    drawn = check_renderer(task.renderers, renderer)
    vision = infer_vision(task, root)
    remembering = infer_memory(task, root, memory, vision.latent_size)
    return Reality(task, drawn, vision, remembering, "float32"), vision.latent_size


def load_dream(task: Task, root: Path, temperature: float) -> tuple[Dream, int]:
    """The dream with the networks of a data folder, and Z."""
    if not isinstance(temperature, Real) or not 0 < temperature < np.inf:
        raise BadInput(f"temperature must be more than 0 and finite, but is {temperature!r}")
    vision = infer_vision(task, root)
    memory = infer_memory(task, root, "trained", vision.latent_size)
    starts = load_starts(task.name, vision.latent_size, root)
    return Dream(task, memory, starts, temperature, "float32", vision), vision.latent_size


def infer_vision(task: Task, root: Path) -> Vision:
    """A task's V of whatever latent size its weights are."""
    path = paths.vision(task.name, root) / paths.WEIGHTS
    vision = Vision(stored_shape(path, "mean.weight")[0])
    weights.load_into(vision, path)
    return vision.eval().requires_grad_(False).to(devices.device())


def infer_memory(task: Task, root: Path, kind: str, latent_size: int) -> Memory:
    """A task's M of whatever size its weights are, for a V of `latent_size`."""
    if kind not in ("trained", "untrained"):
        raise BadInput(f"memory is {kind!r}; allowed: trained, untrained")
    path = paths.memory(task.name, kind, root) / paths.WEIGHTS
    hidden_size = stored_shape(path, f"{PART}.lstm.weight_hh_l0")[1]
    mixtures = (stored_shape(path, f"{PART}.head.weight")[0] - int(task.ends)) // (3 * latent_size)
    memory = Memory(latent_size, task.action_size, hidden_size, mixtures, task.ends)
    weights.load_into(memory, path, PART)
    return memory.eval().requires_grad_(False).to(devices.device())


def stored_shape(path: Path, name: str) -> list[int]:
    """The shape of a matrix in a weights file. Raises ValueError where there is none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.get_slice(name).get_shape()
    except (FileNotFoundError, safetensors.SafetensorError):
        weights.load(path, {})  # says what is wrong with the file, if it is the file
        raise BadInput(f"{path} holds no {name}: it is of something else; run dvc repro") from None
