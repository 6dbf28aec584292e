"""A deterministic engine without a network: what it answers depends on the image and the request only.

It works in patches that can be made slow, looks at `cancel` before each, and fails on demand: the prompts
"raise out of memory", "raise crash" and "unknown" stand for a failing machine, a bug and a wrong name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.errors import CancelledError, InputError, PromptError
from MedalSLib.run import (
    Estimate,
    Progress,
    ProgressCallback,
    Report,
    RunOptions,
    RunRequest,
    RunResult,
    StructureCallback,
    StructureReport,
)
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

OUT_OF_MEMORY = "raise out of memory"
CRASH = "raise crash"
UNKNOWN = "unknown"


class FakeEngine(Engine):
    """Counts what it does, so that tests can see that a run was done once, or cancelled early."""

    def __init__(self, patches: int = 4, seconds_per_patch: float = 0.0) -> None:
        self.before_patch: Callable[[int], object] = lambda patch: None
        self.before_structure: Callable[[str], object] = lambda name: None
        self.patches = patches
        self.seconds_per_patch = seconds_per_patch
        self.sessions: list[FakeSession] = []
        self.patches_done = 0
        self.closed = False

    def info(self) -> EngineInfo:
        return EngineInfo(
            "fake", "1", "A fake model", "none", ("CT_Liver", "CT_Spleen"), "cpu", "it is fake", "0", card="# Fake"
        )

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> FakeSession:
        if array_kji.min() == array_kji.max():
            raise InputError("The image has one value everywhere.", "Check the file.")
        if abs(np.linalg.det(affine_ras[:3, :3])) < 1e-9:
            raise InputError("The image's grid has no volume.", "Check the file.")
        session = FakeSession(self, array_kji, modality)
        self.sessions.append(session)
        return session

    def close(self) -> None:
        self.closed = True


def dense(masks: Mapping[str, np.ndarray | BoxMask] | None) -> dict[str, np.ndarray]:
    """Masks by name as arrays, however they were handed in."""
    return {name: mask.array() if isinstance(mask, BoxMask) else mask for name, mask in (masks or {}).items()}


def dense_result(
    masks: Mapping[str, np.ndarray],
    labelmap: np.ndarray,
    names: tuple[str, ...],
    report: Report,
    instances: Mapping[str, np.ndarray] | None = None,
) -> RunResult:
    """A result made of arrays."""
    return RunResult(
        {name: BoxMask.of(mask) for name, mask in masks.items()},
        BoxArray.of(labelmap),
        names,
        report,
        {name: BoxArray.of(labels) for name, labels in (instances or {}).items()},
    )


def fake_mask(array: np.ndarray, name: str, seed: int = 0) -> np.ndarray:
    """The mask a name has in an image: the voxels of one of seven bands of intensity."""
    band = (sum(name.encode()) + seed) % 7
    edges = np.quantile(array.astype(np.float64), [band / 7, (band + 1) / 7])
    return (array >= edges[0]) & (array < edges[1])


class FakeSession(Session):
    def __init__(self, engine: FakeEngine, array: np.ndarray, modality: str | None) -> None:
        self._engine = engine
        self._array = array
        self.modality = modality or "CT"
        self.warnings = () if modality else ("Taken for CT.",)
        self.closed = False

    def run(
        self,
        request: RunRequest,
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        prompts, roi, options = request.prompts, request.roi, request.options
        masks, locked = dense(request.masks), dense(request.locked)
        self._fail_on_demand(prompts)
        for patch in range(self._engine.patches):
            self._engine.before_patch(patch)
            if cancel is not None and cancel.is_set():
                raise CancelledError()
            time.sleep(self._engine.seconds_per_patch)
            self._engine.patches_done += 1
            if on_progress is not None:
                on_progress(Progress("stage 1", (patch + 1) / self._engine.patches, patch + 1, self._engine.patches))
        names = tuple(dict.fromkeys([prompt.capitalize() for prompt in prompts] + list(masks)))
        found: dict[str, np.ndarray] = {}
        labelmap = np.zeros(self._array.shape, np.uint8)
        for label, name in enumerate(names, 1):
            self._engine.before_structure(name)
            mask = fake_mask(self._array, name, options.seed) | masks.get(name, False)
            if name in locked:
                mask = np.where(locked[name], masks[name], mask)
            if roi is not None:
                inside = np.zeros(mask.shape, bool)
                inside[tuple(slice(*bounds) for bounds in reversed(roi))] = True
                mask &= inside
            found[name] = mask
            labelmap[mask & (labelmap == 0)] = label
            if on_structure is not None:
                on_structure(name, BoxMask.of(mask))
        report = Report(
            "fake 1",
            "cpu",
            self.modality,
            seconds={"total": 0.0},
            cached=("nothing",),
            structures={name: StructureReport(name, bool(found[name].any()), 1.5) for name in names},
            understood={prompt: (prompt.capitalize(),) for prompt in prompts},
            seed=options.seed,
        )
        instances = {name: found[name].astype(np.uint16) for name in names if name in options.instances}
        return dense_result(found, labelmap, names, report, instances)

    def _fail_on_demand(self, prompts: Sequence[str]) -> None:
        if OUT_OF_MEMORY in prompts:
            raise MemoryError("injected")
        if CRASH in prompts:
            raise RuntimeError("a bug that quotes John Doe, born 1970")
        if UNKNOWN in prompts:
            raise PromptError("“unknown” names nothing.", "Did you mean liver?")

    def estimate(
        self, prompts: Sequence[str], masks: Mapping[str, np.ndarray] | None = None, options: RunOptions | None = None
    ) -> Estimate:
        return Estimate(1.0, float(self._array.nbytes), len(prompts) + len(masks or {}), True)

    def close(self) -> None:
        self.closed = True
