"""What the starter is trained on, and how fast: one recipe for a GPU, one for a CPU, one for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from MedalSLib.training.starter_batches import Plan
from MedalSLib.training.starter_model import QUERY_DIM, WIDTHS


@dataclass(frozen=True)
class Recipe:
    """What is trained on, and how fast.

    Attributes:
        plans: (plan, samples a step, how often) of each kind of batch.
        queries: Structures asked for in each sample.
        learning_rate: Highest one, after the warm-up.
        text_rate: Share of it for all that is not the U-Net.
        text_begins: Share of the schedule before which only the U-Net learns: in a short run the structures' codes
            must stand still, or they all become "no" before the U-Net has found anything (see `assign_codes`).
        names_only: Ask with the published names alone, which is what inference asks with, instead of any wording.
        modalities: Modalities of the volumes that are trained on.
        warmup: Steps of the warm-up.
        weight_decay: Of AdamW.
        decay: Of the moving average of the weights.
        taught: Names of the structures that are taught, None for all of `starter_classes`.
        real_share: As of `BatchMaker`.
        weights: How often each volume is drawn, by name; volumes that are not named are held out. None for all, as
            often as they were packed to be.
    """

    plans: tuple[tuple[Plan, int, float], ...]
    queries: int = 24
    learning_rate: float = 1e-3
    text_rate: float = 1.0
    text_begins: float = 0.0
    names_only: bool = False
    modalities: tuple[str, ...] = ("CT", "MRI")
    warmup: int = 150
    weight_decay: float = 1e-4
    decay: float = 0.999
    taught: frozenset[str] | None = None
    real_share: float = 0.58
    weights: Mapping[str, float] | None = None


GPU_RECIPE = Recipe(
    plans=(
        (Plan((96, 128, 128), (2.7, 4.4), prompted=False), 4, 0.50),
        (Plan((96, 96, 96), (1.6, 3.2), prompted=True), 6, 0.40),
        (Plan((96, 96, 96), (1.8, 3.2), prompted=False), 6, 0.10),
    )
)
_LARGE = frozenset(
    {"Left lung", "Right lung", "Heart", "Aorta", "Trachea", "Liver", "Spleen", "Left kidney", "Right kidney",
     "Stomach", "Urinary bladder", "Spinal cord", "Inferior vena cava", "Brain"}
)  # fmt: skip
"""What a network with few voxel channels can tell apart after an hour or two on a CPU."""
_CPU_WEIGHTS = {
    "chest_ct": 5.0,
    "abdomen_pelvis_ct": 6.0,
    "upper_abdomen_ct": 1.8,
    "chest_cta": 1.6,
    "chest_ct_2": 1.0,
    "chest_ct_3": 1.0,
    "head_mr": 2.0,
}
"""The second head and the abdomen in MR are held out: what is learned of MR comes from one head and from synthesis."""
CPU_RECIPE = Recipe(
    plans=(
        (Plan((32, 64, 64), (5.0, 7.0), prompted=False, slices=1.33), 2, 0.8),
        (Plan((32, 64, 64), (4.0, 7.0), prompted=True, slices=1.33), 2, 0.2),
    ),
    queries=10,
    learning_rate=3.5e-3,
    text_rate=0.05,
    text_begins=0.6,
    names_only=True,
    warmup=100,
    decay=0.998,
    taught=_LARGE,
    real_share=0.8,
    weights=_CPU_WEIGHTS,
)
TINY_RECIPE = Recipe(
    plans=(
        (Plan((32, 64, 64), (6.0, 9.0), prompted=False), 1, 0.6),
        (Plan((32, 64, 64), (4.0, 6.0), prompted=True), 1, 0.4),
    ),
    queries=6,
    warmup=5,
    decay=0.99,
)
RECIPES = {"gpu": GPU_RECIPE, "cpu": CPU_RECIPE, "tiny": TINY_RECIPE}
SIZES_BY_RECIPE = {
    "gpu": (WIDTHS, QUERY_DIM),
    "cpu": ((24, 40, 80, 128, 128), 128),
    "tiny": ((8, 8, 16, 16, 16, 16), 64),
}
"""Widths of the U-Net and length of the queries by recipe."""
