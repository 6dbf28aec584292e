"""How a training patch looks: its own or drawn intensities, what a scanner adds, and an intensity window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from MedalSLib.volume.windows import BONE, BRAIN, LUNG, SOFT_TISSUE, WINDOWS, Window
from tools.starter.appearance import COUNT, brain_appearance, ct_appearance, mr_appearance
from tools.starter.patch_geometry import triple
from tools.starter.synthesis import blur, render, smooth_noise, thick_slices
from tools.starter.volumes import AIR_SHIFT, Volume

_TEXTURE_LIMIT = 350.0


@dataclass(frozen=True)
class Draws:
    """The random generators of one batch.

    Attributes:
        host: For decisions that shape the work (sizes, angles), which the host must know.
        fields: For random fields, on the training device.
    """

    host: np.random.Generator
    fields: torch.Generator

    @classmethod
    def of(cls, seed: int, number: int, device: torch.device) -> Draws:
        """Return the generators of a batch: the same for the same seed and number.

        Args:
            seed: Seed of the run.
            number: Number of the batch.
            device: Training device.
        """
        host = np.random.default_rng((seed, number))
        return cls(host, torch.Generator(device).manual_seed(int(host.integers(2**62))))


@dataclass(frozen=True)
class CtShares:
    """How the patches of a CT look; what is left looks like MR.

    Attributes:
        real: Share that keeps the patient's own intensities, more or less.
        synthetic: Share whose Hounsfield units are drawn anew.
    """

    real: float
    synthetic: float


def new_appearance(
    volume: Volume, image: Tensor, elements: Tensor, shares: CtShares, draws: Draws, window: str = ""
) -> tuple[Tensor, str]:
    """Return the image of a patch as another scanner could have made it, and the name of its intensity window.

    Args:
        volume: The volume that the patch was read from.
        image: (D, H, W), intensities of the volume.
        elements: (D, H, W) element numbers, int64.
        shares: How a CT looks.
        draws: Source of randomness.
        window: The window of every CT patch; "" to draw one of those that the structures are looked at in.

    Returns:
        0..255 (D, H, W), and the window's name: "percentile" for an image that does not count as CT.
    """
    host = draws.host
    if volume.modality == "Microscopy":
        return _mr_scale(_scanner(image, 6.0, draws), draws), "percentile"
    if volume.image is None:
        nothing = torch.zeros(COUNT, device=image.device)
        image = render(image, elements, nothing, brain_appearance(host), 1.0, draws.fields)
        return _mr_scale(_scanner(image, 8.0, draws), draws), "percentile"
    raw = image - AIR_SHIFT if volume.modality == "CT" else image
    chance = host.random()
    if volume.modality == "CT":
        drawn = shares.real + shares.synthetic
        kind = "real" if chance < shares.real else "synthetic" if chance < drawn else "mr"
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
        old_mean = torch.from_numpy(volume.mean).float().to(image.device)
        image = render(raw, elements, old_mean, look, limit, draws.fields)
    image = _scanner(image, 30.0 if kind in ("real", "synthetic") else 12.0, draws)
    if kind in ("real", "synthetic"):
        return _windowed(image, volume.name.startswith("head"), host, window)
    return _mr_scale(image, draws), "percentile"


def _scanner(image: Tensor, noise: float, draws: Draws) -> Tensor:
    """Add what a scanner adds: blur, thick slices, noise."""
    host = draws.host
    if host.random() < 0.6:
        sigma = host.uniform(0.3, 1.0)
        image = blur(image, triple([sigma * host.uniform(0.7, 1.3)] * 3))
    grain = abs(host.normal(0, noise))
    if host.random() < 0.5:
        image = image + grain * torch.randn(image.shape, generator=draws.fields, device=image.device)
    if host.random() < 0.4:
        axis = 0 if host.random() < 0.85 else int(host.integers(1, 3))
        factor = host.uniform(1.2, 4.0)
        image = thick_slices(image, axis, factor, host.random() < 0.7, host.random() < 0.4)
    elif host.random() < 0.3:
        field = smooth_noise((1, *image.shape), [24.0] * 3, draws.fields, image.device)[0]
        image = image + grain * field
    return image


def _windowed(hounsfield: Tensor, head: bool, host: np.random.Generator, name: str) -> tuple[Tensor, str]:
    """Return 0..255 after a window, as inference does for the structures asked for, and the window's name."""
    choices: list[Window] = [BRAIN, SOFT_TISSUE, BONE] if head else [SOFT_TISSUE, LUNG, BONE]
    window = WINDOWS[name] if name else choices[host.choice(3, p=[0.62, 0.22, 0.16])]
    assert window.level is not None and window.width is not None
    level, width = window.level, window.width
    if host.random() < 0.5:
        level, width = level + host.normal(0, 0.03) * width, width * host.uniform(0.88, 1.15)
    scaled = ((hounsfield - (level - width / 2)) / width).clamp(0, 1)
    if host.random() < 0.25:
        scaled = scaled ** float(np.exp(host.normal(0, 0.2)))
    return scaled * 255.0, window.name


def _mr_scale(image: Tensor, draws: Draws) -> Tensor:
    """Return 0..255 between low and high percentiles, after a bias field and a random curve."""
    host = draws.host
    field = smooth_noise((1, *image.shape), [2.0] * 3, draws.fields, image.device)[0]
    image = image.clamp_min(0) * torch.exp(abs(host.normal(0, 0.18)) * field)
    points = image.flatten()[:: max(1, image.numel() // 50000)]
    points = torch.where(points > 0.5, points, torch.full_like(points, float("nan")))
    low, high = torch.nanquantile(points, torch.tensor([0.005, 0.995], device=image.device))
    scaled = ((image - low) / (high - low).clamp_min(1.0)).clamp(0, 1).nan_to_num(0.0)
    return scaled ** float(np.exp(host.normal(0, 0.25))) * 255.0
