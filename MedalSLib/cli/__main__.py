"""Runs the command line as `python -m MedalSLib.cli`."""

import sys

from MedalSLib.cli import main

sys.exit(main())
