"""Codes, names and colours: what is written, what is read back, and the list that ships with Medal S."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from slicer_host.phantoms import addVolume, box, draw

from MedalSLib.resources import resource
from MedalSLib.vocabulary import MODALITIES, structures


@pytest.fixture
def segmentation(scene):
    from MedalSLib.slicer.segmentations import addSegmentation

    return addSegmentation(addVolume(scene))


def test_the_shipped_list_is_the_vocabularys(slicer_host):
    """After a change of the vocabulary's codes: python tools/write_terminology.py"""
    from MedalSLib.slicer.segment_terminology import FILE_NAME, OWN_CONTEXT
    from tools.write_terminology import CONTEXT, PATH, document

    assert json.loads(resource(FILE_NAME).read_text(encoding="utf-8")) == document()
    assert (CONTEXT, PATH.name) == (OWN_CONTEXT, FILE_NAME)


def test_slicer_loads_the_shipped_list_and_finds_structures_in_it(slicer_host):
    import slicer

    from MedalSLib.slicer.segment_terminology import OWN_CONTEXT, loadTerminology

    logic = slicer_host.logics["terminologies"]
    assert loadTerminology(logic)
    assert logic.IsTerminologyContextLoaded(OWN_CONTEXT)
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.FindTypeInTerminologyBy3dSlicerLabel(OWN_CONTEXT, "Left kidney", entry)
    assert entry.GetTypeObject().GetCodeValue() == "64033007"
    assert entry.GetTypeModifierObject().GetCodeValue() == "7771000"


def test_slicers_own_list_is_named_where_it_has_the_structure(slicer_host):
    from MedalSLib.slicer.segment_terminology import OWN_CONTEXT, serialized, structureNamed
    from MedalSLib.vocabulary.terminology import GENERAL_ANATOMY

    assert serialized(structureNamed("Liver", "CT")).startswith(GENERAL_ANATOMY + "~")
    assert serialized(structureNamed("Left kidney", "CT")).startswith(GENERAL_ANATOMY + "~")
    assert serialized(structureNamed("Aorta", "CT")).startswith(OWN_CONTEXT + "~")


def test_slicer_reads_every_entry_back_as_it_was_meant(slicer_host):
    import slicer

    from MedalSLib.slicer.segment_terminology import serialized

    logic = slicer_host.logics["terminologies"]
    for item in structures():
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(serialized(item), entry)
        assert entry.GetTypeObject().GetCodeValue() == item.terminology.type.value
        assert entry.GetCategoryObject().GetCodeValue() == item.terminology.category.value
        side = item.terminology.type_modifier
        modifier = side.value if side else ""
        assert (entry.GetTypeModifierObject().GetCodeValue() or "") == modifier


def code_values(item):
    terminology = item.terminology
    codes = (terminology.type, terminology.type_modifier, terminology.region, terminology.region_modifier)
    return tuple(code.value if code else "" for code in codes)


RECOGNISED = {"CT": 129, "MRI": 77, "US": 7, "PET": 1, "Microscopy": 3}
"""Structures whose codes no other one of the modality has; a change of the vocabulary's codes may change these."""


@pytest.mark.parametrize("modality", MODALITIES)
def test_codes_read_back_mean_their_own_structure_and_nothing_where_several_share_them(slicer_host, modality):
    from MedalSLib.slicer.segment_terminology import serialized, structureOfTerminology
    from MedalSLib.vocabulary.tables import table

    named = {item.key: structureOfTerminology(serialized(item), modality) for item in structures(modality)}
    preferred = [item for item in structures(modality) if item.key not in table().secondary]
    count = Counter(code_values(item) for item in preferred)
    alone = [item for item in preferred if count[code_values(item)] == 1]
    assert {item.key: named[item.key] for item in preferred} == {
        item.key: item.name if item in alone else "" for item in preferred
    }
    assert len(alone) == RECOGNISED[modality]
    for item in structures(modality):
        if item.key in table().secondary:  # a second spelling of a published class means the preferred one
            same = {one.name for one in preferred if (one.concept, one.laterality) == (item.concept, item.laterality)}
            assert named[item.key] in same


class TestMatching:
    def match(self, segmentation, modality="CT"):
        from MedalSLib.slicer.matching import matchSegments

        return {found.name: (found.structure, found.how) for found in matchSegments(segmentation, modality)}

    def test_terminology_counts_before_the_name(self, segmentation):
        import slicer

        logic = slicer.modules.terminologies.logic()
        entry = slicer.vtkSlicerTerminologyEntry()
        context = "Segmentation category and type - 3D Slicer General Anatomy list"
        assert logic.FindTypeInTerminologyBy3dSlicerLabel(context, "right kidney", entry)
        segmentID = segmentation.GetSegmentation().AddEmptySegment("a", "liver")
        segment = segmentation.GetSegmentation().GetSegment(segmentID)
        segment.SetTerminology(logic.SerializeTerminologyEntry(entry))
        assert self.match(segmentation) == {"liver": ("Right kidney", "terminology")}

    def test_a_name_counts_when_it_means_one_structure(self, segmentation):
        for number, name in enumerate(("lt kidney", "kidneys", "my thing", "Segment_1")):
            segmentation.GetSegmentation().AddEmptySegment(str(number), name)
        assert self.match(segmentation) == {
            "lt kidney": ("Left kidney", "name"),
            "kidneys": ("", ""),
            "my thing": ("", ""),
            "Segment_1": ("", ""),
        }

    def test_an_unsided_kidney_is_neither(self, segmentation):
        import slicer

        segmentID = segmentation.GetSegmentation().AddEmptySegment("a", "organ 1")
        segment = segmentation.GetSegmentation().GetSegment(segmentID)
        tag = slicer.vtkSegment.GetTerminologyEntryTagName()
        segment.SetTag(tag, "any~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~^^~~^^~^^")
        assert self.match(segmentation)["organ 1"] == ("", "")

    def test_a_result_is_known_whatever_it_is_called(self, scene, segmentation):
        from MedalSLib.slicer.targets import addSegment

        segmentID = addSegment(segmentation, "Liver")
        segmentation.GetSegmentation().GetSegment(segmentID).SetName("organ")
        assert self.match(segmentation) == {"organ": ("Liver", "result")}

    def test_empty_and_locked_are_said(self, scene, segmentation):
        from MedalSLib.slicer.matching import matchSegments
        from MedalSLib.slicer.targets import setLocked

        volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        drawn = draw(segmentation, volume, "liver", box((24, 40, 48), (1, 3), (1, 3), (1, 3)))
        segmentation.GetSegmentation().AddEmptySegment("e", "spleen")
        setLocked(segmentation, drawn, True)
        found = {match.name: (match.empty, match.locked) for match in matchSegments(segmentation, "CT")}
        assert found == {"liver": (False, True), "spleen": (True, False)}
