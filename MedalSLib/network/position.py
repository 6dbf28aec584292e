"""Sinusoidal position code of a token grid."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import torch


@lru_cache(maxsize=8)
def sinusoidal_code(grid: tuple[int, int, int], dim: int, device: torch.device | None = None) -> torch.Tensor:
    """Return the fixed position code of each cell of a 3-D grid.

    Each axis gets its own share of the channels (an even number, a third of `dim` rounded up), in which sine and cosine
    of one frequency are neighbors; the excess of the three shares is cut off at the end.  The figures are those of
    `PositionalEncoding3D` of the positional_encodings package, which the published weights were trained with.

    Args:
        grid: Cells along (H, W, D).
        dim: Channels of the code.
        device: Where to put it.

    Returns:
        float32 [H * W * D, dim], D running fastest; not to be changed, as the next caller gets the same.
    """
    with torch.inference_mode(False):  # a tensor made for inference alone would be no use to a later training
        share = ceil(dim / 6) * 2
        frequencies = 10000.0 ** (-torch.arange(0, share, 2, dtype=torch.float32, device=device) / share)
        axes = []
        for axis, cells in enumerate(grid):
            angles = torch.arange(cells, dtype=torch.float32, device=device)[:, None] * frequencies
            code = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
            sizes = [cells if other == axis else 1 for other in range(3)]
            axes.append(code.view([*sizes, share]).expand(*grid, share))
        return torch.cat(axes, dim=-1)[..., :dim].reshape(-1, dim)
