"""`medals info`: what an image is, or which series and images a folder holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from MedalSLib.cli.console import Commands, note, print_json
from MedalSLib.errors import InputError

_DESCRIPTION = """\
Say what an image is (size, place, modality, what is unusual about it), or which DICOM series and image files a folder
holds; the series marked * is the one that is read unless --series chooses another.
"""


def add_commands(commands: Commands) -> None:
    """Add `medals info` to the parser."""
    parser = commands.add_parser(
        "info",
        help="say what an image or a folder holds",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="image file or folder")
    parser.add_argument("--frame", type=int, help="frame of a 4-D image, from 0")
    parser.add_argument("--series", help="describe this series of a folder: UID, number or part of the description")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Describe an image, or list a folder."""
    from MedalSLib.volume.files import existing

    path = existing(arguments.path)
    if path.is_dir() and arguments.series is None and arguments.frame is None:
        return _list(path, arguments.json)
    described = _describe(path, arguments.frame, arguments.series)
    if arguments.json:
        print_json(described)
        return 0
    for key, value in described.items():
        if key != "notes":
            print(f"{key:<12}{' x '.join(map(str, value)) if isinstance(value, tuple) else value}")
    for sentence in described["notes"]:
        print(f"note        {sentence}")
    return 0


def _list(folder: Path, as_json: bool) -> int:
    from MedalSLib.volume.dicom_listing import list_series

    series, files = list_series(folder), _image_files(folder)
    if not series and not files:
        raise InputError(f"There is no image in {folder}.", "Choose a folder with DICOM files or images.")
    if as_json:
        print_json({"series": [asdict(item) for item in series], "files": files})
        return 0
    for number, item in enumerate(series):
        columns, rows, slices = item.size
        size = f"{columns} x {rows} x {slices}"
        mark = "*" if number == 0 and item.usable else " "
        print(f"{mark} series {item.number:<6}{item.modality:<4}{item.images:>6} images  {size:<18}{item.description}")
        if item.phases > 1:
            print(f"    {item.phases} phases, told apart {item.phases_by}; choose one with --frame")
        if item.why_not:
            print(f"    not usable: {item.why_not}")
    for name in files:
        print(f"  file   {name}")
    if len(series) > 1:
        note("Choose a series with --series NUMBER, a part of its description, or its UID (--json shows it).")
    return 0


def _image_files(folder: Path) -> list[str]:
    from MedalSLib.service.batch_files import IMAGE_SUFFIXES

    paths = (
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES)
    )
    return [str(path.relative_to(folder)) for path in paths]


def _describe(path: Path, frame: int | None, series: str | None) -> dict[str, Any]:
    from MedalSLib.volume.modality_guess import hounsfield_doubt
    from MedalSLib.volume.reading import read_image

    image = read_image(path, frame, series)
    notes = list(image.warnings)
    if image.modality.modality == "CT" and not image.windowed and (doubt := hounsfield_doubt(image.array_kji)):
        notes.append(doubt)
    return {
        "format": image.source.format,
        "size": image.grid.shape_ijk,
        "spacing": tuple(round(size, 4) for size in image.grid.spacing_ijk),
        "orientation": image.grid.orientation,
        "origin": tuple(round(float(value), 3) for value in image.grid.affine_ras[:3, 3]),
        "modality": image.modality.modality,
        "because": image.modality.reason,
        "intensities": (f"{image.array_kji.min():g}", f"{image.array_kji.max():g}"),
        "notes": notes,
    }
