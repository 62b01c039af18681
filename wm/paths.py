"""Where things lie: the folders of `data/`, each named by the word that the stage bears.

`root` is another data folder, for those who use artifacts from elsewhere.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")


def rollouts(task: str) -> Path:
    """The folder of a task's parts; part `p` is the Zarr store `rollouts(task) / str(p)`."""
    return DATA / task / "rollouts"


def vision(task: str, root: Path = DATA) -> Path:
    return root / task / "vision"


def latents(task: str) -> Path:
    """A Zarr store per part, as in `rollouts`."""
    return DATA / task / "latents"


def memory(task: str, kind: str = "trained", root: Path = DATA) -> Path:
    """`kind`: trained or untrained."""
    return root / task / "memory" / kind


def random(task: str) -> Path:
    """The random policy's evaluation."""
    return DATA / task / "random"


def controller(agent: str, root: Path = DATA) -> Path:
    return root / "controller" / agent


def evaluation(agent: str) -> Path:
    return DATA / "evaluation" / agent


def tables() -> Path:
    return DATA / "tables"


WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"
