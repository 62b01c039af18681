"""`tables` puts every measured score beside the paper's and forgets what is no longer an agent."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from wm import published
from wm.errors import BadInput
from wm.preset import write_preset
from wm.reading import read_yaml
from wm.stages import tables

ROOT = Path(__file__).parents[3]


SURVIVAL: dict[str, dict[str, float]] = {
    "carracing": {},
    "takecover": {
        "survival_in_reality": 322.0,
        "survival_in_reality_std": 147.0,
        "episodes_in_reality": 960,
        "survival_in_dream": 347.0,
        "survival_in_dream_std": 201.0,
        "episodes_in_dream": 390,
    },
}


def write_metrics(folder: Path, **values: float) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(values))


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """Evaluations of all nine agents and both random policies, each with numbers of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_preset("laptop", tmp_path / "params.yaml")
    made = {}
    for index, (name, agent) in enumerate(read_yaml(tmp_path / "params.yaml")["agents"].items()):
        made[name] = {"mean": 100.4 + index, "std": 10.6 + index, "episodes": 100}
        if agent["place"] == "dream":
            made[name] |= {"virtual_mean": 700.0 + index, "virtual_std": 70.0 + index}
        write_metrics(Path("data/evaluation") / name, **made[name])
    for task, mean in (("carracing", -31.2), ("takecover", 205.0)):
        made[f"{task}-random"] = {"mean": mean, "std": 5.0, "episodes": 100}
        write_metrics(Path("data") / task / "random", **made[f"{task}-random"])
        write_metrics(Path("data") / task / "memory" / "trained", held_out_nll=0.9, **SURVIVAL[task])
    row = {"mean": 322.0, "std": 147.0, "episodes": 960, "virtual_mean": 347.0, "virtual_std": 201.0}
    made["takecover-data"] = row
    return made


def cells(agent: str, text: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f"| {agent} " in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_measured_rows_stand_beside_the_papers(
    scores: dict[str, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    tables.run()
    text = Path("data/tables/tables.md").read_text()
    assert cells("carracing", text)[2:] == ["102 ± 13", "906 ± 21", "paper"]
    assert cells("carracing-untrained", text)[3] == "866 ± 69"
    assert cells("carracing-random", text)[2:] == ["-31 ± 5", "–", "–"]
    assert cells("takecover", text)[2:6] == ["707 ± 77", "918 ± 546", "107 ± 18", "1092 ± 556"]
    assert cells("takecover-random", text)[2:6] == ["–", "–", "205 ± 5", "210 ± 108"]
    assert cells("takecover-data", text)[2:] == ["347 ± 201", "–", "322 ± 147", "–", "–"]
    assert "DQN" in text and "343 ± 18" in text and "820 ± 58" in text
    assert text in capsys.readouterr().out


def test_the_scores_are_one_file(scores: dict[str, dict[str, float]]) -> None:
    tables.run()
    assert json.loads(Path("data/tables/scores.json").read_text()) == scores


def test_the_comma_separated_table_holds_the_numbers(scores: dict[str, dict[str, float]]) -> None:
    tables.run()
    with open("data/tables/tables.csv", newline="") as file:
        rows = {row["agent"]: row for row in csv.DictReader(file) if row["agent"]}
    assert set(rows) == set(scores)
    assert float(rows["takecover"]["virtual_mean"]) == scores["takecover"]["virtual_mean"]
    assert float(rows["takecover"]["published_virtual_mean"]) == 918
    assert rows["carracing-random"]["published_mean"] == ""


def test_the_picture_is_one(scores: dict[str, dict[str, float]]) -> None:
    tables.run()
    with Image.open("data/tables/scores.png") as image:
        assert image.width > 600


def test_the_same_scores_give_the_same_bytes(scores: dict[str, dict[str, float]]) -> None:
    tables.run()
    first = {path.name: path.read_bytes() for path in Path("data/tables").iterdir()}
    tables.run()
    assert {path.name: path.read_bytes() for path in Path("data/tables").iterdir()} == first


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/evaluation/takecover/metrics.json", '{"mean": 1.0}'),
        ("data/evaluation/takecover/metrics.json", '{"mean": "x", "std": 1.0, "episodes": 1}'),
        ("data/evaluation/takecover/metrics.json", "[1.0]"),
        ("data/evaluation/takecover/metrics.json", '{"mean": 1, "std": 1, "episodes": 1, "virtual_std": 1}'),
        ("data/takecover/memory/trained/metrics.json", '{"survival_in_dream": 1.0}'),
        ("data/takecover/memory/trained/metrics.json", "1.0"),
    ],
)
def test_metrics_without_their_numbers_are_refused(
    path: str, content: str, scores: dict[str, dict[str, float]]
) -> None:
    Path(path).write_text(content)
    with pytest.raises(BadInput, match=f"{path} is damaged"):
        tables.run()


def test_a_dream_that_no_episode_outlives_has_no_score(scores: dict[str, dict[str, float]]) -> None:
    none = {"survival_in_dream": 0.0, "survival_in_dream_std": 0.0, "episodes_in_dream": 0}
    Path("data/takecover/memory/trained/metrics.json").write_text(json.dumps(SURVIVAL["takecover"] | none))
    tables.run()
    text = Path("data/tables/tables.md").read_text()
    assert cells("takecover-data", text)[2:] == ["–", "–", "322 ± 147", "–", "–"]


def test_evaluations_of_former_agents_are_removed(scores: dict[str, dict[str, float]]) -> None:
    write_metrics(Path("data/evaluation/former"), mean=1.0, std=1.0, episodes=1)
    tables.run()
    assert not Path("data/evaluation/former").exists()
    assert "former" not in Path("data/tables/scores.json").read_text()


def test_agents_of_ones_own_have_rows(scores: dict[str, dict[str, float]]) -> None:
    text = Path("params.yaml").read_text()
    start, end = text.index("  takecover:\n    task"), text.index("  takecover-130:")
    own = text[start:end].replace("takecover:", "my-own:", 1).replace("1.15", "1.2")
    Path("params.yaml").write_text(text[:end] + own + text[end:])
    write_metrics(Path("data/evaluation/my-own"), mean=3.0, std=1.0, episodes=2)
    tables.run()
    row = cells("my-own", Path("data/tables/tables.md").read_text())
    assert row[0] == "dream at temperature 1.2" and row[4] == "3 ± 1" and row[5] == "–"


def test_another_temperature_is_not_the_papers_row(scores: dict[str, dict[str, float]]) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("temperature: 1.15", "temperature: 1.4"))
    tables.run()
    row = cells("takecover", Path("data/tables/tables.md").read_text())
    assert row[0] == "dream at temperature 1.4" and row[3] == row[5] == "–"


def test_a_missing_evaluation_is_named(scores: dict[str, dict[str, float]]) -> None:
    shutil.rmtree("data/evaluation/takecover")
    with pytest.raises(ValueError, match=r"data/evaluation/takecover/metrics\.json does not exist"):
        tables.run()


def test_every_row_of_the_paper_has_its_agent() -> None:
    agents = set(read_yaml(ROOT / "params.yaml")["agents"])
    rows = {row.name for table in published.TABLES for row in table.rows if row.name}
    assert rows == agents | {"carracing-random", "takecover-random", "takecover-data"}
