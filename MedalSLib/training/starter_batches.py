"""Batches for the starter: a volume, a new anatomy, a field of view, an appearance, questions and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from MedalSLib.training.starter_appearance import COUNT, ct_appearance, mr_appearance
from MedalSLib.training.starter_labels import NOT_MIRRORED, mirrored_elements, starter_classes
from MedalSLib.training.starter_prompts import prompts_for
from MedalSLib.training.starter_volumes import AIR_SHIFT, Volume
from MedalSLib.training.synthesis import (
    Bump,
    Shape,
    Triple,
    Warp,
    blur,
    positions,
    render,
    sample,
    smooth_noise,
    thick_slices,
)
from MedalSLib.volume.windows import BONE, BRAIN, LUNG, SOFT_TISSUE, Window

_MAJOR = frozenset(
    {"Liver", "Spleen", "Left kidney", "Right kidney", "Left lung", "Right lung", "Aorta", "Heart", "Stomach", "Brain",
     "Pancreas", "Gallbladder", "Inferior vena cava", "Urinary bladder", "Esophagus", "Duodenum",
     "Left adrenal gland", "Right adrenal gland", "Colon", "Small bowel", "Spinal cord", "Trachea"}
)  # fmt: skip
_TEXTURE_LIMIT = 350.0
_WINDOW_GAIN = 3.0
_FORBIDDEN = -1e4


@dataclass(frozen=True)
class Plan:
    """What kind of patches a batch has.

    Attributes:
        shape: (D, H, W) in voxels.
        spacing: Range of the spacing in mm, the same on all axes but for some jitter.
        prompted: Whether the network gets mask prompts.
        slices: Spacing along z as a multiple of that in plane.
    """

    shape: Shape
    spacing: tuple[float, float]
    prompted: bool
    slices: float = 1.0


@dataclass(frozen=True)
class Batch:
    """One training batch, in the network's axes.

    Attributes:
        image: [B, 1, H, W, D], 0..255.
        classes: [B, N] positions in `starter_classes()`.
        real: [B, N] bool; false where a sample has fewer trusted structures than queries.
        target: [B, N, H, W, D] bool.
        union: [B, 1, H, W, D] float.
        prompts: [B, N, H, W, D] float, None for a batch without prompts.
    """

    image: Tensor
    classes: Tensor
    real: Tensor
    target: Tensor
    union: Tensor
    prompts: Tensor | None


class BatchMaker:
    """Makes batches without end.

    Args:
        volumes: Training volumes, all on one device.
        queries: Structures asked for in each sample.
        seed: Same seed, same batches.
        taught: Names of the structures to ask for, None for all.
        real_share: Share of CT patches that keep the patient's own intensities (more or less); the others are
            synthesized.
    """

    def __init__(
        self,
        volumes: list[Volume],
        queries: int,
        seed: int,
        taught: frozenset[str] | None = None,
        real_share: float = 0.58,
    ) -> None:
        self.volumes = volumes
        self.queries = queries
        self.taught = taught
        self.real_share = real_share
        self.device = volumes[0].image.device
        self.host = np.random.default_rng(seed)
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.classes = classes = starter_classes()
        members = torch.zeros((len(classes), COUNT))
        for row, known in enumerate(classes):
            members[row, list(known.elements)] = 1.0
        self.members = members.to(self.device)
        self.log_weight = torch.tensor(
            [
                np.log(4.0 if known.name in _MAJOR else 0.6 if known.name.startswith("Vertebrae ") else 1.0)
                for known in classes
            ],
            dtype=torch.float32,
            device=self.device,
        )
        self.mirror = torch.tensor([*mirrored_elements(), *range(len(mirrored_elements()), COUNT)]).to(self.device)
        self.means = {volume.name: torch.from_numpy(volume.mean).float().to(self.device) for volume in volumes}

    def state(self) -> dict[str, Any]:
        """Return the states of both generators, for an exact resume."""
        return {"host": self.host.bit_generator.state, "device": self.rng.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.host.bit_generator.state = state["host"]
        self.rng.set_state(state["device"].cpu())

    def make(self, plan: Plan, size: int) -> Batch:
        """Return a batch of `size` samples."""
        weights = np.array([volume.weight for volume in self.volumes])
        images, questions, realities, targets = [], [], [], []
        for _ in range(size):
            volume = self.volumes[self.host.choice(len(self.volumes), p=weights / weights.sum())]
            image, classes, real, target = self._sample(volume, plan)
            images.append(image)
            realities.append(real)
            questions.append(classes)
            targets.append(target)
        target = torch.stack(targets)
        prompts = prompts_for(target, self.host, self.rng) if plan.prompted else None
        union = prompts.amax(1, keepdim=True) if prompts is not None else torch.zeros_like(target[:, :1]).float()
        to_network = (0, 1, 3, 4, 2)
        return Batch(
            image=torch.stack(images)[:, None].permute(to_network).contiguous(),
            classes=torch.stack(questions),
            real=torch.stack(realities),
            target=target.permute(to_network).contiguous(),
            union=union.permute(to_network).contiguous(),
            prompts=None if prompts is None else prompts.permute(to_network).contiguous(),
        )

    def _sample(self, volume: Volume, plan: Plan) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        host = self.host
        warp, view = self._geometry(volume, plan)
        places = positions(warp, self.rng, self.device)
        image = sample(volume.image, places, volume.spacing)
        elements = sample(volume.elements, places, volume.spacing, nearest=True).long()
        image, window = self._appearance(volume, image, elements)
        inside = torch.zeros(plan.shape, dtype=torch.bool, device=self.device)
        inside[view] = True
        image, elements = image * inside, elements * inside
        mirrored = host.random() < 0.2
        if mirrored:
            image, elements = image.flip(2), self.mirror[elements].flip(2)
        if host.random() < 0.05:
            image, elements = image.flip(1), elements.flip(1)
        classes, real = self._questions(volume, window, mirrored, elements)
        target = self.members[classes][:, elements.flatten()].view(self.queries, *plan.shape) > 0
        return image, classes, real, target & real.view(-1, 1, 1, 1)

    def _geometry(self, volume: Volume, plan: Plan) -> tuple[Warp, tuple[slice, ...]]:
        """Return a random anatomy and place, and the part of the patch that the scan covers."""
        host = self.host
        base = host.uniform(*plan.spacing)
        spacing = [float(base * factor * host.uniform(0.92, 1.08)) for factor in (plan.slices, 1.0, 1.0)]
        overall = np.exp(host.normal(0, 0.13))
        scale = tuple(float(np.clip(overall * np.exp(host.normal(0, 0.07)), 0.7, 1.4)) for _ in range(3))
        aim = volume.organs[host.integers(len(volume.organs))]
        start, view = [], []
        for axis in range(3):
            size, count = volume.extent[axis] * scale[axis], plan.shape[axis]
            first, begin, end = self._along(
                size=size,
                patch=count * spacing[axis],
                aim=aim.centre[axis] * scale[axis],
                cut=0.55 if axis == 0 else 0.12,
            )
            start.append(first)
            view.append(slice(max(0, round(begin / spacing[axis])), max(1, round(end / spacing[axis]))))
        centre = tuple(
            (first + 0.5 * n * s) / f for first, n, s, f in zip(start, plan.shape, spacing, scale, strict=True)
        )
        tilt = 0.35 if host.random() < 0.8 else 0.05
        angles = (host.uniform(-tilt, tilt), host.uniform(-0.2, 0.2) * tilt / 0.35, host.uniform(-tilt, tilt) * 0.6)
        picked = host.choice(len(volume.organs), min(8, len(volume.organs)), replace=False)
        bumps = tuple(
            Bump(volume.organs[k].centre, max(12.0, 1.3 * volume.organs[k].radius), float(host.uniform(-0.4, 0.35)))
            for k in picked
        )
        strength = host.uniform(0.2, 1.0)
        waves = ((140.0, 14.0 * strength), (60.0, 5.0 * strength), (25.0, 1.3 * strength))
        return Warp(
            plan.shape, _triple(spacing), _triple(centre), _triple(scale), _triple(angles), waves, bumps
        ), tuple(view)

    def _along(self, size: float, patch: float, aim: float, cut: float) -> tuple[float, float, float]:
        """Choose along one axis, in mm of the new anatomy: where the patch begins, and what of it the scan covers.

        Scans begin anywhere and end anywhere; a scan smaller than the patch often lies at its start, as in inference,
        where patches are padded at their end.
        """
        host = self.host
        length, begin = size, 0.0
        if host.random() < cut and size > 90.0:
            length = host.uniform(max(70.0, 0.25 * size), size)
            begin = float(np.clip(aim - host.uniform(0.1, 0.9) * length, 0.0, size - length))
        elif host.random() < 0.5:
            margin = host.uniform(0.0, 0.08) * size
            length, begin = size + 2 * margin, -margin
        if length <= patch:
            offset = 0.0 if host.random() < 0.5 else host.uniform(0.0, patch - length)
            return begin - offset, offset, offset + length
        at = float(np.clip(aim - host.uniform(0.15, 0.85) * patch, begin, begin + length - patch))
        return at, 0.0, patch

    def _appearance(self, volume: Volume, image: Tensor, elements: Tensor) -> tuple[Tensor, str]:
        host = self.host
        raw = image - AIR_SHIFT if volume.modality == "CT" else image
        chance = host.random()
        if volume.modality == "CT":
            synthetic = self.real_share + 0.43 * (1.0 - self.real_share)
            kind = "real" if chance < self.real_share else "synthetic" if chance < synthetic else "mr"
        else:
            kind = "as is" if chance < 0.5 else "mr" if chance < 0.82 else "synthetic"
        if kind == "as is":
            image = raw
        else:
            ct = volume.modality == "CT"
            if kind == "mr":
                look = mr_appearance(volume.mean, 150.0 if ct else 70.0, host)
            else:
                look = ct_appearance(volume.mean, host, kind == "synthetic")
            limit = _TEXTURE_LIMIT if kind == "real" else 120.0 if ct else 60.0
            image = render(raw, elements, self.means[volume.name], look, limit, self.rng)
        image = self._scanner(image, 30.0 if kind in ("real", "synthetic") else 12.0)
        if kind in ("real", "synthetic"):
            return self._window(image, volume.name.startswith("head"))
        return self._mr_scale(image), "percentile"

    def _scanner(self, image: Tensor, noise: float) -> Tensor:
        """Add what a scanner adds: blur, thick slices, noise."""
        host = self.host
        if host.random() < 0.6:
            sigma = host.uniform(0.3, 1.0)
            image = blur(image, _triple([sigma * host.uniform(0.7, 1.3)] * 3))
        grain = abs(host.normal(0, noise))
        if host.random() < 0.5:
            image = image + grain * torch.randn(image.shape, generator=self.rng, device=self.device)
        if host.random() < 0.4:
            axis = 0 if host.random() < 0.85 else int(host.integers(1, 3))
            factor = host.uniform(1.2, 4.0)
            image = thick_slices(image, axis, factor, host.random() < 0.7, host.random() < 0.4)
        elif host.random() < 0.3:
            field = smooth_noise((1, *image.shape), [24.0] * 3, self.rng, self.device)[0]
            image = image + grain * field
        return image

    def _window(self, hounsfield: Tensor, head: bool) -> tuple[Tensor, str]:
        """Return 0..255 after a window, as inference does for the structures asked for, and the window's name."""
        host = self.host
        choices: list[Window] = [BRAIN, SOFT_TISSUE, BONE] if head else [SOFT_TISSUE, LUNG, BONE]
        window = choices[host.choice(3, p=[0.62, 0.22, 0.16])]
        assert window.level is not None and window.width is not None
        level, width = window.level, window.width
        if host.random() < 0.5:
            level, width = level + host.normal(0, 0.03) * width, width * host.uniform(0.88, 1.15)
        scaled = ((hounsfield - (level - width / 2)) / width).clamp(0, 1)
        if host.random() < 0.25:
            scaled = scaled ** float(np.exp(host.normal(0, 0.2)))
        return scaled * 255.0, window.name

    def _mr_scale(self, image: Tensor) -> Tensor:
        """Return 0..255 between low and high percentiles, after a bias field and a random curve."""
        host = self.host
        field = smooth_noise((1, *image.shape), [2.0] * 3, self.rng, self.device)[0]
        image = image.clamp_min(0) * torch.exp(abs(host.normal(0, 0.18)) * field)
        points = image.flatten()[:: max(1, image.numel() // 50000)]
        points = torch.where(points > 0.5, points, torch.full_like(points, float("nan")))
        low, high = torch.nanquantile(points, torch.tensor([0.005, 0.995], device=self.device))
        scaled = ((image - low) / (high - low).clamp_min(1.0)).clamp(0, 1).nan_to_num(0.0)
        return scaled ** float(np.exp(host.normal(0, 0.25))) * 255.0

    def _questions(self, volume: Volume, window: str, mirrored: bool, elements: Tensor) -> tuple[Tensor, Tensor]:
        """Draw structures to ask for, [N], and say which of them are real questions.

        Mostly ones that are there and that inference looks at in this window, some that are not; only where the
        volume's labels can be trusted.
        """
        modality = "MRI" if window == "percentile" else "CT"
        allowed = [
            known.modality == modality
            and known.name in volume.trusted
            and (self.taught is None or known.name in self.taught)
            and not (mirrored and known.name in NOT_MIRRORED)
            for known in self.classes
        ]
        fitting = torch.tensor([_WINDOW_GAIN * (known.window == window) for known in self.classes], device=self.device)
        present = (self.members @ torch.bincount(elements.flatten(), minlength=COUNT).float()) > 8
        uniform = torch.rand(len(self.classes), generator=self.rng, device=self.device).clamp(1e-6, 1 - 1e-6)
        score = self.log_weight + fitting - torch.log(-torch.log(uniform)) - 2.5 * (~present).float()
        score = score.masked_fill(~torch.tensor(allowed, device=self.device), _FORBIDDEN)
        best = score.topk(self.queries)
        return best.indices, best.values > _FORBIDDEN / 2


def _triple(values: object) -> Triple:
    z, y, x = (float(value) for value in values)  # type: ignore[attr-defined]  # any iterable of three numbers
    return z, y, x
