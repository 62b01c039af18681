"""The fitting loop: stopped anywhere and resumed, it gives the same bytes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from wm import fitting
from wm.checkpoint import Checkpoint
from wm.fitting import Fit


class Killed(BaseException):
    """Stands for a kill between two steps."""


def fit(state: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> tuple[nn.Module, Fit]:
    """Fit a line to noisy points for 50 steps, each step checkpointed; killed before step `stop_at`."""
    monkeypatch.setenv("WM_STATE", str(state))
    monkeypatch.setattr("wm.checkpoint.INTERVAL", 0.0)
    module = nn.Linear(3, 1)
    nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)
    carried = {"h": torch.zeros(1)}

    def losses(step: int) -> fitting.Losses:
        if step == stop_at:
            raise Killed
        x = torch.randn(8, 3, generator=fitting.noise_source(torch.device("cpu"), 1, "test", step))
        carried["h"] = carried["h"] + 1
        return {"loss": (module(x) - x.sum(1, keepdim=True) - 0.1 * carried["h"]).square().mean()}

    with Checkpoint("fit", {"a": 1}) as checkpoint:
        loop = Fit("fit", module, losses, lambda: {"loss": 1.0}, checkpoint, carried)
        loop.run(50, 1e-2, 1e-3, clip=1.0)
    return module, loop


@pytest.mark.parametrize("stop_at", [1, 17, 49])
def test_killed_and_resumed_it_ends_the_same(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, whole = fit(tmp_path / "straight", monkeypatch)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", monkeypatch, stop_at)
    capsys.readouterr()
    resumed, parts = fit(tmp_path / "killed", monkeypatch)
    assert f"resumed at {stop_at} of 50" in capsys.readouterr().err
    assert torch.equal(straight.weight, resumed.weight) and torch.equal(straight.bias, resumed.bias)
    assert whole.curve == parts.curve
    assert len(whole.curve) == fitting.EVALUATIONS


def test_wm_resume_0_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, monkeypatch)
    monkeypatch.setenv("WM_RESUME", "0")
    fit(tmp_path, monkeypatch)
    assert "resumed" not in capsys.readouterr().err


def test_the_rate_decays_exponentially() -> None:
    assert fitting.rate(1e-2, 1e-4, 0, 10) == 1e-2
    assert fitting.rate(1e-2, 1e-4, 5, 10) == pytest.approx(1e-3)
    assert fitting.rate(1e-2, 1e-4, 10, 10) == pytest.approx(1e-4)


def test_a_loss_that_is_not_finite_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WM_STATE", str(tmp_path))
    module = nn.Linear(1, 1)
    with Checkpoint("fit", {}) as checkpoint, pytest.raises(ValueError, match="learning_rate"):
        Fit("fit", module, lambda step: {"loss": module.weight.sum() * torch.inf}, dict, checkpoint).run(
            20, 1e-3, 1e-3
        )
