"""What benchmarks run on: networks of random weights, whose speed is that of trained ones, and synthetic images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from MedalSLib.network.config import MedalSConfig

Width = Literal["published", "starter"]
CLASSES = (
    "CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Right kidney", "CT_Pancreas", "CT_Stomach", "CT_Gallbladder",
    "CT_Duodenum",
)  # fmt: skip
"""All of one intensity window, and none with a rule of its own."""


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        width: Channels of the networks: "published", or "starter" for those of the bundled model.
        patch: Edge of the patch of networks of random weights, in voxels.
        classes: Numbers of classes to compare, where a benchmark compares some.
        shape: Edge of the image in voxels, where a benchmark needs one; None for a fitting one.
        repeats: How often each figure is taken.
        threads: CPU threads, 0 for torch's choice.
        scan: File of a CT to work on, where a benchmark takes one; None for noise.
    """

    width: Width = "starter"
    patch: int = 64
    classes: tuple[int, ...] = (1, 8, 24)
    shape: int | None = None
    repeats: int = 1
    threads: int = 0
    scan: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the figures were taken with, for the report."""
        import os

        import torch

        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return {
            "width": self.width,
            "patch": self.patch,
            "repeats": self.repeats,
            "threads": torch.get_num_threads(),
            "load_of_the_machine": None if load is None else round(load, 1),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }

    def config(self) -> MedalSConfig:
        """Return the network's architecture."""
        from MedalSLib.network.config import MedalSConfig
        from MedalSLib.network.manifest import read_manifest
        from MedalSLib.network.registry import find_folder

        size = (self.patch,) * 3
        if self.width == "published":
            return MedalSConfig(size)
        return replace(MedalSConfig.from_dict(read_manifest(find_folder("starter")).stages[-1].config), image_size=size)


@dataclass(frozen=True)
class BenchStructure:
    """A structure as inference knows it, without any rule of its own."""

    key: str
    kind: Literal["semantic"] = "semantic"
    modality: str = "CT"

    @property
    def name(self) -> str:
        """The key, without the modality."""
        return self.key.partition("_")[2]


def random_network(options: BenchOptions) -> Any:
    """Return a `MedalS` of random weights, the same each time."""
    import torch

    from MedalSLib.network.medals import MedalS

    torch.manual_seed(0)
    return MedalS(options.config()).eval()


def write_model(folder: Path, options: BenchOptions) -> None:
    """Write a two-stage model of random weights, both stages one file."""
    import torch

    from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
    from MedalSLib.network.manifest import Manifest, StageManifest, TextEncoderManifest, write_manifest
    from MedalSLib.network.weights_file import save_weights

    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(options)
    checksum = save_weights(folder / "network.safetensors", network, CLASSES, "nothing: random weights", "CC0-1.0")
    torch.manual_seed(1)
    encoder = CompactTextEncoder(
        CompactEncoderConfig(query_dim=network.config.query_dim, buckets=64, width=8, hidden=16)
    )
    text = save_weights(folder / "text.safetensors", encoder, CLASSES)
    size = (options.patch,) * 3
    stages = tuple(
        StageManifest(stage, spacing, size, "network.safetensors", checksum, network.config.to_dict())
        for stage, spacing in (("1", (2.0, 2.0, 2.0)), ("2", (1.0, 1.0, 1.0)))
    )
    manifest = Manifest(
        name="random",
        version="0",
        title="Random weights for benchmarks",
        licence="CC0-1.0",
        licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
        classes=CLASSES,
        stages=stages,
        text_encoder=TextEncoderManifest("compact", ("text.safetensors",), {"text.safetensors": text}),
    )
    write_manifest(folder, manifest)


def synthetic_ct(edge: int) -> np.ndarray:
    """Return an image (K, J, I) of Hounsfield-like noise at several scales."""
    random = np.random.default_rng(0)
    image = random.normal(40, 30, (edge, edge, edge))
    for size in (8, 16):
        blocks = random.normal(0, 80, (-(-edge // size),) * 3)
        for axis in range(3):
            blocks = blocks.repeat(size, axis)
        image += blocks[:edge, :edge, :edge]
    return image.astype(np.int16)


def numbered_image(shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Return an image whose intensity says which of `count` structures a voxel belongs to: blocks side by side."""
    side = int(np.ceil(count ** (1 / 3)))
    numbers = np.arange(side**3).reshape((side,) * 3) + 1
    numbers[numbers > count] = 0
    places = [np.minimum(np.arange(size) * side // size, side - 1) for size in shape]
    return numbers[np.ix_(*places)].astype(np.float32)


def write_logits(intensities: Any, number: Any, logits: Any) -> None:
    """Write the logits of the structure `number` of a `numbered_image`: sure where the intensity is its number.

    Args:
        intensities: Of a `numbered_image`.
        number: Number of the structure.
        logits: Where to write, in the shape of the intensities.
    """
    logits.copy_(intensities).sub_(number).abs_().mul_(-32).add_(8)


def phantom_ct(edge: int) -> np.ndarray:
    """Return a "chest" (K, J, I): air, in it a box of water, in that two boxes of lung, in Hounsfield units."""
    image = np.full((edge,) * 3, -1000, dtype=np.int16)
    unit = edge // 12
    body, lung = slice(unit, -unit), slice(2 * unit, -2 * unit)
    image[body, body, body] = 40
    for side in (slice(2 * unit, edge // 2 - unit // 2), slice(edge // 2 + unit // 2, -2 * unit)):
        image[lung, 3 * unit : -3 * unit, side] = -850
    return image


def ball(
    shape: tuple[int, ...], center: tuple[float, ...], radius: float, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return a boolean ball: `center` in voxels, `radius` in mm of `spacing`.

    Args:
        shape: Array in voxels.
        center: In voxels.
        radius: In mm.
        spacing: In mm.
    """
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    distance = np.zeros(shape, dtype=np.float32)
    for axis, middle, step in zip(grid, center, spacing, strict=True):
        distance += (((axis - middle) * step) ** 2).astype(np.float32)
    return distance <= radius**2
