"""The parts of README.md that are checked: the stage table, made from dvc.yaml, and its two commands.

`python -m tests.readme` writes the table into README.md; `--command tests` prints the tests' command.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TABLE = re.compile(r"(<!-- stages: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
COMMAND = re.compile(r"<!-- command: (\w+) -->\n+```(?:sh|bash)\n(.*?)\n```", re.DOTALL)


def stage_table() -> str:
    """A row per stage of dvc.yaml: name, what it does, what it reads, what it writes, its pool."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    lines = ["| stage | what it does | reads | writes | pool |", "|---|---|---|---|---|"]
    lines += [row(name, definition.get("do", definition), definition) for name, definition in stages.items()]
    return "\n".join(lines) + "\n"


def row(name: str, body: dict[str, Any], definition: dict[str, Any]) -> str:
    each = "AGENT" if "foreach" in definition else next((k.upper() for k in definition.get("matrix", {})), "")
    title = f"`{name}@{each}`" if each else f"`{name}`"
    reads = [plain(path) for path in body["deps"] if not path.startswith("wm/")]
    outs = [plain(path) for key in ("outs", "metrics", "plots") for path in body.get(key, [])]
    writes = sorted({path if "." not in path else path.rsplit("/", 1)[0] for path in outs})
    pool = body["meta"]["pool"].replace("${item.pool}", "the agent's")
    cells = [title, plain(body["desc"]), paths(reads), paths(writes), pool]
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Templates in words."""
    words = {"item.task": "TASK", "item.part": "PART", "item.memory": "MEMORY", "key": "AGENT"}
    for name, word in words.items():
        text = text.replace("${" + name + "}", word)
    return text


def paths(names: list[str]) -> str:
    return (
        ", ".join(
            f"`{name.removeprefix('data/').split('/weights.')[0].split('/metrics.')[0]}`" for name in names
        )
        or "–"
    )


def commands() -> dict[str, str]:
    """The marked commands of the README by name."""
    return dict(COMMAND.findall(README.read_text()))


def renewed(text: str) -> str:
    """The README's text with the table as it should be."""
    return TABLE.sub(lambda match: match[1] + stage_table() + match[2], text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.readme", description=__doc__)
    parser.add_argument("--command", choices=commands(), help="print a command instead")
    chosen = parser.parse_args()
    if chosen.command:
        print(commands()[chosen.command])
    else:
        README.write_text(renewed(README.read_text()))


if __name__ == "__main__":
    main()
