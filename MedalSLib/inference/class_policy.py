"""Which published rule holds for which class.  A list of classes takes every rule that one of them has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNIT_SPACING = frozenset({"Microscopy_Endolysosomes", "Microscopy_Mitochondria"})
ENLARGED = frozenset({"Microscopy_Endolysosomes"})
MAGNIFIED_LESION = frozenset({"PET_Lesion"})
LIMITED_TO_1_6 = frozenset({"US_Thyroid", "US_Jugular vein", "US_Carotid artery", "CT_Airway Tree"})
LIMITED_TO_1_6_IN_PLAN = frozenset({"CT_Airways"})
LIMITED_TO_1_2 = frozenset({"US_Brain tumor"})
NEVER_REFINED = frozenset({"CT_Airway Tree", "CT_Aortic vessel trees", "PET_Lesion", "MRI_Spinal canal"})
REFINED_IN_STAGE_1_ONLY = frozenset({"MRI_Vertebrae"})
WIDE_REGION = frozenset({"CT_Airway Tree"})
FIRST_STAGE_ONLY = frozenset({"US_Soleus", "US_Gastrocnemius Medialis", "US_Gastrocnemius Lateralis"})
SECOND_STAGE_ONLY = frozenset({"Microscopy_Synaptic clefts"})


@dataclass(frozen=True)
class ClassRules:
    """The published exceptions that hold for a list of classes.

    Attributes:
        unit_spacing: The spacing is taken to be 1 mm, whatever the image says.
        enlarged: Stage 2 sees the image enlarged by a tenth.
        magnified_lesion: Asked for alone, magnified by 1.45 in stage 1 and 1.35 in stage 2 instead of 1.2.
        limited_to_1_6: Asked for alone, the volume is at most 1.6 patches long, not 2.
        limited_to_1_6_in_plan: The same, but not where stage 2's region is sized.
        limited_to_1_2: Asked for alone, the volume is at most 1.2 patches long.
        never_refined: Instances are not refined from their own prediction.
        refined_in_stage_1_only: Instances are not refined in stage 2.
        wide_region: Stage 2's region is stage 1's box x1.5 instead of x1.1.
        first_stage_only: Stage 1's labels are the answer.
        second_stage_only: Stage 2 sees the whole volume without prompts.
    """

    unit_spacing: bool
    enlarged: bool
    magnified_lesion: bool
    limited_to_1_6: bool
    limited_to_1_6_in_plan: bool
    limited_to_1_2: bool
    never_refined: bool
    refined_in_stage_1_only: bool
    wide_region: bool
    first_stage_only: bool
    second_stage_only: bool


def rules_of(classes: Iterable[str]) -> ClassRules:
    """Return the rules of a list of classes ("CT_Liver")."""
    keys = frozenset(classes)
    return ClassRules(
        unit_spacing=bool(keys & UNIT_SPACING),
        enlarged=bool(keys & ENLARGED),
        magnified_lesion=bool(keys & MAGNIFIED_LESION),
        limited_to_1_6=bool(keys & LIMITED_TO_1_6),
        limited_to_1_6_in_plan=bool(keys & LIMITED_TO_1_6_IN_PLAN),
        limited_to_1_2=bool(keys & LIMITED_TO_1_2),
        never_refined=bool(keys & NEVER_REFINED),
        refined_in_stage_1_only=bool(keys & REFINED_IN_STAGE_1_ONLY),
        wide_region=bool(keys & WIDE_REGION),
        first_stage_only=bool(keys & FIRST_STAGE_ONLY),
        second_stage_only=bool(keys & SECOND_STAGE_ONLY),
    )
