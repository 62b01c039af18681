"""What the paper and others report: the rows beside which `tables` puts the measured ones."""

from dataclasses import dataclass

Score = tuple[float, float]
"""Mean and standard deviation over episodes."""


@dataclass(frozen=True)
class Row:
    """A row of a table. `name`: an agent, TASK-random or TASK-data; None for a row that is cited alone."""

    name: str | None
    label: str
    score: Score | None
    virtual: Score | None = None  # in the dream
    temperature: float | None = None  # of the dream, for which the scores hold
    source: str = "paper"


@dataclass(frozen=True)
class Table:
    """A table of the paper, and what is cited beside it."""

    task: str
    caption: str
    dreamt: bool  # whether there are scores in the dream
    rows: tuple[Row, ...]


CITED = "cited by the paper"
REPLICATION = "a replication (ReScience)"

CARRACING = Table(
    task="carracing",
    caption="CarRacing: C evolved in the real game (paper, table 1; solved: 900)",
    dreamt=False,
    rows=(
        Row(None, "DQN", (343, 18), source=CITED),
        Row(None, "A3C, continuous", (591, 45), source=CITED),
        Row(None, "A3C, discrete", (652, 10), source=CITED),
        Row(None, "Gym leader", (838, 11), source=CITED),
        Row("carracing-random", "random policy", None),
        Row("carracing-z", "V alone: C reads z", (632, 251)),
        Row("carracing-z-hidden", "V alone, C with a hidden layer", (788, 141)),
        Row("carracing-untrained", "C reads z and h of an untrained M", (866, 69), source=REPLICATION),
        Row("carracing", "full world model: C reads z and h", (906, 21)),
    ),
)

TAKECOVER = Table(
    task="takecover",
    caption="Take Cover: C evolved in the dream, then moved to the real game (paper, table 2; solved: 750)",
    dreamt=True,
    rows=(
        Row(None, "Gym leader", (820, 58), source=CITED),
        Row("takecover-random", "random policy", (210, 108)),
        Row("takecover-data", "data policy (the dream's calibration)", None),
        Row("takecover-010", "dream at temperature 0.1", (193, 58), (2086, 140), 0.10),
        Row("takecover-050", "dream at temperature 0.5", (196, 50), (2060, 277), 0.50),
        Row("takecover-100", "dream at temperature 1.0", (868, 511), (1145, 690), 1.00),
        Row("takecover", "dream at temperature 1.15", (1092, 556), (918, 546), 1.15),
        Row("takecover-130", "dream at temperature 1.3", (753, 139), (732, 269), 1.30),
    ),
)

TABLES = (CARRACING, TAKECOVER)
