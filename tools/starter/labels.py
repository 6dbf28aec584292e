"""What the starter learns: the elements that a training volume is divided into, and the structures made of them.

A packed volume has one labelmap of *elements* that do not overlap ("lung_upper_lobe_left", "fat").  A structure with a
published name is a union of elements, so structures may overlap (a lung and its lobes).  Elements without a structure
(ribs, fat) still matter: synthesized intensities are drawn element by element.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

_VERTEBRAE = (
    *(f"{region}{n}" for region, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)),
    "S1",
)
_SIDED = (
    "kidney", "adrenal_gland", "lung_lower_lobe", "lung_upper_lobe", "lung", "subclavian_artery",
    "common_carotid_artery", "brachiocephalic_vein", "iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula",
    "femur", "hip", "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas", "kidney_cyst",
    "cerebral_white_matter", "lateral_ventricle", "inferior_lateral_ventricle", "cerebellum_white_matter",
    "cerebellum_cortex", "thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens",
    "ventral_dc", "parotid",
    *(f"rib_{n}" for n in range(1, 13)),
)  # fmt: skip
_UNSIDED = (
    "spleen", "gallbladder", "liver", "stomach", "pancreas", "lung_middle_lobe_right", "esophagus", "trachea",
    "thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate", "sacrum", "heart", "aorta",
    "pulmonary_vein", "pulmonary_artery", "brachiocephalic_trunk", "atrial_appendage_left", "superior_vena_cava",
    "inferior_vena_cava", "portal_vein_and_splenic_vein", "spinal_cord", "sternum", "costal_cartilages", "vertebrae",
    "intervertebral_discs", "mesenteric_artery", "cerebral_cortex", "third_ventricle", "fourth_ventricle",
    "brainstem", "csf", "brain",
    *(f"vertebrae_{name}" for name in _VERTEBRAE),
    "mandible", "larynx", "nucleus",
    # Skull, eyes, skin and other tissue around a brain, as label maps of heads number them; and the fluid there.
    *(f"head_{n}" for n in range(1, 13)), "outer_csf",
    # Where two nuclei touch: of neither, so that they stay apart.
    "nucleus_border",
    # What is left of the body, by intensity; "object" is the table and whatever else lies outside the body.
    "fat", "soft", "bright_soft", "bone", "gas", "object", "rest_1", "rest_2", "rest_3", "rest_4",
)  # fmt: skip

ELEMENTS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        ("air", *_UNSIDED, *(f"{name}_{side}" for name in _SIDED for side in ("left", "right"))), start=0
    )
}
"""Number of each element in packed labelmaps; 0 is the air around the body."""

BACKGROUND = tuple(
    ELEMENTS[name]
    for name in (
        "air", "fat", "soft", "bright_soft", "bone", "gas", "object", "rest_1", "rest_2", "rest_3", "rest_4",
        *(f"head_{n}" for n in range(1, 13)), "outer_csf", "nucleus_border",
    )
)  # fmt: skip

_LUNGS = {
    "left": ("lung_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right": ("lung_right", "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
}
_BRAIN = (
    "brain", "cerebral_cortex", "third_ventricle", "fourth_ventricle", "brainstem", "csf",
    *(
        f"{name}_{side}"
        for name in (
            "cerebral_white_matter", "lateral_ventricle", "inferior_lateral_ventricle", "cerebellum_white_matter",
            "cerebellum_cortex", "thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens",
            "ventral_dc",
        )
        for side in ("left", "right")
    ),
)  # fmt: skip
_ALL_VERTEBRAE = ("vertebrae", *(f"vertebrae_{name}" for name in _VERTEBRAE if name != "S1"))
_BOTH_MODALITIES: dict[str, tuple[str, ...]] = {
    "Liver": ("liver",),
    "Right kidney": ("kidney_right",),
    "Left kidney": ("kidney_left",),
    "Spleen": ("spleen",),
    "Pancreas": ("pancreas",),
    "Gallbladder": ("gallbladder",),
    "Esophagus": ("esophagus",),
    "Stomach": ("stomach",),
    "Aorta": ("aorta",),
    "Inferior vena cava": ("inferior_vena_cava",),
    "Right adrenal gland": ("adrenal_gland_right",),
    "Left adrenal gland": ("adrenal_gland_left",),
    "Duodenum": ("duodenum",),
    "Urinary bladder": ("urinary_bladder",),
    "Prostate": ("prostate",),
    "Prostate/uterus": ("prostate",),
    "Left lung": _LUNGS["left"],
    "Right lung": _LUNGS["right"],
    "Heart": ("heart", "atrial_appendage_left"),
    "Sacrum": ("sacrum", "vertebrae_S1"),
    "Spinal cord": ("spinal_cord",),
    "Small bowel": ("small_bowel",),
    "Colon": ("colon",),
    "Portal vein and splenic vein": ("portal_vein_and_splenic_vein",),
    "Superior vena cava": ("superior_vena_cava",),
    "Brain": _BRAIN,
    **{
        f"{side.capitalize()} {words}": (f"{name}_{side}",)
        for side in ("left", "right")
        for words, name in (
            ("iliac artery", "iliac_artery"), ("iliac vena", "iliac_vena"), ("humerus", "humerus"), ("femur", "femur"),
            ("hip", "hip"), ("gluteus medius", "gluteus_medius"), ("gluteus minimus", "gluteus_minimus"),
            ("autochthon", "autochthon"), ("iliopsoas", "iliopsoas"),
        )
    },
}  # fmt: skip
_CT_ONLY: dict[str, tuple[str, ...]] = {
    "Postcava": ("inferior_vena_cava",),
    "Trachea": ("trachea",),
    "Thyroid": ("thyroid_gland",),
    "Thyroid gland": ("thyroid_gland",),
    "Pulmonary vein": ("pulmonary_vein",),
    "Brachiocephalic trunk": ("brachiocephalic_trunk",),
    "Left atrial appendage": ("atrial_appendage_left",),
    "Brainstem": ("brainstem",),
    "Left parotid gland": ("parotid_left",),
    "Right parotid gland": ("parotid_right",),
    "Mandible": ("mandible",),
    "Larynx": ("larynx",),
    "Lung upper lobe left": ("lung_upper_lobe_left",),
    "Lung lower lobe left": ("lung_lower_lobe_left",),
    "Lung upper lobe right": ("lung_upper_lobe_right",),
    "Lung middle lobe right": ("lung_middle_lobe_right",),
    "Lung lower lobe right": ("lung_lower_lobe_right",),
    "Left gluteus Maximus": ("gluteus_maximus_left",),
    "Right gluteus maximus": ("gluteus_maximus_right",),
    **{f"Vertebrae {name}": (f"vertebrae_{name}",) for name in _VERTEBRAE},
    **{
        f"{side.capitalize()} {words}": (f"{name}_{side}",)
        for side in ("left", "right")
        for words, name in (
            ("scapula", "scapula"), ("clavicula", "clavicula"), ("subclavian artery", "subclavian_artery"),
            ("common carotid artery", "common_carotid_artery"), ("brachiocephalic vein", "brachiocephalic_vein"),
        )
    },
}  # fmt: skip
_MRI_ONLY: dict[str, tuple[str, ...]] = {
    "Vertebrae": _ALL_VERTEBRAE,
    "Intervertebral discs": ("intervertebral_discs",),
    "Pulmonary Artery": ("pulmonary_artery",),
    "Brainstem": ("brainstem",),
    "Cerebellum": tuple(
        f"cerebellum_{part}_{side}" for part in ("white_matter", "cortex") for side in ("left", "right")
    ),
    **{
        f"{side.capitalize()} {words}": (f"{name}_{side}",)
        for side in ("left", "right")
        for words, name in (
            ("lateral ventricle", "lateral_ventricle"),
            ("thalamus", "thalamus"),
            ("caudate", "caudate"),
            ("putamen", "putamen"),
            ("pallidum", "pallidum"),
            ("hippocampus", "hippocampus"),
            ("amygdala", "amygdala"),
        )
    },
    "Left gluteus maximus": ("gluteus_maximus_left",),
    "Right gluteus maximus": ("gluteus_maximus_right",),
}

_MICROSCOPY: dict[str, tuple[str, ...]] = {"Nuclei": ("nucleus",)}

_LUNG_WINDOW = ("Left lung", "Right lung", "Lung ", "Trachea")
_BONE_WINDOW = ("Vertebrae", "Sacrum", "humerus", "femur", "hip", "scapula", "clavicula")


@dataclass(frozen=True)
class StarterClass:
    """A structure the starter is taught.

    Attributes:
        modality: "CT", "MRI" or "Microscopy".
        name: Canonical published name.
        elements: Numbers of the elements it is made of.
    """

    modality: str
    name: str
    elements: tuple[int, ...]

    @property
    def window(self) -> str:
        """Name of the window it is looked at in; as the vocabulary says, which training machines may not have."""
        if self.modality != "CT":
            return "percentile"
        if self.name == "Brain":
            return "brain"
        if self.name.startswith(_LUNG_WINDOW):
            return "lung"
        return "bone" if self.name.startswith(_BONE_WINDOW) or self.name.endswith(_BONE_WINDOW) else "soft tissue"


@cache
def starter_classes() -> tuple[StarterClass, ...]:
    """Return every structure, CT first, in a fixed order."""
    tables = (
        ("CT", {**_BOTH_MODALITIES, **_CT_ONLY}),
        ("MRI", {**_BOTH_MODALITIES, **_MRI_ONLY}),
        ("Microscopy", _MICROSCOPY),
    )
    return tuple(
        StarterClass(modality, name, tuple(ELEMENTS[part] for part in parts))
        for modality, table in tables
        for name, parts in table.items()
    )


@cache
def mirrored_elements() -> tuple[int, ...]:
    """Return, by element number, the element it becomes when left and right change places.

    The middle lobe of the right lung has no counterpart; it joins the left upper lobe, so that the lungs stay whole.
    """
    mirrored = list(range(len(ELEMENTS)))
    for name, number in ELEMENTS.items():
        for side, other in (("_left", "_right"), ("_right", "_left")):
            if name.endswith(side) and (twin := name.removesuffix(side) + other) in ELEMENTS:
                mirrored[number] = ELEMENTS[twin]
    mirrored[ELEMENTS["lung_middle_lobe_right"]] = ELEMENTS["lung_upper_lobe_left"]
    return tuple(mirrored)


NOT_MIRRORED = frozenset(
    {"Lung upper lobe left", "Lung lower lobe left", "Lung upper lobe right", "Lung middle lobe right",
     "Lung lower lobe right", "Left atrial appendage", "Brachiocephalic trunk", "Left brachiocephalic vein",
     "Right brachiocephalic vein", "Left subclavian artery", "Right subclavian artery",
     "Left common carotid artery", "Right common carotid artery"}
)  # fmt: skip
"""Structures whose anatomy differs between the sides: a mirrored volume says nothing true of them."""

HU_CODE = np.concatenate([np.arange(-1024, -200, 16), np.arange(-200, 300, 4), np.arange(300, 1500, 16)]).astype(
    np.float32
)
"""Hounsfield units by stored byte: fine around soft tissue, coarse where windows are wide; noise hides the steps."""
