"""The one interface of every engine: in-process, local child process and remote server look the same to a front end.

Nothing here needs torch, so a thin Slicer can import it.  Arrays are indexed `[k, j, i]` ("kji"), as 3D Slicer and
SimpleITK hand them out; affines take the index `(i, j, k)` to RAS millimetres.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

Mode = Literal["auto", "text", "hybrid", "refine"]
Policy = Literal["product", "published"]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open index bounds ((i0, i1), (j0, j1), (k0, k1)) on the image's own grid."""
REFINE_MARGIN_MM = 20.0
"""How far around the strokes a refinement may change the result."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        stage: What is being done, in words fit for a progress bar ("stage 1", "stage 2", "refining", "finishing").
        fraction: Share of the whole run that is done, 0..1, never decreasing within a run.
        patch: Patches of this stage done so far.
        patches: Patches of this stage in all.
        seconds_left: Estimated time to the end of the run, None while unknown.
    """

    stage: str
    fraction: float
    patch: int = 0
    patches: int = 0
    seconds_left: float | None = None


ProgressCallback = Callable[[Progress], None]
StructureCallback = Callable[[str, np.ndarray], None]
"""Called as `(name, mask_kji)` when a structure is final (or, while a region streams in, better than before).

The array may be that of the result: read it, copy it, do not change it.
"""


@dataclass(frozen=True)
class Options:
    """Choices of one run; the defaults are what a user expects.

    Attributes:
        mode: "text" ignores masks, "hybrid" uses each mask as its structure's prompt in stage 2, "refine" runs only
            stage 2 in the region of the masks; "auto" is "hybrid" when there are masks, else "text".
        policy: "published" reproduces the published implementation (argmax labels, its single-class magnification);
            "product" keeps overlapping structures and reports absent ones as absent.
        seed: Seed of the random prompt blocks: the same inputs and seed give the same masks.
        instances: Published names whose connected components are wanted as separate instances; ("*",) for every
            structure of kind "instance".
        windows: Intensity window by published name, as "level/width" ("400" is wide) or a window's name.
        postprocess: Apply the published component filter to the classes it is published for.
        stages: "both", or "first" for a quick look with the coarse network alone.
    """

    mode: Mode = "auto"
    policy: Policy = "product"
    seed: int = 0
    instances: tuple[str, ...] = ()
    windows: Mapping[str, str] = field(default_factory=dict)
    postprocess: bool = True
    stages: Literal["both", "first"] = "both"

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class StructureReport:
    """What was found of one structure.

    Attributes:
        name: Canonical published name.
        found: False if the structure is reported absent (its mask is empty).
        volume_ml: Volume of the mask in millilitres.
        mean_probability: Mean probability over the mask, None if absent or if the mask was not computed.
        window: Intensity window used, as shown to the user ("soft tissue 400/40").
        source: Where its prompt in the last stage came from: "stage 1", "mask", "none".
        instances: Number of separate instances, None unless they were asked for.
    """

    name: str
    found: bool
    volume_ml: float
    mean_probability: float | None = None
    window: str = ""
    source: str = "none"
    instances: int | None = None


@dataclass(frozen=True)
class Report:
    """How a run went: for the JSON report of the command line, the panel's table and the bug report.

    Attributes:
        model: Name and version of the model.
        device: Device the networks ran on ("cuda:0 NVIDIA ...", "cpu").
        modality: Modality the run used.
        seconds: Seconds by stage, and "total".
        peak_memory_mb: Largest resident (CPU) or allocated (GPU) memory in MiB, None where it cannot be read.
        cached: What was taken from caches instead of computed.
        steps: Steps taken down the memory ladder, in words; empty if none was needed.
        warnings: Sentences the user should read.
        structures: One entry per structure, by published name.
        understood: Published names by typed phrase.
        seed: Seed used.
    """

    model: str
    device: str
    modality: str
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    cached: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    structures: dict[str, StructureReport] = field(default_factory=dict)
    understood: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


class Masks(dict[str, np.ndarray]):
    """Boolean masks (K, J, I) by canonical published name; a name as the user typed it finds its mask too."""

    def __init__(self, masks: Mapping[str, np.ndarray] | None = None, typed: Mapping[str, str] | None = None) -> None:
        super().__init__(masks or {})
        self._typed = {name.casefold(): name for name in self}
        self._typed |= {phrase.casefold(): name for phrase, name in (typed or {}).items()}

    def __missing__(self, key: str) -> np.ndarray:
        name = self._typed.get(key.casefold())
        if name is None or name not in self:
            raise KeyError(key)
        return self[name]


@dataclass
class SegmentationResult:
    """Masks of one run on the image's own grid.

    Attributes:
        masks: Boolean (K, J, I) arrays by published name; they may overlap.
        labelmap: (K, J, I) unsigned integers: 0, or 1 + position in `names` of the most probable structure.
        names: Published names in the order of the labels of `labelmap`.
        report: How the run went.
        instances: Labelmaps (K, J, I) of separate instances, 1..n, for the structures they were asked for.
    """

    masks: Masks
    labelmap: np.ndarray
    names: tuple[str, ...]
    report: Report
    instances: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, before it starts.

    Attributes:
        seconds: Expected duration on this device, None until the device's speed is known.
        memory_mb: Expected peak of additional memory on the device, in MiB.
        patches: Network passes over all stages.
        fits: Whether `memory_mb` fits into what is free now.
    """

    seconds: float | None
    memory_mb: float
    patches: int
    fits: bool


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is and knows.

    Attributes:
        model: Name of the loaded model.
        version: Version of the loaded model.
        title: The model in words, for a chooser.
        licence: Licence of the weights.
        classes: What it knows, as "MODALITY_Published name" ("CT_Liver").
        device: Device in words.
        device_reason: Why this device (for the badge: "no CUDA device found").
        software: Version of Medal S.
        card: The model card as Markdown.
    """

    model: str
    version: str
    title: str
    licence: str
    classes: tuple[str, ...]
    device: str
    device_reason: str
    software: str
    card: str = ""


class Session(Protocol):
    """One open image.  Caches live as long as the session; close it to free them."""

    modality: str
    warnings: tuple[str, ...]

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
        """Segment the structures that `prompts` and the keys of `masks` name.

        Args:
            prompts: Names or phrases as a user types them; each may name several structures ("kidneys").
            masks: Spatial prompts: boolean (K, J, I) on the image's grid, by name.
            locked: Boolean (K, J, I) by name: where True, the answer is the value that `masks[name]` has there,
                whatever the network says (voxels the user painted in or erased).
            roi: Hard limits of the answer, as index bounds; None for the whole image.
            options: Choices of this run.
            on_progress: Called often, from the thread that runs `segment`.
            on_structure: Called with each structure as soon as its mask is final.
            cancel: Set it to stop within one patch; the session stays usable.

        Raises:
            PromptError: A phrase names nothing known, or nothing this model knows.
            InputError: A mask is on another grid, or the region is empty.
            ResourceError: Every step down the memory ladder failed.
            CancelledError: `cancel` was set.
        """
        ...

    def estimate(
        self, prompts: Sequence[str], masks: Mapping[str, np.ndarray] | None = None, options: Options | None = None
    ) -> Estimate:
        """Say what `segment` with the same arguments will cost."""
        ...

    def close(self) -> None:
        """Free the image and its caches."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """A loaded model on a device, or the way to one."""

    def info(self) -> EngineInfo:
        """Say what is loaded, where, and what it knows."""
        ...

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> Session:
        """Open an image.

        Args:
            array_kji: Intensities (K, J, I) as the scanner gave them (Hounsfield units for CT), any numeric type.
            affine_ras: 4x4, index (i, j, k) to RAS millimetres; any orientation, oblique and left-handed included.
            modality: "CT", "MRI", "US", "PET" or "Microscopy"; None to guess it from the intensities, said in
                `Session.warnings`.

        Raises:
            InputError: Not a 3-D image with finite, varying intensities on an invertible grid.
        """
        ...

    def close(self) -> None:
        """Free the model; open sessions end."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
