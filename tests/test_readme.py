"""The README tells the truth: its table is dvc.yaml's, its commands and names exist."""

import re

from tests import readme
from wm import cli
from wm.preset import PRESETS

TEXT = readme.README.read_text()


def test_the_stage_table_is_that_of_dvc_yaml() -> None:
    assert readme.renewed(TEXT) == TEXT, "run: python -m tests.readme"
    assert readme.stage_table() in TEXT


def test_the_two_commands_are_one_line_each() -> None:
    commands = readme.commands()
    assert set(commands) == {"run", "tests"}
    for command in commands.values():
        assert "\n" not in command
    assert "dvc repro" in commands["run"] and "pytest" in commands["tests"]


def test_continuous_integration_runs_the_readmes_tests() -> None:
    assert "tests.readme --command tests" in (readme.ROOT / ".ci" / "run").read_text()


def test_every_command_that_is_named_exists() -> None:
    names = {name for name, _, _ in cli.STAGES} | {"preset", "check", "watch"}
    named = set(re.findall(r"`?\bwm (\w+)", " ".join(re.findall(r"`[^`]+`|^wm .*$", TEXT, re.MULTILINE))))
    assert named and named <= names


def test_every_preset_is_named() -> None:
    assert all(f"*{name}*" in TEXT for name in PRESETS)


def test_every_variable_is_named() -> None:
    assert all(name in TEXT for name in ("WM_WORKERS", "WM_DEVICE", "WM_RESUME", "WM_STATE"))


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (readme.ROOT / link).exists(), link
