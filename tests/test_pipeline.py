"""`dvc repro` for real, at *smoke*: nothing runs twice, what must run does, the bytes are always the same."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.clone import Clone, stages_run
from tests.readme import README

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("pipeline")]

TAKECOVER_FROM_VISION = [
    "vision@takecover",
    "latents@takecover",
    "memory@takecover",
    "untrained@takecover",
    "controller@takecover",
    "evaluation@takecover",
    "tables",
]


def test_the_whole_runs_and_prints_both_tables(smoke: Clone) -> None:
    assert len(stages_run(smoke.first_output)) == len(smoke.lock()) >= 20
    for words in ("full world model: C reads z and h", "1092 ± 556", "carracing-random", "takecover-random"):
        assert words in smoke.first_output


def test_typed_again_nothing_runs(smoke: Clone) -> None:
    assert smoke.repro() == []
    assert smoke.run("git", "status", "--porcelain") == ""


def test_what_stages_write_is_what_dvc_yaml_lists(smoke: Clone) -> None:
    outs = [out["path"] for stage in smoke.lock().values() for out in stage.get("outs", [])]
    for path in (smoke.folder / "data").rglob("*"):
        name = str(path.relative_to(smoke.folder))
        if path.is_file() and name != "data/.gitignore":
            assert any(name == out or name.startswith(f"{out}/") for out in outs), name


def test_a_comment_in_the_command_line_or_the_readme_runs_nothing(copy: Clone) -> None:
    for name in ("wm/__main__.py", "wm/cli.py", "README.md", "wm/progress.py"):
        with open(copy.folder / name, "a") as file:
            file.write("\n# a comment\n")
    assert copy.repro() == []


def test_another_temperature_runs_its_agent_and_the_tables(copy: Clone) -> None:
    text = copy.run("dvc", "exp", "run", "--set-param", "agents.takecover.temperature=1.3")
    assert stages_run(text) == ["controller@takecover", "evaluation@takecover", "tables"]
    changes = json.loads(copy.run("dvc", "metrics", "diff", "--json"))
    values = changes["data/tables/scores.json"]
    assert values and set(values) <= {
        "takecover.mean",
        "takecover.std",
        "takecover.virtual_mean",
        "takecover.virtual_std",
    }
    copy.environment["COLUMNS"] = "120"  # a screen
    table = copy.run(*compare())
    assert "agents.takecover.temperature" in table and "1.15" in table and "1.3" in table
    assert "…" not in table


def compare() -> list[str]:
    """The README's `dvc exp show`."""
    (line,) = {line for line in README.read_text().splitlines() if line.startswith("dvc exp show")}
    return [*shlex.split(line), "--no-pager"]


def test_another_latent_size_runs_all_of_that_game_from_vision_on(copy: Clone) -> None:
    text = copy.run("dvc", "exp", "run", "--set-param", "takecover.vision.latent_size=16")
    assert sorted(stages_run(text)) == sorted(TAKECOVER_FROM_VISION)


def test_parts_grow_and_shrink_and_a_fresh_clone_agrees(copy: Clone, smoke: Clone) -> None:
    copy.set("takecover.parts", [0, 1])
    assert copy.repro("vision@takecover") == ["rollouts-takecover@1", "vision@takecover"]
    both = copy.lock()["vision@takecover"]
    copy.set("takecover.parts", [0])
    copy.repro("--no-run-cache", "vision@takecover")
    assert [path.name for path in (copy.folder / "data/takecover/rollouts").iterdir()] == ["0"]
    assert copy.lock()["vision@takecover"] == smoke.lock()["vision@takecover"]
    copy.set("takecover.parts", [0, 1])
    copy.repro("vision@takecover")
    assert copy.lock()["vision@takecover"] == both


def test_another_loss_trains_vision_anew(copy: Clone, smoke: Clone) -> None:
    shutil.copytree(smoke.folder / ".wm", copy.folder / ".wm", dirs_exist_ok=True)
    copy.edit("wm/vision.py", "-0.5 * (1 + logvar", "-0.25 * (1 + logvar")
    stale = json.loads(copy.run("dvc", "status", "--json"))
    assert {"vision@carracing", "vision@takecover"} <= set(stale)
    assert not [name for name in stale if name.startswith(("rollouts", "random", "untrained", "tables"))]
    copy.repro("--single-item", "vision@takecover")
    before, after = (clone.lock()["vision@takecover"]["outs"] for clone in (smoke, copy))
    assert before != after


def test_another_number_of_workers_and_no_checkpoints_give_the_same_bytes(
    smoke: Clone, tmp_path: Path
) -> None:
    other = Clone.of_working_tree(tmp_path / "clone", WM_WORKERS="1", WM_RESUME="0")
    other.run("dvc", "repro", "--force")
    assert (other.folder / "dvc.lock").read_text() == (smoke.folder / "dvc.lock").read_text()


def test_three_workers_give_the_same_bytes(smoke: Clone, tmp_path: Path) -> None:
    copy = smoke.copy(tmp_path / "clone", WM_WORKERS="3")
    for stage in ("rollouts-takecover@0", "controller@carracing", "evaluation@carracing", "random@takecover"):
        assert copy.repro("--force", "--single-item", stage) == [stage]
    assert copy.lock() == smoke.lock()


@pytest.mark.parametrize(
    "stage",
    [
        "rollouts-carracing@0",
        "vision@takecover",
        "memory@takecover",
        "controller@takecover",
        "evaluation@carracing",
    ],
)
def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(stage: str, copy: Clone, smoke: Clone) -> None:
    copy.kill_once_saved(stage)
    text = copy.run("dvc", "repro", "--force", "--single-item", stage)
    assert "resumed at " in text and "resumed at 0" not in text
    assert copy.lock() == smoke.lock()


def test_metrics_show_every_agents_mean_and_deviation(smoke: Clone) -> None:
    text = smoke.run("dvc", "metrics", "show")
    agents = YAML(typ="safe").load(smoke.folder / "params.yaml")["agents"]
    for name in (*agents, "carracing-random", "takecover-random"):
        assert f"{name}.mean" in text and f"{name}.std" in text


def test_plots_need_no_network(smoke: Clone, tmp_path: Path) -> None:
    smoke.run("dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    assert "http" not in page
    names = ["fitness.png", "losses.png", "reconstructions.png", "dream.png", "scores.png"]
    assert all(name in page for name in names)


def test_bad_settings_stop_the_pipeline_with_one_line(copy: Clone) -> None:
    copy.set("takecover.vision.latent_size", 0)
    text = copy.run("dvc", "repro", "vision@takecover", expect=255)
    assert "wm: params.yaml: takecover.vision.latent_size must be at least 1" in text
    assert "Traceback" not in text


def test_what_is_damaged_is_said_plainly(copy: Clone) -> None:
    weights = copy.folder / "data/takecover/vision/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "weights.safetensors is damaged" in copy.run("wm", "latents", "takecover", expect=2)
