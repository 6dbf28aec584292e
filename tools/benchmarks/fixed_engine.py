"""An engine without a network, for measurements of the service: fixed masks, which cost next to nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

import MedalSLib
from MedalSLib.engine.interface import Engine, EngineInfo, Session
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

_GOLDEN = 0.6180339887498949
_RIPPLES = 7.0


def ct_like(shape_kji: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return Hounsfield units (K, J, I): a body of soft tissue in air, with a scanner's noise in both (sigma 12)."""
    random = np.random.default_rng(seed)
    k, j, i = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape_kji)
    body = (j[:, None] / 0.7) ** 2 + (i[None, :] / 0.9) ** 2 < 1
    tissue = 40 + 60 * np.sin(4 * j)[:, None] * np.sin(3 * i)[None, :]
    image = np.empty(shape_kji, np.int16)
    for index, place in enumerate(k):
        noise = random.normal(0, 12, shape_kji[1:])
        image[index] = np.where(body, tissue + 30 * np.sin(3 * place), -1000) + noise
    return image


def ripples(shape_kji: tuple[int, int, int], number: int) -> np.ndarray:
    """Return a fixed mask (K, J, I): an ellipsoid with a rippled surface, about the size of an organ."""
    places = [(0.5 + number * _GOLDEN * factor) % 1 for factor in (1.0, 1.7, 2.9)]
    radii = [0.06 + 0.1 * ((number * _GOLDEN * factor) % 1) for factor in (3.1, 0.7, 1.3)]
    axes = [
        ((np.arange(size, dtype=np.float32) + 0.5) / size - (0.2 + 0.6 * place)) / radius
        for size, place, radius in zip(shape_kji, places, radii, strict=True)
    ]
    mask = np.zeros(shape_kji, bool)
    inside = [np.flatnonzero(np.abs(axis) < 1.2) for axis in axes]
    box = tuple(slice(int(part[0]), int(part[-1]) + 1) for part in inside if len(part))
    if len(box) < 3:
        return mask
    k, j, i = np.ix_(*(axis[bounds] for axis, bounds in zip(axes, box, strict=True)))
    surface = 1 + 0.1 * np.sin(_RIPPLES * k) * np.sin(_RIPPLES * j + number) * np.cos(_RIPPLES * i)
    mask[box] = k * k + j * j + i * i < surface
    return mask


class FixedEngine(Engine):
    """Answers any name with a mask that depends on the image's shape and on the name's place in the request only."""

    def info(self) -> EngineInfo:
        """Say that it is for measurements."""
        software = MedalSLib.__version__
        return EngineInfo("fixed", "1", "Fixed masks for measurements", "none", (), "cpu", "no network", software)

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> FixedSession:
        """Open an image, of which only the shape matters."""
        return FixedSession((array_kji.shape[0], array_kji.shape[1], array_kji.shape[2]), modality or "CT")

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class FixedSession(Session):
    """An image of a shape; see `MedalSLib.engine.interface.Session`."""

    def __init__(self, shape: tuple[int, int, int], modality: str) -> None:
        self.modality = modality
        self.warnings: tuple[str, ...] = ()
        self._shape = shape
        self._masks: list[np.ndarray] = []

    def run(
        self,
        request: RunRequest,
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Return the fixed masks; they are made in the first run, which should not be measured."""
        names = tuple(dict.fromkeys([*request.prompts, *request.masks]))
        while len(self._masks) < len(names):
            self._masks.append(ripples(self._shape, len(self._masks)))
        if on_progress is not None:
            on_progress(Progress("finishing", 1.0))
        found = dict(zip(names, map(BoxMask.of, self._masks), strict=False))
        labels = BoxArray.of((self._masks[0] if names else np.zeros(self._shape, bool)).astype(np.uint8))
        structures = {name: StructureReport(name, True, 1.0) for name in names}
        report = Report("fixed 1", "cpu", self.modality, structures=structures)
        return RunResult(found, labels, names, report)

    def estimate(
        self,
        prompts: Sequence[str],
        masks: Mapping[str, np.ndarray | BoxMask] | None = None,
        options: RunOptions | None = None,
    ) -> Estimate:
        """Say that it costs nothing."""
        return Estimate(0.0, 0.0, 0, True)

    def close(self) -> None:
        """Free the masks."""
        self._masks.clear()


def open_fixed(model: str, device: str) -> FixedEngine:
    """Return the engine; a factory for `open_isolated_engine`."""
    return FixedEngine()
