"""How long the program takes to start, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from MedalSLib.errors import ResourceError
from tools.benchmarks.scenes import BenchOptions

_FIRST_MASK = """
import numpy as np
from MedalSLib.engine import open_engine
from tools.benchmarks.scenes import phantom_ct
with open_engine("starter", device="cpu", threads={threads}) as engine:
    with engine.open_session(phantom_ct({edge}), np.diag([3.0, 3.0, 3.0, 1.0]), "CT") as session:
        session.segment(["left lung"])
"""
"""From nothing to the first mask of the bundled model, in voxels of 3 mm."""
_EDGE = 96
_CHECKOUT = Path(__file__).resolve().parents[2]
"""Where the programs run: `python -c` and `-m` look there first."""
_COMMANDS = {
    "python alone": ["-c", "pass"],
    "import MedalSLib": ["-c", "import MedalSLib"],
    "medals names": ["-m", "MedalSLib.cli", "names", "kid", "--modality", "CT"],
    "medals resolve": ["-m", "MedalSLib.cli", "resolve", "rt kidney", "--modality", "CT", "--json"],
    "import MedalSLib.engine.interface": ["-c", "import MedalSLib.engine.interface"],
}


def start_up(options: BenchOptions) -> dict[str, Any]:
    """Measure the shortest of some starts of each command."""
    try:
        import resource
    except ImportError as error:
        raise ResourceError("This system does not say how long a program computed.", "Use Linux or macOS.") from error
    rows = []
    first_mask = _FIRST_MASK.format(edge=_EDGE, threads=options.threads)
    for name, arguments in {**_COMMANDS, "first mask of the starter": ["-c", first_mask]}.items():
        found = []
        for _ in range(max(3, options.repeats)):
            before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=_CHECKOUT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found.append((cpu, time.perf_counter() - wall))
        cpu, wall = min(found)
        rows.append({"command": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)})
    return {"rows": rows}
