"""One open image in this process: parses a request, has it segmented, brings the masks back to the image's grid."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from MedalSLib.engine.caches import CacheSettings, SessionCaches
from MedalSLib.engine.device import Device
from MedalSLib.engine.interface import Session, box_masks
from MedalSLib.engine.memory_probe import MemoryProbe, free_memory_mb
from MedalSLib.engine.parsing import ParsedRequest, parse_request
from MedalSLib.engine.progress import ProgressMeter
from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import (
    Estimate,
    ProgressCallback,
    Report,
    RunOptions,
    RunRequest,
    RunResult,
    StructureCallback,
    StructureReport,
)
from MedalSLib.volume import AS_IS, BoxMask, Grid, NetworkFrame, Window, apply_window, group_by_window

if TYPE_CHECKING:
    from MedalSLib.inference.compute import Compute
    from MedalSLib.inference.grouping import Group
    from MedalSLib.inference.results import VolumeResult
    from MedalSLib.network.bundle import Model


@dataclass
class LoadedModel:
    """A model on a device, as all sessions of an engine share it.

    Attributes:
        model: The model.
        device: Where its networks run.
        memory_limit_mb: Act as if the device had no more memory than this; None for what is free.
        caches: How much each session may keep of its image.
        seconds_per_run: How long a network takes for a patch here; None before the first run.
    """

    model: Model
    device: Device
    memory_limit_mb: float | None
    caches: CacheSettings
    seconds_per_run: float | None = None

    def free_memory_mb(self) -> float | None:
        """MiB that a run may take."""
        return self.memory_limit_mb or free_memory_mb(self.device.name)

    def compute(self) -> Compute:
        """How a run computes here."""
        from MedalSLib.engine.computing import choose_compute

        free = self.free_memory_mb()
        return replace(choose_compute(self.device.name), memory_limit_mb=self.memory_limit_mb, free_memory_mb=free)


class LocalSession(Session):
    """One image on a `LocalEngine` (see `Session` for the contract).

    Calls are serialized: a second thread that calls `run` waits for the first.

    Args:
        loaded: The engine's model.
        array_kji: Checked intensities.
        grid: The image's grid.
        modality: Canonical modality.
        warnings: Sentences for the user about how the image was taken.
        windowed: Whether the intensities are 0..255 after a window already.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        array_kji: np.ndarray,
        grid: Grid,
        modality: str,
        warnings: tuple[str, ...] = (),
        windowed: bool = False,
    ) -> None:
        self.modality = modality
        self.warnings = warnings
        self.closed = False
        self._loaded = loaded
        self._model = loaded.model
        self._grid = grid
        self._frame = NetworkFrame(grid, loaded.model.manifest.orientation)
        self._array: np.ndarray | None = self._frame.to_network(array_kji)
        self._is_windowed = windowed
        self._last_window: tuple[Window, np.ndarray] | None = None
        self._caches = SessionCaches(loaded.caches, loaded.device.name)
        self._turn = threading.Lock()

    def run(
        self,
        request: RunRequest,
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Segment what a request names (see `Session.run`)."""
        return self.run_parsed(
            lambda: self._parsed(request), on_progress=on_progress, on_structure=on_structure, cancel=cancel
        )

    def run_parsed(
        self,
        request: Callable[[], ParsedRequest],
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Run a request whose names are resolved (see `Session.run`).

        Args:
            request: Returns it, once it is this call's turn.
            on_progress: See `Session.run`.
            on_structure: See `Session.run`.
            cancel: See `Session.run`.
        """
        with self._turn:
            self._check_open()
            return self._run(request(), on_progress, on_structure, cancel)

    def estimate(
        self,
        prompts: Sequence[str],
        masks: Mapping[str, np.ndarray | BoxMask] | None = None,
        options: RunOptions | None = None,
    ) -> Estimate:
        """Say what `segment` will cost (see `Session.estimate`)."""
        from MedalSLib.inference.memory import estimate_run

        self._check_open()
        request = self._parsed(RunRequest(tuple(prompts), box_masks(masks), options=options or RunOptions()))
        costs = [
            estimate_run(
                self._model,
                self._frame.shape_dhw,
                self._frame.spacing_dhw,
                group.keys,
                prompted=any(key in request.masks for key in group.keys),
                first_stage_only=group.options.stages == "first",
            )
            for group in self._groups(request, self._windows(request))
        ]
        memory = max(cost.memory_mb for cost in costs)
        free = self._loaded.free_memory_mb()
        patches = sum(cost.patches for cost in costs)
        speed = self._loaded.seconds_per_run
        return Estimate(
            seconds=None if speed is None else patches * speed,
            memory_mb=memory,
            patches=patches,
            fits=free is None or memory <= free,
        )

    def close(self) -> None:
        """Free the image and its caches."""
        self.closed = True
        self._caches.clear()
        self._array = None
        self._last_window = None

    def _check_open(self) -> None:
        if self.closed:
            raise InputError("This session is closed.", "Open the image again.")

    def _parsed(self, request: RunRequest) -> ParsedRequest:
        manifest = self._model.manifest
        try:
            return parse_request(
                request,
                grid=self._grid,
                modality=self.modality,
                known=frozenset(manifest.classes),
                model=manifest.name,
            )
        except PromptError as error:
            if not self.warnings:
                raise
            # A modality that was guessed wrongly is why a name means nothing.
            raise PromptError(error.cause, " ".join((error.remedy, *self.warnings)).strip()) from error

    def _windows(self, request: ParsedRequest) -> dict[str, Window]:
        """Return the intensity window of each structure, by key."""
        if self._is_windowed:
            return {item.key: AS_IS for item in request.structures}
        groups = group_by_window(request.structures, self._own_windows(request.options))
        return {item.key: window for window, members in groups.items() for item in members}

    def _own_windows(self, options: RunOptions) -> dict[str, str]:
        """The user's windows, keyed by name: published ones, and those that the model brings itself."""
        from MedalSLib.vocabulary import resolve

        known = self._model.manifest.classes
        overrides: dict[str, str] = {}
        for name, window in options.windows.items():
            read = [] if name == "*" else resolve(name, self.modality, known)
            names = ["*"] if name == "*" else [one for item in read for one in item.classes]
            if not names:
                raise InputError(f"The window of '{name}' belongs to no known structure.", "Correct the name.")
            overrides |= dict.fromkeys(names, window)
        return overrides

    def _image(self, window: Window) -> np.ndarray:
        """Intensities (D, H, W) 0..255; the last window used is kept, since refinements come back to it."""
        if self._last_window is None or self._last_window[0] != window:
            assert self._array is not None
            self._last_window = None
            self._last_window = (window, np.ascontiguousarray(apply_window(self._array, window)))
        return self._last_window[1]

    def _groups(self, request: ParsedRequest, windows: Mapping[str, Window]) -> list[Group]:
        from MedalSLib.inference.grouping import group_structures

        text_stages = self._model.manifest.text_stages
        return group_structures(request.structures, request.options, windows, request.masks, text_stages)

    def _run(
        self,
        request: ParsedRequest,
        on_progress: ProgressCallback | None,
        on_structure: StructureCallback | None,
        cancel: threading.Event | None,
    ) -> RunResult:
        from MedalSLib.inference.hooks import Hooks
        from MedalSLib.inference.pipeline import WindowedImage, segment_volume
        from MedalSLib.vocabulary import text_for

        begun = time.perf_counter()
        probe = MemoryProbe(self._loaded.device.name)
        self._caches.begin_run()
        windows = self._windows(request)
        meter = ProgressMeter(on_progress, self._shares(request, self._groups(request, windows)))
        names = {item.key: item.name for item in request.structures}
        frame = self._frame
        texts = [(request.texts.get(item.key) or text_for(item), item.modality) for item in request.structures]
        found = segment_volume(
            self._model,
            WindowedImage(frame.shape_dhw, self._image),
            frame.spacing_dhw,
            request.structures,
            self._model.encode(texts),
            windows=windows,
            masks_dhw={key: frame.mask_to_network(mask) for key, mask in request.masks.items()},
            locked_dhw={key: frame.mask_to_network(mask) for key, mask in request.locked.items()},
            roi_dhw=None if request.roi is None else frame.roi_to_network(request.roi),
            options=request.options,
            compute=self._loaded.compute(),
            hooks=Hooks(
                on_patch=lambda group, stage, done, total: meter.update(_stage_words(group, stage), done, total),
                should_cancel=None if cancel is None else cancel.is_set,
                features=self._caches.features,
                probabilities=self._caches.probabilities if self._caches.settings.answers else None,
                on_structure=None
                if on_structure is None
                else lambda key, mask: on_structure(names[key], frame.mask_from_network(mask)),
                on_step=lambda step: self._caches.clear(),  # memory ran out: it is needed elsewhere
            ),
        )
        if found.runs:
            spent = sum(value for stage, value in found.seconds.items() if stage.startswith("stage"))
            self._loaded.seconds_per_run = spent / found.runs
        seconds = {name: round(value, 3) for name, value in found.seconds.items()}
        result = RunResult(
            box_masks={names[key]: frame.mask_from_network(mask) for key, mask in found.box_masks.items()},
            labels=frame.array_from_network(found.labels),
            names=request.names,
            report=Report(
                model=f"{self._model.manifest.name} {self._model.manifest.version}",
                device=self._loaded.device.words,
                modality=self.modality,
                seconds=seconds | {"total": round(time.perf_counter() - begun, 3)},
                peak_memory_mb=probe.peak_mb(),
                cached=found.cached,
                steps=found.steps,
                warnings=self.warnings,
                structures=self._structure_reports(found, request, windows),
                understood=request.understood,
                seed=request.options.seed,
            ),
            instances={names[key]: frame.array_from_network(labels) for key, labels in found.instances.items()},
        )
        meter.finish()
        return result

    def _structure_reports(
        self, found: VolumeResult, request: ParsedRequest, windows: Mapping[str, Window]
    ) -> dict[str, StructureReport]:
        reports: dict[str, StructureReport] = {}
        for item in request.structures:
            structure = found.structures[item.key]
            instances = found.instances.get(item.key)
            reports[item.name] = StructureReport(
                name=item.name,
                found=structure.found,
                volume_ml=round(structure.voxels * self._grid.voxel_volume_ml, 3),
                mean_probability=structure.mean_probability,
                window=str(windows[item.key]),
                source=structure.source,
                instances=None if instances is None else int(instances.crop.max(initial=0)),
            )
        return reports

    def _shares(self, request: ParsedRequest, groups: Sequence[Group]) -> dict[str, float]:
        """Shares of the progress bar: stage 2 is prompted, so it usually runs each patch twice.

        Args:
            request: What is asked; groups in which the user painted come first.
            groups: What runs together, one after the other.
        """
        networks = [stage.stage for stage in self._model.manifest.stages]
        shares: dict[str, float] = {}
        for group in sorted(groups, key=lambda group: not any(key in request.locked for key in group.keys)):
            options = group.options
            wanted = {"1"} if options.stages == "first" else {"2"} if options.mode == "refine" else {"1", "2"}
            for stage in sorted(wanted.intersection(networks) or networks):
                shares[_stage_words(group.number, f"stage {stage}")] = 2.5 if stage == "2" else 1.0
            shares[_stage_words(group.number, "finishing")] = 0.05
        return shares


def _stage_words(group: int, stage: str) -> str:
    return stage if group == 0 else f"{stage}, part {group + 1}"
