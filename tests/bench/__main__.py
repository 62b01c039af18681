"""`python -m tests.bench [--rows NAME ...] [--seconds S] [--json FILE]`: a table, as docs/speed.md has it."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from tests.bench import agents, dreams, games, recording, training
from tests.bench.measure import HEAD, Row, Skipped, line, measure

ROWS: dict[str, Callable[[], Row]] = {
    **games.ROWS,
    **agents.ROWS,
    **dreams.ROWS,
    **training.ROWS,
    **recording.ROWS,
}


def main() -> None:
    """Print the table; `--json` also writes the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="How fast the parts are beside the nearest other way, and beside their limit.",
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="NAME", default=list(ROWS), help=names())
    parser.add_argument(
        "--seconds", type=seconds, default=2.0, help="time for one rate (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    if arguments.json and (arguments.json.is_dir() or not arguments.json.parent.is_dir()):
        parser.error(f"argument --json: {arguments.json} cannot be written")
    print(HEAD)
    results = {}
    for name in arguments.rows:
        try:
            row = ROWS[name]()
        except Skipped as reason:
            print(f"| {name} | skipped: {reason} |", flush=True)
            continue
        results[name] = measure(row, arguments.seconds)
        print(line(name, row, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def seconds(text: str) -> float:
    """A time that can be measured, for argparse: more than 0 and at most an hour."""
    if not 0 < (value := float(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 3600, but is {text}")
    return value


def names() -> str:
    return f"of {', '.join(ROWS)} (default: all)"


if __name__ == "__main__":
    main()
