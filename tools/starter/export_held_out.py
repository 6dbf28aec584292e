"""Packed volumes that the starter is not trained on, as files that any viewer and `medals evaluate` read.

`python -m tools.starter.export_held_out --data PACKED --output FOLDER --volumes abdomen_mr head_mr_2` writes
`NAME.nii.gz` and `NAME.seg.nrrd`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume import axial_grid
from MedalSLib.volume.writing import write_segmentation
from tools.starter.labels import HU_CODE, starter_classes

_MIN_VOXELS = 50


def export(path: Path, folder: Path) -> tuple[Path, Path]:
    """Write a packed volume as an image and its structures, over older ones; returns both files.

    Args:
        path: Packed volume, as `tools.starter.pack` writes it.
        folder: Where to; made if needed.

    Raises:
        InputError: There is no such volume.
    """
    import nibabel

    if not path.is_file():
        raise InputError(f"{path} is not there.", "Run tools.starter.pack first.")
    with np.load(path, allow_pickle=False) as file:
        modality, trusted = str(file["modality"]), set(file["trusted"].tolist())
        stored, elements = file["image"], file["elements"]
        spacing = [float(value) for value in file["spacing"]]
    image = HU_CODE[stored].astype(np.int16) if modality == "CT" else stored
    masks = {
        known.name: mask
        for known in starter_classes()
        if known.modality == modality and known.name in trusted
        if (mask := np.isin(elements, known.elements)).sum() >= _MIN_VOXELS
    }
    grid = axial_grid(elements.shape, spacing)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"{path.stem}.nii.gz", folder / f"{path.stem}.seg.nrrd"
    nibabel.save(nibabel.Nifti1Image(image.transpose(2, 1, 0), grid.affine_ras), files[0])
    write_segmentation(files[1], masks, grid, overwrite=True)
    return files


def main(arguments: list[str] | None = None) -> int:
    """Export volumes; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write packed volumes as images with segmentations.")
    parser.add_argument("--data", type=Path, required=True, help="folder of packed volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--volumes", nargs="+", required=True, help="names of the volumes")
    options = parser.parse_args(arguments)
    for name in options.volumes:
        export(options.data / f"{name}.npz", options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
