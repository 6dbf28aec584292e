"""Loading a model brings in no more of PyTorch than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_loading_the_starter_leaves_pytorchs_compiler_alone() -> None:
    """The compiler brings in Triton, which crashes beside the LLVM of Mesa's OpenGL drivers, and costs seconds."""
    program = (
        "import sys\n"
        "from MedalSLib.network.bundle import open_model\n"
        "model = open_model('starter')\n"
        "for stage in model.manifest.stages:\n"
        "    model.network(stage.stage)\n"
        "model.encode([('Liver', 'CT')])\n"
        "print(sorted({'torch._dynamo', 'triton'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-2000:]
