"""Bring a mask that was drawn on another grid onto the image's grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.geometry import Grid, lps_of_grid, same_grid

# Three values, so that where the mask's grid does not reach differs from where the mask is empty.
_OUTSIDE, _FALSE, _TRUE = 0, 1, 2


def resample_mask(mask: np.ndarray, from_grid: Grid, to_grid: Grid, name: str = "") -> np.ndarray:
    """Return a mask on another grid, by the nearest voxel.

    Args:
        mask: (K, J, I), non-zero is inside.
        from_grid: Grid of the mask.
        to_grid: Wanted grid.
        name: Name of the mask, for messages.

    Returns:
        Boolean (K, J, I) on `to_grid`; False where `from_grid` does not reach.

    Raises:
        InputError: The mask does not have the shape of its grid, the grids do not overlap, or the whole content of the
            mask lies off the wanted grid.
    """
    what = f"The mask '{name}'" if name else "The mask"
    if mask.shape != from_grid.shape_kji:
        raise InputError(
            f"{what} has the shape {mask.shape}, but its grid {from_grid.shape_kji}.", "Pass the grid of the mask."
        )
    inside = mask.astype(bool, copy=False)
    if same_grid(from_grid, to_grid):
        return inside
    labels = resample_nearest(np.where(inside, np.uint8(_TRUE), np.uint8(_FALSE)), from_grid, to_grid)
    remedy = "Choose a mask that was drawn on this image, or bring both into the same place of the patient first."
    if not labels.any():
        raise InputError(f"{what} and the image lie in different places of the patient and do not overlap.", remedy)
    result = labels == _TRUE
    if inside.any() and not result.any():
        raise InputError(f"{what} has no part that lies in the image.", remedy)
    return result


def resample_nearest(array: np.ndarray, from_grid: Grid, to_grid: Grid) -> np.ndarray:
    """Return labels (K, J, I) on another grid, by the nearest voxel; 0 where their own grid does not reach."""
    import SimpleITK

    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetInterpolator(SimpleITK.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(_OUTSIDE)
    origin, spacing, direction = lps_of_grid(to_grid)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputDirection(direction)
    resampler.SetSize(to_grid.shape_ijk)
    return SimpleITK.GetArrayFromImage(resampler.Execute(_itk_image(array, from_grid)))


def _itk_image(array: np.ndarray, grid: Grid) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    origin, spacing, direction = lps_of_grid(grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image
