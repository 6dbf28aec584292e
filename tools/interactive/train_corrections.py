"""Train the weights by which corrections carry on (`Resources/Corrections/judge.npz`) from simulated corrections.

    python -m tools.interactive.train_corrections --cases FOLDER --passes 2 -o Resources/Corrections/judge.npz

The folder holds cases as npz files: "image" (D, H, W), "spacing" in mm, and boolean "truth:NAME" arrays.  A simulated
user corrects each structure five times, from nothing and from answers that an imagined network gave; the corrections
are carried on with the weights as they are, so that later ones meet the errors that those make.  Each undecided voxel
is an example: its evidence, and whether it had to change.  Repeat the passes, each with the weights of the one before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import nn

from MedalSLib.evaluation.metrics import dice
from MedalSLib.inference.correction.appearance import Appearance
from MedalSLib.inference.correction.evidence import NAMES, evidence
from MedalSLib.inference.correction.propagation import Scene, decided, working_box
from MedalSLib.inference.correction.working_box import pool
from MedalSLib.resources import resource
from MedalSLib.volume import BoxArray, BoxMask
from MedalSLib.volume.box import slices
from tools.interactive.bench import Knowledge, Task, tasks_of
from tools.interactive.corrections import Kind, next_correction

_KINDS: tuple[Kind, ...] = ("slice", "stroke", "click")
_VOXELS, _KEPT = 800, 400
"""Voxels kept of each correction, and voxels of it in a batch."""
_NETWORK = [NAMES.index(name) for name in ("network", "network against paint", "has network")]


@dataclass(frozen=True, eq=False)
class Examples:
    """Undecided voxels of one correction.

    Attributes:
        adds: Whether it added.
        evidence: Float32 (voxels, numbers).
        changes: Boolean (voxels,): whether the voxel had to change.
    """

    adds: bool
    evidence: np.ndarray
    changes: np.ndarray

    def without_network(self) -> Examples:
        """Return the same as if there had been no network."""
        silent = self.evidence.copy()
        silent[:, _NETWORK] = 0
        return Examples(self.adds, silent, self.changes)


def imagined_network(truth: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the probability (D, H, W) of a network that errs smoothly, by some millimetres, here and there a lobe."""

    def noise(sigma_mm: float) -> np.ndarray:
        field = gaussian_filter(rng.standard_normal(truth.shape).astype(np.float32), sigma_mm / spacing)
        return np.asarray(field / field.std())

    inside = distance_transform_edt(truth, sampling=spacing) - distance_transform_edt(~truth, sampling=spacing)
    inside = gaussian_filter(inside.astype(np.float32), rng.uniform(1.5, 4) / spacing)
    size = min(np.cbrt(np.count_nonzero(truth) * spacing.prod()) / 12, 4.0)
    error = noise(rng.uniform(6, 12))
    if rng.random() < 0.5:  # few large errors, the rest right
        error = np.sign(error) * np.maximum(np.abs(error) - 1, 0) * 2
    inside += size * (error * rng.uniform(0.3, 1) + noise(20.0) * rng.uniform(0.2, 1)) + rng.uniform(-1.5, 1)
    logit = inside / np.exp(rng.uniform(np.log(1.5), np.log(9)))
    if rng.random() < 0.5:  # its doubt tells little of its errors
        logit += noise(8.0) * rng.uniform(0, 0.8) * np.minimum(np.abs(logit), 1)
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float32)


def varied(task: Task, rng: np.random.Generator) -> Task:
    """Return a structure in thicker slices, with other axes or with a start, by chance."""
    image, truth, spacing = task.image, task.truth, task.spacing
    if spacing[0] < 4 and rng.random() < 0.6:
        image, truth, spacing = image[::2], truth[::2], spacing * (2, 1, 1)
    if rng.random() < 0.3:
        order = rng.permutation(3)
        image, truth, spacing = image.transpose(order), truth.transpose(order), spacing[order]
    image, truth = np.ascontiguousarray(image), np.ascontiguousarray(truth)
    start, probability, by_hand = np.zeros_like(truth), None, True
    if truth.any() and rng.random() < 0.6:
        imagined = imagined_network(truth, spacing, rng)
        if dice(truth, imagined >= 0.5) >= 0.5:
            start, by_hand = imagined >= 0.5, False
            probability = imagined if rng.random() < 0.7 else None
    return Task(task.case, task.structure, image, spacing, truth, start, probability, by_hand)


def examples_of(task: Task, kind: Kind, rng: np.random.Generator) -> Iterator[Examples]:
    """Correct a structure five times and give the voxels that each correction had to decide."""
    known = Knowledge(task.start.copy(), np.zeros(task.truth.shape, dtype=bool))
    tells = bool(rng.random() < 0.7)
    for _ in range(5):
        correction = next_correction(task.truth, known.mask, task.spacing.tolist(), kind)
        if correction is None:
            return
        known.take(correction, task.truth, kind, tells)
        scene = Scene(
            task.image,
            task.spacing,
            BoxMask.of(known.checked),
            None if task.probability is None else BoxArray.of(task.probability),
            task.by_hand,
        )
        work = working_box(scene, BoxMask.of(known.mask), BoxMask.of(correction.painted), correction.add)
        known.mask, known.checked = correction.apply(known.mask), known.checked | correction.painted
        if work.free.any():
            rows = evidence(work, Appearance.of(work)).T
            changes = (pool(task.truth[slices(work.box)], work.factors) >= 0.5)[work.free] == correction.add
            some = rng.choice(len(rows), min(len(rows), _VOXELS), replace=False)
            yield Examples(correction.add, rows[some], changes[some])
            known.mask[slices(work.box)] = decided(work)


def collect(folder: Path, passes: int, rng: np.random.Generator) -> list[Examples]:
    """Simulate corrections of every structure of every case."""
    found: list[Examples] = []
    for path in sorted(folder.glob("*.npz")):
        case = np.load(path, allow_pickle=False)
        truths = {name.removeprefix("truth:"): case[name] for name in case.files if name.startswith("truth:")}
        for task in tasks_of(path.stem, case["image"], case["spacing"], truths):
            for kind in _KINDS * passes:
                one = varied(task, rng)
                if np.count_nonzero(one.truth) >= 60:
                    found += examples_of(one, kind, rng)
    # What a network said must not be needed.
    return found + [one.without_network() for one in found if one.evidence[0, _NETWORK[-1]] and rng.random() < 0.5]


def fit(examples: Sequence[Examples], steps: int, seed: int) -> dict[str, np.ndarray]:
    """Fit a perceptron to examples of one kind; every correction counts alike.

    Returns:
        "mean", "scale", and "weight0", "bias0", ... of the layers.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    picks = [rng.choice(len(one.changes), _KEPT, replace=len(one.changes) < _KEPT) for one in examples]
    rows = np.stack([one.evidence[pick] for one, pick in zip(examples, picks, strict=True)])
    mean, scale = rows.mean(axis=(0, 1)), rows.std(axis=(0, 1)) + 1e-3
    inputs = torch.from_numpy((rows - mean) / scale).clamp_(-4, 4)
    wanted = torch.from_numpy(
        np.stack([one.changes[pick] for one, pick in zip(examples, picks, strict=True)]).astype(np.float32)
    )
    network = nn.Sequential(
        nn.Linear(len(NAMES), 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(-2)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(0, len(inputs), (24,))
        loss = nn.functional.binary_cross_entropy_with_logits(network(inputs[batch]), wanted[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    stored = {"mean": mean, "scale": scale}
    for number, layer in enumerate(layer for layer in network if isinstance(layer, nn.Linear)):
        stored |= {f"weight{number}": layer.weight.detach().numpy(), f"bias{number}": layer.bias.detach().numpy()}
    return {name: value.astype(np.float32) for name, value in stored.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="folder of npz files")
    parser.add_argument("--passes", type=int, default=1, help="simulations of each structure and kind")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=resource("Corrections"))
    args = parser.parse_args(argv)
    examples = collect(args.cases, args.passes, np.random.default_rng(args.seed))
    stored: dict[str, np.ndarray] = {}
    for prefix, adds in (("add", True), ("erase", False)):
        chosen = [one for one in examples if one.adds is adds and len(one.changes) >= 100]
        print(f"{prefix}: {len(chosen)} corrections")  # noqa: T201
        stored |= {f"{prefix}_{name}": value for name, value in fit(chosen, args.steps, args.seed).items()}
    output = args.output / "judge.npz" if args.output.is_dir() else args.output
    np.savez(output, allow_pickle=False, **stored)


if __name__ == "__main__":
    main()
