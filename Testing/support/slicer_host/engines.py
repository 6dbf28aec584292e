"""An engine for the tests of the glue: deterministic, fast, and strict about what it is called with."""

from __future__ import annotations

import threading
import time

import numpy as np
from fake_engine import dense, dense_result

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.errors import CancelledError
from MedalSLib.run import Estimate, Progress, Report, StructureReport
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.mask import BoxMask


class FakeEngine(Engine):
    """Finds in every image the masks it was told, and records how it was asked.

    Args:
        answers: Mask by name, (K, J, I); a name that is not here is not found.
        pause: Seconds between structures.
        error: Raised by `segment` after the first structure.
    """

    def __init__(self, answers=None, pause=0.0, error=None, instances=None):
        self.answers = answers or {}
        self.pause = pause
        self.error = error
        self.instances = instances or {}
        self.opened = []
        self.asked = []
        self.closed = 0
        self.threads = set()
        self.busy = 0

    def info(self):
        return EngineInfo("fake", "1", "Fake", "none", ("CT_Liver",), "cpu", "test", "0")

    def open_session(self, array_kji, affine_ras, modality=None):
        self.opened.append((array_kji, affine_ras, modality))
        return FakeSession(self, Grid(array_kji.shape, affine_ras), modality or "CT")

    def close(self):
        pass


class FakeSession(Session):
    def __init__(self, engine, grid, modality):
        self.engine, self.grid, self.modality = engine, grid, modality
        self.warnings = ()

    def run(
        self,
        request,
        *,
        on_progress=None,
        on_structure=None,
        cancel=None,
    ):
        self.engine.busy += 1
        try:
            return self._segment(request, on_progress, on_structure, cancel)
        finally:
            self.engine.busy -= 1

    def _segment(self, request, on_progress, on_structure, cancel):
        prompts, roi, options = request.prompts, request.roi, request.options
        masks, locked = dense(request.masks), dense(request.locked)
        for mask in (*masks.values(), *locked.values()):
            assert mask.shape == self.grid.shape_kji and mask.dtype == bool
        self.engine.threads.add(threading.current_thread().name)
        self.engine.asked.append(
            {"prompts": tuple(prompts), "masks": masks, "locked": locked, "roi": roi, "options": options}
        )
        names = list(dict.fromkeys([*prompts, *masks]))
        found = {}
        for number, name in enumerate(names):
            if cancel is not None and cancel.is_set():
                raise CancelledError
            if on_progress:
                on_progress(Progress("stage 2", number / len(names), number, len(names)))
            mask = self._answer(name, masks, locked, roi)
            found[name] = mask
            if on_structure:
                on_structure(name, BoxMask.of(mask))
            end = time.monotonic() + self.engine.pause
            while time.monotonic() < end and not (cancel is not None and cancel.is_set()):
                time.sleep(0.002)
            if self.engine.error is not None:
                raise self.engine.error
        if cancel is not None and cancel.is_set():
            raise CancelledError
        labelmap = np.zeros(self.grid.shape_kji, np.uint8)
        for label, mask in enumerate(found.values(), 1):
            labelmap[mask] = label
        structures = {
            name: StructureReport(name, bool(mask.any()), float(mask.sum() * self.grid.voxel_volume_ml))
            for name, mask in found.items()
        }
        report = Report("fake 1", "cpu", self.modality, {"total": 0.0}, structures=structures)
        instances = {
            name: labels for name, labels in self.engine.instances.items() if name in found and options.instances
        }
        return dense_result(found, labelmap, tuple(found), report, instances)

    def _answer(self, name, masks, locked, roi):
        answer = self.engine.answers.get(name, np.zeros(self.grid.shape_kji, bool)).copy()
        if name in locked:
            answer = np.where(locked[name], masks[name], answer)
        if roi is not None:
            (i0, i1), (j0, j1), (k0, k1) = roi
            inside = np.zeros_like(answer)
            inside[k0:k1, j0:j1, i0:i1] = True
            answer &= inside
        return answer

    def estimate(self, prompts, masks=None, options=None):
        return Estimate(1.0, 10.0, len(prompts), True)

    def close(self):
        assert self.engine.busy == 0, "closed while it was used"
        self.engine.closed += 1
