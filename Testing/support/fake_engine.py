"""The engine of every test that is not about the engine: no network, the same answer to the same request.

It answers the masks it was told (`answers`) or, without any, bands of the image's intensities; it can be slow in
patches and between structures, looks at `cancel` at each, keeps how it was asked, and fails on demand: some prompts
stand for a failing machine, a bug, a wrong name, and what only a process of its own can do (die, hang).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.errors import CancelledError, InputError, ModelError, PromptError
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
from MedalSLib.volume.geometry import Grid, Roi
from MedalSLib.volume.mask import BoxMask

OUT_OF_MEMORY = "raise out of memory"
CRASH = "raise crash"
UNKNOWN = "unknown"
DIE = "die"
HANG = "hang"


@dataclass(frozen=True)
class Asked:
    """How a session was asked for a segmentation: a `RunRequest` with masks as arrays."""

    prompts: tuple[str, ...]
    masks: Mapping[str, np.ndarray]
    locked: Mapping[str, np.ndarray]
    painted: Mapping[str, np.ndarray]
    roi: Roi | None
    options: RunOptions


class FakeEngine(Engine):
    """Counts what it does, so that tests can see that a run was done once, or cancelled early.

    Args:
        answers: Mask (K, J, I) by name, of every image; a name that is not here is not found.  None: see `fake_mask`.
        patches: Patches of a run.
        seconds_per_patch: How long each takes.
        pause: Seconds after each structure.
        error: Raised by a run after its first structure.
        instances: Numbered instances by name, of runs that ask for instances.
        classes: What `info` says that the model knows.

    Attributes:
        before_patch: Called with the number of each patch.
        before_structure: Called with the name of each structure.
        opened: Image, affine and modality of each session.
        asked: How each run was asked.
        threads: Names of the threads that ran.
        patches_done: Patches of all runs.
        closed: Whether the engine was closed.
    """

    def __init__(
        self,
        answers: dict[str, np.ndarray] | None = None,
        *,
        patches: int = 4,
        seconds_per_patch: float = 0.0,
        pause: float = 0.0,
        error: Exception | None = None,
        instances: Mapping[str, np.ndarray] | None = None,
        classes: tuple[str, ...] = ("CT_Liver", "CT_Spleen"),
    ) -> None:
        self.answers = answers
        self.patches = patches
        self.seconds_per_patch = seconds_per_patch
        self.pause = pause
        self.error = error
        self.instances = instances or {}
        self.classes = classes
        self.before_patch: Callable[[int], object] = lambda patch: None
        self.before_structure: Callable[[str], object] = lambda name: None
        self.sessions: list[FakeSession] = []
        self.opened: list[tuple[np.ndarray, np.ndarray, str | None]] = []
        self.asked: list[Asked] = []
        self.threads: set[str] = set()
        self.patches_done = 0
        self.closed = False

    @property
    def sessions_closed(self) -> int:
        """How many of the sessions were closed."""
        return sum(session.closed for session in self.sessions)

    def info(self) -> EngineInfo:
        device, reason = "CPU, 2 threads", "no GPU found"
        return EngineInfo("fake", "1", "Fake model", "none", self.classes, device, reason, "0", card="# Fake")

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> FakeSession:
        if self.answers is None and array_kji.min() == array_kji.max():
            raise InputError("The image has one value everywhere.", "Check the file.")
        if abs(np.linalg.det(affine_ras[:3, :3])) < 1e-9:
            raise InputError("The image's grid has no volume.", "Check the file.")
        self.opened.append((array_kji, affine_ras, modality))
        session = FakeSession(self, array_kji, affine_ras, modality)
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
    def __init__(self, engine: FakeEngine, array: np.ndarray, affine: np.ndarray, modality: str | None) -> None:
        self._engine = engine
        self._array = array
        self._grid = Grid(array.shape, affine)
        self._running = 0
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
        masks, locked, painted = dense(request.masks), dense(request.locked), dense(request.painted)
        asked = Asked(request.prompts, masks, locked, painted, request.roi, request.options)
        for mask in (*masks.values(), *locked.values(), *painted.values()):
            assert mask.shape == self._array.shape and mask.dtype == bool
        self._engine.asked.append(asked)
        self._engine.threads.add(threading.current_thread().name)
        self._running += 1
        try:
            self._fail_on_demand(asked.prompts, on_progress)
            self._run_patches(on_progress, cancel)
            found = self._find(asked, on_structure, cancel)
            return self._result(asked, found)
        finally:
            self._running -= 1

    def _run_patches(self, on_progress: ProgressCallback | None, cancel: threading.Event | None) -> None:
        patches = self._engine.patches
        for patch in range(patches):
            self._engine.before_patch(patch)
            _heed(cancel)
            time.sleep(self._engine.seconds_per_patch)
            self._engine.patches_done += 1
            if on_progress is not None:
                on_progress(Progress("stage 1", (patch + 1) / patches, patch + 1, patches))

    def _find(
        self, asked: Asked, on_structure: StructureCallback | None, cancel: threading.Event | None
    ) -> dict[str, np.ndarray]:
        found = {}
        for name in dict.fromkeys([*(prompt.capitalize() for prompt in asked.prompts), *asked.masks]):
            _heed(cancel)
            self._engine.before_structure(name)
            found[name] = self._mask(name, asked)
            if on_structure is not None:
                on_structure(name, BoxMask.of(found[name]))
            (cancel or threading.Event()).wait(self._engine.pause)
            if self._engine.error is not None:
                raise self._engine.error
        _heed(cancel)
        return found

    def _mask(self, name: str, asked: Asked) -> np.ndarray:
        if self._engine.answers is None:
            mask = fake_mask(self._array, name, asked.options.seed) | asked.masks.get(name, False)
        else:
            mask = self._engine.answers.get(name, np.zeros(self._array.shape, bool)).copy()
        if name in asked.locked:
            mask = np.where(asked.locked[name], asked.masks[name], mask)
        if asked.roi is not None:
            inside = np.zeros(mask.shape, bool)
            inside[tuple(slice(*bounds) for bounds in reversed(asked.roi))] = True
            mask &= inside
        return mask

    def _result(self, asked: Asked, found: dict[str, np.ndarray]) -> RunResult:
        labelmap = np.zeros(self._array.shape, np.uint8)
        for label, mask in enumerate(found.values(), 1):
            labelmap[mask] = label
        report = Report(
            "fake 1",
            "cpu",
            self.modality,
            seconds={"total": 0.0},
            cached=("nothing",),
            structures={
                name: StructureReport(name, bool(mask.any()), float(mask.sum() * self._grid.voxel_volume_ml))
                for name, mask in found.items()
            },
            understood={prompt: (prompt.capitalize(),) for prompt in asked.prompts},
            seed=asked.options.seed,
        )
        wanted = asked.options.instances
        instances = {name: found[name].astype(np.uint16) for name in found if name in wanted}
        instances |= {name: labels for name, labels in self._engine.instances.items() if name in found and wanted}
        return dense_result(found, labelmap, tuple(found), report, instances)

    def _fail_on_demand(self, prompts: Sequence[str], on_progress: ProgressCallback | None) -> None:
        if OUT_OF_MEMORY in prompts:
            raise MemoryError("injected")
        if CRASH in prompts:
            raise RuntimeError("a bug that quotes John Doe, born 1970")
        if UNKNOWN in prompts:
            raise PromptError("“unknown” names nothing.", "Did you mean liver?")
        if DIE in prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANG in prompts and on_progress is not None:
            on_progress(Progress("stage 1", 0.0))
            time.sleep(60)  # and listens to nobody

    def estimate(
        self, prompts: Sequence[str], masks: Mapping[str, np.ndarray] | None = None, options: RunOptions | None = None
    ) -> Estimate:
        return Estimate(1.0, 10.0, len(prompts) + len(masks or {}), True)

    def close(self) -> None:
        assert self._running == 0, "closed while it was used"
        self.closed = True


def _heed(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError


def make(model: str, device: str, fail: str = "", **options: object) -> FakeEngine:
    """The factory of a child process: `fail` is "", "model", "exit" or "slow"."""
    assert (model, device) == ("fake", "cpu")
    if fail == "model":
        raise ModelError("There is no model of this name.", "Choose another.")
    if fail == "exit":
        os._exit(3)
    if fail == "slow":
        time.sleep(300)
    return FakeEngine(**options)  # type: ignore[arg-type]  # as the test gave them
