"""One open image in this process: understands a request, runs it window by window, brings the masks back."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from MedalSLib.engine.caches import SessionCaches
from MedalSLib.engine.correction import Correction
from MedalSLib.engine.interface import (
    Box,
    Estimate,
    Masks,
    Options,
    ProgressCallback,
    Report,
    SegmentationResult,
    StructureCallback,
    StructureReport,
)
from MedalSLib.engine.memory_probe import MemoryProbe, free_memory_mb
from MedalSLib.engine.progress import ProgressMeter
from MedalSLib.engine.request import Request, understand
from MedalSLib.errors import CancelledError, InputError, PromptError
from MedalSLib.inference.boxes import bounds, slices
from MedalSLib.volume import Grid, NetworkFrame, Window, apply_window, group_by_window

if TYPE_CHECKING:
    from MedalSLib.engine.local import LocalEngine
    from MedalSLib.inference.packed import PackedMask
    from MedalSLib.inference.segment import VolumeResult
    from MedalSLib.vocabulary import Structure


@dataclass(frozen=True)
class _Group:
    """Structures that run together.

    Attributes:
        window: Their intensity window.
        members: The structures.
        options: How they run.
    """

    window: Window
    members: tuple[Structure, ...]
    options: Options

    def edited(self, request: Request) -> bool:
        """Whether the user painted in one of them."""
        return any(item.name in request.locked for item in self.members)


class LocalSession:
    """One image on a `LocalEngine` (see `Session` for the contract).

    Calls are serialized: a second thread that calls `segment` waits for the first.

    Args:
        engine: Engine that owns the model.
        array_kji: Checked intensities.
        grid: The image's grid.
        modality: Canonical modality.
        warnings: Sentences for the user about how the image was taken.
    """

    def __init__(
        self, engine: LocalEngine, array_kji: np.ndarray, grid: Grid, modality: str, warnings: tuple[str, ...] = ()
    ) -> None:
        self.modality = modality
        self.warnings = warnings
        self.closed = False
        self._engine = engine
        self._grid = grid
        self._frame = NetworkFrame(grid, engine.model.manifest.orientation)
        self._array: np.ndarray | None = self._frame.to_network(array_kji)
        self._windowed: tuple[Window, np.ndarray] | None = None
        self._caches = SessionCaches(engine.caches, engine.device.name)
        self._turn = threading.Lock()

    def segment(
        self,
        prompts: Sequence[str] = (),
        masks: Mapping[str, np.ndarray] | None = None,
        locked: Mapping[str, np.ndarray] | None = None,
        roi: Box | None = None,
        *,
        options: Options | None = None,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> SegmentationResult:
        """Segment what `prompts` and the keys of `masks` name (see `Session.segment`)."""
        options = options or Options()
        with self._turn:
            self._check_open()
            request = self._understand(prompts, masks, locked, roi)
            return self._run(request, options, on_progress, on_structure, cancel)

    def estimate(
        self, prompts: Sequence[str], masks: Mapping[str, np.ndarray] | None = None, options: Options | None = None
    ) -> Estimate:
        """Say what `segment` will cost (see `Session.estimate`)."""
        from MedalSLib.inference.memory import estimate_run

        self._check_open()
        request = self._understand(prompts, masks, None, None)
        costs = [
            estimate_run(
                self._engine.model,
                self._frame.shape_dhw,
                self._frame.spacing_dhw,
                group.members,
                prompted=any(item.name in request.masks for item in group.members),
                first_stage_only=group.options.stages == "first",
            )
            for group in self._groups(request, options or Options())
        ]
        memory = max(cost.memory_mb for cost in costs)
        free = self._engine.memory_limit_mb or free_memory_mb(self._engine.device.name)
        patches = sum(cost.patches for cost in costs)
        speed = self._engine.seconds_per_run
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
        self._windowed = None

    def __enter__(self) -> LocalSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise InputError("This session is closed.", "Open the image again.")

    def _understand(
        self,
        prompts: Sequence[str],
        masks: Mapping[str, np.ndarray] | None,
        locked: Mapping[str, np.ndarray] | None,
        roi: Box | None,
    ) -> Request:
        model = self._engine.model
        try:
            return understand(
                prompts, masks, locked, roi,
                grid=self._grid, modality=self.modality, known=frozenset(model.manifest.classes),
                model=model.manifest.name,
            )  # fmt: skip
        except PromptError as error:
            if not self.warnings:
                raise
            # A modality that was guessed wrongly is why a name means nothing.
            raise PromptError(error.cause, " ".join((error.remedy, *self.warnings)).strip()) from error

    def _overrides(self, options: Options) -> dict[str, str]:
        """The user's windows, keyed by name: published ones, and those that the model brings itself."""
        from MedalSLib.vocabulary import resolve

        known = self._engine.model.manifest.classes
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
        if self._windowed is None or self._windowed[0] != window:
            assert self._array is not None
            self._windowed = None
            self._windowed = (window, np.ascontiguousarray(apply_window(self._array, window)))
        return self._windowed[1]

    def _run(
        self,
        request: Request,
        options: Options,
        on_progress: ProgressCallback | None,
        on_structure: StructureCallback | None,
        cancel: threading.Event | None,
    ) -> SegmentationResult:
        from MedalSLib.inference.segment import merge_results

        begun = time.perf_counter()
        probe = MemoryProbe(self._engine.device.name)
        self._caches.begin_run()
        groups = self._groups(request, options)
        networks = [stage.stage for stage in self._engine.model.manifest.stages]
        # What the user is looking at comes first; the answer does not depend on it.
        turns = sorted(range(len(groups)), key=lambda at: not groups[at].edited(request))
        meter = ProgressMeter(on_progress, _shares([groups[at] for at in turns], networks))
        results: dict[int, VolumeResult] = {}
        masks: dict[str, np.ndarray] = {}
        for turn, at in enumerate(turns):
            if cancel is not None and cancel.is_set():
                raise CancelledError
            results[at] = self._run_group(turn, groups[at], request, meter, on_structure, cancel)
            for item in groups[at].members:
                masks[item.name] = self._mask(results[at].masks.packed(item.key))
                if on_structure is not None:
                    on_structure(item.name, masks[item.name])
        merged = merge_results([results[at] for at in sorted(results)], request.structures)
        seconds = {name: round(value, 3) for name, value in merged.seconds.items()}
        windows = {item.key: group.window for group in groups for item in group.members}
        answer = SegmentationResult(
            masks=Masks({name: masks[name] for name in request.names}, request.typed),
            labelmap=self._placed(merged.labels.part, merged.labels.bounds),
            names=request.names,
            report=Report(
                model=f"{self._engine.model.manifest.name} {self._engine.model.manifest.version}",
                device=self._engine.device.words,
                modality=self.modality,
                seconds=seconds | {"total": round(time.perf_counter() - begun, 3)},
                peak_memory_mb=probe.peak_mb(),
                cached=tuple(merged.cached),
                steps=tuple(merged.steps),
                warnings=self.warnings,
                structures=self._structure_reports(merged, request, windows),
                understood=request.understood,
                seed=options.seed,
            ),
            instances={
                item.name: self._cut(merged.instances[item.key], merged.masks.packed(item.key).bounds)
                for item in request.structures
                if item.key in merged.instances
            },
        )
        meter.finish()
        return answer

    def _groups(self, request: Request, options: Options) -> list[_Group]:
        """Return what runs together: structures of one window and, where the model asks for it, those with a mask."""
        groups = group_by_window(request.structures, self._overrides(options))
        if self._engine.model.manifest.text_stages == "both" or options.policy == "published":
            return [_Group(window, members, options) for window, members in groups.items()]
        prompted = set() if options.mode == "text" else set(request.masks)
        parts = [
            (window, tuple(item for item in members if (item.name in prompted) is with_mask), with_mask)
            for window, members in groups.items()
            for with_mask in (False, True)
        ]
        return [
            _Group(window, members, options if with_mask else replace(options, stages="first", mode="text"))
            for window, members, with_mask in parts
            if members
        ]

    def _run_group(
        self,
        number: int,
        group: _Group,
        request: Request,
        meter: ProgressMeter,
        on_structure: StructureCallback | None,
        cancel: threading.Event | None,
    ) -> VolumeResult:
        """Run the structures that run together, and learn how fast this device is."""
        from MedalSLib.engine.computing import choose_compute
        from MedalSLib.inference.segment import Hooks, RunOptions, segment_volume
        from MedalSLib.vocabulary import text_for

        model = self._engine.model
        window, members, options = group.window, group.members, group.options
        wanted = set(options.instances)
        every = "*" in wanted
        masks, locked = self._to_dhw(request.masks, members), self._to_dhw(request.locked, members)
        edit = Correction.of(masks, locked)
        names = {item.key: item.name for item in members}
        caches = self._caches
        result = segment_volume(
            model,
            self._image(window),
            self._frame.spacing_dhw,
            members,
            model.encode([(text_for(item), item.modality) for item in members]),
            masks_dhw=masks,
            locked_dhw=locked,
            roi_dhw=None if request.box is None else bounds(self._frame.box_to_network(request.box)),
            region_dhw=edit.box if edit is not None and options.mode == "refine" else None,
            options=RunOptions(
                mode=options.mode,
                policy=options.policy,
                seed=options.seed,
                stages=options.stages,
                postprocess=options.postprocess,
                instances=tuple(
                    item.key for item in members if item.name in wanted or (every and item.kind == "instance")
                ),
                memory_limit_mb=self._engine.memory_limit_mb,
                free_memory_mb=self._engine.memory_limit_mb or free_memory_mb(self._engine.device.name),
            ),
            compute=choose_compute(self._engine.device.name),
            hooks=Hooks(
                on_patch=lambda stage, done, total: meter.update(_stage_words(number, stage), done, total),
                should_cancel=None if cancel is None else cancel.is_set,
                features=lambda key: caches.features(window, key),
                answers=lambda key: caches.answers(window, key),
                tile_order=edit.nearest_first if edit is not None and caches.settings.answers else None,
                on_early=None
                if edit is None or on_structure is None
                else lambda keys, box, values: edit.show(
                    keys, box, values, lambda key, mask: on_structure(names[key], self._mask(mask))
                ),
                early_keys=None if edit is None else edit.masks.keys(),
                on_step=lambda step: caches.clear(),  # memory ran out: it is needed elsewhere
            ),
        )
        spent = sum(value for stage, value in result.seconds.items() if stage.startswith("stage"))
        self._engine.learn_speed(spent, result.runs)
        return result

    def _to_dhw(self, arrays: Mapping[str, np.ndarray], members: Sequence[Structure]) -> dict[str, PackedMask]:
        from MedalSLib.inference.packed import PackedMask

        return {
            item.key: PackedMask.pack(self._frame.to_network(arrays[item.name]))
            for item in members
            if item.name in arrays
        }

    def _mask(self, packed: PackedMask) -> np.ndarray:
        return self._placed(packed.inside(), packed.bounds)

    def _cut(self, array_dhw: np.ndarray, box: Box | None) -> np.ndarray:
        """Return an array (D, H, W) that is zero outside a box as (K, J, I)."""
        return self._placed(array_dhw[slices(box or ((0, 0), (0, 0), (0, 0)))], box)

    def _placed(self, part_dhw: np.ndarray, box: Box | None) -> np.ndarray:
        """Return an array (K, J, I) with a part (D, H, W) in a box of the network's frame.

        The rest is not even touched: in a large image that takes longer than the networks need for another name.
        """
        array = np.zeros(self._grid.shape_kji, dtype=part_dhw.dtype)
        if box is not None:
            self._frame.to_network(array)[slices(box)] = part_dhw
        return array

    def _structure_reports(
        self,
        merged: VolumeResult,
        request: Request,
        windows: Mapping[str, Window],
    ) -> dict[str, StructureReport]:
        reports: dict[str, StructureReport] = {}
        for item in request.structures:
            found = merged.structures[item.key]
            instances = merged.instances.get(item.key)
            reports[item.name] = StructureReport(
                name=item.name,
                found=found.found,
                volume_ml=round(found.voxels * self._grid.voxel_volume_ml, 3),
                mean_probability=found.mean_probability,
                window=str(windows[item.key]),
                source=found.source,
                instances=None if instances is None else int(instances.max(initial=0)),
            )
        return reports


def _stage_words(group: int, stage: str) -> str:
    return stage if group == 0 else f"{stage}, window {group + 1}"


def _shares(groups: Sequence[_Group], networks: Collection[str]) -> dict[str, float]:
    """Shares of the progress bar: stage 2 is prompted, so it usually runs each patch twice.

    Args:
        groups: What runs together, one after the other.
        networks: The model's stages, "1" and "2" or one of them.
    """
    shares: dict[str, float] = {}
    for number, group in enumerate(groups):
        wanted = {"1"} if group.options.stages == "first" else {"2"} if group.options.mode == "refine" else {"1", "2"}
        for stage in sorted(wanted.intersection(networks) or networks):
            shares[_stage_words(number, f"stage {stage}")] = 2.5 if stage == "2" else 1.0
        shares[_stage_words(number, "finishing")] = 0.05
    return shares
