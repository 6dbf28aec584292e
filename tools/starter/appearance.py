"""What tissues look like in CT and MR: priors from which the starter's training images take their intensities.

Hounsfield units are textbook ranges, wide enough for native scans and for every contrast phase; MR has no absolute
scale, so its means are random, tissue by tissue.
"""

from __future__ import annotations

import numpy as np

from tools.starter.labels import ELEMENTS
from tools.starter.synthesis import Appearance

COUNT = 256
_ARTERIES = (
    "aorta", "brachiocephalic_trunk", "subclavian_artery_left", "subclavian_artery_right",
    "common_carotid_artery_left", "common_carotid_artery_right", "iliac_artery_left", "iliac_artery_right",
    "mesenteric_artery",
)  # fmt: skip
_VEINS = (
    "inferior_vena_cava", "superior_vena_cava", "portal_vein_and_splenic_vein", "brachiocephalic_vein_left",
    "brachiocephalic_vein_right", "iliac_vena_left", "iliac_vena_right",
)  # fmt: skip
_HEART = ("heart", "atrial_appendage_left", "pulmonary_vein", "pulmonary_artery")
_HOLLOW = ("stomach", "small_bowel", "duodenum", "colon")
_RANGES: dict[tuple[str, ...], tuple[float, float]] = {
    ("liver",): (5, 140),
    ("spleen",): (30, 170),
    ("kidney_left", "kidney_right"): (20, 260),
    ("pancreas",): (5, 140),
    ("gallbladder",): (-5, 35),
    ("adrenal_gland_left", "adrenal_gland_right"): (0, 110),
    ("urinary_bladder",): (-10, 40),
    ("prostate",): (20, 90),
    ("esophagus",): (10, 80),
    ("thyroid_gland",): (60, 220),
    ("stomach",): (-40, 90),
    ("small_bowel", "duodenum"): (-10, 110),
    ("colon",): (-250, 80),
    ("spinal_cord",): (10, 55),
    ("autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right", "gluteus_maximus_left",
     "gluteus_maximus_right", "gluteus_medius_left", "gluteus_medius_right", "gluteus_minimus_left",
     "gluteus_minimus_right", "soft"): (25, 80),
    ("bright_soft",): (70, 220),
    ("fat",): (-125, -70),
    ("gas", "trachea"): (-1000, -850),
}  # fmt: skip
"""Mean Hounsfield units that go together; what is not listed keeps its own."""
_BONE_NAMES = ("vertebra", "rib_", "hip_", "femur", "humerus", "scapula", "clavicula", "sacrum", "sternum")
_BONES = (*(name for name in ELEMENTS if name.startswith(_BONE_NAMES)), "bone", "costal_cartilages")
_BRAIN = tuple(
    name
    for name in ELEMENTS
    if name.startswith(("cereb", "thalamus", "caudate", "putamen", "pallidum", "hippo", "amygdala", "accumbens"))
    or (name.startswith(("ventral_dc", "brainstem", "brain")) and name != "brachiocephalic_trunk")
)
_FLUID = tuple(name for name in ELEMENTS if "ventricle" in name or name == "csf")
_LUNGS = tuple(name for name in ELEMENTS if name.startswith("lung"))


def _ids(names: tuple[str, ...]) -> list[int]:
    return [ELEMENTS[name] for name in names]


def ct_appearance(old_mean: np.ndarray, rng: np.random.Generator, synthetic: bool) -> Appearance:
    """Return Hounsfield units for a CT image.

    Args:
        old_mean: Mean Hounsfield units in the volume by element number (256).
        rng: Source of randomness.
        synthetic: Draw every tissue anew; otherwise most keep near their own mean and contrast phase changes.
    """
    mean = old_mean + rng.normal(0, 6 if not synthetic else 14, COUNT)
    keep = 0.0 if synthetic else 0.5
    for names, (low, high) in _RANGES.items():
        if rng.random() >= keep:
            mean[_ids(names)] = rng.uniform(low, high) + rng.normal(0, 5, len(names))
    if rng.random() >= keep:
        _contrast(mean, rng)
    lungs = _ids(_LUNGS)
    mean[lungs] = np.clip(old_mean[lungs], -950, -600) + rng.uniform(-60, 130)
    bones = _ids(_BONES)
    mean[bones] = (old_mean[bones] if not synthetic else rng.uniform(150, 450)) + rng.uniform(-60, 120)
    mean[ELEMENTS["costal_cartilages"]] = rng.uniform(60, 200)
    mean[_ids(_BRAIN)] = rng.uniform(25, 42) + rng.normal(0, 4, len(_BRAIN))
    mean[_ids(_FLUID)] = rng.uniform(0, 18)
    mean[ELEMENTS["air"]] = -1000
    mean[ELEMENTS["object"]] = rng.uniform(-900, 200)
    head = old_mean[_ids(_BRAIN)].any() and not old_mean[ELEMENTS["liver"]].any()
    if head:
        for n in range(1, 5):
            mean[ELEMENTS[f"rest_{n}"]] = rng.choice([rng.uniform(400, 1300), rng.uniform(-120, 90)])
    gain = np.full(COUNT, rng.uniform(0.2, 1.0) if synthetic else rng.uniform(0.7, 1.25))
    gain[_ids(_BONES)] = rng.uniform(0.6, 1.4)
    grain = np.full(COUNT, rng.uniform(0, 18 if synthetic else 8))
    grain[[ELEMENTS["kidney_left"], ELEMENTS["kidney_right"]]] += rng.uniform(0, 45)
    grain[_ids(_HEART)] += rng.uniform(0, 35)
    grain[_ids(_HOLLOW)] += rng.uniform(0, 60)
    grain[ELEMENTS["air"]] = gain[ELEMENTS["air"]] = 0
    return Appearance(mean, gain, grain, rng.uniform(6, 24))


def _contrast(mean: np.ndarray, rng: np.random.Generator) -> None:
    """Set the blood's Hounsfield units: native, arterial, portal or late."""
    phase = rng.choice(["native", "arterial", "portal", "late"], p=[0.25, 0.25, 0.35, 0.15])
    arteries = {"native": (25, 55), "arterial": (180, 480), "portal": (110, 210), "late": (70, 130)}[phase]
    veins = {"native": (25, 55), "arterial": (40, 140), "portal": (110, 210), "late": (70, 130)}[phase]
    mean[_ids(_ARTERIES)] = rng.uniform(*arteries) + rng.normal(0, 8, len(_ARTERIES))
    mean[_ids(_VEINS)] = rng.uniform(*veins) + rng.normal(0, 12, len(_VEINS))
    mean[_ids(_HEART)] = rng.uniform(min(arteries[0], veins[0]), max(arteries[1], veins[1])) + rng.normal(
        0, 15, len(_HEART)
    )
    if phase == "native":
        mean[_ids(("kidney_left", "kidney_right"))] = rng.uniform(20, 45)
        mean[ELEMENTS["bright_soft"]] = rng.uniform(60, 130)


def mr_appearance(old_mean: np.ndarray, old_spread: float, rng: np.random.Generator) -> Appearance:
    """Return 0..255 means for an MR-like image: tissues of one kind look alike, each kind at random.

    Args:
        old_mean: Mean intensity in the volume by element number (256).
        old_spread: Intensity difference in the volume that counts as one full contrast step.
        rng: Source of randomness.
    """
    mean = rng.uniform(25, 215, COUNT)
    groups = (
        _ARTERIES, _VEINS, _HEART, _HOLLOW, _BONES, _FLUID, ("kidney_left", "kidney_right"),
        ("adrenal_gland_left", "adrenal_gland_right"),
        tuple(name for name in _BRAIN if "white" in name), tuple(name for name in _BRAIN if "white" not in name),
    )  # fmt: skip
    for names in (*groups, *_RANGES):
        mean[_ids(names)] = rng.uniform(25, 215) + rng.normal(0, 8, len(names))
    if rng.random() < 0.6:
        mean[ELEMENTS["fat"]] = rng.uniform(150, 255)
    mean[_ids(_LUNGS)] = rng.uniform(2, 40)
    mean[[ELEMENTS["gas"], ELEMENTS["trachea"]]] = rng.uniform(0, 25)
    mean[[ELEMENTS["air"], ELEMENTS["object"]]] = rng.uniform(0, 6)
    gain = rng.uniform(-0.5, 1.0, COUNT) * rng.uniform(0.2, 1.0) * (100.0 / old_spread)
    gain[_ids(_LUNGS)] *= 0.25
    gain[[ELEMENTS["air"], ELEMENTS["object"]]] = 0
    grain = np.full(COUNT, rng.uniform(0, 14))
    grain[[ELEMENTS["air"], ELEMENTS["object"]]] = 0
    return Appearance(mean, gain, grain, rng.uniform(6, 24))


_T1 = (
    (("cerebral_white_matter",), (175, 215)), (("cerebellum_white_matter",), (165, 205)),
    (("cerebral_cortex", "cerebellum_cortex", "hippocampus", "amygdala", "accumbens"), (110, 150)),
    (("caudate", "putamen"), (125, 160)), (("thalamus",), (140, 178)), (("pallidum", "ventral_dc"), (150, 190)),
    (("brainstem",), (150, 195)),
)  # fmt: skip
"""Ranges of T1 contrast by the beginnings of names, on a scale of 0..255."""
_OUTER = tuple(name for name in ELEMENTS if name.startswith("head_"))


def brain_appearance(rng: np.random.Generator) -> Appearance:
    """Return 0..255 means for the label map of a head: T1 contrast half of the time, else every tissue at random."""
    mean = rng.uniform(10, 230, COUNT)
    paired = {name.removesuffix("_left").removesuffix("_right") for name in _BRAIN}
    for name in sorted(paired):  # both sides look alike
        mean[[ELEMENTS[one] for one in _BRAIN if one.startswith(name)]] = rng.uniform(25, 225)
    fluid = [*_ids(_FLUID), ELEMENTS["outer_csf"]]
    mean[fluid] = rng.uniform(10, 230)
    if rng.random() < 0.5:
        scale = rng.uniform(0.85, 1.1)
        for begins, (low, high) in _T1:
            level = rng.uniform(low, high) * scale
            for begin in begins:
                numbers = [ELEMENTS[one] for one in _BRAIN if one.startswith(begin)]
                mean[numbers] = level + rng.normal(0, 5)
        mean[fluid] = rng.uniform(15, 70)
    mean[fluid] += rng.normal(0, 6, len(fluid))
    if rng.random() < 0.35:  # without what is outside the brain, as after skull stripping
        mean[_ids(_OUTER)] = 0.0
        if rng.random() < 0.6:
            mean[ELEMENTS["outer_csf"]] = 0.0
    grain = np.full(COUNT, rng.uniform(0, 14))
    mean[ELEMENTS["air"]] = rng.uniform(0, 6)
    grain[mean == 0.0] = grain[ELEMENTS["air"]] = 0
    return Appearance(np.maximum(mean, 0.0), np.zeros(COUNT), grain, rng.uniform(6, 24))
