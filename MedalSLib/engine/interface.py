"""The one interface of every engine: in-process, local child process and remote server look the same to a front end.

Nothing here needs torch, so a thin Slicer can import it.  Arrays are indexed `[k, j, i]` ("kji"), as 3D Slicer and
SimpleITK hand them out; affines take the index `(i, j, k)` to RAS millimetres.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.run import Estimate, ProgressCallback, RunOptions, RunRequest, RunResult, StructureCallback
from MedalSLib.volume.geometry import Roi
from MedalSLib.volume.mask import BoxMask

OneSession = TypeVar("OneSession", bound="Session")
OneEngine = TypeVar("OneEngine", bound="Engine")


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


class Session(ABC):
    """One open image.  Caches live as long as the session; close it to free them.

    Attributes:
        modality: What the image is taken for.
        warnings: Sentences for the user about how the image was taken.
    """

    modality: str
    warnings: tuple[str, ...]

    @abstractmethod
    def run(
        self,
        request: RunRequest,
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Segment the structures that the prompts and masks of a request name.

        Args:
            request: What is asked.
            on_progress: Called often, from the thread that calls.
            on_structure: Called with each structure as soon as its mask is final.
            cancel: Set it to stop within one patch; the session stays usable.

        Raises:
            PromptError: A phrase names nothing known, or nothing this model knows.
            InputError: A mask is on another grid, or the region is empty.
            ResourceError: Every step down the memory ladder failed.
            CancelledError: `cancel` was set.
        """

    def segment(
        self,
        prompts: Sequence[str] = (),
        masks: Mapping[str, np.ndarray | BoxMask] | None = None,
        locked: Mapping[str, np.ndarray | BoxMask] | None = None,
        roi: Roi | None = None,
        *,
        painted: Mapping[str, np.ndarray | BoxMask] | None = None,
        options: RunOptions | None = None,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Segment structures: `run` with the parts of a `RunRequest` as arguments.

        Args:
            prompts: Names or phrases as a user types them.
            masks: Spatial prompts by name: boolean (K, J, I) on the image's grid, or `BoxMask`s.
            locked: The same by name: where set, the answer is the value that the mask of that name has there.
            roi: Hard limits of the answer, as index bounds ((i0, i1), (j0, j1), (k0, k1)).
            painted: The same by name: what of `locked` is new since the last result (see `RunRequest`).
            options: Choices of the run.
            on_progress: See `run`.
            on_structure: See `run`.
            cancel: See `run`.

        Raises:
            MedalSError: As `run`.
        """
        request = RunRequest(
            tuple(prompts),
            box_masks(masks),
            box_masks(locked),
            box_masks(painted),
            roi,
            RunOptions() if options is None else options,
        )
        return self.run(request, on_progress=on_progress, on_structure=on_structure, cancel=cancel)

    @abstractmethod
    def estimate(
        self,
        prompts: Sequence[str],
        masks: Mapping[str, np.ndarray | BoxMask] | None = None,
        options: RunOptions | None = None,
    ) -> Estimate:
        """Say what `segment` with the same arguments will cost.

        Args:
            prompts: Names or phrases.
            masks: Spatial prompts by name.
            options: Choices of the run.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the image and its caches."""

    def __enter__(self: OneSession) -> OneSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(ABC):
    """A loaded model on a device, or the way to one."""

    @abstractmethod
    def info(self) -> EngineInfo:
        """Say what is loaded, where, and what it knows."""

    @abstractmethod
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

    @abstractmethod
    def close(self) -> None:
        """Free the model; open sessions end."""

    def __enter__(self: OneEngine) -> OneEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def box_masks(masks: Mapping[str, np.ndarray | BoxMask] | None) -> dict[str, BoxMask]:
    """Return masks by name as `BoxMask`s; of arrays of numbers, what is not zero is set.

    Raises:
        InputError: An array does not have three axes.
    """
    packed: dict[str, BoxMask] = {}
    for name, mask in (masks or {}).items():
        if not isinstance(mask, BoxMask) and np.ndim(mask) != 3:
            raise InputError(f"The mask of {name} has the shape {np.shape(mask)}, not three axes.", "Give a 3-D mask.")
        packed[name] = BoxMask.of(mask if isinstance(mask, BoxMask) else np.asarray(mask))
    return packed
