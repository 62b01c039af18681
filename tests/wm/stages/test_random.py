import csv
import json
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from ruamel.yaml import YAML

import wm
from wm import checkpoint, recording, seeds
from wm.recording import Start
from wm.stages import random
from wm.tasks import load_task

SMOKE = Path(wm.__file__).parent / "presets" / "smoke.yaml"
Play = Callable[[list[Start]], list]


class Here:
    """Workers without processes, which give up before block `limit`."""

    limit = 1000

    def __enter__(self) -> "Here":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def map(self, function: Play, blocks: Iterable[list[Start]]) -> Iterator[list]:
        for number, block in enumerate(blocks):
            if number == self.limit:
                raise KeyboardInterrupt
            yield function(block)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    values = YAML(typ="safe").load(SMOKE)
    values["takecover"]["evaluation"].update(episodes=5, block=2, seed=9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(random, "take_workers", Here)
    YAML(typ="safe").dump(values, tmp_path / "params.yaml")
    kept: dict[object, object] = {}

    def worker_local(key: object, make: Callable[[], object]) -> object:
        return kept[key] if key in kept else kept.setdefault(key, make())

    monkeypatch.setattr(recording, "worker_local", worker_local)
    return tmp_path


def test_scores_are_a_plain_loops_and_a_stopped_run_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL", -1.0)
    monkeypatch.setattr(Here, "limit", 2)
    with pytest.raises(KeyboardInterrupt):
        random.run("takecover")
    assert not (project / "data" / "takecover" / "random").exists()
    monkeypatch.setattr(Here, "limit", 1)  # one more block is all that may be left to play
    random.run("takecover")
    check_scores(project / "data" / "takecover" / "random")

    shutil.rmtree(project / "data")
    monkeypatch.setattr(Here, "limit", 0)
    random.run("takecover")
    check_scores(project / "data" / "takecover" / "random")


def check_scores(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    scores = [float(row["score"]) for row in rows]
    assert [int(row["episode"]) for row in rows] == list(range(5))
    assert scores == [float(row["steps"]) for row in rows]  # reward 1 a step
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean"] == pytest.approx(statistics.mean(scores))
    assert metrics["std"] == pytest.approx(statistics.pstdev(scores))
    assert metrics["episodes"] == 5
    game = load_task("takecover").make_game("native")
    for episode in (0, 4):
        seed = seeds.integer(9, "evaluation", episode)
        assert int(rows[episode]["seed"]) == seed
        assert scores[episode] == plain_score(game, seed, episode)
    game.close()


def plain_score(game: object, seed: int, episode: int) -> float:
    stream: np.random.Generator = seeds.generator(9, "policy", "takecover", "random", episode)
    policy, score, over = load_task("takecover").random_policy(stream), 0.0, False
    game.reset(seed)  # type: ignore[attr-defined]
    while not over:
        _, reward, terminated, truncated = game.step(policy.act())  # type: ignore[attr-defined]
        score += reward
        over = terminated or truncated
    return score
