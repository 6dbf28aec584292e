"""What the panel says about the chosen volume."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VolumeFacts:
    """The chosen volume.

    Attributes:
        name: Its name.
        problem: Why it cannot be segmented and what to do, empty if it can.
        remark: What to know before it is segmented, empty for nothing.
        shape: Voxels along (i, j, k).
        spacing: Millimetres along (i, j, k).
        modality: Modality it seems to have.
        reason: Why it is taken for that, as a sentence.
        certain: Whether the user need not check the modality.
        frames: Frames of the time series it belongs to, 1 for a single volume.
    """

    name: str
    problem: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    modality: str = ""
    reason: str = ""
    certain: bool = True
    frames: int = 1
    remark: str = ""
