"""Pairs of true and found segmentations from files: challenge npz, NIfTI, NRRD and `.seg.nrrd`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from MedalSLib import vocabulary
from MedalSLib.errors import InputError, PromptError
from MedalSLib.volume import Grid, same_grid
from MedalSLib.volume.challenge import ORIENTATION, read_challenge
from MedalSLib.volume.geometry import checked_orientation
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segment_names import is_unnamed
from MedalSLib.volume.segmentation import Segmentation
from MedalSLib.volume.segmentation_reading import read_segmentation

_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".dcm")
_ENDINGS = ("_seg", "-seg", "_label", "-label", "_labels", "_gt", "_pred", "_segmentation")


@dataclass(frozen=True)
class FilePair:
    """Files of one case.

    Attributes:
        name: The case.
        truth: File of the truth.
        found: File of the result; None if there is none.
        image: File of the image, None if it was not given or not found.
    """

    name: str
    truth: Path
    found: Path | None
    image: Path | None


@dataclass(frozen=True, eq=False)
class StructurePair:
    """One structure of a case.

    Attributes:
        name: Published name, or the name in the files.
        truth: Boolean (D, H, W), or the labels of true instances.
        found: Boolean (D, H, W), or the labels of found instances, on the same grid.
        instances: Whether these are instances.
    """

    name: str
    truth: np.ndarray
    found: np.ndarray
    instances: bool = False


@dataclass(frozen=True, eq=False)
class CasePair:
    """One case, ready to be scored.

    Attributes:
        name: The case.
        modality: Modality, "" if nothing says it.
        spacing: Spacing along the arrays' axes in mm.
        structures: What to score, read one at a time.
        notes: What the user should know.
        grid: Where the arrays lie.
    """

    name: str
    modality: str
    spacing: tuple[float, float, float]
    structures: Iterator[StructurePair]
    notes: tuple[str, ...] = ()
    grid: Grid | None = None


def find_pairs(truth: Path, found: Path, images: Path | None = None) -> list[FilePair]:
    """Return the cases of a folder of truths (or of one file) with the results of the same names.

    Args:
        truth: Folder of truths, or one file.
        found: Folder of results, or one file.
        images: Folder of images, or one file; None if there are none.

    Raises:
        InputError: There is no such folder or file, or no segmentation in it.
    """
    for path in (truth, found, *([images] if images else [])):
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.", "Check the spelling of its path.")
    if truth.is_file() != found.is_file():
        raise InputError("One of truth and result is a file, the other a folder.", "Give two files or two folders.")
    if truth.is_file():
        return [FilePair(_stem(truth) or truth.stem, truth, found, images if images and images.is_file() else None)]
    truths, results = _by_stem(truth), _by_stem(found)
    pictures = _by_stem(images) if images else {}
    if not truths:
        raise InputError(f"There is no segmentation in {truth}.", f"Known are: {', '.join(_SUFFIXES)}.")
    if not truths.keys() & results.keys():
        raise InputError(
            f"No file in {found} is called like one in {truth} ({next(iter(truths))}).", "Give both the same names."
        )
    return [FilePair(name, path, results.get(name), pictures.get(name)) for name, path in sorted(truths.items())]


def open_pair(pair: FilePair, names: Mapping[int, str] | None = None, orientation: str = ORIENTATION) -> CasePair:
    """Read a case.

    Args:
        pair: Its files.
        names: Names by label value for labelmaps that carry none.
        orientation: Directions to which x, y, z of npz files grow, which do not say them.

    Raises:
        InputError: A file is damaged, or truth and result lie on grids that cannot be matched.
    """
    if pair.truth.suffix == ".npz":
        return _challenge_pair(pair, orientation)
    return _named_pair(pair, names or {}, orientation)


def orientation_for(pairs: Iterable[FilePair], asked: str | None) -> str:
    """Return the directions to which x, y, z of npz files grow, LPS if nobody said them.

    Args:
        pairs: Files of all cases.
        asked: What the user said.

    Raises:
        InputError: It is no orientation, or there is no npz file, and all others say their own.
    """
    files = (path for pair in pairs for path in (pair.truth, pair.found, pair.image) if path is not None)
    if asked is not None and not any(path.suffix == ".npz" for path in files):
        raise InputError("All files say their own orientation.", "Leave --orientation out, which is for .npz.")
    return checked_orientation(ORIENTATION if asked is None else asked)


def _challenge_pair(pair: FilePair, orientation: str) -> CasePair:
    truth = read_challenge(pair.truth, orientation=orientation)
    if truth.segs is None:
        raise InputError(f"{pair.truth.name} holds no labels.", "A truth has gts or segs.")
    described = read_challenge(pair.image) if pair.image else truth
    prompts, instances = described.text_prompts or truth.text_prompts, described.instance_label == 1
    modality = modality_of(pair)
    found = np.zeros_like(truth.segs)
    if pair.found is not None:
        result = read_challenge(pair.found)
        if result.segs is None or result.segs.shape != truth.segs.shape:
            raise InputError(
                f"{pair.found.name} has the shape {None if result.segs is None else result.segs.shape}, the truth "
                f"{truth.segs.shape}.",
                "Evaluate results of the same images.",
            )
        found = _numbered_as(prompts, result.segs, result.names or {}, modality)
    labels = sorted(prompts) if prompts else [int(value) for value in np.unique(truth.segs) if value]
    return CasePair(
        pair.name,
        modality,
        truth.spacing_dhw,
        _challenge_structures(truth.segs, found, labels, prompts, instances, modality),
        grid=truth.grid,
    )


def _numbered_as(prompts: Mapping[int, str], segs: np.ndarray, names: Mapping[int, str], modality: str) -> np.ndarray:
    """Return a result with the label values of the prompts, where it says what its own values mean.

    Args:
        prompts: Text by label value of the truth.
        segs: Labels of the result.
        names: Name by label value of the result; empty if it carries none, and then its values are the prompts'.
        modality: Modality, "" if unknown.
    """
    if not names or not prompts:
        return segs
    wanted = {published_name(text, modality).casefold(): label for label, text in prompts.items()}
    table = np.zeros(max(int(segs.max(initial=0)), *names) + 1, dtype=np.uint16)
    for value, name in names.items():
        table[value] = wanted.get(published_name(name, modality).casefold(), 0)
    return table[segs]


def _challenge_structures(
    truth: np.ndarray,
    found: np.ndarray,
    labels: list[int],
    prompts: Mapping[int, str],
    instances: bool,
    modality: str,
) -> Iterator[StructurePair]:
    if instances:
        name = published_name(prompts[labels[0]], modality) if labels and labels[0] in prompts else "instances"
        yield StructurePair(name, truth, found, instances=True)
        return
    for label in labels:
        name = published_name(prompts[label], modality) if label in prompts else f"Label {label}"
        yield StructurePair(name, truth == label, found == label)


def _named_pair(pair: FilePair, names: Mapping[int, str], orientation: str) -> CasePair:
    truth = _named(read_segmentation(pair.truth), names)
    modality = modality_of(pair)
    notes: list[str] = list(truth.warnings)
    found: Segmentation | None = None
    if pair.found is not None:
        try:
            found = _named(read_segmentation(pair.found, orientation=orientation), names)
        except InputError as error:
            if "no segment" not in error.cause and "no label" not in error.cause:
                raise
            notes.append("The result is empty.")
    masks: dict[str, np.ndarray] = {}
    by_number = False
    if found is not None:
        notes += [warning for warning in found.warnings if warning not in notes]
        masks, elsewhere = _masks_on(found, truth.grid)
        if elsewhere:
            notes.append(f"Of the result, {', '.join(elsewhere)} lie outside of the truth's image and count as empty.")
        elif not same_grid(found.grid, truth.grid):
            notes.append("The result lies on another grid and was resampled to the truth's.")
        by_number = any(is_unnamed(segment.name) for segment in (*truth.segments, *found.segments))
        if by_number:
            notes.append(_number_note(truth, found, masks))
    structures = _named_structures(truth, found, masks, modality, by_number)
    return CasePair(pair.name, modality, truth.grid.spacing_kji, structures, tuple(notes), truth.grid)


def _named(found: Segmentation, names: Mapping[int, str]) -> Segmentation:
    """Return a segmentation in which segments without a name have that of their label value."""
    segments = tuple(
        replace(item, name=names.get(item.value, item.name)) if is_unnamed(item.name) else item
        for item in found.segments
    )
    return replace(found, segments=segments)


def _masks_on(found: Segmentation, grid: Grid) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the masks of a result on the truth's grid, and the names of those that lie elsewhere, which are empty."""
    masks: dict[str, np.ndarray] = {}
    elsewhere: list[str] = []
    for segment in found.segments:
        try:
            masks[segment.name] = segment.mask_on(found.grid, grid)
        except InputError:
            masks[segment.name] = np.zeros(grid.shape_kji, dtype=bool)
            elsewhere.append(segment.name)
    return masks, elsewhere


def _number_note(truth: Segmentation, found: Segmentation, masks: Mapping[str, np.ndarray]) -> str:
    """Say that labels were compared by their number, and whether their order looks different."""
    swapped = []
    for segment in truth.segments:
        mask = segment.mask
        shared = {other.name: int(np.count_nonzero(mask & masks[other.name])) for other in found.segments}
        best = max(found.segments, key=lambda other: shared[other.name])
        if best.value != segment.value and 2 * shared[best.name] > int(np.count_nonzero(mask)) > 0:
            swapped.append(f"{segment.value} of the truth lies where {best.value} ({best.name}) of the result does")
    said = "Truth or result has no names, so labels were compared by their number"
    if swapped:
        return f"{said}, but their order differs: {'; '.join(swapped)}. Give names with --names."
    return f"{said}; where the numbers do not mean the same, give names with --names."


def _named_structures(
    truth: Segmentation,
    found: Segmentation | None,
    masks: Mapping[str, np.ndarray],
    modality: str,
    by_number: bool,
) -> Iterator[StructurePair]:
    by_name = {published_name(name, modality).casefold(): mask for name, mask in masks.items()}
    by_value = {segment.value: masks[segment.name] for segment in (found.segments if found is not None else ())}
    for segment in truth.segments:
        name = published_name(segment.name, modality)
        other = by_value.get(segment.value) if by_number else by_name.get(name.casefold())
        mask = segment.mask
        yield StructurePair(name, mask, np.zeros_like(mask) if other is None else other)


def published_name(text: str, modality: str) -> str:
    """Return the published name of a structure, or the text itself if the vocabulary does not know it."""
    resolutions = vocabulary.resolve(" ".join(text.replace("_", " ").split()), modality or None)
    if len(resolutions) == 1 and len(resolutions[0].classes) == 1:
        return resolutions[0].classes[0]
    return text


def modality_of(pair: FilePair) -> str:
    """Return the modality that the name of a case or its image tells, "" if neither does."""
    head = pair.name.split("_")[0]
    if "_" in pair.name:
        try:
            return vocabulary.normalize_modality("US" if head.upper() == "US3D" else head)
        except PromptError:
            pass  # the name of the case does not begin with a modality
    if pair.image is not None and pair.image.suffix != ".npz":
        return read_image(pair.image).modality.modality
    return ""


def _stem(path: Path) -> str | None:
    lower = path.name.lower()
    suffix = next((suffix for suffix in _SUFFIXES if lower.endswith(suffix)), None)
    if suffix is None or lower.startswith("."):
        return None
    stem = path.name[: -len(suffix)].removesuffix("_0000")
    return next((stem[: -len(end)] for end in _ENDINGS if stem.lower().endswith(end) and stem.lower() != end), stem)


def _by_stem(folder: Path) -> dict[str, Path]:
    return {stem: path for path in sorted(folder.iterdir()) if (stem := _stem(path)) is not None}
