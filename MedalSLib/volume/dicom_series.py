"""The series in a DICOM folder: which files are images, what belongs together, and which series is meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_pixels import read_dataset
from MedalSLib.volume.dicom_slices import MARK_KEYWORDS, frames_in, has_place
from MedalSLib.volume.files import reading

_TAGS = [
    "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "PatientID", "StudyDate",
    "Modality", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *MARK_KEYWORDS,
]  # fmt: skip
_NOT_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC"}
_OTHER_IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz")
_NAMED = 5
_BEGINNING = 132


@dataclass(frozen=True)
class FoundSeries:
    """The DICOM images of a folder.

    Attributes:
        series: The headers of each series, `filename` kept in each; usable and large ones first.
        left_out: Files that are DICOM but do not say what they are.
        merged: Numbers in `series` of those whose files have a series UID each and were joined.
        repeated: Numbers of those whose files share a SOP instance UID though they are different images.
    """

    series: tuple[list[Any], ...]
    left_out: tuple[Path, ...] = ()
    merged: frozenset[int] = frozenset()
    repeated: frozenset[int] = frozenset()

    def warnings(self, group: Sequence[Any]) -> tuple[str, ...]:
        """Return what the user should know about the files of a series."""
        number = next((at for at, other in enumerate(self.series) if other is group), -1)
        said = []
        if self.left_out:
            names = ", ".join(path.name for path in self.left_out[:_NAMED])
            more = ", ..." if len(self.left_out) > _NAMED else ""
            said.append(f"{len(self.left_out)} files without a SOP class were left out ({names}{more}).")
        if number in self.merged:
            said.append("Each image has a series UID of its own; they were joined into one volume by their places.")
        if number in self.repeated:
            said.append("Different images share one SOP instance UID; they were told apart by their places.")
        return tuple(said)


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do, whatever its name, or as they do without their preamble."""
    with path.open("rb") as stream:
        beginning = stream.read(_BEGINNING)
    return beginning[_BEGINNING - 4 :] == b"DICM" or _is_element(beginning)


def is_dicom_image(path: Path) -> bool:
    """Return whether a file is a DICOM image, as far as its header can be read."""
    try:
        if not is_dicom(path):
            return False
        header = read_dataset(path, stop_before_pixels=True, specific_tags=["Rows", "Modality"])
    except Exception:  # damaged; whoever reads the folder says so
        return False
    return bool(header.get("Rows")) and str(header.get("Modality", "")) not in _NOT_IMAGES


def _is_element(beginning: bytes) -> bool:
    """Return whether bytes are the first element of a data set, of the group 0002 or 0008, explicit or implicit."""
    if len(beginning) < 12:
        return False
    order = "big" if beginning[0] == 0 else "little"
    group, element = (int.from_bytes(beginning[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
    if group not in (2, 8) or element > 0x20:
        return False
    explicit = beginning[4:6].isalpha() and beginning[4:6].isupper()
    return explicit or int.from_bytes(beginning[4:8], order) < 1 << 10  # type: ignore[arg-type]


def is_grey(header: Any) -> bool:
    """Return whether a file has one value for each pixel that is an intensity."""
    palette = str(header.get("PhotometricInterpretation") or "").startswith("PALETTE")
    return int(header.get("SamplesPerPixel") or 1) == 1 and not palette


def is_usable(group: Sequence[Any]) -> bool:
    """Return whether a series looks like a volume: grey images with places, at two places at least."""
    images = [header for header in group if is_grey(header) and has_place(header)]
    places = {str(header.get("ImagePositionPatient")) for header in images}
    return len(places) > 1 or any(frames_in(header) > 1 for header in images)


def find_series(path: Path, on_progress: Callable[[float], None] | None = None, deep: bool = True) -> FoundSeries:
    """Return the series of a folder, or of one file.

    Args:
        path: The folder or file.
        on_progress: Called with the share of the files that were looked at; may raise to stop.
        deep: Look into subfolders too.

    Raises:
        InputError: A DICOM file is damaged; it is named.
    """
    entries = [path] if path.is_file() else path.rglob("*") if deep else path.iterdir()
    files = sorted(item for item in entries if item.is_file() and item.name.upper() != "DICOMDIR")
    series: dict[str, list[Any]] = defaultdict(list)
    seen: set[tuple[str, ...]] = set()
    uids: dict[str, set[str]] = defaultdict(set)
    shared_uids: set[str] = set()
    left_out: list[Path] = []
    for number, file in enumerate(files):
        if on_progress is not None:
            on_progress(number / len(files))
        if not is_dicom(file):
            continue  # folders on a CD hold other files too
        with reading(file, "DICOM"):
            header = read_dataset(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        if not header.get("SOPClassUID"):
            if not header:
                raise InputError(f"The header of {file} is damaged.", "Copy or export the series again.")
            left_out.append(file)
            continue
        if not header.get("Rows") or str(header.get("Modality", "")) in _NOT_IMAGES:
            continue
        uid, where = str(header.get("SOPInstanceUID") or file), str(header.get("SeriesInstanceUID") or "")
        first = (header.get("PerFrameFunctionalGroupsSequence") or [""])[0]
        identity = (uid, where, str(first), *(str(header.get(key)) for key in ("ImagePositionPatient", *MARK_KEYWORDS)))
        if identity in seen:
            continue  # the same image copied twice counts once
        seen.add(identity)
        if uid in uids[where]:
            shared_uids.add(where)
        uids[where].add(uid)
        series[where].append(header)
    groups, merged = _joined(series)
    ranked = sorted(groups, key=lambda uid: (not is_usable(groups[uid]), -images_in(groups[uid]),
                                             number_of(groups[uid][0]), uid))  # fmt: skip
    return FoundSeries(
        tuple(groups[uid] for uid in ranked),
        tuple(left_out),
        frozenset(at for at, uid in enumerate(ranked) if uid in merged),
        frozenset(at for at, uid in enumerate(ranked) if uid in shared_uids),
    )


def _joined(series: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], set[str]]:
    """Join images that have a series UID each but belong to one volume; return also the UIDs that stand for such."""
    alone: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for uid, group in series.items():
        if len(group) == 1 and frames_in(group[0]) == 1 and has_place(group[0]):
            # Who gives each image a series UID of its own may do so with the other UIDs too.
            keys = ("PatientID", "StudyDate", "Modality", "SeriesDescription", "Rows", "Columns")
            normal = [round(float(value), 2) + 0.0 for value in group[0].get("ImageOrientationPatient") or ()]
            alone[(*(str(group[0].get(key)) for key in keys), str(normal))].append(uid)
    merged = {uids[0] for uids in alone.values() if len(uids) > 1}
    gone = {uid for uids in alone.values() for uid in uids[1:]}
    joined = {uids[0]: [series[uid][0] for uid in uids] for uids in alone.values()}
    return {uid: joined.get(uid, group) for uid, group in series.items() if uid not in gone}, merged


def choose_series(found: FoundSeries, wanted: str | None, path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return the headers of the wanted series, or of the largest usable one, and what the user should know.

    Args:
        found: The series of the folder.
        wanted: Series UID, series number, or a part of the series description.
        path: The folder, for messages.

    Raises:
        InputError: No image at all, or none that is wanted.
    """
    if not found.series:
        cause = f"There is no DICOM image in {path}"
        cause += f" ({len(found.left_out)} files do not say what they are: no SOP class)" if found.left_out else ""
        others = [item.name for item in sorted(path.iterdir()) if item.name.lower().endswith(_OTHER_IMAGES)]
        remedy = f"Give one of its images ({others[0]}), or use 'medals batch' for all." if others else (
            "Choose the folder that holds the slices.")  # fmt: skip
        raise InputError(f"{cause}.", remedy)
    listed = "; ".join(f"series {number_of(group[0])} ({_kind(group)}, {images_in(group)} images)"
                       for group in found.series)  # fmt: skip
    notes: tuple[str, ...] = ()
    if wanted is not None:
        matches = _wanted(found.series, wanted)
        if not matches:
            raise InputError(f"There is no series '{wanted}' in {path}.", f"Choose one of: {listed}.")
        group = matches[0]
        if len(matches) > 1:
            notes = (f"{len(matches)} series are called '{wanted}'; the largest usable one was read.",)
    else:
        group = found.series[0]
        if len(found.series) > 1:
            notes = (
                f"The folder holds {len(found.series)} series; series {number_of(group[0])}, the largest usable one, "
                f"was read: {listed}. Choose another with --series.",
            )
    grey = [header for header in group if is_grey(header) and has_place(header)]
    if grey and len(grey) < len(group) and is_usable(group):
        notes += (
            f"{len(group) - len(grey)} images of the series that are in colour or without a place were left out.",
        )
        return grey, (*notes, *found.warnings(group))
    return group, (*notes, *found.warnings(group))


def images_in(group: Sequence[Any]) -> int:
    """Return the number of slices in a series."""
    return sum(frames_in(header) for header in group)


def number_of(header: Any) -> int:
    """Return the series number, 0 if there is none."""
    return int(header.get("SeriesNumber") or 0)


def _kind(group: Sequence[Any]) -> str:
    modality = str(group[0].get("Modality") or "unknown")
    return modality if is_usable(group) else f"{modality}, no volume"


def _wanted(series: Sequence[list[Any]], wanted: str) -> list[list[Any]]:
    """Return the series that a UID, else a number, else a part of the description names."""
    words = wanted.strip().casefold()
    ways: tuple[Callable[[Any], bool], ...] = (
        lambda header: str(header.get("SeriesInstanceUID")) == wanted.strip(),
        lambda header: str(number_of(header)) == words,
        lambda header: bool(words) and words in str(header.get("SeriesDescription") or "").casefold(),
    )
    return next((found for way in ways if (found := [group for group in series if way(group[0])])), [])
