"""Every hyperparameter: what `params.yaml` may hold, as frozen dataclasses read strictly.

They stand in one module without torch, so that `wm check` answers at once. They hold and check values and
compute nothing, so no stage depends on this file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wm.errors import BadInput
from wm.reading import UNBOUNDED, Where, build, check_choice

PRECISIONS = ("float32", "bfloat16")
ACTING_PRECISIONS = (*PRECISIONS, "int8")
PLACES = ("reality", "dream")
FEATURES = ("z", "h", "c")
COVARIANCES = ("full", "diagonal")
POOLS = ("cpu", "gpu")
MEMORIES = ("vision", "memory/trained", "memory/untrained")
AGENT_NAME = re.compile(r"(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+)*")


def bounded(low: float, high: float = UNBOUNDED, *, open_low: bool = False) -> Any:
    """A number's range: low <= value <= high (low < value where `open_low`)."""
    return field(metadata={"low": low, "high": high, "open_low": open_low})


def among(*choices: str) -> Any:
    return field(metadata={"choices": choices})


@dataclass(frozen=True, kw_only=True)
class RolloutsSettings:
    """Recording with the data policy (paper 3, step 1)."""

    episodes: int = bounded(2, 1_000_000)  # kept, per part; the last tenth of a part (at least 1) is held out
    block: int = bounded(1, 1024)  # episodes played side by side by one worker
    persistence: tuple[int, ...] = bounded(1, 10_000)  # steps over which the data policy keeps to an action
    seed: int = bounded(0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class VisionSettings:
    """V, the variational autoencoder (supplement A.1)."""

    latent_size: int = bounded(1, 1024)
    kl_floor: float = bounded(0)  # nats per latent dimension
    salience_weight: float = bounded(
        0
    )  # 0: the paper's plain squared error; see wm.vision.reconstruction_errors
    batch_size: int = bounded(1, 65536)
    steps: int = bounded(1)
    learning_rate: float = bounded(0, 1, open_low=True)
    final_learning_rate: float = bounded(0, 1, open_low=True)  # reached by exponential decay
    precision: str = among(*PRECISIONS)
    threads: int = bounded(1, 1024)
    seed: int = bounded(0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class LatentsSettings:
    """What M learns from: every frame seen through V."""

    precision: str = among(*ACTING_PRECISIONS)  # V's


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """M, the MDN-RNN (supplement A.2)."""

    hidden_size: int = bounded(1, 65536)
    mixtures: int = bounded(1, 100)
    done_weight: float = bounded(0)  # weight of an episode's last step in the loss; 0 where M predicts no end
    batch_size: int = bounded(1, 65536)
    sequence_length: int = bounded(1, 100_000)  # steps of backpropagation; the state is carried on
    steps: int = bounded(1)
    learning_rate: float = bounded(0, 1, open_low=True)
    final_learning_rate: float = bounded(0, 1, open_low=True)  # reached by exponential decay
    gradient_clip: float = bounded(0, open_low=True)  # by value
    calibration_episodes: int = bounded(0, 100_000)  # dreamt by the data policy at temperature 1; 0: none
    precision: str = among(*PRECISIONS)
    threads: int = bounded(1, 1024)
    seed: int = bounded(0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The score of an agent or of the random policy in the real game (paper 3.1 and 4.3)."""

    episodes: int = bounded(2, 1_000_000)
    renderer: str
    block: int = bounded(1, 65536)
    seed: int = bounded(0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """All that is set for one game."""

    parts: tuple[int, ...] = bounded(0, 1_000_000)
    renderer: str  # what V, M and C learn from: rollouts and evolution
    rollouts: RolloutsSettings
    vision: VisionSettings
    latents: LatentsSettings
    memory: MemorySettings
    evaluation: EvaluationSettings


@dataclass(frozen=True, kw_only=True)
class EvolutionSettings:
    """CMA-ES over C's parameters (supplement A.4)."""

    population: int = bounded(2, 65536)
    episodes: int = bounded(1, 65536)  # per candidate and generation
    generations: int = bounded(1)
    sigma: float = bounded(0, open_low=True)  # initial step size
    covariance: str = among(*COVARIANCES)
    patience: int = bounded(
        0
    )  # steps without progress after which an episode is stopped and charged; 0: none
    selection_every: int = bounded(1)  # generations
    selection_episodes: int = bounded(1)  # held-out episodes of the CMA mean and of the best candidate
    block: int = bounded(1, 1_000_000)  # episodes played side by side by one worker
    precision: str = among(*ACTING_PRECISIONS)  # V's and M's, here and in the evaluation
    seed: int = bounded(0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """A row of the paper's tables: what C reads, where it learns, how it is evolved."""

    task: str
    pool: str = among(*POOLS)
    memory: str = among(*MEMORIES)  # whose state C reads; `vision` again for an agent that reads z alone
    place: str = among(*PLACES)
    temperature: float = bounded(0, 100, open_low=True)  # of its dream
    reads: tuple[str, ...]
    hidden_size: int = bounded(0, 65536)  # of C; 0: linear
    bias: bool
    evolution: EvolutionSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    tasks: tuple[str, ...]
    games: Mapping[str, TaskSettings]
    agents: Mapping[str, AgentSettings]


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What must be known of a game to check its settings without importing it (held equal by a test)."""

    ends: bool
    renderers: tuple[str, ...]
    has_idle_reward: bool


FACTS = {
    "carracing": TaskFacts(ends=False, renderers=("fast", "exact", "stock"), has_idle_reward=True),
    "takecover": TaskFacts(ends=True, renderers=("native",), has_idle_reward=False),
}


def read_settings(values: Mapping[str, Any]) -> Settings:
    """All of `params.yaml`, checked within and across its sections. Raises ValueError."""
    root = Where("params.yaml")
    tasks = values.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise BadInput(f"params.yaml: tasks must be a list of {', '.join(FACTS)}, not {tasks!r}")
    for name in tasks:
        check_choice(root / "tasks", name, tuple(FACTS))
    if sorted(tasks) != sorted(FACTS):
        raise BadInput(
            f"params.yaml: tasks must list each of {', '.join(FACTS)} once (dvc.yaml has stages of all), "
            f"not {tasks}"
        )
    root.check_keys(values, required=("tasks", *tasks, "agents"))
    games = {name: read_task(root, name, values[name]) for name in tasks}
    agents_values = values["agents"]
    if not isinstance(agents_values, Mapping) or not agents_values:
        raise BadInput("params.yaml: agents must be a map of at least one agent")
    agents = {name: read_agent(root / "agents", name, value, games) for name, value in agents_values.items()}
    return Settings(tasks=tuple(tasks), games=games, agents=agents)


def read_task(root: Where, name: str, values: Any) -> TaskSettings:
    where = root / name
    task = build(TaskSettings, values, where)
    facts = FACTS[name]
    if not task.parts or len(set(task.parts)) != len(task.parts):
        raise BadInput(f"{where / 'parts'} must list different numbers, at least one, not {list(task.parts)}")
    if not task.rollouts.persistence:
        raise BadInput(f"{where / 'rollouts' / 'persistence'} must list at least one number of steps")
    check_choice(where / "renderer", task.renderer, facts.renderers)
    check_choice(where / "evaluation" / "renderer", task.evaluation.renderer, facts.renderers)
    if not facts.ends:
        for key in ("done_weight", "calibration_episodes"):
            if getattr(task.memory, key):
                raise BadInput(
                    f"{where / 'memory' / key} must be 0: M does not predict the end of a {name} episode"
                )
    for section, settings in (("vision", task.vision), ("memory", task.memory)):
        if settings.final_learning_rate > settings.learning_rate:
            raise BadInput(
                f"{where / section / 'final_learning_rate'} must not exceed learning_rate "
                f"({settings.learning_rate}), but is {settings.final_learning_rate}"
            )
    return task


def read_agent(root: Where, name: Any, values: Any, games: Mapping[str, TaskSettings]) -> AgentSettings:
    if not isinstance(name, str) or not AGENT_NAME.fullmatch(name):
        raise BadInput(
            f"{root}: the agent's name {name!r} must be lower-case letters and digits in words joined by "
            "dashes, 64 characters at most, such as carracing-z (DVC cannot address others)"
        )
    if name in (reserved := {f"{task}-{policy}" for task in FACTS for policy in ("random", "data")}):
        raise BadInput(f"{root}: {name} is a policy's name; {', '.join(sorted(reserved))} are taken")
    where = root / name
    agent = build(AgentSettings, values, where)
    check_choice(where / "task", agent.task, tuple(games))
    for feature in agent.reads:
        check_choice(where / "reads", feature, FEATURES)
    if "z" not in agent.reads or len(set(agent.reads)) != len(agent.reads):
        raise BadInput(
            f"{where / 'reads'} must list z and may list h and c, each once, not {list(agent.reads)}"
        )
    if agent.memory == "vision" and set(agent.reads) != {"z"}:
        raise BadInput(
            f"{where / 'reads'} lists {list(agent.reads)}, but with memory: vision the agent has no h or c; "
            "set memory to memory/trained or memory/untrained"
        )
    facts = FACTS[agent.task]
    if agent.place == "dream" and not facts.ends:
        raise BadInput(
            f"{where / 'place'} is dream, but the dream of {agent.task} has no reward to learn from; "
            "allowed: reality"
        )
    if agent.place == "dream" and agent.memory != "memory/trained":
        raise BadInput(
            f"{where / 'memory'} is {agent.memory}; an agent that learns in the dream needs memory/trained"
        )
    if agent.evolution.patience and not (facts.has_idle_reward and agent.place == "reality"):
        raise BadInput(
            f"{where / 'evolution' / 'patience'} must be 0: in the {agent.place} of {agent.task} "
            "there is no step without progress"
        )
    return agent
