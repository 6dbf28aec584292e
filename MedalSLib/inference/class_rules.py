"""Which published rule holds for which class.  A list of classes takes every rule that one of them has.

The vocabulary says which stages a class runs in, whether its spacing counts, when it is refined and how its region
grows (`MedalSLib.vocabulary.Policy`).  What only the resampling knows of a class stands here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary import Policy, structure

_ENLARGED = frozenset({"Microscopy_Endolysosomes"})
_MAGNIFIED_LESION = frozenset({"PET_Lesion"})
_LIMITED_TO_1_6 = frozenset({"US_Thyroid", "US_Jugular vein", "US_Carotid artery", "CT_Airway Tree"})
_LIMITED_TO_1_6_IN_PLAN = frozenset({"CT_Airways"})
_LIMITED_TO_1_2 = frozenset({"US_Brain tumor"})


@dataclass(frozen=True)
class ClassRules:
    """The published exceptions that hold for a list of classes.

    Attributes:
        unit_spacing: The spacing is taken to be 1 mm, whatever the image says.
        enlarged: Stage 2 sees the image enlarged by a tenth.
        magnified_lesion: Asked for alone, magnified by 1.45 in stage 1 and 1.35 in stage 2 instead of 1.2.
        most_patches: Asked for alone, the volume is at most so many patches long; None for the general limit of two.
        most_patches_of_region: The same where stage 2's region is sized.
        refined_in_stages: Stages in which instances are refined from their own prediction.
        region_growth: Stage 2's region is stage 1's box times this.
        first_stage_only: Stage 1's labels are the answer.
        second_stage_only: Stage 2 sees the whole volume without prompts.
    """

    unit_spacing: bool
    enlarged: bool
    magnified_lesion: bool
    most_patches: float | None
    most_patches_of_region: float | None
    refined_in_stages: frozenset[int]
    region_growth: float
    first_stage_only: bool
    second_stage_only: bool


def rules_of(classes: Iterable[str]) -> ClassRules:
    """Return the rules of a list of classes ("CT_Liver"); a class the vocabulary does not know has no exception."""
    keys = frozenset(classes)
    policies = [policy_of(key) for key in keys] or [Policy()]
    most_patches = 1.6 if keys & _LIMITED_TO_1_6 else 1.2 if keys & _LIMITED_TO_1_2 else None
    first_only = any(policy.stages == (1,) for policy in policies)
    return ClassRules(
        unit_spacing=any(policy.ignores_spacing for policy in policies),
        enlarged=bool(keys & _ENLARGED),
        magnified_lesion=bool(keys & _MAGNIFIED_LESION),
        most_patches=1.6 if keys & _LIMITED_TO_1_6_IN_PLAN else most_patches,
        most_patches_of_region=most_patches,
        refined_in_stages=frozenset.intersection(*(frozenset(policy.refine_in_stages) for policy in policies)),
        region_growth=max(policy.box_growth for policy in policies),
        first_stage_only=first_only,
        second_stage_only=not first_only and any(policy.stages == (2,) for policy in policies),
    )


def policy_of(key: str) -> Policy:
    """Return the vocabulary's policy of a class, or the general one for a class it does not know."""
    try:
        return structure(key).policy
    except PromptError:
        return Policy()
