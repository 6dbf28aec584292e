"""Probabilities of prompted patches kept from one run to the next: after a correction only what changed runs again.

The answer for a patch depends on its intensities, its prompts, the queries and the seed and on nothing else.  Where all
of them are what they were, the kept probabilities are those that the network would compute again, to the bit; they are
blended in the same order as ever, so the whole answer is too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from MedalSLib.inference.hooks import ProbabilityCache
from MedalSLib.inference.predictor import PatchPredictor
from MedalSLib.inference.prompts import PatchPrompts
from MedalSLib.inference.tiling import Tile


class CachedPredictor:
    """Runs patches through a predictor, except those whose answer is known.

    Patches without prompts are left to the predictor: their voxel features are what is worth keeping.

    Args:
        predictor: Runs the network.
        cache: Where answers are kept: one image, one window, one plan; None to keep nothing.
        queries: The predictor's queries [N, Q].
        seed: Seed of its prompt blocks.

    Attributes:
        served: Patches whose answer came from the cache.
    """

    def __init__(self, predictor: PatchPredictor, cache: ProbabilityCache | None, queries: Tensor, seed: int) -> None:
        self._predictor = predictor
        self._cache = cache
        self._run = (_digest(queries.float().cpu().numpy()), int(seed))
        self._digests: dict[Tile, bytes] = {}
        self.served: set[Tile] = set()

    @property
    def count(self) -> int:
        """Number of queries."""
        return self._predictor.count

    def probabilities(
        self, image: Tensor, prompts: PatchPrompts | None, tile: Tile, start: int, stop: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Hand out the probabilities of a patch (see `PatchPredictor.probabilities`)."""
        if self._cache is None or prompts is None:
            yield from self._predictor.probabilities(image, prompts, tile, start, stop)
            return
        spans = self._predictor.rows(image.shape, stop - start)
        if tile not in self._digests:
            self._digests[tile] = _prompt_digest(prompts)
        keys = [(*self._run, tile, self._digests[tile], start, stop, top, bottom) for top, bottom in spans]
        kept = [self._cache.get(key) for key in keys]
        found = [part for part in kept if part is not None]
        if len(found) == len(keys):
            self.served.add(tile)
            for (top, bottom), part in zip(spans, found, strict=True):
                yield top, bottom, part.clone()
            return
        parts = self._predictor.probabilities(image, prompts, tile, start, stop)
        for key, (top, bottom, part) in zip(keys, parts, strict=True):
            self._cache.put(key, part.clone())
            yield top, bottom, part


def _digest(*parts: np.ndarray) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()


def _prompt_digest(prompts: PatchPrompts) -> bytes:
    """Return a digest of all prompts of a patch: the classes see each other's where they are mixed."""
    prompts = prompts.origin or prompts
    parts = [np.packbits(prompts.union.cpu().numpy())]
    for part in prompts.parts:
        sides = [side for span in part.box for side in (span.start, span.stop)]
        parts += [np.array([part.index, *sides]), np.packbits(part.mask.cpu().numpy())]
    return _digest(*parts)
