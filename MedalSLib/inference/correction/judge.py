"""A small network that weighs the evidence of single voxels; its weights ship with the software."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from MedalSLib.inference.correction.evidence import NAMES
from MedalSLib.resources import resource

_FILE = ("Corrections", "judge.npz")
_LIMIT = 4.0
"""Standardized evidence beyond this was too rare in training to be trusted."""


@dataclass(frozen=True, eq=False)
class Judge:
    """A perceptron with ReLU between its layers.

    Attributes:
        mean: Mean of each number of the evidence in training.
        scale: Its standard deviation.
        layers: Weights (out, in) and biases (out,).
    """

    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def probability(self, evidence: np.ndarray) -> np.ndarray:
        """Return the probability that voxels change, float32, from evidence (numbers, voxels)."""
        values = np.clip((evidence - self.mean[:, None]) / self.scale[:, None], -_LIMIT, _LIMIT)
        for weights, biases in self.layers[:-1]:
            values = np.maximum(weights @ values + biases[:, None], 0)
        weights, biases = self.layers[-1]
        return np.asarray(1 / (1 + np.exp(-(weights @ values + biases[:, None])[0])))


@lru_cache(maxsize=2)
def judge(adds: bool) -> Judge:
    """Return the judge of corrections that add, or of those that erase.

    Raises:
        ModelError: Its file is missing.
    """
    with np.load(resource(*_FILE), allow_pickle=False) as stored:
        prefix = "add" if adds else "erase"
        count = sum(name.startswith(f"{prefix}_weight") for name in stored.files)
        layers = tuple((stored[f"{prefix}_weight{at}"], stored[f"{prefix}_bias{at}"]) for at in range(count))
        found = Judge(stored[f"{prefix}_mean"], stored[f"{prefix}_scale"], layers)
    assert len(found.mean) == len(NAMES), "the stored weights belong to other evidence"
    return found
