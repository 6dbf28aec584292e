"""One open image in this process: parses a request, has it segmented, brings the masks back to the image's grid."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from MedalSLib.engine.caches import SessionCaches
from MedalSLib.engine.corrections import CorrectionMemory
from MedalSLib.engine.interface import Session, box_masks
from MedalSLib.engine.loaded_model import LoadedModel
from MedalSLib.engine.memory_probe import MemoryProbe
from MedalSLib.engine.parsing import ParsedRequest, parse_request
from MedalSLib.engine.progress import ProgressMeter
from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import (
    REFINE_MARGIN_MM,
    Estimate,
    ProgressCallback,
    Report,
    RunOptions,
    RunRequest,
    RunResult,
    StructureCallback,
    StructureReport,
)
from MedalSLib.vocabulary import Structure
from MedalSLib.volume import AS_IS, BoxArray, BoxMask, Grid, NetworkFrame, Window, apply_window, group_by_window
from MedalSLib.volume.box import Box, grown, union
from MedalSLib.volume.orientation_doubt import organs_doubt

if TYPE_CHECKING:
    from MedalSLib.inference.grouping import Group
    from MedalSLib.inference.results import VolumeResult


@dataclass(frozen=True)
class _Run:
    """A run in progress; masks have the axes (D, H, W) of the network's frame.

    Attributes:
        request: What is asked.
        windows: Intensity window by key.
        masks: Masks by key.
        locked: What the user decided, by key.
        painted: What of it is new and is to be carried over, by key; structures that are not in it run afresh.
        roi: Hard limits of the answer, None for none.
        tell: Told each structure's mask; None if nobody listens.
    """

    request: ParsedRequest
    windows: Mapping[str, Window]
    masks: Mapping[str, BoxMask]
    locked: Mapping[str, BoxMask]
    painted: Mapping[str, BoxMask]
    roi: Box | None
    tell: Callable[[str, BoxMask], None] | None


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
        self._memory = CorrectionMemory()
        self._caches = SessionCaches(loaded.caches, loaded.device.name)
        self._saw_names = False
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
        with self._turn:
            self._check_open()
            return self._run(self._parsed(request), on_progress, on_structure, cancel)

    def run_parsed(
        self,
        request: ParsedRequest,
        on_progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Run a request whose names are resolved.

        Args:
            request: The request.
            on_progress: See `Session.run`.
            cancel: See `Session.run`.
        """
        with self._turn:
            self._check_open()
            return self._run(request, on_progress, None, cancel)

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
        groups = self._groups(request, self._windows(request))
        costs = [
            estimate_run(
                self._model,
                self._frame.shape_dhw,
                self._frame.spacing_dhw,
                group.keys,
                prompted=any(key in request.masks for key in group.keys),
                first_stage_only=group.options.stages == "first",
            )
            for group in groups
        ]
        memory = max(cost.memory_mb for cost in costs)
        free = self._loaded.free_memory_mb()
        kept = [self._caches.patches_kept(group.window) for group in groups]
        patches = sum(max(cost.patches - known, 0) for cost, known in zip(costs, kept, strict=True))
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
        """The user's windows, keyed by name: published ones, and those that the model brings itself.

        For all others the one window in which the model was trained to see this modality, if there is one.
        """
        from MedalSLib.vocabulary import resolve

        known, windows = self._model.manifest.classes, self._model.manifest.windows
        overrides = {"*": windows[self.modality]} if self.modality in windows else {}
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
        from MedalSLib.inference.results import merge_results

        begun = time.perf_counter()
        probe = MemoryProbe(self._loaded.device.name)
        self._caches.begin_run()
        run = self._begun(request, on_structure)
        carried = [item for item in request.structures if item.key in run.painted]
        rest = [item for item in request.structures if item.key not in run.painted]
        fresh = {request.options.mode: rest}
        if request.options.mode == "refine":  # there is nothing to refine of what has no mask
            fresh = {"refine": [item for item in rest if item.key in run.masks]}
            fresh["text"] = [item for item in rest if item.key not in run.masks]
        meter = ProgressMeter(on_progress, self._shares(run, carried, rest))
        parts = []
        if carried:
            parts.append(self._refined(run, carried, meter, cancel))
        for mode, structures in fresh.items():
            if structures:
                options = replace(request.options, mode=mode)
                parts.append(self._segmented(run, structures, options, meter, cancel, on_structure=run.tell))
        found = merge_results(parts, request.structures)
        self._memory.record(found.box_masks, run.locked)
        result = self._result(found, run, probe, time.perf_counter() - begun)
        meter.finish()
        return result

    def _begun(self, request: ParsedRequest, on_structure: StructureCallback | None) -> _Run:
        frame, names = self._frame, {item.key: item.name for item in request.structures}

        def tell(key: str, mask: BoxMask) -> None:
            assert on_structure is not None
            on_structure(names[key], frame.mask_from_network(mask))

        masks = {key: frame.mask_to_network(mask) for key, mask in request.masks.items()}
        locked = {key: frame.mask_to_network(mask) for key, mask in request.locked.items()}
        painted = {key: frame.mask_to_network(mask) for key, mask in request.painted.items()}
        carries = request.options.mode == "refine" and request.options.policy == "product"
        return _Run(
            request=request,
            windows=self._windows(request),
            masks=masks,
            locked=locked,
            painted=self._memory.painted(masks, locked) | painted if carries else {},
            roi=None if request.roi is None else frame.roi_to_network(request.roi),
            tell=None if on_structure is None else tell,
        )

    def _refined(
        self, run: _Run, structures: Sequence[Structure], meter: ProgressMeter, cancel: threading.Event | None
    ) -> VolumeResult:
        """Carry the user's corrections over, with the network's probability where the model knows the structure."""
        from MedalSLib.inference.refinement import Refinement, refine_volume

        assert self._array is not None
        refinement = Refinement(
            self._array, self._frame.spacing_dhw, run.masks, run.locked, run.painted, run.request.by_hand, run.roi
        )
        painted = [item for item in structures if not run.painted[item.key].is_empty]
        known = [item for item in painted if item.key not in run.request.by_hand]
        probabilities: dict[str, BoxArray] = {}
        network: VolumeResult | None = None
        if known:
            options = run.request.options
            by_name = self._model.manifest.text_stages == "first" or len(self._model.manifest.stages) == 1
            if run.tell is not None and not (by_name and self._saw_names):
                for item in painted:  # what the image alone decides is shown while the networks run
                    run.tell(item.key, refinement.carried(item.key))
            if by_name:
                # What the first network sees without prompts is cached, so its opinion costs next to nothing.
                options = replace(options, mode="text", stages="first")
            else:
                # The networks need to see no more than what the corrections may change.
                near = union(run.painted[item.key].box for item in known)
                if run.roi is None and near is not None:
                    frame = self._frame
                    run = replace(run, roi=grown(near, REFINE_MARGIN_MM, frame.spacing_dhw, frame.shape_dhw))
            network = self._segmented(run, known, options, meter, cancel, on_probability=probabilities.__setitem__)
        result = refine_volume(refinement, structures, probabilities, run.request.options)
        if run.tell is not None:
            for key, mask in result.box_masks.items():
                run.tell(key, mask)
        if network is None:
            return result
        return replace(result, seconds=network.seconds, steps=network.steps, cached=network.cached, runs=network.runs)

    def _segmented(
        self,
        run: _Run,
        structures: Sequence[Structure],
        options: RunOptions,
        meter: ProgressMeter,
        cancel: threading.Event | None,
        *,
        on_structure: Callable[[str, BoxMask], None] | None = None,
        on_probability: Callable[[str, BoxArray], None] | None = None,
    ) -> VolumeResult:
        """Run the networks for some of the structures."""
        from MedalSLib.inference.hooks import Hooks
        from MedalSLib.inference.pipeline import WindowedImage, segment_volume
        from MedalSLib.vocabulary import text_for

        request = run.request
        keys = {item.key for item in structures}
        found = segment_volume(
            self._model,
            WindowedImage(self._frame.shape_dhw, self._image),
            self._frame.spacing_dhw,
            structures,
            self._model.encode([(request.texts.get(item.key) or text_for(item), item.modality) for item in structures]),
            windows=run.windows,
            masks_dhw={key: mask for key, mask in run.masks.items() if key in keys},
            locked_dhw={key: mask for key, mask in run.locked.items() if key in keys},
            roi_dhw=run.roi,
            options=options,
            compute=self._loaded.compute(),
            hooks=Hooks(
                on_patch=lambda group, stage, done, total: meter.update(_stage_words(group, stage), done, total),
                should_cancel=None if cancel is None else cancel.is_set,
                features=self._caches.features,
                probabilities=self._caches.probabilities if self._caches.settings.answers else None,
                on_structure=on_structure,
                on_probability=on_probability,
                on_step=lambda step: self._caches.clear(),  # memory ran out: it is needed elsewhere
            ),
        )
        self._saw_names |= options.mode == "text" or not keys.intersection(run.masks)
        if found.runs:
            spent = sum(value for stage, value in found.seconds.items() if stage.startswith("stage"))
            self._loaded.seconds_per_run = spent / found.runs
        return found

    def _result(self, found: VolumeResult, run: _Run, probe: MemoryProbe, seconds: float) -> RunResult:
        """Bring a result to the image's own grid."""
        request, frame, manifest = run.request, self._frame, self._model.manifest
        names = {item.key: item.name for item in request.structures}
        masks = {names[key]: frame.mask_from_network(mask) for key, mask in found.box_masks.items()}
        doubt = organs_doubt(masks, self._grid)
        return RunResult(
            box_masks=masks,
            labels=frame.array_from_network(found.labels),
            names=request.names,
            report=Report(
                model=f"{manifest.name} {manifest.version}",
                device=self._loaded.device.words,
                modality=self.modality,
                seconds={name: round(value, 3) for name, value in found.seconds.items()} | {"total": round(seconds, 3)},
                peak_memory_mb=probe.peak_mb(),
                cached=found.cached,
                steps=found.steps,
                warnings=(*self.warnings, *request.notes, *([doubt] if doubt else [])),
                structures=self._structure_reports(found, run, masks),
                understood=request.understood,
                seed=request.options.seed,
            ),
            instances={names[key]: frame.array_from_network(labels) for key, labels in found.instances.items()},
        )

    def _structure_reports(
        self, found: VolumeResult, run: _Run, masks: Mapping[str, BoxMask]
    ) -> dict[str, StructureReport]:
        """Return what is said of each structure.

        Args:
            found: On the network's axes.
            run: The run.
            masks: What was found by published name, on the image's own axes.
        """
        reports: dict[str, StructureReport] = {}
        for item in run.request.structures:
            structure = found.structures[item.key]
            instances = found.instances.get(item.key)
            doubtful = found.doubtful_slices(item.key, run.locked.get(item.key))
            reports[item.name] = StructureReport(
                name=item.name,
                found=structure.found,
                volume_ml=round(structure.voxels * self._grid.voxel_volume_ml, 3),
                mean_probability=structure.mean_probability,
                window=str(run.windows[item.key]),
                source=structure.source,
                instances=None if instances is None else int(instances.crop.max(initial=0)),
                worth_checking=tuple(map(self._frame.slice_from_network, doubtful)),
                cut_off=self._grid.sides_touched(masks[item.name]),
            )
        return reports

    def _shares(self, run: _Run, carried: Sequence[Structure], fresh: Sequence[Structure]) -> dict[str, float]:
        """Shares of the progress bar: stage 2 is prompted, so it usually runs each patch twice.

        Args:
            run: The run; groups in which the user painted come first.
            carried: Structures whose corrections are carried over.
            fresh: The others.
        """
        networks = [stage.stage for stage in self._model.manifest.stages]
        shares: dict[str, float] = {}
        for structures in (carried, fresh):
            groups = self._groups(replace(run.request, structures=tuple(structures)), run.windows)
            for group in sorted(groups, key=lambda group: not any(key in run.locked for key in group.keys)):
                options = group.options
                wanted = {"1"} if options.stages == "first" else {"2"} if options.mode == "refine" else {"1", "2"}
                for stage in sorted(wanted.intersection(networks) or networks):
                    shares[_stage_words(group.number, f"stage {stage}")] = 2.5 if stage == "2" else 1.0
                shares[_stage_words(group.number, "finishing")] = 0.05
        return shares


def _stage_words(group: int, stage: str) -> str:
    return stage if group == 0 else f"{stage}, part {group + 1}"
