"""The `medals` command: every front-end feature of the engine from a terminal.

Each module has the command of its name (`names` has `resolve` too, `serve` has `keys`, `train` has `prepare` and
`fine-tune`): `add_commands` declares its arguments, `run` or `run_...` executes it and returns the exit code.
`console` prints.
Modules import at the top only what parsing needs, so that `medals --help` is quick.

Results go to standard output, progress and messages to standard error, and the exit code says what kind of error it was
(see `medals --help`).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from MedalSLib import __version__
from MedalSLib.cli import batch, bench, evaluate, info, models, names, predict, segment, serve, train, view
from MedalSLib.cli.console import complain, complain_of_fault, quiet_libraries
from MedalSLib.errors import MedalSError

_DESCRIPTION = "Segment 3-D medical images from text and masks together (CT, MRI, PET, ultrasound, microscopy)."
_EPILOG = """\
examples:
  medals segment ct.nii.gz --text "liver, rt kidney" -o organs.seg.nrrd --preview organs.png
  medals segment ct.nrrd --text spleen --masks corrected.seg.nrrd --mode refine -o spleen.seg.nrrd
  medals view ct.nii.gz
  medals info study-folder
  medals names kid --modality CT
  medals resolve "rt kidney, liver mets" --modality CT --json

exit codes: 0 done, 1 failed unexpectedly, 2 wrong usage, 3 bad input, 4 name not understood or not known, 5 model,
6 output, 7 memory or device, 8 server, 130 cancelled
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="medals", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"medals {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (segment, info, batch, names, predict, evaluate, models, serve, view, train, bench):
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; expected errors become two sentences instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be more than the terminal can show
    parser = build_parser()
    if any("\0" in argument for argument in (sys.argv[1:] if argv is None else argv)):
        parser.error("an argument holds a zero byte")
    arguments = parser.parse_args(argv)
    try:
        with quiet_libraries():
            return int(arguments.run(arguments))
    except MedalSError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("medals: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; detach so that the interpreter's own flush stays quiet.
        sys.stderr.close()
        return 0
    except Exception as error:
        return complain_of_fault(error)
