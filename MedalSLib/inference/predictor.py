"""The network on one patch: without prompts, in two passes with half of the prompt each, and refined from itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from MedalSLib.errors import CancelledError
from MedalSLib.inference.backends import Network
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.hooks import FeatureCache
from MedalSLib.inference.prompt_fusion import fused_prompts
from MedalSLib.inference.prompts import (
    PROMPT_BLOCK,
    REFINEMENT_BLOCK,
    PatchPrompts,
    Permutation,
    shown_first,
)
from MedalSLib.inference.tensor_ops import select
from MedalSLib.inference.tiling import Tile
from MedalSLib.network.medals import VoxelFeatures

_VALUES = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Logits that exist at the same time where they are turned into probabilities: on a CPU as many as its caches hold."""

Logits = Callable[[int, int, int, int], Tensor]
"""`(start, stop, top, bottom) -> logits (stop - start, bottom - top, W, D)` of a chunk of classes and rows."""


@dataclass(frozen=True)
class _Pass:
    """One run of the network up to the product of voxel and mask embeddings."""

    network: Network
    voxels: Tensor
    embeddings: Tensor

    def __call__(self, start: int, stop: int, top: int, bottom: int) -> Tensor:
        return self.network.project(self.voxels[:, :, top:bottom], self.embeddings[:, start:stop])[0]


@dataclass(eq=False)
class PatchPredictor:
    """Runs one network for one list of queries, patch by patch.

    Attributes:
        network: A `MedalS` in evaluation mode, on `compute.device`.
        queries: Text queries [N, Q].
        compute: Device and precision.
        permutation: Order of the prompt blocks of a patch.
        refinements: How often instance targets are refined from their own prediction; 0 for semantic ones.
        cache: Voxel features of patches without prompts, or None.
        should_cancel: Asked before each run of the network.
        runs: Runs of the network.
        reused: Patches whose voxel features came from the cache.
    """

    network: Network
    queries: Tensor
    compute: Compute
    permutation: Permutation
    refinements: int = 0
    cache: FeatureCache | None = None
    should_cancel: Callable[[], bool] | None = None
    runs: int = 0
    reused: int = 0

    def __post_init__(self) -> None:
        self._queries = self.queries.to(self.compute.torch_device)[None]
        self._constants: dict[float, Tile] = {}
        self._encoded: set[Tile] = set()

    @property
    def count(self) -> int:
        """Number of queries."""
        return self._queries.shape[1]

    def probabilities(
        self, image: Tensor, prompts: PatchPrompts | None, tile: Tile, start: int, stop: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Run a patch and hand out its probabilities a few rows at a time.

        Args:
            image: Intensities (H, W, D) of the patch, on the network's device.
            prompts: Prompts of all classes, None where there are none.
            tile: The patch's place, for the random blocks and the cache.
            start: First class wanted.
            stop: One past the last class wanted.

        Yields:
            `(top, bottom, probabilities)`: float32 (stop - start, bottom - top, W, D) of the rows top..bottom, which
            the caller may overwrite.

        Raises:
            CancelledError: `should_cancel` said so.
        """
        wanted = (0, self.count) if self.refinements else (start, stop)
        logits = self._predict(image, prompts, tile, 0, PROMPT_BLOCK, wanted)
        for iteration in range(1, self.refinements + 1):
            wanted = (0, self.count) if iteration < self.refinements else (start, stop)
            own = self._own_prediction(logits, image.shape)
            logits = self._predict(image, own, tile, iteration, REFINEMENT_BLOCK, wanted)
        for top, bottom in self.rows(image.shape, stop - start):
            yield top, bottom, self._sigmoid(logits, start, stop, top, bottom)

    def rows(self, shape_hwd: Sequence[int], classes: int) -> list[tuple[int, int]]:
        """Return the rows of a patch whose probabilities of some classes are handed out together."""
        high, wide, deep = shape_hwd
        most = _VALUES.get(self.compute.torch_device.type, _VALUES["cpu"])
        step = max(1, most // max(1, classes * wide * deep))
        return [(top, min(top + step, high)) for top in range(0, high, step)]

    def _own_prediction(self, logits: Logits, shape_hwd: Sequence[int]) -> PatchPrompts | None:
        spans = self.rows(shape_hwd, self.count)
        masks = torch.cat([self._sigmoid(logits, 0, self.count, *span) > 0.5 for span in spans], dim=1)
        return PatchPrompts.of(masks) if bool(masks.any()) else None

    def _sigmoid(self, logits: Logits, start: int, stop: int, top: int, bottom: int) -> Tensor:
        with self.compute.precision():
            values = logits(start, stop, top, bottom)
        return values.float().sigmoid_()

    def _predict(
        self,
        image: Tensor,
        prompts: PatchPrompts | None,
        tile: Tile,
        iteration: int,
        block: int,
        wanted: tuple[int, int],
    ) -> Logits:
        """Return the logits of a patch: each voxel from the pass in which its own block of the prompt was hidden."""
        if prompts is None:
            return self._unprompted(image, tile)
        blocks = prod(-(-size // block) for size in image.shape)
        shown = shown_first(image.shape, block, self.permutation(blocks, tile, iteration), image.device)
        first, second = self._halves(image, prompts, (shown, ~shown), tile, wanted)

        def logits(start: int, stop: int, top: int, bottom: int) -> Tensor:
            one, other = (each(start, stop, top, bottom) for each in (first, second))
            return select(shown[top:bottom], other, one)

        return logits

    def _halves(
        self,
        image: Tensor,
        prompts: PatchPrompts,
        halves: Sequence[Tensor],
        tile: Tile,
        wanted: tuple[int, int],
    ) -> tuple[Logits, Logits]:
        unions = [prompts.union & half for half in halves]
        shows = torch.stack([union.any() for union in unions]).tolist()  # of a GPU, asked once
        if image.numel() <= self.compute.batch_voxels and all(shows):
            first, second = self._prompted(image, prompts, unions, halves)
            return first, second
        passes: list[Logits] = []
        for union, half, some in zip(unions, halves, shows, strict=True):
            if some:
                passes += self._prompted(image, prompts, [union], [half])
            else:
                passes.append(self._unprompted(image, tile))
            if len(passes) != 2:
                passes[0] = self._settled(passes[0], *wanted)
        return passes[0], passes[1]

    def _settled(self, logits: Logits, start: int, stop: int) -> Logits:
        """Return the same logits in what takes less memory while the second pass runs: computed, or still to be."""
        if not isinstance(logits, _Pass) or stop - start > logits.voxels.shape[1]:
            return logits
        with self.compute.precision():
            values = logits(start, stop, 0, logits.voxels.shape[2])
        return lambda first, last, top, bottom: values[first - start : last - start, top:bottom]

    def _unprompted(self, image: Tensor, tile: Tile) -> Logits:
        """Run without prompts; the part that reads no text comes from the cache where it can.

        Patches of one and the same value, such as those outside the body, all have the features of the first of them.
        """
        lowest, highest = torch.aminmax(image)
        if bool(lowest == highest):
            tile = self._constants.setdefault(float(lowest), tile)
        features = self._cached(tile)
        with self.compute.precision():
            if features is None:
                self._count_run()
                features = self.network.plain(image[None, None])
                if self.cache is not None:
                    self.cache.put(tile, features)
                    self._encoded.add(tile)
            return _Pass(self.network, features.embedding, self.network.mask_embeddings(features, self._queries))

    def _cached(self, tile: Tile) -> VoxelFeatures | None:
        features = None if self.cache is None else self.cache.get(tile)
        if features is None:
            return None
        self.reused += tile not in self._encoded  # what this very run put in is not taken from an earlier one
        features = features.to(self.compute.torch_device)
        return features if self.compute.autocast is not None else features.to(torch.float32)

    def _prompted(
        self, image: Tensor, prompts: PatchPrompts, unions: Sequence[Tensor], halves: Sequence[Tensor]
    ) -> list[Logits]:
        """Run one batch of passes, each with its half of the prompts."""
        self._count_run()
        batch = len(unions)
        with self.compute.precision():
            images = image.expand(batch, 1, *image.shape)
            features = self.network.encode(images, torch.stack(list(unions))[:, None].to(image.dtype))
            embeddings = self.network.mask_embeddings(features, self._queries.expand(batch, -1, -1))
            mixed = fused_prompts(self.network, embeddings, prompts, halves)
            voxels = self.network.fuse(features, mixed)
        return [_Pass(self.network, voxels[i : i + 1], embeddings[i : i + 1]) for i in range(batch)]

    def _count_run(self) -> None:
        if self.should_cancel is not None and self.should_cancel():
            raise CancelledError
        self.runs += 1
