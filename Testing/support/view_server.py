"""Serves a page with a quick engine for the story in the browser: `python view_server.py [K J I]` prints the address.

The image is a DICOM series of K x J x I voxels in which the liver is a box and the spleen another one.  With `two`
instead, two such pages are served, each by a process that ends ten seconds after its page was closed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np
from fake_engine import FakeEngine

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dicom_series import write_series
from slicer_host.phantoms import affine, box

SHAPE = tuple(map(int, sys.argv[1:4])) if __name__ == "__main__" and sys.argv[3:] else (40, 96, 96)
SLICES, ROWS, COLUMNS = SHAPE
SPACING = (192 / COLUMNS, 192 / ROWS, 160 / SLICES)
HIGH, DEEP = (SLICES // 4, SLICES * 3 // 4), (ROWS // 5, ROWS * 4 // 5)
LIVER = box(SHAPE, HIGH, DEEP, (COLUMNS // 8, COLUMNS * 11 // 24))
SPLEEN = box(SHAPE, HIGH, DEEP, (COLUMNS * 7 // 12, COLUMNS * 7 // 8))
GROWN = box(SHAPE, HIGH, DEEP, (COLUMNS // 8, COLUMNS * 7 // 12))
"""The liver after a refinement: it reaches the spleen."""


class Refining(FakeEngine):
    """Answers a larger liver once something was painted."""

    def open_session(self, array_kji, affine_ras, modality=None):
        session = super().open_session(array_kji, affine_ras, modality)
        run = session.run

        def refining(request, **callbacks):
            assert self.answers is not None
            self.answers["Liver"] = GROWN if request.painted else LIVER
            return run(request, **callbacks)

        session.run = refining
        return session


def say(addresses: list[str]) -> None:
    sys.stdout.write("".join(f"{address}\n" for address in addresses))
    sys.stdout.flush()


def two() -> None:
    """Serve two images until the process is ended."""
    from MedalSLib.view.pages import Pages

    command = [sys.executable, __file__, *map(str, SHAPE), "10"]
    asyncio.run(Pages([command, command]).serve(0, say))


def main() -> None:
    """Serve until the process is ended."""
    from MedalSLib.volume.geometry import Grid
    from MedalSLib.volume.reading import read_image

    array = np.where(LIVER | SPLEEN, 80, -100) + np.random.default_rng(0).integers(-15, 15, SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder, "series"), array.astype(np.int16), Grid(SHAPE, affine(SPACING)))
        serve(read_image(Path(folder, "series")))


def serve(image) -> None:
    from MedalSLib.view.app import view

    engine = Refining({"Liver": LIVER, "Spleen": SPLEEN}, patches=20, seconds_per_patch=0.15)
    factories = dict.fromkeys(("isolated", "in-process", "remote"), lambda _choice, _cancel: engine)
    keep_s = float(sys.argv[4]) if sys.argv[4:] else 0.0
    view(image, keep_s, lambda one: say([one]), lambda desk: desk.model.prompt.choose("CT"), factories)


if __name__ == "__main__":
    two() if sys.argv[1:] == ["two"] else main()
