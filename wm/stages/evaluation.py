"""The stage `evaluation`: an agent's score in the real game, and in its own dream where it learnt there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict

import pandas as pd

from wm import agent as agents
from wm import files, paths, seeds
from wm.blocks import Block, Scores, cut, join
from wm.checkpoint import Checkpoint
from wm.controller import load_controller
from wm.progress import bar
from wm.reading import read_yaml
from wm.settings import AgentSettings, EvaluationSettings, read_settings
from wm.workers import take_workers

DREAM_BLOCK = 50
"""Episodes dreamt side by side by one worker."""


def run(name: str) -> None:
    """Writes `data/evaluation/AGENT`: scores per episode, their mean and standard deviation."""
    settings = read_settings(read_yaml(paths.PARAMS))
    agent = settings.agents[name]
    task = settings.games[agent.task]
    parameters = load_controller(name, agents.shape(agent, task))
    placements = {
        place: agents.placement(agent, task, place, task.evaluation.renderer) for place in places(agent)
    }
    episodes = episode_seeds(task.evaluation)
    title = f"evaluation@{name}"
    with Checkpoint(title, key(name, placements)) as checkpoint, take_workers() as workers:
        state: dict[str, list[Scores]] = checkpoint.load() or {place: [] for place in placements}
        for place, where in placements.items():
            blocks = cut(parameters[None], episodes, block_size(task.evaluation, place))
            label = title if place == "reality" else f"{title} in the dream"
            for _ in played(agents.evaluator(where, workers), blocks, state[place], label):
                checkpoint.save(state)
        write(name, episodes, {place: join(scores) for place, scores in state.items()})


def places(agent: AgentSettings) -> tuple[str, ...]:
    return ("reality", "dream") if agent.place == "dream" else ("reality",)


def block_size(settings: EvaluationSettings, place: str) -> int:
    return settings.block if place == "reality" else DREAM_BLOCK


def episode_seeds(settings: EvaluationSettings) -> list[int]:
    """The seeds of the evaluation's episodes, the same for every agent."""
    return [seeds.integer(settings.seed, "evaluation", e) for e in range(settings.episodes)]


def key(name: str, placements: dict[str, agents.Placement]) -> object:
    """What the scores depend on: of the agent's evolution, only C's weights and the precision."""
    identities = {place: agents.identity(where) for place, where in placements.items()}
    for identity in identities.values():
        identity["agent"]["evolution"] = identity["agent"]["evolution"]["precision"]
    return {
        "places": identities,
        "evaluation": asdict(placements["reality"].task.evaluation),
        "weights": files.digest(paths.controller(name) / paths.WEIGHTS),
    }


def played(
    evaluate: Callable[[Sequence[Block]], Iterable[Scores]],
    blocks: list[Block],
    finished: list[Scores],
    title: str,
) -> Iterator[None]:
    """Play the blocks that are not finished yet; `finished` grows by one before each yield."""
    done = sum(len(scores.returns) for scores in finished)
    with bar(title, sum(len(block.seeds) for block in blocks), "episodes", start=done) as progress:
        for scores in evaluate(blocks[len(finished) :]):
            finished.append(scores)
            progress.update(len(scores.returns))
            yield


def write(name: str, episodes: list[int], scores: dict[str, Scores]) -> None:
    """The paper's plus-minus is the standard deviation over episodes (NumPy's, as in the published code)."""
    real, dreamt = scores["reality"], scores.get("dream")
    table = {"seed": episodes, "score": real.returns, "steps": real.lengths}
    metrics = {"mean": real.returns.mean(), "std": real.returns.std(), "episodes": len(episodes)}
    if dreamt:
        table |= {"virtual_score": dreamt.returns, "virtual_steps": dreamt.lengths}
        metrics |= {"virtual_mean": dreamt.returns.mean(), "virtual_std": dreamt.returns.std()}
    with files.output_folder(paths.evaluation(name)) as folder:
        text = pd.DataFrame(table).to_csv(index_label="episode", float_format="%.6g")
        files.write_text(folder / "scores.csv", text)
        files.write_json(folder / paths.METRICS, metrics)
