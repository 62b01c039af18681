"""Pictures: curves, and sheets of frames. The same input gives the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG without the version that matplotlib would leave in it."""
    figure.savefig(path, dpi=100, metadata={"Software": None})


def save_losses(path: Path, title: str, curve: Sequence[Mapping[str, float]], pairs: Sequence[str]) -> None:
    """Training and held-out losses by step, a panel per name in `pairs` (keys train_NAME, held_out_NAME)."""
    figure = Figure(figsize=(4 * len(pairs), 3.2), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    steps = [row["step"] for row in curve]
    for axes, name in zip(panels, pairs, strict=True):
        for kind, style in (("train", "-"), ("held_out", "--")):
            axes.plot(steps, [row[f"{kind}_{name}"] for row in curve], style, label=kind.replace("_", " "))
        axes.set(xlabel="step", title=name.replace("_", " "))
        axes.legend()
    figure.suptitle(title)
    save_figure(path, figure)


def save_sheet(path: Path, rows: Sequence[np.ndarray], enlarge: int = 2) -> None:
    """A picture of rows of frames, each uint8 [n, height, width, 3], drawn `enlarge` times as large."""
    lines = [np.concatenate(list(row), axis=1) for row in rows]
    sheet = Image.fromarray(np.concatenate(lines, axis=0))
    size = (sheet.width * enlarge, sheet.height * enlarge)
    sheet.resize(size, Image.Resampling.NEAREST).save(path)
