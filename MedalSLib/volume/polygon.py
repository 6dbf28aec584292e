"""The voxels inside a line that was drawn around them in a slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from MedalSLib.volume.mask import BoxMask


def polygon(corners: np.ndarray, shape: Sequence[int]) -> BoxMask:
    """Return the voxels inside a closed line, in the one slice that it lies in.

    Args:
        corners: Its places (N, 3) as indices of voxels, which need not be whole; the axis along which they differ
            least is that of the slice.
        shape: Of the volume.
    """
    from PIL import Image, ImageDraw

    axis = int(np.argmin(np.ptp(corners, axis=0)))
    rows, columns = (other for other in range(3) if other != axis)
    index = round(float(corners[:, axis].mean()))
    if not 0 <= index < shape[axis]:
        return BoxMask.empty(shape)
    drawing = Image.new("1", (shape[columns], shape[rows]))
    ImageDraw.Draw(drawing).polygon([(float(one[columns]), float(one[rows])) for one in corners], fill=1)
    corner = [0, 0, 0]
    corner[axis] = index
    return BoxMask.from_crop(np.expand_dims(np.asarray(drawing, dtype=bool), axis), corner, shape)
