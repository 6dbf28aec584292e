"""`medals segment`: an image and typed names in, a segmentation out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedalSLib.cli.console import (
    Commands,
    ProgressBar,
    add_orientation,
    cancel_on_interrupt,
    note,
    print_json,
    read_key,
)
from MedalSLib.cli.prompt_masks import changed_since, prompt_masks
from MedalSLib.errors import InputError, PromptError
from MedalSLib.volume.mask import BoxMask

if TYPE_CHECKING:
    from MedalSLib.engine.interface import EngineInfo
    from MedalSLib.run import Mode, RunResult
    from MedalSLib.volume import Grid
    from MedalSLib.volume.geometry import Roi
    from MedalSLib.volume.image import Image
    from MedalSLib.volume.segment_info import SegmentInfo

_FARTHEST = 1e9
_DESCRIPTION = """\
Segment the structures named in --text, and write them on the image's own grid.

IMAGE may be NIfTI (.nii, .nii.gz), NRRD, MetaImage, a folder of DICOM files, or a challenge .npz. With --masks, each
segment of that file is the spatial prompt of the structure it is named after: correct a result by hand, pass it back,
and the model refines from it at the image's own resolution.
"""


def add_commands(commands: Commands) -> None:
    """Add `medals segment` to the parser."""
    parser = commands.add_parser(
        "segment",
        help="segment structures by name",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file or DICOM folder")
    parser.add_argument("--text", default="", help='names as you would say them: "liver, lt kidney, L1-L5"')
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT",
                        help=".seg.nrrd (overlaps, opens in 3D Slicer), .nii.gz, .dcm (DICOM SEG) or .npz")  # fmt: skip
    parser.add_argument("--modality", help="CT, MRI, US, PET or Microscopy (default: from the file, else guessed)")
    parser.add_argument("--series", help="of a DICOM folder: UID, number or part of the description "
                        "(default: the largest usable one; 'medals info FOLDER' lists them)")  # fmt: skip
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="SEG",
        help="segmentation, or folder of masks, whose segments are spatial prompts (with --text, those it names)",
    )
    parser.add_argument("--names", metavar="NAMES", help='of the labels in --masks: "1=liver,2=spleen", or a file '
                        "(JSON, CSV, dataset.json)")  # fmt: skip
    paint = parser.add_mutually_exclusive_group()
    paint.add_argument("--painted", type=Path, metavar="SEG", help="what of --masks was painted in or erased by hand")
    paint.add_argument("--previous", type=Path, metavar="SEG", help="--masks before that, to find it as the difference")
    parser.add_argument("--mode", choices=["auto", "text", "hybrid", "refine"], default="auto",
                        help="auto: refine if something was painted, hybrid with --masks alone, else text")  # fmt: skip
    parser.add_argument("--roi", metavar="I0:I1,J0:J1,K0:K1", help="limit the result to these voxel indices")
    parser.add_argument("--roi-mm", metavar="R0:R1,A0:A1,S0:S1", help="limit the result to this RAS box in mm")
    parser.add_argument("--model", default="starter", help="installed model, folder, or URL of a server (%(default)s)")
    parser.add_argument("--api-key-file", type=Path, help="file with the key of the server")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    add_orientation(parser)
    parser.add_argument("--frame", type=int, help="frame of a 4-D image, from 0")
    parser.add_argument("--window", action="append", default=[], metavar="NAME=LEVEL/WIDTH",
                        help="intensity window of a structure; may be repeated")  # fmt: skip
    parser.add_argument("--instances", action="store_true", help="write lesions and the like as separate segments")
    parser.add_argument("--policy", choices=["product", "published"], default="product",
                        help="published: label every voxel as the published implementation does")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the random prompt blocks (default: %(default)s)")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="also draw the masks over three slices")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.add_argument("--quiet", action="store_true", help="no progress and no messages")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Segment one image; nothing is written unless everything worked."""
    from MedalSLib.engine import open_engine
    from MedalSLib.run import RunOptions
    from MedalSLib.vocabulary import normalize_modality
    from MedalSLib.volume.preview import save_preview
    from MedalSLib.volume.reading import read_image
    from MedalSLib.volume.windows import AS_IS
    from MedalSLib.volume.writing import check_segmentation_output, write_or_keep

    _check_outputs(arguments)
    if not arguments.text.strip() and arguments.masks is None:
        raise PromptError("Nothing was asked for.", 'Name structures with --text "liver, spleen", or give --masks.')
    begun = time.perf_counter()
    image = read_image(
        arguments.image, frame=arguments.frame, series=arguments.series, orientation=arguments.orientation
    )
    check_segmentation_output(arguments.output, image, arguments.overwrite)
    note(f"{arguments.image.name}: {_describe(image.grid)}", arguments.quiet)
    for warning in image.warnings:
        note(f"note: {warning}", arguments.quiet)
    modality = normalize_modality(arguments.modality or image.modality.modality)
    roi = _parse_roi(arguments.roi, arguments.roi_mm, image.grid)
    windows = _parse_windows(arguments.window) | ({"*": AS_IS.name} if image.windowed else {})
    bar = None
    with (
        open_engine(arguments.model, arguments.device, **read_key(arguments.api_key_file)) as engine,
        cancel_on_interrupt() as cancel,
    ):
        info = engine.info()
        note(f"model: {info.title} ({info.licence}) on {info.device}: {info.device_reason}", arguments.quiet)
        if not arguments.modality:
            note(f"modality: {image.modality.modality}. {image.modality.reason}", arguments.quiet)
        given = prompt_masks(arguments, image.grid, modality, info.classes)
        for remark in given.notes:
            note(f"note: {remark}", arguments.quiet)
        mode: Mode = "refine" if given.locked and arguments.mode == "auto" else arguments.mode
        options = RunOptions(
            mode=mode,
            policy=arguments.policy,
            seed=arguments.seed,
            instances=("*",) if arguments.instances else (),
            windows=windows,
        )
        with engine.open_session(image.array_kji, image.grid.affine_ras, modality) as session:
            said = _warnings(image, given.notes, session.warnings)
            for warning in said[len(image.warnings) + len(given.notes) :]:
                note(f"note: {warning}", arguments.quiet)
            bar = ProgressBar(arguments.quiet)
            try:
                locked = given.locked
                if mode == "refine" and not locked and arguments.policy == "product":
                    # Nothing says what was painted: it is the difference to what the model finds by itself.
                    alone = replace(options, mode="text", instances=())
                    names = [name for name in given.names if f"{modality}_{name}" in info.classes]
                    own = session.segment(names, options=alone, on_progress=bar, cancel=cancel) if names else None
                    locked = changed_since(given.masks, own.box_masks if own else {})
                result = session.segment(
                    [arguments.text] if arguments.text.strip() and mode != "refine" else [],
                    given.masks,
                    locked,
                    roi=roi,
                    options=options,
                    on_progress=bar,
                    cancel=cancel,
                )
            finally:
                bar.close()
    report = replace(result.report, warnings=_warnings(image, given.notes, result.report.warnings))
    result = replace(result, report=report)
    written, infos = _to_write(result)
    losses = write_or_keep(arguments.output, written, image.grid, infos, image, arguments.overwrite)
    for loss in losses:
        note(f"note: {loss}", arguments.quiet)
    _tell(arguments, result, info, time.perf_counter() - begun, said)
    if arguments.preview:
        save_preview(
            arguments.preview, image.array_kji, image.grid, written, infos,
            title=f"{arguments.image.name}: {info.title}", overwrite=arguments.overwrite,
        )  # fmt: skip
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written before anything is read.

    Raises:
        OutputError: A file cannot be written, is an input, or is meant twice.
    """
    from MedalSLib.volume.files import check_not_input
    from MedalSLib.volume.preview import check_preview_output
    from MedalSLib.volume.writing import check_segmentation_output

    named = (arguments.image, arguments.masks, arguments.painted, arguments.previous, arguments.api_key_file)
    inputs = [path for path in named if path is not None]
    inputs += [Path(arguments.names)] if arguments.names else []
    for path in filter(None, (arguments.output, arguments.preview)):
        check_not_input(path, inputs)
    if arguments.preview:
        check_preview_output(arguments.preview, arguments.overwrite)
    check_segmentation_output(arguments.output, None, arguments.overwrite, is_read=False)


def _warnings(image: Image, notes: tuple[str, ...], run: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the user should know: about the image, its masks, and the run."""
    from MedalSLib.volume.modality_guess import hounsfield_doubt

    doubt = hounsfield_doubt(image.array_kji) if image.windowed else ""  # a window is what such a file has
    return (*image.warnings, *notes, *(sentence for sentence in run if sentence != doubt))


def _parse_windows(entries: list[str]) -> dict[str, str]:
    windows: dict[str, str] = {}
    for entry in entries:
        name, separator, window = entry.rpartition("=")
        if not separator:
            raise InputError(
                f"--window {entry} is not understood.", "Write it as NAME=LEVEL/WIDTH, such as Liver=60/150."
            )
        windows[name.strip()] = window.strip()
    return windows


def _parse_roi(indices: str | None, millimetres: str | None, grid: Grid) -> Roi | None:
    """Read a region of interest as index bounds."""
    import numpy as np

    if indices and millimetres:
        raise InputError("Both --roi and --roi-mm were given.", "Give one of them.")
    text = indices or millimetres
    if not text:
        return None
    try:
        pairs = [tuple(float(value) for value in part.split(":")) for part in text.split(",")]
        (a0, a1), (b0, b1), (c0, c1) = pairs
        if max(abs(value) for pair in pairs for value in pair) > _FARTHEST:  # infinity too; not a number is neither
            raise ValueError
        if not all(value == value for pair in pairs for value in pair):
            raise ValueError
    except ValueError as error:
        raise InputError(f"The region '{text}' is not understood.", "Write it as 0:100,20:80,5:40.") from error
    if indices:
        return (int(a0), int(a1)), (int(b0), int(b1)), (int(c0), int(c1))
    corners = np.array([(r, a, s) for r in (a0, a1) for a in (b0, b1) for s in (c0, c1)])
    index = grid.ras_to_index(corners)
    low, high = np.floor(index.min(axis=0)).astype(int), np.ceil(index.max(axis=0)).astype(int) + 1
    i, j, k = zip(low.tolist(), high.tolist(), strict=True)
    return i, j, k


def _to_write(result: RunResult) -> tuple[dict[str, BoxMask], dict[str, SegmentInfo]]:
    """The masks to write with colours and codes; instances in place of their structure where they were asked for."""
    from MedalSLib.vocabulary import describe
    from MedalSLib.volume.mask import BoxMask
    from MedalSLib.volume.segment_info import SegmentInfo

    written: dict[str, BoxMask] = {}
    infos: dict[str, SegmentInfo] = {}
    reports = result.report.structures
    for name, mask in result.box_masks.items():
        info = SegmentInfo.of(describe(f"{result.report.modality}_{name}"))
        info = replace(info, description=reports[name].cut_off_words if name in reports else "")
        instances = result.instances.get(name)
        parts = {name: mask}
        if instances is not None and instances.box is not None:
            labels = instances.array()
            parts = {f"{name} {label}": BoxMask.of(labels == label) for label in range(1, int(labels.max()) + 1)}
        written |= parts
        infos |= dict.fromkeys(parts, info)
    return written, infos


def _describe(grid: Grid) -> str:
    sizes = " x ".join(str(size) for size in reversed(grid.shape_kji))
    spacing = " x ".join(f"{value:.2f}" for value in reversed(grid.spacing_kji))
    return f"{sizes} voxels of {spacing} mm"


def _tell(
    arguments: argparse.Namespace, result: RunResult, info: EngineInfo, seconds: float, said: Collection[str]
) -> None:
    """Say what was found, and where it was written.

    Args:
        arguments: The command's.
        result: What was found.
        info: The engine.
        seconds: Time of the command.
        said: Sentences that were said before the run.
    """
    if arguments.json:
        report = result.report.to_dict()
        report["image"] = arguments.image.name
        report["output"] = str(arguments.output)
        report["seconds"]["command"] = round(seconds, 2)
        report["licence"] = info.licence
        print_json(report)
    for step in result.report.steps:
        note(f"memory: {step}", arguments.quiet)
    for warning in result.report.warnings:
        if warning not in said:
            note(f"note: {warning}", arguments.quiet)
    for name, entry in result.report.structures.items():
        found = f"{entry.volume_ml:10.1f} ml" if entry.found else "     not found"
        beyond = f"  at least: cut off by the edge of the scan ({', '.join(entry.cut_off)})" if entry.cut_off else ""
        note(f"  {name:<32}{found}{beyond}", arguments.quiet)
    note(f"wrote {arguments.output} in {seconds:.1f} s", arguments.quiet)
