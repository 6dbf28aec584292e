"""The room can be imported where only numpy is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_room_is_imported_with_numpy_alone() -> None:
    program = (
        "import sys\n"
        "blocked = 'torch scipy nibabel nrrd slicerio pydicom highdicom SimpleITK matplotlib rapidfuzz PIL'.split()\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import MedalSLib.volume as volume\n"
        "assert all(hasattr(volume, name) for name in volume.__all__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
