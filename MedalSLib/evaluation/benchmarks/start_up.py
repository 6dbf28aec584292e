"""How long the program takes to start, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from MedalSLib.errors import ResourceError
from MedalSLib.evaluation.benchmarks.scenes import BenchOptions

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
    for name, arguments in _COMMANDS.items():
        found = []
        for _ in range(max(3, options.repeats)):
            before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found.append((cpu, time.perf_counter() - wall))
        cpu, wall = min(found)
        rows.append({"command": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)})
    return {"rows": rows}
