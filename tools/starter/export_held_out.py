"""Volumes that the starter is not trained on, as files that any viewer and `medals evaluate` read.

`python -m tools.starter.export_held_out --data PACKED --output FOLDER --volumes abdomen_mr head_mr_2` writes
`NAME.nii.gz` and `NAME.seg.nrrd` of packed volumes; `--public VOLUMES --cases pt_319 "T1 head"` those of public ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume import axial_grid
from MedalSLib.volume.writing import write_segmentation
from tools.interactive.labelled_images import LabelledImage
from tools.starter.held_out_cases import head_case, neck_cases
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
    case = LabelledImage(path.stem, image, axial_grid(elements.shape, spacing), modality, masks)
    return write_case(case, folder)


def write_case(case: LabelledImage, folder: Path) -> tuple[Path, Path]:
    """Write a case as an image and its structures, over older ones; returns both files.

    Args:
        case: The case.
        folder: Where to; made if needed.
    """
    import nibabel

    folder.mkdir(parents=True, exist_ok=True)
    name = case.name.replace(" ", "_").casefold()
    files = folder / f"{name}.nii.gz", folder / f"{name}.seg.nrrd"
    nibabel.save(nibabel.Nifti1Image(case.array_kji.transpose(2, 1, 0), case.grid.affine_ras), files[0])
    write_segmentation(files[1], case.truths, case.grid, overwrite=True)
    return files


def main(arguments: list[str] | None = None) -> int:
    """Export volumes; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write packed volumes as images with segmentations.")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of packed volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--volumes", nargs="+", default=[], help="names of the packed volumes")
    parser.add_argument("--public", type=Path, help="folder of the public volumes (tools.starter.public_sources)")
    parser.add_argument("--cases", nargs="+", default=[], help="names of the public ones' cases")
    options = parser.parse_args(arguments)
    for name in options.volumes:
        export(options.data / f"{name}.npz", options.output)
    if options.public is not None:
        for case in (*neck_cases(options.public / "openkbp"), head_case(options.public / "t1_head")):
            if case.name in options.cases:
                write_case(case, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
