"""Presets are complete and valid, and `wm preset` keeps the comments of params.yaml."""

import shutil
from pathlib import Path

import pytest

from wm.preset import PRESETS, read_preset, write_preset
from wm.reading import read_yaml
from wm.settings import read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_written_whole(name: str, params: Path) -> None:
    write_preset(name, params)
    assert read_yaml(params) == read_preset(name)
    read_settings(read_yaml(params))


def test_the_repository_holds_the_laptop_preset(params: Path) -> None:
    assert read_yaml(params) == read_preset("laptop")
    write_preset("laptop", params)
    assert params.read_text() == (ROOT / "params.yaml").read_text()


def test_no_comment_is_lost_on_the_way_through_all_presets(params: Path) -> None:
    for name in ("smoke", "paper", "smoke", "laptop"):
        write_preset(name, params)
        assert "# of each game" in params.read_text().lower()
    assert params.read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_in_block_style(name: str, params: Path) -> None:
    write_preset(name, params)
    lines = [
        line.split(" # ")[0] for line in params.read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    assert not any(sign in line for line in lines for sign in "{}[]")


def test_the_paper_preset_has_the_papers_numbers() -> None:
    settings = read_settings(read_preset("paper"))
    for game in settings.games.values():
        assert len(game.parts) * game.rollouts.episodes == 10_000
        assert game.evaluation.episodes == 100
        assert game.vision.kl_floor == 0.5
        assert game.memory.mixtures == 5
    assert settings.games["carracing"].vision.latent_size == 32
    assert settings.games["takecover"].vision.latent_size == 64
    assert settings.games["carracing"].memory.hidden_size == 256
    assert settings.games["takecover"].memory.hidden_size == 512
    for agent in settings.agents.values():
        assert (agent.evolution.population, agent.evolution.episodes) == (64, 16)
        assert (agent.evolution.selection_every, agent.evolution.selection_episodes) == (25, 1024)
    assert len(settings.agents) == 9


def test_an_unknown_preset_is_refused_and_nothing_written(params: Path) -> None:
    before = params.read_text()
    with pytest.raises(ValueError, match="did you mean smoke"):
        write_preset("smok", params)
    assert params.read_text() == before
