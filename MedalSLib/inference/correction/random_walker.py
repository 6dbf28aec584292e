"""A random walker with priors: beliefs of single voxels made to agree where the image shows no border between them."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

PRIOR = 0.6
"""Weight of a voxel's own belief against that of a neighbour 1 working voxel away without a border between."""
_BETA = 8.0
_LEAST = 0.02


def walk(
    belief: np.ndarray, free: np.ndarray, fixed: np.ndarray, certain: np.ndarray, value: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Return the probability of each free voxel that a walker who starts there meets a change first.

    After Grady, "Multilabel random walker image segmentation using prior models", 2005: the minimum of the sum of
    w_ij (x_i - x_j)^2 over neighbours and of PRIOR (x_i - belief_i)^2 over voxels, a linear system.

    Args:
        belief: Probability of each free voxel by itself, in the order of `free`.
        free: Boolean (D, H, W): voxels to decide.
        fixed: Boolean (D, H, W): those not free that are as the paint wants them.
        certain: Boolean (D, H, W): those not free whose value is known; others have no say.
        value: Intensities (D, H, W) in units of the local contrast.
        spacing: In mm (D, H, W).
    """
    count = len(belief)
    number = np.full(free.shape, -1, dtype=np.int32)
    number[free] = np.arange(count, dtype=np.int32)
    diagonal, right = np.full(count, PRIOR), PRIOR * belief.astype(float)
    firsts, seconds, weights = [], [], []
    for axis, step in enumerate(spacing):
        low, high = _neighbours(axis)
        weight = (np.exp(-_BETA * (value[low] - value[high]) ** 2) + _LEAST) * (spacing.min() / step)
        one, other = number[low], number[high]
        both = (one >= 0) & (other >= 0)
        firsts.append(one[both])
        seconds.append(other[both])
        weights.append(weight[both])
        for ours, theirs, there in ((one, other, high), (other, one, low)):
            border = (ours >= 0) & (theirs < 0) & certain[there]
            diagonal += np.bincount(ours[border], weight[border], count)
            right += np.bincount(ours[border], weight[border] * fixed[there][border], count)
            diagonal += np.bincount(ours[both], weight[both], count)
    first, second, weight = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(weights)
    half = sparse.coo_matrix((weight, (first, second)), shape=(count, count)).tocsr()
    system = sparse.diags(diagonal) - half - half.T
    solution, _ = cg(system, right, x0=belief, rtol=1e-3, maxiter=150, M=sparse.diags(1 / diagonal))
    return np.asarray(solution)


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)
