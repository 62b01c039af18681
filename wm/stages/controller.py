"""The stage `controller`: evolve one agent's C in the place where it learns."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from wm import agent as agents
from wm import files, paths
from wm.checkpoint import Checkpoint
from wm.controller import save_controller
from wm.evolution import Result, evolve
from wm.plots import save_figure
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.workers import take_workers


def run(name: str) -> None:
    """Writes `data/controller/AGENT`: weights, the curve of fitness as CSV and picture, and metrics."""
    settings = read_settings(read_yaml(paths.PARAMS))
    agent = settings.agents[name]
    task = settings.games[agent.task]
    where = agents.placement(agent, task, agent.place, task.renderer)
    shape = agents.shape(agent, task)
    title = f"controller@{name}"
    key = {**agents.identity(where), "renderer": task.renderer}
    with Checkpoint(title, key) as checkpoint, take_workers() as workers:
        result = evolve(agents.evaluator(where, workers), shape.size, agent.evolution, checkpoint, title)
        with files.output_folder(paths.controller(name)) as folder:
            save_controller(folder / paths.WEIGHTS, shape, result.best)
            write_curve(folder, result, name)
            files.write_json(folder / paths.METRICS, metrics(result))


def write_curve(folder: Path, result: Result, name: str) -> None:
    curve = pd.DataFrame(result.curve)
    files.write_text(folder / "fitness.csv", curve.to_csv(index=False, float_format="%.6g"))
    draw_curve(folder / "fitness.png", curve, name)


def draw_curve(path: Path, curve: pd.DataFrame, name: str) -> None:
    """The range and mean of fitness by generation, and the selections on held-out episodes."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(curve.generation, curve.worst, curve.best, alpha=0.2, label="worst to best")
    axes.plot(curve.generation, curve["mean"], label="mean")
    selections = curve.dropna(subset=["mean_score"])
    axes.plot(selections.generation, selections.mean_score, "o", label="CMA mean, held out")
    axes.plot(selections.generation, selections.best_score, "x", label="best candidate, held out")
    axes.set(xlabel="generation", ylabel="return", title=name)
    axes.legend()
    save_figure(path, figure)


def metrics(result: Result) -> dict[str, float]:
    """The selected score, and the last generation in a line."""
    last = result.curve[-1]
    return {
        "selected_score": result.score,
        "generations": last["generation"],
        "mean_fitness": last["mean"],
        "best_fitness": last["best"],
        "sigma": last["sigma"],
        "steps": sum(row["steps"] for row in result.curve),
    }
