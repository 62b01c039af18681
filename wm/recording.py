"""Playing blind: episodes of a policy that sees nothing, in the real game, without networks.

Legend: T steps of an episode, A action_size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wm import seeds
from wm.packing import Packer
from wm.tasks import Game, Policy, Task, load_task
from wm.workers import worker_local

SIDE_BY_SIDE = 2
"""Games played at once by a worker; which game an episode gets makes no difference to it."""


@dataclass(frozen=True)
class Start:
    """All that determines an episode of a blind policy: the game's seed, the policy's stream and kind.

    The data policy keeps to an action for about `persistence` steps; None: the random policy.
    """

    game: int
    policy: np.random.SeedSequence
    persistence: int | None = None


@dataclass(frozen=True)
class Episode:
    """A recorded episode; frame i was seen before actions[i], whose step gave rewards[i].

    The frames are packed by the worker that plays: raw, they would be ten times as much to hand over, and
    one process could not compress what many play.
    """

    frames: list[bytes]  # chunks, as `packing.pack` gives them
    actions: np.ndarray  # float32 [T, A]
    rewards: np.ndarray  # float32 [T]
    terminations: np.ndarray  # bool [T]

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Score:
    """An episode's undiscounted return and its steps."""

    score: float
    steps: int


def start(persistence: int | None, seed: int, *names: str | int) -> Start:
    """The episode called `names` under `seed`: the streams "game" and "policy" of that name."""
    return Start(seeds.integer(seed, "game", *names), seeds.sequence(seed, "policy", *names), persistence)


def play_blind(task_name: str, renderer: str, starts: Sequence[Start]) -> list[Episode]:
    """Record an episode per start, in order."""
    return [take.episode() for take in play(task_name, renderer, starts, keep=True)]


def score_blind(task_name: str, renderer: str, starts: Sequence[Start]) -> list[Score]:
    """The same episodes' scores; nothing else of them is kept."""
    return [Score(take.score, take.steps) for take in play(task_name, renderer, starts, keep=False)]


class Take:
    """An episode being played in `game`; what is kept of it grows step by step."""

    def __init__(self, game: Game, policy: Policy, seed: int, keep: bool) -> None:
        """`keep`: whether more is kept than the score."""
        self.game = game
        self.policy = policy
        self.steps = 0
        self.score = 0.0
        self.running = True
        self.packer = Packer() if keep else None
        self.frames: list[bytes] = []
        self.rows: list[tuple[np.ndarray, float, bool]] = []
        self.seen = game.reset(seed)

    def advance(self) -> None:
        """Play one step."""
        action = self.policy.act()
        if self.packer:
            self.packer.add(self.seen)  # before the step, which may reuse the frame's memory
        self.seen, reward, terminated, truncated = self.game.step(action)
        if self.packer:
            self.rows.append((action, reward, terminated))
        self.score += reward
        self.steps += 1
        self.running = not (terminated or truncated)
        if self.packer and not self.running:
            self.frames, self.packer = self.packer.finish(), None  # it holds much memory

    def episode(self) -> Episode:
        actions, rewards, terminations = zip(*self.rows, strict=True)
        arrays = np.array(actions, np.float32), np.array(rewards, np.float32), np.array(terminations, bool)
        return Episode(self.frames, *arrays)


def play(task_name: str, renderer: str, starts: Sequence[Start], keep: bool) -> list[Take]:
    """All episodes to their ends; a game that is done takes the next start."""
    task = load_task(task_name)
    waiting = iter(starts)
    takes: list[Take] = []

    def take_next(game: Game) -> Take | None:
        begin = next(waiting, None)
        if begin is None:
            return None
        generator = np.random.Generator(np.random.PCG64(begin.policy))
        if begin.persistence is None:
            policy = task.random_policy(generator)
        else:
            policy = task.data_policy(generator, begin.persistence)
        takes.append(Take(game, policy, begin.game, keep))
        return takes[-1]

    live = [take_next(game) for game in cached_games(task, renderer, min(SIDE_BY_SIDE, len(starts)))]
    while any(live):
        for place, take in enumerate(live):
            if take is None:
                continue
            take.advance()
            if not take.running:
                live[place] = take_next(take.game)
    return takes


def cached_games(task: Task, renderer: str, count: int) -> list[Game]:
    """This worker's games, made on first use."""
    return [
        worker_local(("blind", task.name, renderer, number), lambda: task.make_game(renderer))
        for number in range(count)
    ]
