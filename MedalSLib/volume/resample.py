"""Bring a mask that was drawn on another grid onto the image's grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.geometry import Grid, lps_of_grid, same_grid

# Three values, so that where the mask's grid does not reach differs from where the mask is empty.
_OUTSIDE, _FALSE, _TRUE = 0, 1, 2
_MOST_KEPT = 0.5


def resample_mask(mask: np.ndarray, from_grid: Grid, to_grid: Grid, name: str = "") -> np.ndarray:
    """Return a mask on another grid, by the nearest voxel.

    Where that would lose most of a mask that is thinner than the wanted voxels, each of its voxels is kept as the one
    in which it lies.

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
    if not inside.any():
        return result
    hit, inner = _voxels_hit(inside, from_grid, to_grid)
    if not hit.size:
        raise InputError(f"{what} has no part that lies in the image.", remedy)
    if np.count_nonzero(result) * to_grid.voxel_volume_ml < _MOST_KEPT * inner * from_grid.voxel_volume_ml:
        result[tuple(hit.T)] = True
    return result


def _voxels_hit(mask: np.ndarray, from_grid: Grid, to_grid: Grid) -> tuple[np.ndarray, int]:
    """Return the voxels (n, 3), as k, j, i, of a grid in which voxels of a mask lie, and how many of the mask's do."""
    ras = from_grid.index_to_ras(np.argwhere(mask)[:, ::-1])
    index = np.rint(to_grid.ras_to_index(ras)).astype(np.int64)[:, ::-1]
    index = index[((index >= 0) & (index < to_grid.shape_kji)).all(axis=1)]
    return np.unique(index, axis=0), len(index)


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
