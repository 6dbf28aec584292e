"""DICOM Segmentation objects, by highdicom."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import MedalSLib
from MedalSLib.errors import InputError, MedalSError, OutputError
from MedalSLib.vocabulary.terminology import TISSUE, Code, Terminology
from MedalSLib.volume.box import whole
from MedalSLib.volume.dicom_pixels import read_dataset
from MedalSLib.volume.dicom_slices import Slice, slices_of
from MedalSLib.volume.dicom_stack import stack
from MedalSLib.volume.files import reading, replacing
from MedalSLib.volume.geometry import Grid, same_grid, swap_ras_lps
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.segment_info import Color, SegmentInfo, completed
from MedalSLib.volume.segmentation import Segment, Segmentation, unique_names

_SEG_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_MANUFACTURER = "Medal S for 3D Slicer"
_KJI_FROM_IJK = [2, 1, 0, 3]
# Attributes that a DICOM object must have but may leave empty; files that were anonymised often lack them.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def is_dicom_seg(path: Path) -> bool:
    """Return whether a DICOM file is a Segmentation."""
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return str(header.get("SOPClassUID", "")) in _SEG_STORAGE


def write_dicom_seg(
    path: Path,
    masks: Mapping[str, BoxMask],
    grid: Grid,
    infos: Mapping[str, SegmentInfo],
    source: Image,
    overwrite: bool,
) -> tuple[str, ...]:
    """Write masks as a binary DICOM Segmentation whose frames lie on those of its source images.

    Not every reader copes with a segment that has no frames, so empty masks are left out and named.

    Args:
        path: File to write.
        masks: (K, J, I) on `grid`, by name.
        grid: Grid of the masks.
        infos: Colours and codes by name, complete.
        source: The image, read from DICOM.
        overwrite: Replace an existing file.

    Raises:
        InputError: The masks are not on the grid of the source.
        OutputError: Every mask is empty, the series cannot be referred to, or the file cannot be written.
    """
    if not same_grid(grid, source.grid):
        raise InputError("The masks do not lie on the grid of the DICOM series.", "Resample them onto it first.")
    datasets, notes = _source_datasets(source)
    frames = _frames(datasets, grid)
    present = {name: mask for name, mask in masks.items() if not mask.is_empty}
    used = [frame for frame in frames if any(_touches(mask, frame) for mask in present.values())]
    present = {name: mask for name, mask in present.items() if any(_touches(mask, frame) for frame in used)}
    if not present:
        raise OutputError(
            f"Every segment for {path} is empty, and DICOM has no empty segmentation.", "Write .seg.nrrd."
        )
    pixels = np.stack([np.stack([_plane(mask, frame) for frame in used]) for mask in present.values()], axis=-1)
    seg = _segmentation(datasets, used, pixels, [(name, infos[name]) for name in present])
    with replacing(path, overwrite) as temporary:
        seg.save_as(temporary)
    if len(frames) < grid.shape_kji[0]:
        notes = (*notes, f"The DICOM Segmentation holds the {len(frames)} planes of the source's slices, none between.")
    if empty := [name for name in masks if name not in present]:
        notes = (*notes, f"DICOM has no empty segments; left out: {', '.join(empty)}.")
    return notes


def check_dicom_source(source: Image) -> None:
    """Check that a DICOM Segmentation could refer to an image, by making one in memory.

    Raises:
        OutputError: It could not; why is said.
    """
    try:
        datasets, _ = _source_datasets(source)
        frames = _frames(datasets, source.grid)[:1]
        pixels = np.ones((1, *source.grid.shape_kji[1:], 1), dtype=np.uint8)
        _segmentation(datasets, frames, pixels, [("trial", completed(None, 0))])
    except MedalSError:
        raise
    except Exception as error:  # headers may lack or hold anything
        raise OutputError(
            f"The series cannot be the source of a DICOM Segmentation ({error}).", "Write .seg.nrrd instead."
        ) from error


@dataclass(frozen=True)
class _Frame:
    """A source image or frame, and where it lies on the grid of the masks.

    Attributes:
        dataset: Index of its file among the source files.
        position: LPS position in mm of its first pixel.
        k: Plane of the grid that lies on it.
        offset_ji: Pixels by which it lies beside the grid.
    """

    dataset: int
    position: tuple[float, float, float]
    k: int
    offset_ji: tuple[int, int]


def _source_datasets(source: Image) -> tuple[list[Any], tuple[str, ...]]:
    """Read the headers of the source, complete what highdicom asks for, and say what was made up.

    Raises:
        OutputError: The images cannot be told apart.
    """
    import highdicom

    datasets = [read_dataset(file, stop_before_pixels=True) for file in source.source.files]
    if len({str(item.get("SOPInstanceUID")) for item in datasets}) < len(datasets):
        raise OutputError(
            "The images of the series share one SOP instance UID, so a DICOM Segmentation cannot refer to them.",
            "Write .seg.nrrd instead, or export the series again.",
        )
    has_place = all(item.get("FrameOfReferenceUID") for item in datasets)
    made_up, thickness = highdicom.UID(), f"{source.grid.spacing_kji[0]:.6g}"
    for item in datasets:
        if not has_place:
            item.FrameOfReferenceUID = made_up
        for keyword in ("ImageOrientationPatient", "PixelSpacing"):
            if keyword in item and keyword in datasets[0]:
                setattr(item, keyword, datasets[0][keyword].value)  # they may differ in the last digits
        for keyword in _MAY_BE_EMPTY:
            if keyword not in item:
                setattr(item, keyword, "")
        _complete_frames(item, thickness)
        if item.get("SliceThickness") in (None, ""):
            item.SliceThickness = thickness
    if has_place:
        return datasets, ()
    return datasets, ("The series has no frame of reference; the DICOM Segmentation was given one of its own.",)


def _complete_frames(dataset: Any, thickness: str) -> None:
    """Give the frames of a multi-frame image in common what is said of each: the same, but for the last digits."""
    for group in dataset.get("SharedFunctionalGroupsSequence") or ():
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            own = dataset.PerFrameFunctionalGroupsSequence[0].get(keyword)
            if own and not group.get(keyword):
                setattr(group, keyword, own)
        for measures in group.get("PixelMeasuresSequence") or ():
            if measures.get("SliceThickness") in (None, ""):
                measures.SliceThickness = thickness


def _frames(datasets: Sequence[Any], grid: Grid) -> list[_Frame]:
    """Return the source frames in the order of the slices, one for each place."""
    frames: dict[tuple[float, ...], _Frame] = {}
    for number, dataset in enumerate(datasets):
        for item in slices_of([dataset], Path(dataset.filename)):
            index = grid.ras_to_index(np.asarray(item.position) * (-1, -1, 1))
            i, j, k = np.rint(index).astype(int).tolist()
            if 0 <= k < grid.shape_kji[0]:
                frames.setdefault(item.position, _Frame(number, item.position, k, (j, i)))
    return sorted(frames.values(), key=lambda frame: frame.k)


def _touches(mask: BoxMask, frame: _Frame) -> bool:
    return mask.box is not None and mask.box[0][0] <= frame.k < mask.box[0][1] and bool(_plane(mask, frame).any())


def _plane(mask: BoxMask, frame: _Frame) -> np.ndarray:
    """Return the part of a mask that lies on a source frame, (rows, columns) as bytes."""
    rows, columns = whole(mask.shape)[1:]
    plane = mask.array(((frame.k, frame.k + 1), rows, columns))[0]
    for axis, offset in enumerate(frame.offset_ji):
        if offset:
            plane = np.roll(plane, -offset, axis)
            gone = slice(-offset, None) if offset > 0 else slice(None, -offset)
            plane[(slice(None),) * axis + (gone,)] = False
    return plane.view(np.uint8)


def _segmentation(
    datasets: Sequence[Any], frames: Sequence[_Frame], pixels: np.ndarray, segments: Sequence[tuple[str, SegmentInfo]]
) -> Any:
    """Return the DICOM object.

    Args:
        datasets: Headers of the source files.
        frames: Those that have pixels.
        pixels: (frames, rows, columns, segments) of 0 and 1.
        segments: Name and description of each.

    Raises:
        OutputError: The series cannot be referred to.
    """
    import highdicom

    is_multi_frame = "NumberOfFrames" in datasets[0] and "PerFrameFunctionalGroupsSequence" in datasets[0]
    positions = [highdicom.PlanePositionSequence("PATIENT", frame.position) for frame in frames]
    try:
        return highdicom.seg.Segmentation(
            source_images=datasets if is_multi_frame else [datasets[frame.dataset] for frame in frames],
            pixel_array=pixels,
            plane_positions=positions if is_multi_frame else None,
            segmentation_type="BINARY",
            segment_descriptions=[_description(number, *segment) for number, segment in enumerate(segments, 1)],
            series_instance_uid=highdicom.UID(),
            series_number=int(datasets[0].get("SeriesNumber") or 0) + 100,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            manufacturer_model_name="Medal S",
            software_versions=MedalSLib.__version__,
            device_serial_number=secrets.token_hex(4),
            content_label="SEGMENTATION",
        )
    except (ValueError, AttributeError, TypeError, RuntimeError, KeyError) as error:  # highdicom's words for unfit ones
        raise OutputError(
            f"The series cannot be the source of a DICOM Segmentation ({error}).", "Write .seg.nrrd instead."
        ) from error


def read_dicom_seg(path: Path) -> Segmentation:
    """Read a DICOM Segmentation; fractional ones are cut at one half.

    Raises:
        InputError: Damaged, or its frames do not form a volume.
    """
    import highdicom

    with reading(path, "a DICOM Segmentation"):
        seg = highdicom.seg.segread(path)
        numbers = [int(number) for number in seg.segment_numbers]
        descriptions = {number: seg.get_segment_description(number) for number in numbers}
        names = unique_names({number: str(item.segment_label) for number, item in descriptions.items()})
        try:
            volume = seg.get_volume(segment_numbers=numbers, combine_segments=False)
        except RuntimeError:  # sheared, or at uneven distances
            array, grid = _irregular(seg, numbers, path)
        else:
            array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
            grid = Grid(array.shape[:3], swap_ras_lps(volume.affine)[:, _KJI_FROM_IJK])
    if array.dtype.kind == "f":
        array = array >= 0.5
    segments = tuple(
        Segment(names[n], array[..., at].astype(bool), True, _color(descriptions[n]), _terminology(descriptions[n]))
        for at, n in enumerate(numbers)
    )
    return Segmentation(segments, grid)


def _irregular(seg: Any, numbers: Sequence[int], path: Path) -> tuple[np.ndarray, Grid]:
    """Return the segments (K, J, I, segments) of frames that do not form a rectangular volume, on a grid of their own.

    Each plane of the grid is the nearest frame's; where none is near, no voxel is set.
    """
    places: dict[tuple[float, ...], Slice] = {}
    owners = []
    for item, group in zip(slices_of([seg], path), seg.PerFrameFunctionalGroupsSequence, strict=True):
        places.setdefault(item.position, replace(item, marks=(None,) * len(item.marks)))
        shared = seg.SharedFunctionalGroupsSequence[0]
        owner = (group if "SegmentIdentificationSequence" in group else shared).SegmentIdentificationSequence[0]
        owners.append((item.position, numbers.index(int(owner.ReferencedSegmentNumber))))
    arranged = stack(list(places.values()), None, path)
    nearest = np.abs(np.arange(arranged.grid.shape_kji[0])[:, None] - arranged.planes).argmin(axis=1)
    reach = np.median(np.diff(arranged.planes)) / 2 + 1e-3 if len(arranged.planes) > 1 else 1.0
    slot = {item.position: number for number, item in enumerate(arranged.slices)}
    frames = np.zeros((len(slot), *arranged.grid.shape_kji[1:], len(numbers)), dtype=seg.pixel_array.dtype)
    for frame, (position, at) in zip(seg.pixel_array, owners, strict=True):
        frames[slot[position], ..., at] = frame
    array = frames[nearest]
    array[np.abs(np.arange(len(nearest)) - arranged.planes[nearest]) > reach] = 0
    if "MaximumFractionalValue" in seg:
        array = array / float(seg.MaximumFractionalValue)
    return array, arranged.grid


def _description(number: int, name: str, info: SegmentInfo) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    terminology = info.terminology or TISSUE
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=_concept(terminology.category),
        segmented_property_type=_concept(terminology.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="Medal S", version=MedalSLib.__version__, family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=name[:64],
        anatomic_regions=None if terminology.region is None else [_concept(terminology.region)],
        display_color=None if info.color is None else highdicom.color.CIELabColor.from_rgb(*info.color),
    )
    if info.description:
        description.SegmentDescription = info.description
    if terminology.type_modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(terminology.type_modifier)]
    if terminology.region is not None and terminology.region_modifier is not None:
        region = description.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [_concept(terminology.region_modifier)]
    return description


def _concept(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _terminology(description: Any) -> Terminology | None:
    category = _first(description, "SegmentedPropertyCategoryCodeSequence")
    kind_item = (description.get("SegmentedPropertyTypeCodeSequence") or [None])[0]
    kind = _first(description, "SegmentedPropertyTypeCodeSequence")
    if category is None or kind is None:
        return None
    region_item = (description.get("AnatomicRegionSequence") or [None])[0]
    return Terminology(
        category=category,
        type=kind,
        type_modifier=_first(kind_item, "SegmentedPropertyTypeModifierCodeSequence"),
        region=_first(description, "AnatomicRegionSequence"),
        region_modifier=_first(region_item, "AnatomicRegionModifierSequence"),
    )


def _first(item: Any, name: str) -> Code | None:
    """Return the first code of a sequence of a data set."""
    sequence = item.get(name) if item is not None else None
    if not sequence:
        return None
    code = sequence[0]
    return Code(str(code.CodeValue), str(code.CodeMeaning), str(code.CodingSchemeDesignator))


def _color(description: Any) -> Color | None:
    import highdicom

    value = description.get("RecommendedDisplayCIELabValue")
    if not value:
        return None
    red, green, blue = highdicom.color.CIELabColor.from_dicom_value(value).to_rgb()
    return int(red), int(green), int(blue)
