"""How many operations a pass of a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def operations(network: Any, patch: Sequence[int], count: int, prompted: bool = True) -> float:
    """Count the operations of one pass over a patch (H, W, D) with `count` classes, without doing them.

    Attention is counted as the two products it consists of: the fused kernels that some devices have are not all known
    to the counter.

    Args:
        network: Network whose configuration counts.
        patch: Voxels (H, W, D).
        count: Number of classes.
        prompted: Whether prompts are mixed in.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from MedalSLib.network.medals import MedalS

    with torch.device("meta"):
        shadow = MedalS(network.config).eval()
        queries = torch.empty(1, count, network.config.query_dim)
        image, masks = torch.empty(1, 1, *patch), torch.empty(1, count, *patch)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        if prompted:
            shadow(queries, image, image, masks)
        else:
            features = shadow.plain(image)
            shadow.project(features.embedding, shadow.mask_embeddings(features, queries))
    return float(counter.get_total_flops())
