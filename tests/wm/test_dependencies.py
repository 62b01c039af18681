"""dvc.yaml names, stage by stage and task by task, the code that can change a result: all of it, no more."""

import ast
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from wm.code import WITHOUT_EFFECT

ROOT = Path(__file__).parents[2]

MATRIX = {
    "vision": ("carracing", "takecover"),
    "latents": ("carracing", "takecover"),
    "memory": ("carracing", "takecover"),
    "untrained": ("carracing", "takecover"),
    "random": ("carracing", "takecover"),
    "controller": ("carracing", "takecover"),
    "evaluation": ("carracing", "takecover"),
    "rollouts-carracing": ("carracing",),
    "rollouts-takecover": ("takecover",),
    "tables": (None,),
}
CASES = [(stage, task) for stage, tasks in MATRIX.items() for task in tasks]


@cache
def definitions() -> dict:
    return YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def file_of(module: str) -> str | None:
    """The file of a module of ours, relative to the root."""
    path = module.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


@cache
def imports(file: str, deep: bool = True) -> frozenset[str]:
    """Our files that a file imports: anywhere in it if `deep`, functions included, or at its top level."""
    tree = tree_of(file)
    names: set[str] = set()
    for node in ast.walk(tree) if deep else tree.body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: imports are absolute"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found for name in names if name.split(".")[0] == "wm" if (found := file_of(name)))


def uses(files: set[str], name: str) -> bool:
    """Whether any of the files outside `wm/tasks` mentions a name."""
    others = [file for file in files if not file.startswith("wm/tasks")]
    nodes = [node for file in others for node in ast.walk(tree_of(file))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return name in names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def closure(file: str, task: str | None) -> set[str]:
    """All our files that a stage leads to.

    The task's module belongs to it where `load_task` is called, and what that module imports when it makes a
    game (the renderers) where `make_game` is called.
    """
    found = follow({file}, deep=True)
    if task and uses(found, "load_task"):
        module = file_of(f"wm.tasks.{task}")
        assert module, f"no module of the task {task}"
        found |= follow({module}, deep=uses(found, "make_game"))
    return found


def follow(files: set[str], deep: bool) -> set[str]:
    found: set[str] = set()
    while files:
        found |= files
        files = {other for file in files for other in imports(file, deep)} - found - {"wm/__init__.py"}
    return found


def listed(stage: str, task: str | None) -> set[str]:
    """The code that dvc.yaml lists for a stage, folders opened."""
    definition = definitions()[stage]
    files = set()
    for dependency in definition.get("do", definition)["deps"]:
        path = dependency.replace("${item.task}", task or "")
        if not path.startswith("wm/"):
            continue
        assert (ROOT / path).exists(), f"{stage}: {path} does not exist"
        folder = ROOT / path
        opened = folder.rglob("*.py") if folder.is_dir() else [folder]
        files.update(str(file.relative_to(ROOT)) for file in opened)
    return files


@pytest.mark.parametrize(("stage", "task"), CASES)
def test_code_is_listed_as_far_as_it_has_an_effect(stage: str, task: str | None) -> None:
    needed = closure(f"wm/stages/{stage.split('-')[0]}.py", task) - WITHOUT_EFFECT
    present = listed(stage, task)
    assert present - needed == set(), "listed without need"
    assert needed - present == set(), "not listed"


def test_every_stage_is_looked_at() -> None:
    assert set(definitions()) == set(MATRIX)


def test_no_stage_of_one_game_depends_on_the_other_games_code() -> None:
    for stage, task in CASES:
        others = {"carracing", "takecover"} - {task} if task else set()
        for file in listed(stage, task):
            assert not any(f"wm/tasks/{other}" in file for other in others), (stage, file)


def test_no_stage_imports_another() -> None:
    stages = {str(path.relative_to(ROOT)) for path in (ROOT / "wm" / "stages").glob("*.py")}
    for stage in stages:
        assert not imports(stage) & stages - {"wm/stages/__init__.py"}, stage


def test_every_stage_names_its_pool_and_says_what_it_does() -> None:
    for name, definition in definitions().items():
        body = definition.get("do", definition)
        assert body["desc"]
        assert body["meta"]["pool"] in ("cpu", "gpu", "${item.pool}"), name
