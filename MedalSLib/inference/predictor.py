"""The network on one patch: without prompts, in two passes with half of the prompt each, and refined from itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from MedalSLib.errors import CancelledError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.prompts import (
    PROMPT_BLOCK,
    REFINEMENT_BLOCK,
    PatchPrompts,
    Permutation,
    StackedPrompts,
    shown_first,
)
from MedalSLib.inference.tiling import Tile
from MedalSLib.network.medals import VoxelFeatures

AT_ONCE = 8
"""Classes whose logits of a patch exist at the same time where they are turned into probabilities."""

Logits = Callable[[int, int], Tensor]
"""`(start, stop) -> logits (stop - start, H, W, D)` of a chunk of classes."""


class Network(Protocol):
    """The parts of `MedalSLib.network.medals.MedalS` that inference calls."""

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """See `MedalS.encode`."""
        ...

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """See `MedalS.mask_embeddings`."""
        ...

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """See `MedalS.mix_prompts`."""
        ...

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """See `MedalS.fuse`."""
        ...

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        """See `MedalS.project`."""
        ...


class FeatureCache(Protocol):
    """Voxel features of patches that were run without prompts: they depend on the image alone, not on any text.

    What is put in has its mixing block done (`embedding` is what `MedalS.fuse(features, None)` returns).
    """

    def get(self, tile: Tile) -> VoxelFeatures | None:
        """Return what was put in for a tile, on any device and in any floating precision, or None."""
        ...

    def put(self, tile: Tile, features: VoxelFeatures) -> None:
        """Keep the features of a tile, or not."""
        ...


@dataclass(frozen=True)
class _Pass:
    """One run of the network up to the product of voxel and mask embeddings."""

    network: Network
    voxels: Tensor
    embeddings: Tensor

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.network.project(self.voxels, self.embeddings[:, start:stop])[0]


class PatchPredictor:
    """Runs one network for one list of queries, patch by patch.

    Args:
        network: A `MedalS` in evaluation mode, on `compute.device`.
        queries: Text queries [N, Q].
        compute: Device and precision.
        permutation: Order of the prompt blocks of a patch.
        refinements: How often instance targets are refined from their own prediction; 0 for semantic ones.
        cache: Voxel features of patches without prompts, or None.
        should_cancel: Asked before each run of the network.
    """

    def __init__(
        self,
        network: Network,
        queries: Tensor,
        compute: Compute,
        permutation: Permutation,
        refinements: int = 0,
        cache: FeatureCache | None = None,
        should_cancel: Callable[[], bool] | None = None,
    ) -> None:
        self._network = network
        self._queries = queries.to(compute.torch_device)[None]
        self._compute = compute
        self._permutation = permutation
        self._refinements = refinements
        self._cache = cache
        self._should_cancel = should_cancel
        self._constants: dict[float, Tile] = {}
        self._encoded: set[Tile] = set()
        self.runs = 0
        self.reused = 0

    @property
    def count(self) -> int:
        """Number of queries."""
        return self._queries.shape[1]

    def probabilities(
        self, image: Tensor, prompts: PatchPrompts | None, tile: Tile, start: int, stop: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Run a patch and hand out its probabilities a few classes at a time.

        Args:
            image: Intensities (H, W, D) of the patch, on the network's device.
            prompts: Prompts of all classes, None where there are none.
            tile: The patch's place, for the random blocks and the cache.
            start: First class wanted.
            stop: One past the last class wanted.

        Yields:
            `(first, last, probabilities)`: float32 (last - first, H, W, D) of the classes first..last.

        Raises:
            CancelledError: `should_cancel` said so.
        """
        logits = self._predict(image, prompts, tile, 0, PROMPT_BLOCK)
        for iteration in range(1, self._refinements + 1):
            logits = self._predict(image, self._own_prediction(logits), tile, iteration, REFINEMENT_BLOCK)
        for first in range(start, stop, AT_ONCE):
            last = min(first + AT_ONCE, stop)
            yield first, last, self._sigmoid(logits, first, last)

    def _own_prediction(self, logits: Logits) -> PatchPrompts | None:
        chunks = range(0, self.count, AT_ONCE)
        masks = torch.cat([self._sigmoid(logits, first, min(first + AT_ONCE, self.count)) > 0.5 for first in chunks])
        return StackedPrompts(masks) if bool(masks.any()) else None

    def _sigmoid(self, logits: Logits, start: int, stop: int) -> Tensor:
        with self._compute.precision():
            values = logits(start, stop)
        return values.float().sigmoid_()

    def _predict(self, image: Tensor, prompts: PatchPrompts | None, tile: Tile, iteration: int, block: int) -> Logits:
        """Return the logits of a patch: each voxel from the pass in which its own block of the prompt was hidden."""
        if prompts is None:
            return self._unprompted(image, tile)
        blocks = 1
        for size in image.shape:
            blocks *= -(-size // block)
        shown = shown_first(image.shape, block, self._permutation(blocks, tile, iteration)).to(image.device)
        first, second = self._halves(image, prompts, (shown, ~shown), tile)
        return lambda start, stop: torch.where(shown, second(start, stop), first(start, stop))

    def _halves(
        self, image: Tensor, prompts: PatchPrompts, halves: Sequence[Tensor], tile: Tile
    ) -> tuple[Logits, Logits]:
        unions = [prompts.union & half for half in halves]
        if self._compute.batch_passes and all(bool(union.any()) for union in unions):
            first, second = self._prompted(image, prompts, unions, halves)
            return first, second
        passes: list[Logits] = []
        for union, half in zip(unions, halves, strict=True):
            if bool(union.any()):
                passes += self._prompted(image, prompts, [union], [half])
            else:
                passes.append(self._unprompted(image, tile))
            if len(passes) != 2:
                passes[0] = self._settled(passes[0])
        return passes[0], passes[1]

    def _settled(self, logits: Logits) -> Logits:
        """Return the same logits in what takes less memory while the second pass runs: computed, or still to be."""
        if not isinstance(logits, _Pass) or self.count > logits.voxels.shape[1]:
            return logits
        with self._compute.precision():
            values = logits(0, self.count)
        return lambda start, stop: values[start:stop]

    def _unprompted(self, image: Tensor, tile: Tile) -> Logits:
        """Run without prompts; the part that reads no text comes from the cache where it can.

        Patches of one and the same value, such as those outside the body, all have the features of the first of them.
        """
        if bool((image == image[0, 0, 0]).all()):
            tile = self._constants.setdefault(float(image[0, 0, 0]), tile)
        features = self._cached(tile)
        with self._compute.precision():
            if features is None:
                self._count_run()
                blank = torch.zeros_like(image)
                encoded = self._network.encode(image[None, None], blank[None, None])
                features = replace(encoded, embedding=self._network.fuse(encoded, None), coarse=())
                if self._cache is not None:
                    self._cache.put(tile, features)
                    self._encoded.add(tile)
            return _Pass(self._network, features.embedding, self._network.mask_embeddings(features, self._queries))

    def _cached(self, tile: Tile) -> VoxelFeatures | None:
        features = None if self._cache is None else self._cache.get(tile)
        if features is None:
            return None
        self.reused += tile not in self._encoded  # what this very run put in is not taken from an earlier one
        features = features.to(self._compute.torch_device)
        return features if self._compute.autocast is not None else features.to(torch.float32)

    def _prompted(
        self, image: Tensor, prompts: PatchPrompts, unions: Sequence[Tensor], halves: Sequence[Tensor]
    ) -> list[Logits]:
        """Run one batch of passes, each with its half of the prompts."""
        self._count_run()
        batch = len(unions)
        shown = torch.stack(list(halves))[:, None]
        with self._compute.precision():
            images = image.expand(batch, 1, *image.shape)
            features = self._network.encode(images, torch.stack(list(unions))[:, None].to(image.dtype))
            embeddings = self._network.mask_embeddings(features, self._queries.expand(batch, -1, -1))
            mixed: Tensor | None = None
            for start in range(0, self.count, AT_ONCE):
                stop = min(start + AT_ONCE, self.count)
                masks = prompts.classes(start, stop)
                present = masks.flatten(1).any(dim=1)
                if bool(present.any()):  # a class without prompt voxels adds nothing
                    chosen = embeddings[:, start:stop][:, present]
                    mixed = self._network.mix_prompts(chosen, masks[present][None] & shown, mixed)
            voxels = self._network.fuse(features, mixed)
        return [_Pass(self._network, voxels[i : i + 1], embeddings[i : i + 1]) for i in range(batch)]

    def _count_run(self) -> None:
        if self._should_cancel is not None and self._should_cancel():
            raise CancelledError
        self.runs += 1
