"""A checkpoint is forgotten when code changes that dvc.yaml lists for its stage: the key covers all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wm import artifacts
from tests.wm.stages import stores
from tests.wm.stages.checkout import ROOT, prepare
from tests.wm.test_dependencies import listed
from wm import paths, seeds
from wm.agent import shape
from wm.controller import save_controller
from wm.settings import read_settings

SHOW = """
import json, sys
from importlib import import_module
sys.path.insert(0, sys.argv[1])
import wm.checkpoint
from wm import code

class Telling:
    def __init__(self, *_):
        print(json.dumps([f"wm/{path.relative_to(code.ROOT)}" for path in code.loaded()]))
        sys.exit()

wm.checkpoint.Checkpoint = Telling
import_module("wm.stages." + sys.argv[2]).run(*json.loads(sys.argv[3]))
"""
"""Runs a stage as far as its checkpoint and prints the code that would be in the key."""

CASES = {
    "rollouts-carracing": ("rollouts", "carracing", ["carracing", 0]),
    "rollouts-takecover": ("rollouts", "takecover", ["takecover", 0]),
    "vision": ("vision", "takecover", ["takecover"]),
    "latents": ("latents", "takecover", ["takecover"]),
    "memory": ("memory", "takecover", ["takecover"]),
    "controller": ("controller", "carracing", ["carracing"]),
    "evaluation": ("evaluation", "takecover", ["takecover"]),
    "random": ("random", "takecover", ["takecover"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that stages read, of noise."""
    folder = tmp_path_factory.mktemp("project")
    prepare(folder)
    data = folder / "data"
    stores.write_rollouts(folder / paths.rollouts("takecover") / "0", "takecover", 1)
    stores.write_latents(folder / paths.latents("takecover") / "0", "takecover", 1, artifacts.LATENT)
    settings = read_settings(artifacts.values())
    agent = settings.agents["takecover"]
    c = shape(agent, settings.games["takecover"])
    paths.controller("takecover", data).mkdir(parents=True)
    weights = seeds.generator(1).standard_normal(c.size)
    save_controller(paths.controller("takecover", data) / paths.WEIGHTS, c, weights)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_the_key_covers_the_code_that_dvc_yaml_lists(name: str, folder: Path) -> None:
    stage, task, arguments = CASES[name]
    command = [sys.executable, "-c", SHOW, str(ROOT), stage, json.dumps(arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert listed(name, task) <= set(json.loads(done.stdout))
