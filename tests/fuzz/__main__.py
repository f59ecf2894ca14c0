"""`python -m tests.fuzz --minutes N`: fuzz every parser, print what was done as JSON, exit 1 on a finding."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
from pathlib import Path

import tests.fuzz.calls
import tests.fuzz.formats  # noqa: F401 -- both fill the table
from tests.fuzz.driver import Fuzzing
from tests.fuzz.target import TARGETS
from tests.fuzz.world import scene

MEMORY_MAX = 6 * 1024**3


def main() -> int:
    """Run, and say what was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long at least: each target has one whole round")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs")
    parser.add_argument("--examples", type=int, default=300, help="inputs for each target in one round")
    parser.add_argument("--target", action="append", metavar="NAME", help="only targets whose name contains this")
    parser.add_argument("--save", type=Path, default=Path(), metavar="FOLDER", help="where failing inputs are written")
    arguments = parser.parse_args()
    chosen = [item for item in TARGETS if not arguments.target or any(part in item.name for part in arguments.target)]
    if not chosen:
        parser.error(f"no target has such a name; they are {', '.join(item.name for item in TARGETS)}")
    # An input that would fill the memory becomes a MemoryError, which is a finding like any other.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    logging.disable(logging.CRITICAL)
    fuzzing = Fuzzing(chosen, arguments.seed, arguments.examples, scene().reset)
    fuzzing.run(arguments.minutes)
    for one in fuzzing.found:
        file = arguments.save / f"fuzz-{one.target.replace(' ', '-').replace('/', '-')}.hex"
        file.write_text(one.raw.hex() + "\n", encoding="ascii")
        print(f"{one.target}: {one.problem}\n  the input is in {file}", file=sys.stderr)
    print(json.dumps(fuzzing.report(), indent=2))
    return 1 if fuzzing.found else 0


if __name__ == "__main__":
    sys.exit(main())
