"""Blending by cells, mixing prompts within their boxes, interpolating in pieces: the figures of the plain ways."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from MedalSLib.inference.blending import BlendedPatches, batches
from MedalSLib.inference.prompt_fusion import fused_prompts
from MedalSLib.inference.prompts import PatchPrompts
from MedalSLib.inference.resampling_axis import ResamplingAxis
from MedalSLib.inference.resampling_policy import StageSpec, plan
from MedalSLib.inference.tiling import gaussian_weights
from MedalSLib.network.medals import MedalS

SPEC = StageSpec(2, (1.0, 1.0, 1.0), (16, 16, 16))
PLAN = plan((40, 36, 20), (1.0, 1.0, 1.0), ["CT_Liver", "CT_Spleen"], SPEC)


def test_cells_hold_the_weighted_mean_of_all_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = {tile: torch.rand(3, 16, 16, 16, generator=generator) for tile in PLAN.tiles}
    weights = torch.tensor(gaussian_weights(PLAN.patch)).double()
    sums, total = torch.zeros(3, *PLAN.shape).double(), torch.zeros(PLAN.shape).double()
    for (h0, h1, w0, w1, d0, d1), patch in patches.items():
        sums[:, h0:h1, w0:w1, d0:d1] += patch * weights
        total[h0:h1, w0:w1, d0:d1] += weights
    blended = BlendedPatches(3, PLAN, torch.float32, torch.device("cpu"))
    found = torch.full((3, *PLAN.shape), torch.nan)
    for tiles, final in batches(PLAN):
        for tile in tiles:
            blended.add(tile, [(top, top + 4, patches[tile][:, top : top + 4].clone()) for top in range(0, 16, 4)])
        rows = blended.rows(final)
        for index in range(3):
            part = found[index, slice(*final.rows), slice(*final.columns)]
            assert part.isnan().all(), "each voxel is final once"
            part.copy_(rows(index))
        blended.forget(final)
    torch.testing.assert_close(found.double(), sums / total, atol=1e-6, rtol=0)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("boxes", ["small", "large", "both"])
def test_prompts_mixed_within_their_boxes_are_prompts_mixed_in_the_whole_patch(
    tiny_network: MedalS, boxes: str, passes: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    masks = torch.zeros(14, 16, 16, 16, dtype=torch.bool)
    if boxes != "large":
        masks[0, :3, 13:, 5:9] = True  # at the patch's edges
        masks[4, 4:7, 5:12, 1:3] = True
        masks[5, 5:9, 5:8, 2:9] = True  # overlaps the one before
    if boxes != "small":
        masks[6:] = torch.rand(8, 16, 16, 16, generator=generator) > 0.6
        masks[1:3] = torch.rand(2, 16, 16, 16, generator=generator) > 0.9
    embeddings = torch.randn(passes, 14, tiny_network.config.embedding_dim, generator=generator)
    halves = [torch.rand(16, 16, 16, generator=generator) > 0.5 for _ in range(passes)]
    with torch.inference_mode():
        found = fused_prompts(tiny_network, embeddings, PatchPrompts.of(masks), halves)
        expected = tiny_network.mix_prompts(embeddings, torch.stack([masks & half for half in halves]))
    assert found is not None
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_no_class_prompt_is_nothing_to_mix(tiny_network: MedalS) -> None:
    prompts = PatchPrompts(torch.ones(16, 16, 16, dtype=torch.bool), ())
    assert fused_prompts(tiny_network, torch.zeros(1, 2, 6), prompts, [prompts.union]) is None


@pytest.mark.parametrize(("source", "target"), [(20, 33), (33, 20), (20, 20), (7, 50), (50, 7), (1, 4)])
def test_an_axis_that_arrives_in_pieces_is_interpolated_as_by_torch(source: int, target: int) -> None:
    values = torch.tensor(np.random.default_rng(source).random((3, source, 2)), dtype=torch.float32)
    expected = functional.interpolate(values.movedim(1, 2), size=target, mode="linear", align_corners=False).movedim(
        2, 1
    )
    axis = ResamplingAxis.of(source, target)
    ends = sorted({0, source // 3, source // 2, source})
    found = []
    for begin, end in pairwise(ends):
        start, stop = axis.ready(begin), axis.ready(end)
        if start == stop:
            continue
        first, last = axis.needed(start, stop)
        assert first >= begin - 1
        assert last <= end
        assert axis.near(first, last)[0] <= start
        assert axis.near(first, last)[1] >= stop
        found.append(axis.interpolate(values[:, first:last], 1, first, start, stop))
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=0)
