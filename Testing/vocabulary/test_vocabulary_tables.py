"""The tables are complete and well formed: every published class with its facts, no fact that nothing uses."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary import MODALITIES, presets, structure, structures, text_for
from MedalSLib.vocabulary.tables import preset_members, table

WINDOWS = {"soft tissue", "lung", "bone", "brain"}


def test_the_table_has_the_published_number_of_classes_per_modality() -> None:
    counts = Counter((item.modality, kind) for item in structures() for kind in item.kinds)
    assert counts == {
        ("CT", "semantic"): 126,
        ("CT", "instance"): 11,
        ("MRI", "semantic"): 76,
        ("MRI", "instance"): 10,
        ("US", "semantic"): 9,
        ("US", "instance"): 1,
        ("PET", "instance"): 1,
        ("Microscopy", "instance"): 9,
    }
    assert sum(counts.values()) == 243
    assert {item.key for item in structures() if len(item.kinds) > 1} == {"MRI_Vertebrae", "MRI_Intervertebral discs"}


def test_names_and_kinds_are_exactly_the_published_ones(reference: Path) -> None:
    published = json.loads((reference / "published" / "class_mapping.json").read_text(encoding="utf-8"))
    kinds = {"anatomy": "semantic", "lesion": "instance"}
    expected = {(m, name, kinds[part]) for m, parts in published.items() for part in parts for name in parts[part]}
    assert {(item.modality, item.name, kind) for item in structures() for kind in item.kinds} == expected


def test_post_processed_classes_are_the_published_ones(reference: Path) -> None:
    published = json.loads((reference / "published" / "improved_classes.json").read_text(encoding="utf-8"))
    expected = {f"{m}_{name}" for m, parts in published.items() for names in parts.values() for name in names}
    assert {item.key for item in structures() if item.policy.postprocess} == expected


def test_policy_of_the_classes_with_rules_of_their_own() -> None:
    assert {item.name for item in structures() if item.policy.stages == (1,)} == {
        "Soleus",
        "Gastrocnemius Medialis",
        "Gastrocnemius Lateralis",
    }
    assert {item.key for item in structures() if item.policy.stages == (2,)} == {"Microscopy_Synaptic clefts"}
    assert {item.name for item in structures() if item.policy.ignores_spacing} == {"Endolysosomes", "Mitochondria"}
    assert {item.key for item in structures() if item.policy.box_growth != 1.1} == {"CT_Airway Tree"}
    assert {item.key for item in structures() if not item.policy.refine_in_stages} == {
        "CT_Airway Tree",
        "CT_Aortic vessel trees",
        "PET_Lesion",
        "MRI_Spinal canal",
    }
    assert structure("MRI_Vertebrae").policy.refine_in_stages == (1,)


@pytest.mark.parametrize("item", structures(), ids=lambda item: item.key)
def test_every_structure_has_its_facts(item) -> None:  # type: ignore[no-untyped-def]
    assert item.key == f"{item.modality}_{item.name}"
    assert item.window in (WINDOWS if item.modality == "CT" else {"percentile"})
    assert all(0 <= value <= 255 for value in item.color)
    assert item.color != (127, 127, 127), "3D Slicer's placeholder colour"
    codes = item.terminology
    for code in (codes.category, codes.type, codes.type_modifier, codes.region, codes.region_modifier):
        assert code is None or (code.value.isdigit() and len(code.value) >= 6 and code.meaning and code.scheme == "SCT")
    said = {word for word in ("left", "right") if re.search(rf"\b{word}\b", item.name.casefold())}
    assert said == ({item.laterality} if item.laterality else set())
    assert text_for(item) == item.name


def test_sides_are_coded_once() -> None:
    left, cyst, chamber = (
        structure(f"CT_{n}").terminology for n in ("Left kidney", "Left kidney cyst", "Left atrial appendage")
    )
    assert left.type_modifier is not None and left.type_modifier.value == "7771000" and left.region_modifier is None
    assert cyst.type_modifier is None and cyst.region_modifier is not None and cyst.region_modifier.value == "7771000"
    assert chamber.type_modifier is None and chamber.type.meaning.startswith("Left"), "the type says the side itself"
    right = structure("CT_Right kidney").terminology
    assert right.type == left.type and right.type_modifier is not None and right.type_modifier.value == "24028007"


def test_every_concept_and_group_is_used() -> None:
    known = table()
    own = {
        "mandible", "larynx", "cerebellum", "lateral ventricle", "thalamus", "caudate", "putamen", "pallidum",
        "hippocampus", "amygdala",
    }  # fmt: skip
    assert {item.concept for item in structures()} == set(known.concepts) - own, "the rest only models bring"
    assert {group for item in structures() for group in item.groups} == set(known.presets)


def test_terminology_entry_is_slicers_serialization() -> None:
    assert str(structure("CT_Left kidney").terminology) == (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left"
        "~Anatomic codes - DICOM master list~^^~^^"
    )
    for item in structures():
        parts = str(item.terminology).split("~")
        assert len(parts) == 7
        assert all(parts[i].count("^") == 2 for i in (1, 2, 3, 5, 6))


def test_presets_list_each_structure_once_in_its_preferred_spelling() -> None:
    ct = presets("CT")
    assert set(ct["lung lobes"]) == {
        f"Lung {lobe}" for lobe in ("upper lobe left", "lower lobe left", "upper lobe right", "middle lobe right")
    } | {"Lung lower lobe right"}
    assert len(ct["vertebrae"]) == 25 and len(ct["thoracic vertebrae"]) == 12 and len(ct["cervical vertebrae"]) == 7
    assert "Inferior vena cava" in ct["veins"] and "Postcava" not in ct["veins"]
    assert set(presets("US")) == {"heart chambers", "muscles", "calf muscles", "gastrocnemius", "neck vessels"}
    for modality in MODALITIES:
        for name, members in presets(modality).items():
            assert len(members) == len(set(members)) > 1
            assert members == tuple(item.name for item in preset_members(name, modality))
    assert presets()["heart chambers"] == presets("MRI")["heart chambers"], "CT has none: the next modality's"


def test_an_unknown_key_says_what_keys_look_like() -> None:
    with pytest.raises(PromptError, match="CT_Liver"):
        structure("CT_Liverpool")


def test_left_and_right_of_a_pair_are_told_apart_by_their_colours() -> None:
    found = table().structures
    pairs = [(item, found.get(item.key.replace("Left", "Right", 1))) for item in found.values() if "Left" in item.name]
    assert pairs and all(other is None or item.color != other.color for item, other in pairs)
