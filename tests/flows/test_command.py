"""What the command lines of the flows have in common."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command import check_limits, check_settings, default_limits, share_cores

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("cores", "limits"), [(1, (1, 2)), (2, (1, 2)), (16, (1, 2)), (64, (1, 8))])
def test_a_machine_runs_few_stages_at_once(cores: int, limits: tuple[int, int]) -> None:
    assert default_limits(cores) == {"gpu": limits[0], "cpu": limits[1]}


@pytest.mark.parametrize(
    ("cores", "stages", "workers"), [(2, 2, "1"), (2, 1, "2"), (16, 2, "8"), (2, 5, "1")]
)
def test_cpu_stages_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, stages: int, workers: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("WM_WORKERS", "x")  # to be put back after the test
    del os.environ["WM_WORKERS"]
    share_cores({"cpu": stages, "gpu": 1})
    assert os.environ["WM_WORKERS"] == workers
    share_cores({"cpu": 1, "gpu": 1})
    assert os.environ["WM_WORKERS"] == workers  # what the user says, stays


@pytest.mark.parametrize("limit", [0, 1001])
def test_limits_out_of_range_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"--gpu must be from 1 to 1000, but is {limit}"):
        check_limits({"cpu": 1, "gpu": limit})


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("sys.exit('wm: agents is missing')", "^agents is missing$"),
        ("os.kill(os.getpid(), 9)", "^wm check ended with exit code -9$"),
    ],
)
def test_bad_settings_are_told_in_the_words_of_wm_check(tmp_path: Path, does: str, message: str) -> None:
    (tmp_path / "wm").mkdir()
    (tmp_path / "wm" / "__init__.py").touch()
    (tmp_path / "wm" / "__main__.py").write_text(f"import os, sys\n{does}\n")
    with pytest.raises(ValueError, match=message):
        check_settings(tmp_path, tmp_path)


@pytest.mark.parametrize("module", ["flows.pipeline", "flows.sweep"])
def test_a_flow_runs_in_the_root_alone(module: str, tmp_path: Path) -> None:
    """In a folder below, DVC would find the repository, but the flow not its dvc.lock."""
    done = subprocess.run(
        [sys.executable, "-m", module, "-S", "agents.takecover.temperature=1,2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == "flows: dvc.yaml does not exist here; run this in the repository's root\n"
    assert not list(tmp_path.iterdir())
