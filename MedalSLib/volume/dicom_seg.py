"""DICOM Segmentation objects, by highdicom."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import MedalSLib
from MedalSLib.errors import InputError, OutputError
from MedalSLib.vocabulary.terminology import TISSUE, Code, Terminology
from MedalSLib.volume.box import whole
from MedalSLib.volume.files import reading, replacing
from MedalSLib.volume.geometry import Grid, same_grid, swap_ras_lps
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.segment_info import Color, SegmentInfo
from MedalSLib.volume.segmentation import Segment, Segmentation, unique_names

_SEG_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_MANUFACTURER = "Medal S for 3D Slicer"
_KJI_FROM_IJK = [2, 1, 0, 3]


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
    """Write masks as a binary DICOM Segmentation that refers to its source images.

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
        OutputError: Every mask is empty, the grid is sheared, or the file cannot be written.
    """
    import highdicom
    import pydicom

    if not same_grid(grid, source.grid):
        raise InputError("The masks do not lie on the grid of the DICOM series.", "Resample them onto it first.")
    present = {name: mask for name, mask in masks.items() if not mask.is_empty}
    if not present:
        raise OutputError(
            f"Every segment for {path} is empty, and DICOM has no empty segmentation.", "Write .seg.nrrd."
        )
    datasets = [pydicom.dcmread(file) for file in source.source.files]
    ranges = [mask.box[0] for mask in present.values() if mask.box is not None]
    k0, k1 = min(start for start, _ in ranges), max(stop for _, stop in ranges)
    slab = ((k0, k1), *whole(grid.shape_kji)[1:])
    stacked = np.stack([mask.array(slab).view(np.uint8) for mask in present.values()], axis=-1)
    cropped = grid.crop((*grid.whole_box[:2], (k0, k1)))
    try:
        volume = highdicom.Volume(
            stacked,
            swap_ras_lps(cropped.affine_ras)[:, _KJI_FROM_IJK],
            coordinate_system="PATIENT",
            frame_of_reference_uid=datasets[0].FrameOfReferenceUID,
            channels={"SegmentNumber": list(range(1, len(present) + 1))},
        )
        seg = highdicom.seg.Segmentation(
            source_images=datasets,
            pixel_array=volume,
            segmentation_type="BINARY",
            segment_descriptions=[_description(number, name, infos[name]) for number, name in enumerate(present, 1)],
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
    except (ValueError, AttributeError, TypeError, RuntimeError) as error:  # highdicom's words for unfit sources
        raise OutputError(
            f"The series cannot be the source of a DICOM Segmentation ({error}).", "Write .seg.nrrd instead."
        ) from error
    with replacing(path, overwrite) as temporary:
        seg.save_as(temporary)
    empty = [name for name in masks if name not in present]
    return (f"DICOM has no empty segments; left out: {', '.join(empty)}.",) if empty else ()


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
        volume = seg.get_volume(segment_numbers=numbers, combine_segments=False)
        array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    if array.dtype.kind == "f":
        array = array >= 0.5
    grid = Grid(array.shape[:3], swap_ras_lps(volume.affine)[:, _KJI_FROM_IJK])
    segments = tuple(
        Segment(names[n], array[..., at].astype(bool), True, _color(descriptions[n]), _terminology(descriptions[n]))
        for at, n in enumerate(numbers)
    )
    return Segmentation(segments, grid)


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
