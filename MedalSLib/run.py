"""One run of an engine: what is asked, how, and what comes of it.

The same classes in every front end, on the wire and in the inference.  Arrays are indexed `[k, j, i]` ("kji"), as 3D
Slicer and SimpleITK hand them out; a region of interest has its bounds in the order i, j, k.  Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.geometry import Roi
from MedalSLib.volume.mask import BoxMask, DenseMasks

Mode = Literal["auto", "text", "hybrid", "refine"]
Policy = Literal["product", "published"]
Stages = Literal["both", "first"]
Source = Literal["stage 1", "mask", "paint", "none"]

REFINE_MARGIN_MM = 40.0
"""How far around the strokes a refinement may change the result."""


@dataclass(frozen=True)
class RunOptions:
    """Choices of one run; the defaults are what a user expects.

    Attributes:
        mode: "text" ignores masks, "hybrid" uses each mask as its structure's prompt in stage 2, "refine" runs only
            the last stage in the region of the masks; "auto" is "hybrid" when there are masks, else "text".
        policy: "published" reproduces the published implementation (argmax labels, its single-class magnification);
            "product" keeps overlapping structures and reports absent ones as absent.
        seed: Seed of the random prompt blocks: the same inputs and seed give the same masks.
        instances: Published names whose connected components are wanted as separate instances; ("*",) for every
            structure of kind "instance".
        windows: Intensity window by published name, as "level/width" ("400" is wide) or a window's name; "*" stands
            for every structure.
        postprocess: Apply the published component filter to the classes it is published for.
        stages: "both", or "first" for a quick look with the coarse network alone.
    """

    mode: Mode = "auto"
    policy: Policy = "product"
    seed: int = 0
    instances: tuple[str, ...] = ()
    windows: Mapping[str, str] = field(default_factory=dict)
    postprocess: bool = True
    stages: Stages = "both"

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class RunRequest:
    """What is asked of a session.

    Attributes:
        prompts: Names or phrases as a user types them; each may name several structures ("kidneys").
        masks: Spatial prompts on the image's grid (K, J, I), by name.
        locked: By name: where set, the answer is the value that the structure's mask has there, whatever the network
            says (voxels that the user painted in or erased, or found right).
        painted: By name: what of `locked` is new since the structure's last result, and is carried over by a
            refinement.  For a structure that is not in it, the session tells by the results that it remembers.
        roi: Hard limits of the answer, as index bounds; None for the whole image.
        options: Choices of the run.
    """

    prompts: tuple[str, ...] = ()
    masks: Mapping[str, BoxMask] = field(default_factory=dict)
    locked: Mapping[str, BoxMask] = field(default_factory=dict)
    painted: Mapping[str, BoxMask] = field(default_factory=dict)
    roi: Roi | None = None
    options: RunOptions = field(default_factory=RunOptions)


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
StructureCallback = Callable[[str, BoxMask], None]
"""Called as `(name, mask)` when a structure is final (or, while a correction is refined, better than before)."""


@dataclass(frozen=True)
class StructureReport:
    """What was found of one structure.

    Attributes:
        name: Canonical published name.
        found: False if the structure is reported absent (its mask is empty).
        volume_ml: Volume of the mask in millilitres.
        mean_probability: Mean probability over the mask, None if absent or if the mask was not computed.
        window: Intensity window used, as shown to the user ("soft tissue 400/40").
        source: Where its prompt in the last stage came from: "stage 1", "mask", "none"; "paint" if it was made from the
            user's paint and the image alone, without a network.
        instances: Number of separate instances, None unless they were asked for.
        worth_checking: Slices of the mask that are worth a look, the most doubtful first: axis (0, 1, 2 for K, J, I)
            and index.  What the user decided already is not in doubt.
        cut_off: Sides of the image that the mask touches ("feet", "left"): the structure goes on beyond the edge of the
            scan, so that the volume is "at least" this.
    """

    name: str
    found: bool
    volume_ml: float
    mean_probability: float | None = None
    window: str = ""
    source: str = "none"
    instances: int | None = None
    worth_checking: tuple[tuple[int, int], ...] = ()
    cut_off: tuple[str, ...] = ()

    @property
    def cut_off_words(self) -> str:
        """A sentence about where the structure is cut off, empty if it is whole."""
        if not self.cut_off:
            return ""
        return f"Cut off by the edge of the scan ({', '.join(self.cut_off)}): at least {self.volume_ml:.1f} ml."


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


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run found, on the image's own grid (K, J, I).

    Attributes:
        box_masks: Masks by published name; they may overlap.
        labels: Unsigned integers: 0, or 1 + position in `names` of the most probable structure.
        names: Published names in the order of the labels.
        report: How the run went.
        instances: Labelmaps of separate instances, 1..n, for the structures they were asked for.
    """

    box_masks: Mapping[str, BoxMask]
    labels: BoxArray
    names: tuple[str, ...]
    report: Report
    instances: Mapping[str, BoxArray] = field(default_factory=dict)

    @cached_property
    def masks(self) -> DenseMasks:
        """Boolean arrays (K, J, I) by published name or by the phrase that named it, each newly made."""
        typed = {phrase: names[0] for phrase, names in self.report.understood.items() if len(names) == 1}
        return DenseMasks(self.box_masks, typed)

    @property
    def labelmap(self) -> np.ndarray:
        """`labels` as an array of the whole image, newly made."""
        return self.labels.array()


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
