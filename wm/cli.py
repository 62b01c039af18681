"""The commands of `wm`, what they take, and what is checked before a stage is imported."""

import argparse
import importlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from wm import environment, paths, preset, provenance
from wm.errors import BadInput
from wm.reading import nearest, read_yaml
from wm.settings import Settings, read_settings
from wm.workers import started_ahead

DESCRIPTION = """World Models you can rerun: Ha & Schmidhuber (2018), both experiments, as a DVC pipeline.
`dvc repro` runs the stages; each is also a command here, to be run in the repository's root."""

EXAMPLES = """examples:
  wm check                                    is everything in order? (in a second, nothing is run)
  wm preset smoke                             write small settings into params.yaml; then: dvc repro
  wm vision takecover                         run one stage by hand
  wm watch takecover --place dream            a GIF of the agent in its own dream

environment:
  WM_WORKERS   worker processes (default: the number of cores); changes no result
  WM_DEVICE    auto, cpu or cuda (default: auto)
  WM_RESUME    0: ignore checkpoints and start afresh
  WM_STATE     where checkpoints and the log lie (default: .wm in the main checkout)"""


class Parser(ArgumentParser):
    """Complains in one line, with the nearest valid spelling."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse has no public hook for the words of a wrong choice
        if action.choices is not None and value not in action.choices:
            choices = tuple(map(str, action.choices))
            raise argparse.ArgumentError(action, f"{value!r} is unknown; {nearest(str(value), choices)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"wm: {message} (see {self.prog} --help)\n")


def parser() -> ArgumentParser:
    top = Parser(
        prog="wm",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, operands, summary in STAGES:
        command = commands.add_parser(name, help=summary, description=f"The stage `{name}`: {summary}.")
        for operand in operands:
            command.add_argument(operand, **OPERANDS[operand])
        command.set_defaults(run=stage_runner(name, operands))
    add_helpers(commands)
    return top


STAGES = (
    ("rollouts", ("task", "part"), "record episodes of a task with its data policy, one part"),
    ("vision", ("task",), "train V on all parts"),
    ("latents", ("task",), "encode all frames with V"),
    ("memory", ("task",), "train M on the latents"),
    ("untrained", ("task",), "make an M with random weights, for the ablation"),
    ("controller", ("agent",), "evolve an agent's C"),
    ("random", ("task",), "score the random policy"),
    ("evaluation", ("agent",), "score an agent in the real game"),
    ("tables", (), "put all scores beside the paper's"),
)

WORKERS_IMPORT = {
    "rollouts": "wm.recording",
    "random": "wm.recording",
    "controller": "wm.agent",
    "evaluation": "wm.agent",
}
"""Stages that use worker processes, and the module that these work with."""

OPERANDS: dict[str, dict[str, Any]] = {
    "task": {"metavar": "TASK", "help": "a game: carracing or takecover"},
    "part": {"metavar": "PART", "type": int, "help": "a number that params.yaml lists under TASK.parts"},
    "agent": {"metavar": "AGENT", "help": "a name that params.yaml lists under agents"},
}


def add_helpers(commands: Any) -> None:
    summary = "write a preset's values into params.yaml, comments kept"
    command = commands.add_parser("preset", help=summary, description=f"{summary.capitalize()}.")
    command.add_argument("name", metavar="NAME", help="smoke (for tests), laptop, overnight or paper")
    command.set_defaults(run=run_preset)
    summary = "check params.yaml and the environment, in a second"
    command = commands.add_parser("check", help=summary, description=f"{summary.capitalize()}.")
    command.set_defaults(run=run_check)
    command = commands.add_parser(
        "watch",
        help="write a GIF of an agent in the game or in its dream",
        description="Write a GIF of one episode. Reality: what the agent sees, and V's reconstruction of it; "
        "dream: what M imagines, as V decodes it.",
    )
    command.add_argument("agent", **OPERANDS["agent"])
    command.add_argument("--place", required=True, choices=("reality", "dream"), help="where it acts")
    command.add_argument("--temperature", type=float, help="of the dream (default: the agent's)")
    command.add_argument("--steps", type=int, default=300, help="at most so many (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the episode (default: %(default)s)")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: AGENT-PLACE.gif")
    command.set_defaults(run=run_watch)


def stage_runner(name: str, operands: tuple[str, ...]) -> Callable[[Namespace], None]:
    """What runs the stage: everything cheap is checked first, then the stage is imported and called."""

    def run(parsed: Namespace) -> None:
        values = [getattr(parsed, operand) for operand in operands]
        environment.check_variables()
        settings = read_settings(read_yaml(paths.PARAMS))
        check_operands(settings, dict(zip(operands, values, strict=True)))
        ahead = started_ahead(WORKERS_IMPORT[name]) if name in WORKERS_IMPORT else nullcontext()
        with provenance.record(title(name, values)), ahead:
            importlib.import_module(f"wm.stages.{name}").run(*values)

    return run


def title(name: str, values: list[Any]) -> str:
    """The stage's name in dvc.yaml, such as vision@takecover or rollouts-takecover@0."""
    *before, last = values or [""]
    return "-".join([name, *before]) + (f"@{last}" if values else "")


def check_operands(settings: Settings, operands: dict[str, Any]) -> None:
    """Raise ValueError for a task, part or agent that params.yaml does not list."""
    task, part, agent = operands.get("task"), operands.get("part"), operands.get("agent")
    if task is not None and task not in settings.tasks:
        raise BadInput(f"task {task!r} is unknown; {nearest(task, settings.tasks)}")
    if part is not None and part not in settings.games[operands["task"]].parts:
        listed = ", ".join(map(str, settings.games[operands["task"]].parts))
        raise BadInput(f"part {part} is not listed in params.yaml: {task}.parts; allowed: {listed}")
    if agent is not None and agent not in settings.agents:
        raise BadInput(f"agent {agent!r} is unknown; {nearest(agent, tuple(settings.agents))}")


def run_preset(parsed: Namespace) -> None:
    preset.write_preset(parsed.name)
    print(f"params.yaml now holds the preset {parsed.name}; `dvc params diff` shows what changed")


def run_check(parsed: Namespace) -> None:
    settings = read_settings(read_yaml(paths.PARAMS))
    environment.check_variables()
    for remark in environment.check_packages():
        print(f"wm: {remark}", file=sys.stderr)
    parts = ", ".join(f"{len(game.parts)} of {name}" for name, game in settings.games.items())
    print(f"params.yaml is in order: {len(settings.agents)} agents; parts: {parts}")


def run_watch(parsed: Namespace) -> None:
    environment.check_variables()
    settings = read_settings(read_yaml(paths.PARAMS))
    check_operands(settings, {"agent": parsed.agent})
    if parsed.temperature is not None and parsed.place != "dream":
        raise BadInput("--temperature is of the dream; add --place dream")
    out = parsed.out or Path(f"{parsed.agent}-{parsed.place}.gif")
    if out.suffix.lower() != ".gif":
        raise BadInput(f"--out must end in .gif, but is {str(out)!r}")
    if out.is_dir() or not out.parent.is_dir() or not environment.writable(out.parent):
        raise BadInput(f"--out is {str(out)!r}, which cannot be written")
    watch = importlib.import_module("wm.stages.watch")
    watch.run(parsed.agent, parsed.place, parsed.temperature, parsed.steps, parsed.seed, out)
    print(out)
