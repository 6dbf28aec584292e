"""`python -m tools.robustness files|options`: prints a JSON report; exit code 1 if anything failed."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from MedalSLib.cli.console import print_json, quiet_libraries
from tools.robustness.damaged_files import read_damaged
from tools.robustness.made_up_options import run_made_up

_MEMORY = 8 << 30


def main() -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(prog="python -m tools.robustness", description=__doc__)
    parser.add_argument("what", choices=["files", "options"])
    parser.add_argument("--count", type=int, default=2000, help="files, or command lines (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        run = read_damaged if arguments.what == "files" else run_made_up
        report = run(Path(folder), arguments.count, arguments.seed).report()
    print_json(report)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
