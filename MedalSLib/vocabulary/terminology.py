"""3D Slicer's serialized terminology entry, from the codes in the table."""

from __future__ import annotations

from MedalSLib.vocabulary.structure import Code, Structure

TYPE_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"


def terminology_entry(item: Structure, context: str = TYPE_CONTEXT) -> str:
    """Return `Context~Category~Type~TypeModifier~RegionContext~Region~RegionModifier`, codes as scheme^value^meaning.

    Args:
        item: The structure.
        context: Name of the terminology that the entry is said to come from; Slicer keeps codes that are not in it.
    """
    return "~".join(
        (
            context,
            _code(item.category),
            _code(item.type),
            _code(item.type_modifier),
            REGION_CONTEXT,
            _code(item.region),
            _code(item.region_modifier),
        )
    )


def _code(code: Code | None) -> str:
    return "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"
