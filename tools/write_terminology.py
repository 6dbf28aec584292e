"""Write the terminology list that ships with Medal S, after a change of the vocabulary's codes.

`python tools/write_terminology.py` writes `Resources/SegmentationCategoryTypeModifier-MedalS.term.json`, in the form
that 3D Slicer reads from .term.json files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from MedalSLib.vocabulary import Code
from MedalSLib.vocabulary.tables import table

PATH = Path(__file__).resolve().parents[1] / "Resources" / "SegmentationCategoryTypeModifier-MedalS.term.json"
CONTEXT = "Segmentation category and type - Medal S"
SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"


def document() -> dict[str, Any]:
    """Return the terminology of the whole vocabulary."""
    categories: dict[str, dict[str, Any]] = {}
    for item in table().structures.values():
        codes = item.terminology
        label = {"3dSlicerLabel": item.name, "recommendedDisplayRGBValue": list(item.color)}
        category = categories.setdefault(
            codes.category.value, {**_json(codes.category), "showAnatomy": "true", "_types": {}}
        )
        entry = category["_types"].setdefault(codes.type.value, {**_json(codes.type), "_modifiers": {}})
        if codes.type_modifier is None:
            for key, value in label.items():
                entry.setdefault(key, value)
        else:
            modifier = codes.type_modifier
            entry["_modifiers"].setdefault(modifier.value, {**_json(modifier), **label})
    return {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": SCHEMA,
        "SegmentationCodes": {"Category": [_category(categories[key]) for key in sorted(categories)]},
    }


def main() -> None:
    """Write the list."""
    PATH.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def _category(category: dict[str, Any]) -> dict[str, Any]:
    types = category.pop("_types")
    category["Type"] = [_type(types[key]) for key in sorted(types)]
    return category


def _type(entry: dict[str, Any]) -> dict[str, Any]:
    modifiers = entry.pop("_modifiers")
    if modifiers:
        entry["Modifier"] = [modifiers[key] for key in sorted(modifiers)]
        entry.setdefault("recommendedDisplayRGBValue", entry["Modifier"][0]["recommendedDisplayRGBValue"])
    return entry


def _json(code: Code) -> dict[str, Any]:
    return {"CodeMeaning": code.meaning, "CodingSchemeDesignator": code.scheme, "CodeValue": code.value}


if __name__ == "__main__":
    main()
