"""The stage `tables`: measured scores beside the paper's, as Markdown, CSV, JSON and a picture."""

import csv
import dataclasses
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm import files, paths
from wm.errors import BadInput
from wm.plots import save_figure
from wm.published import TABLES, Row, Score, Table
from wm.reading import read_yaml
from wm.settings import AgentSettings, Settings, read_settings

Scores = dict[str, dict[str, float]]
"""By agent: mean, std, episodes; virtual_mean and virtual_std where it learnt in the dream."""

NONE = "–"

SCORE = ("mean", "std", "episodes")
"""What an evaluation's metrics hold."""
VIRTUAL = ("virtual_mean", "virtual_std")
"""And beside it where the agent learnt in the dream."""
SURVIVAL = tuple(
    name
    for place in ("reality", "dream")
    for name in (f"survival_in_{place}", f"survival_in_{place}_std", f"episodes_in_{place}")
)
"""What M's metrics hold where it predicts ends."""


def run() -> None:
    """Writes `data/tables` (tables.md, tables.csv, scores.json, scores.png) and prints both tables.

    Evaluations of agents that params.yaml no longer lists are removed first.
    """
    settings = read_settings(read_yaml(paths.PARAMS))
    forget_others(settings)
    scores = read_scores(settings)
    tables = [complete(table, settings, scores) for table in TABLES if table.task in settings.tasks]
    text = "\n".join(markdown(table, scores) for table in tables)
    with files.output_folder(paths.tables()) as folder:
        files.write_text(folder / "tables.md", text)
        files.write_text(folder / "tables.csv", comma_separated(tables, scores))
        files.write_json(folder / "scores.json", scores)
        save_figure(folder / "scores.png", draw(tables, scores))
    print(f"\n{text}")


def forget_others(settings: Settings) -> None:
    folder = paths.DATA / "evaluation"
    for other in sorted(folder.iterdir()) if folder.is_dir() else []:
        if other.name not in settings.agents:
            shutil.rmtree(other)


def read_scores(settings: Settings) -> Scores:
    """All metrics of evaluations and of the blind policies. Raises ValueError where one is missing."""
    sources = {name: paths.evaluation(name) for name in settings.agents}
    sources |= {f"{task}-random": paths.random(task) for task in settings.tasks}
    scores = {name: read_numbers(folder / paths.METRICS, SCORE, VIRTUAL) for name, folder in sources.items()}
    memories = {
        task: read_numbers(paths.memory(task) / paths.METRICS, (), SURVIVAL) for task in settings.tasks
    }
    dreamt = {task: metrics for task, metrics in memories.items() if SURVIVAL[0] in metrics}
    return scores | {f"{task}-data": calibration(metrics) for task, metrics in dreamt.items()}


def read_numbers(path: Path, required: Sequence[str], optional: Sequence[str]) -> dict[str, float]:
    """A stage's metrics, of which `optional` are there together or not at all.

    Raises ValueError where the file or a number is missing.
    """
    metrics = files.read_json(path)
    if isinstance(metrics, dict):
        names = [*required, *(optional if any(name in metrics for name in optional) else ())]
        if all(isinstance(metrics.get(name), int | float) for name in names):
            return metrics
    raise BadInput(f"{path} is damaged; restore it with dvc checkout --force")


def calibration(metrics: Mapping[str, float]) -> dict[str, float]:
    """The data policy as a row: what it survives in the game and in the dream at temperature 1.

    A dream that no episode outlives as long as rollouts ask for has no score.
    """
    row = {
        "mean": metrics["survival_in_reality"],
        "std": metrics["survival_in_reality_std"],
        "episodes": metrics["episodes_in_reality"],
    }
    if metrics["episodes_in_dream"]:
        row["virtual_mean"] = metrics["survival_in_dream"]
        row["virtual_std"] = metrics["survival_in_dream_std"]
    return row


def complete(table: Table, settings: Settings, scores: Scores) -> Table:
    """The table with rows for agents of its task that the paper does not have.

    An agent that dreams at another temperature than the paper's row of its name is not that row.
    """
    agents = {name: agent for name, agent in settings.agents.items() if agent.task == table.task}
    rows = [fit(row, agents.get(row.name or "")) for row in table.rows]
    known = {row.name for row in rows}
    rows += [Row(name, describe(agent), None) for name, agent in agents.items() if name not in known]
    return dataclasses.replace(table, rows=tuple(rows))


def fit(row: Row, agent: AgentSettings | None) -> Row:
    if agent is None or row.temperature in (None, agent.temperature):
        return row
    return Row(row.name, describe(agent), None)


def describe(agent: AgentSettings) -> str:
    if agent.place == "dream":
        return f"dream at temperature {agent.temperature:g}"
    return f"C reads {', '.join(agent.reads)}"


def measured(row: Row, scores: Scores, kind: str = "") -> Score | None:
    """The row's mean and standard deviation; `kind`: empty, or virtual_."""
    values: Mapping[str, float] = scores.get(row.name or "", {})
    if f"{kind}mean" not in values:
        return None
    return values[f"{kind}mean"], values[f"{kind}std"]


def markdown(table: Table, scores: Scores) -> str:
    head = ["policy", "agent"]
    if table.dreamt:
        head += ["measured in the dream", "published"]
    head += ["measured in reality", "published", "by"]
    body = []
    for row in table.rows:
        cells = [row.label, row.name or NONE]
        if table.dreamt:
            cells += [words(measured(row, scores, "virtual_")), words(row.virtual)]
        cells += [words(measured(row, scores)), words(row.score)]
        body.append([*cells, row.source if row.score else NONE])
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    aligned = [" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return f"{table.caption}\n\n" + "".join(f"| {line} |\n" for line in aligned)


def words(score: Score | None) -> str:
    return NONE if score is None else f"{score[0]:.0f} ± {score[1]:.0f}"


def comma_separated(tables: list[Table], scores: Scores) -> str:
    text = io.StringIO()
    names = ("mean", "std", "virtual_mean", "virtual_std")
    columns = ["task", "agent", "row", *names, "episodes", *(f"published_{name}" for name in names), "source"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for table, row in rows_of(tables):
        own = scores.get(row.name or "", {})
        published = [*(row.score or ("", "")), *(row.virtual or ("", ""))]
        numbers = [own.get(name, "") for name in (*names, "episodes")]
        writer.writerow([table.task, row.name or "", row.label, *numbers, *published, row.source])
    return text.getvalue()


def rows_of(tables: list[Table]) -> Iterator[tuple[Table, Row]]:
    for table in tables:
        for row in table.rows:
            yield table, row


def draw(tables: list[Table], scores: Scores) -> Figure:
    """A panel per table: bars with a standard deviation to either side, published and measured."""
    figure = Figure(figsize=(11, 1.2 + 0.42 * max(len(table.rows) for table in tables)), layout="constrained")
    for axes, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        draw_bars(axes, table, scores)
    return figure


def draw_bars(axes: Axes, table: Table, scores: Scores) -> None:
    series = [("published", "0.75", [row.score for row in table.rows])]
    series += [("measured", "C0", [measured(row, scores) for row in table.rows])]
    if table.dreamt:
        dreamt = [measured(row, scores, "virtual_") for row in table.rows]
        series += [("in the dream", "C1", dreamt)]
    height = 0.8 / len(series)
    for index, (label, color, values) in enumerate(series):
        bars = [(row + (index - (len(series) - 1) / 2) * height, *v) for row, v in enumerate(values) if v]
        places, means, spreads = zip(*bars, strict=True) if bars else ((), (), ())
        axes.barh(places, means, height, xerr=spreads, color=color, label=label, error_kw={"linewidth": 0.8})
    axes.set_yticks(range(len(table.rows)), [row.label for row in table.rows])
    axes.invert_yaxis()
    axes.set(title=table.task, xlabel="score")
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(series))
