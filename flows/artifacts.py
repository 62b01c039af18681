"""What a stage run shows in Prefect's UI: why it ran, how far it is, and what came of it."""

import base64
import contextvars
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_logger

from flows.graph import Stage

METRICS = ("metrics.json", "scores.json")
TABLES = "tables.md"
LARGEST_PICTURE = 2**20
"""Bytes of a picture that is put into the server's database; larger ones stay with DVC alone."""
BEAT_SECONDS = 10.0
"""Between two updates of a stage's progress, which also say that it is alive."""


def key(stage: Stage, what: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes."""
    return f"{stage.name.replace('@', '-')}-{what}"


class Progress:
    """How much of a stage is done, in percent, as its lines tell."""

    def __init__(self) -> None:
        self.percent = 0.0

    def tell(self, percent: float) -> None:
        self.percent = min(percent, 99.0)


@contextmanager
def progress(stage: Stage) -> Iterator[Progress]:
    """An artifact that shows the progress told in the block, and by its age whether the block still runs."""
    told, over = Progress(), threading.Event()
    artifact = create_progress_artifact(0.0, key=key(stage, "progress"), description=stage.description)
    assert isinstance(artifact, UUID)

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with dispensable():
                update_progress_artifact(artifact, told.percent)

    context = contextvars.copy_context()  # or the thread would not know which server
    beating = threading.Thread(target=context.run, args=(beat,), daemon=True)
    beating.start()
    try:
        yield told
        told.percent = 100.0
    finally:
        over.set()
        beating.join()
        with dispensable():
            update_progress_artifact(artifact, told.percent)


@contextmanager
def dispensable() -> Iterator[None]:
    """What fails in the block is told and let be: a server that is away for a moment costs no stage."""
    try:
        yield
    except Exception as error:  # whatever the client makes of it
        get_logger("flows").warning("Prefect's server did not take an artifact: %s", error)


@dispensable()
def show(stage: Stage, root: Path, reason: str) -> None:
    """Artifacts of a stage that has run: why, its metrics as a table, pictures, the tables of both games."""
    create_markdown_artifact(f"{stage.description}\n\n{reason}", key=key(stage, "reason"))
    told = stage.description
    for path in (root / out for out in stage.outs):
        if path.name in METRICS:
            rows = table(json.loads(path.read_text()))
            create_table_artifact(rows, key=key(stage, "metrics"), description=told)
        elif path.name == TABLES:
            create_markdown_artifact(path.read_text(), key=key(stage, "tables"), description=told)
        elif path.suffix == ".png" and path.stat().st_size <= LARGEST_PICTURE:
            address = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
            create_image_artifact(address, key=key(stage, path.stem), description=f"{told}: {path.stem}")


def table(metrics: dict[str, object]) -> list[dict[str, object]]:
    """A row per metric, or per agent where metrics are kept by agent."""
    nested = {name: value for name, value in metrics.items() if isinstance(value, dict)}
    if nested:
        return [{"name": name, **value} for name, value in nested.items()]
    return [{"metric": name, "value": value} for name, value in metrics.items()]
