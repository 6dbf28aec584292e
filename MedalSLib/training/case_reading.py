"""One training case from its files: intensities 0..255 and labels on the network's axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from MedalSLib import vocabulary
from MedalSLib.errors import InputError
from MedalSLib.inference.regions import challenge_spacing
from MedalSLib.network.axes import array_to_hwd, dhw, hwd
from MedalSLib.training.sources import DatasetInfo, SourceCase
from MedalSLib.training.texts import texts_for_name, unique
from MedalSLib.volume import AS_IS, PERCENTILE, Grid, NetworkFrame, Window, apply_window, axial_grid, parse_window
from MedalSLib.volume.challenge import read_challenge
from MedalSLib.volume.orientation_doubt import couch_doubt
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation import Segmentation
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.windows import SOFT_TISSUE, window_for

_LARGEST_LABEL = 32_767


@dataclass(frozen=True, eq=False)
class RawCase:
    """A case on its own grid.

    Attributes:
        array_kji: Intensities (K, J, I).
        labels_kji: (K, J, I) int16, 0 for none of the structures.
        grid: Where the voxels lie.
        windowed: Whether the intensities are 0..255 after a window already.
        annotated: Labels that someone looked for.
        notes: What the user should know.
    """

    array_kji: np.ndarray
    labels_kji: np.ndarray
    grid: Grid
    windowed: bool
    annotated: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """A case as a network sees it.

    Attributes:
        image_hwd: (H, W, D) float32, 0..255.
        labels_hwd: (H, W, D) int16, 0 for none of the structures.
        spacing_hwd: Spacing in mm.
        annotated: Labels that someone looked for.
        notes: What the user should know.
    """

    image_hwd: np.ndarray
    labels_hwd: np.ndarray
    spacing_hwd: tuple[float, float, float]
    annotated: tuple[int, ...]
    notes: tuple[str, ...] = ()


def complete_dataset(cases: Sequence[SourceCase]) -> tuple[DatasetInfo, tuple[tuple[str, str], ...]]:
    """Return a plain folder's data set with modality and texts, found in its files where nobody said them.

    Args:
        cases: Its cases, all of one data set.

    Returns:
        The data set, and the cases whose labels could not be read, with the reason.

    Raises:
        InputError: The modality is not certain, or labels have no names.
    """
    info = cases[0].dataset
    if not info.modality:
        guess = read_image(cases[0].image).modality
        if not guess.certain:
            raise InputError(
                f"The modality of the images in {info.name} is not certain ({guess.reason})",
                "Say it (--modality CT, MRI, US, PET or Microscopy).",
            )
        info = replace(info, modality=guess.modality)
    rejected: list[tuple[str, str]] = []
    names = {label: tuple(lines) for label, lines in info.texts.items()}
    if not names:
        found: dict[str, None] = {}
        for case in cases:
            try:
                found |= dict.fromkeys(_segment_names(case))
            except InputError as error:
                rejected.append((case.identifier, str(error)))
        names = {label: (name,) for label, name in enumerate(found, 1)}
    if not names:
        raise InputError(f"No label of {info.name} has a name.", "Correct the label files, or give a names.json.")
    texts = {
        label: unique((*texts_for_name(lines[0], info.modality), *lines[1:])) for label, lines in sorted(names.items())
    }
    return replace(info, texts=texts), tuple(rejected)


def _segment_names(case: SourceCase) -> list[str]:
    assert case.labels is not None
    names = [segment.name for segment in read_segmentation(case.labels).segments]
    if any(_is_position(name) for name in names):
        raise InputError(
            f"The labels in {case.labels.name} have no names.",
            'Put a names.json beside the folders, such as {"1": "liver", "2": "spleen"}.',
        )
    return names


def load_case(case: SourceCase, window: str = "", ct_window: str = "") -> LoadedCase:
    """Read a case for a network.

    Args:
        case: The case; of a plain folder, with a completed data set.
        window: Intensity window of a plain folder; "" for the one of its structures.
        ct_window: Window of a plain folder of CT where `window` is ""; "" for the one of its structures.

    Raises:
        InputError: As `read_case`.
    """
    raw = read_case(case)
    asked = "" if case.labels is None else window or (ct_window if case.dataset.modality == "CT" else "")
    chosen, more = _choose_window(raw.windowed, case.dataset, asked)
    frame = NetworkFrame(raw.grid)
    return LoadedCase(
        array_to_hwd(frame.to_network(apply_window(raw.array_kji, chosen))),
        array_to_hwd(frame.to_network(raw.labels_kji)),
        hwd(frame.spacing_dhw),
        raw.annotated,
        (*raw.notes, *more),
    )


def read_case(case: SourceCase) -> RawCase:
    """Read a case as it lies in its files.

    Args:
        case: The case; of a plain folder, with a completed data set.

    Raises:
        InputError: A file is damaged, or image and labels do not fit.
    """
    return _read_challenge(case) if case.labels is None else _read_plain(case, case.labels)


def _read_challenge(case: SourceCase) -> RawCase:
    content = read_challenge(case.image, orientation=case.orientation)
    if content.imgs is None or content.segs is None:
        raise InputError(
            f"{case.image.name} holds no {'image' if content.imgs is None else 'labels'}.",
            "A training case has imgs and gts.",
        )
    labels = content.segs
    if case.dataset.instances:
        labels = (labels > 0).astype(np.int16)
    wanted = sorted(case.dataset.texts)
    labels = np.where(np.isin(labels, wanted), labels, 0)
    image = apply_window(content.imgs, AS_IS)
    grid = axial_grid(image.shape, dhw(challenge_spacing(content.spacing, image.shape)), case.orientation)
    doubt = couch_doubt(image, grid, is_windowed=True) if case.dataset.modality == "CT" else ""
    return RawCase(image, _int16(labels, case), grid, True, tuple(wanted), (doubt,) if doubt else ())


def _read_plain(case: SourceCase, label_file: Path) -> RawCase:
    image = read_image(case.image)
    texts = case.dataset.texts
    named = read_segmentation(label_file, {label: lines[0] for label, lines in texts.items()})
    labels, annotated, notes = _labelmap(named, texts, image.grid)
    said = (*image.warnings, *named.warnings, *notes)
    return RawCase(image.array_kji, _int16(labels, case), image.grid, image.windowed, annotated, said)


def _labelmap(
    named: Segmentation, texts: Mapping[int, Sequence[str]], grid: Grid
) -> tuple[np.ndarray, tuple[int, ...], list[str]]:
    """Put the known segments into one labelmap (K, J, I) on the image's grid; smaller ones lie on top."""
    by_name = {line.casefold(): label for label, lines in texts.items() for line in lines}
    notes: list[str] = []
    masks: dict[int, np.ndarray] = {}
    masks_on_grid = named.masks_on(grid)
    carries_names = any(not _is_position(segment.name) for segment in named.segments)
    for segment in named.segments:
        label = by_name.get(segment.name.casefold())
        if label is None:
            label = by_name.get(" ".join(segment.name.replace("_", " ").split()).casefold())
        if label is None:
            notes.append(f"The segment '{segment.name}' is none of the data set's structures and was left out.")
            continue
        mask = masks_on_grid[segment.name]
        masks[label] = masks[label] | mask if label in masks else mask
    labels = np.zeros(grid.shape_kji, np.int32)
    sizes = {label: int(np.count_nonzero(mask)) for label, mask in masks.items()}
    for label in sorted(masks, key=lambda value: -sizes[value]):
        covered = int(np.count_nonzero(labels[masks[label]]))
        if covered:
            notes.append(f"{covered} voxels of '{texts[label][0]}' also belonged to a larger structure.")
        labels[masks[label]] = label
    whole_table = not carries_names or all(name.casefold() in by_name for name in named.masks)
    # A labelmap with a table of names was searched for all of them; a file of named segments for its own only.
    annotated = tuple(sorted(texts)) if whole_table and _is_labelmap(named) else tuple(sorted(masks))
    return labels, annotated, notes


def _is_position(name: str) -> bool:
    return name.startswith("Label ") and name[6:].isdecimal()


def _is_labelmap(named: Segmentation) -> bool:
    """Say whether all segments share one array and carry no codes of their own, as in NIfTI labelmaps."""
    return len({id(segment.labels) for segment in named.segments}) == 1 and all(
        segment.terminology is None and segment.color is None for segment in named.segments
    )


def _choose_window(windowed: bool, dataset: DatasetInfo, window: str) -> tuple[Window, list[str]]:
    """Return the intensity window of a case: what was asked for, or what most of its structures are looked at in."""
    if window:
        return parse_window(window), []
    if windowed:
        return AS_IS, []
    if dataset.modality != "CT":
        return PERCENTILE, []
    votes: Counter[Window] = Counter()
    for lines in dataset.texts.values():
        resolutions = vocabulary.resolve(lines[0], dataset.modality)
        keys = resolutions[0].keys if len(resolutions) == 1 else ()
        votes[window_for(vocabulary.structure(keys[0])) if keys else SOFT_TISSUE] += 1
    chosen = votes.most_common(1)[0][0] if votes else SOFT_TISSUE
    if len(votes) > 1:
        return chosen, [f"The structures are looked at in several windows; {chosen} was used for all."]
    return chosen, []


def _int16(labels: np.ndarray, case: SourceCase) -> np.ndarray:
    if labels.size and int(labels.max()) > _LARGEST_LABEL:
        raise InputError(f"{case.identifier} has the label {int(labels.max())}.", "Renumber the labels from 1.")
    return labels.astype(np.int16)
