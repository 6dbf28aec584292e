"""Small terminology files under the names that Slicer loads at its start: a few entries, real codes, our own words.

Slicer's own lists (252 structures and more) come with the application only; what the tests need of them is this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"
GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
RIGHT, LEFT = "24028007", "7771000"


def write_terminologies(folder: Path) -> None:
    """Write the three files that `vtkSlicerTerminologiesModuleLogic` wants to find in its share directory."""
    folder.mkdir(parents=True, exist_ok=True)
    organs = [
        _type("Liver", "10200004", (221, 130, 101), "liver"),
        _type("Spleen", "78961009", (157, 108, 162), "spleen"),
        _type(
            "Kidney",
            "64033007",
            (185, 102, 83),
            "kidney",
            [("Right", RIGHT, "right kidney"), ("Left", LEFT, "left kidney")],
        ),
    ]
    general = {
        "SegmentationCategoryTypeContextName": GENERAL,
        "@schema": SCHEMA,
        "SegmentationCodes": {
            "Category": [
                {
                    **_code("Tissue", "85756007"),
                    "showAnatomy": "true",
                    "Type": [_type("Tissue", "85756007", (128, 174, 128), "tissue")],
                },
                {**_code("Anatomical Structure", "123037004"), "showAnatomy": "true", "Type": organs},
            ]
        },
    }
    master = {**general, "SegmentationCategoryTypeContextName": "Segmentation category and type - DICOM master list"}
    regions = {
        "AnatomicContextName": "Anatomic codes - DICOM master list",
        "@schema": SCHEMA.replace("segment-context", "anatomic-context"),
        "AnatomicCodes": {"AnatomicRegion": [_code("Abdomen", "818983003")]},
    }
    for name, content in {
        "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy": general,
        "SegmentationCategoryTypeModifier-DICOM-Master": master,
        "AnatomicRegionAndModifier-DICOM-Master": regions,
    }.items():
        (folder / f"{name}.term.json").write_text(json.dumps(content), encoding="utf-8")


def _code(meaning: str, value: str) -> dict[str, Any]:
    return {"CodeMeaning": meaning, "CodingSchemeDesignator": "SCT", "CodeValue": value}


def _type(
    meaning: str, value: str, rgb: tuple[int, int, int], label: str, modifiers: list[tuple[str, str, str]] | None = None
) -> dict[str, Any]:
    entry = {**_code(meaning, value), "recommendedDisplayRGBValue": list(rgb), "3dSlicerLabel": label}
    if modifiers:
        entry["Modifier"] = [
            {**_code(side, code), "recommendedDisplayRGBValue": list(rgb), "3dSlicerLabel": name}
            for side, code, name in modifiers
        ]
    return entry
