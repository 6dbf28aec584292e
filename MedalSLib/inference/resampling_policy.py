"""Which grid the networks see: the published "dynamic resampling", figure by figure.

The published rules were tuned class by class and read like it.  They are kept to the last digit, single precision
included, because the weights were trained with them; `class_policy` says which rule holds for which class.  Networks
that were trained on true millimetres get theirs: "plain" resampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.inference.class_rules import ClassRules, rules_of
from MedalSLib.inference.tiling import Tile, tiles
from MedalSLib.network.axes import hwd
from MedalSLib.network.manifest import Resampling

Hwd = tuple[int, int, int]
HwdMm = tuple[float, float, float]

_LARGEST_HWD = (1000, 1000, 700)
"""Axes beyond these many voxels keep their sub-millimetre spacing, and beyond these many mm get the network's."""
_ANISOTROPIC = 3.0
_STEPS = tuple(np.cumprod(np.full(17, 1.25)).tolist())
"""Magnifications 1.25^k up to 50."""
_F = np.float32


@dataclass(frozen=True)
class StageSpec:
    """What the network of one stage was trained on.

    Attributes:
        stage: 1 (coarse, whole volume) or 2 (fine, with prompts).
        spacing_hwd: Spacing in mm.
        patch_hwd: Patch in voxels.
        resampling: "published" for the rules of the published networks; "plain" brings every image to `spacing_hwd`
            and pads what is smaller than a patch; "relative" does so with `spacing_hwd` in voxels of the image's finest
            axis, for microscopes, whose voxels differ by powers of ten.
    """

    stage: int
    spacing_hwd: HwdMm
    patch_hwd: Hwd
    resampling: Resampling = "published"


@dataclass(frozen=True)
class ResamplingPlan:
    """How a volume is brought to a network.  Axes are (H, W, D).

    Attributes:
        original_shape: Volume in voxels.
        spacing: Spacing the volume is taken to have, after the policy.
        target_spacing: Spacing it is resampled to.
        resampled_shape: Voxels after resampling.
        padding: Zeros added at the end of each axis.
        shape: Voxels after padding.
        tiles: Patches that cover `shape`.
        patch: Patch of the network.
        refinement_iterations: How often instance targets are refined from their own prediction.
        separate_axis: The axis of thick slices that is resampled to the nearest slice, None for trilinear resampling.
    """

    original_shape: Hwd
    spacing: HwdMm
    target_spacing: HwdMm
    resampled_shape: Hwd
    padding: Hwd
    shape: Hwd
    tiles: tuple[Tile, ...]
    patch: Hwd
    refinement_iterations: int
    separate_axis: int | None


def plan(
    shape_hwd: Sequence[int],
    spacing_hwd: Sequence[float],
    classes: Iterable[str],
    spec: StageSpec,
    *,
    magnify_single: bool = True,
    training: bool = False,
) -> ResamplingPlan:
    """Decide how a volume is resampled, padded and tiled for a stage.

    Args:
        shape_hwd: Volume in voxels.
        spacing_hwd: Its spacing in mm.
        classes: Classes asked for in this run, as "CT_Liver"; the policy depends on them.
        spec: What the stage's network was trained on.
        magnify_single: Whether a class asked for alone is magnified, as published; False gives it the resampling it
            has in a list, so that the answer does not depend on what else was asked for.
        training: Leave out what is done for inference alone, as when the published training data were prepared:
            magnified single classes, enlarged ones, and the shrinking of large volumes.

    Raises:
        InputError: An axis has no voxels, or a spacing is not a positive number.
    """
    shape = _checked(shape_hwd, spacing_hwd)
    keys = frozenset(classes)
    rules = rules_of(keys)
    iterations = int(spec.stage in rules.refined_in_stages)
    if spec.resampling != "published":
        return plain_plan(shape, spacing_hwd, spec, iterations)
    alone = magnify_single and not training and len(keys) == 1
    spacing = np.array(spacing_hwd, dtype=_F)
    target: list[float | np.float32] = [float(value) for value in spec.spacing_hwd]
    for axis in range(3):
        value = _policy_spacing(axis, spacing[axis], shape, spec, rules, alone)
        if _too_long(axis, value, shape, spec):
            value = _F(spec.spacing_hwd[axis])
        else:
            target[axis] = _filling_spacing(value, shape[axis], spec.patch_hwd[axis], spec.spacing_hwd[axis])
        if spec.stage != 1 and rules.enlarged and not training:
            value = _F(value * _F(1.1))
        spacing[axis] = value
    if not alone and not training:
        spacing = _shrunk(spacing, target, shape, spec.patch_hwd)
    return _tiled(shape, spacing, target, spec, iterations, _thick_axis(spacing, target))


def plain_plan(
    shape: Hwd, spacing_hwd: Sequence[float], spec: StageSpec, refinement_iterations: int = 0
) -> ResamplingPlan:
    """Plan to bring a volume to a stage's spacing and nothing else.

    Args:
        shape: Volume (H, W, D) in voxels.
        spacing_hwd: Its spacing in mm.
        spec: The stage; whatever its own resampling is.
        refinement_iterations: As of `ResamplingPlan`.
    """
    spacing = np.array(spacing_hwd, dtype=_F)
    if spec.resampling == "relative":
        spacing = spacing / spacing.min()
    return _tiled(shape, spacing, spec.spacing_hwd, spec, refinement_iterations, None)


def _tiled(
    shape: Hwd,
    spacing: np.ndarray,
    target: Sequence[float | np.float32],
    spec: StageSpec,
    iterations: int,
    separate_axis: int | None,
) -> ResamplingPlan:
    resampled = _new_shape(spacing, target, shape)
    padding = tuple(max(0, patch - size) for patch, size in zip(spec.patch_hwd, resampled, strict=True))
    padded = tuple(size + pad for size, pad in zip(resampled, padding, strict=True))
    return ResamplingPlan(
        original_shape=shape,
        spacing=_floats(spacing),
        target_spacing=_floats(target),
        resampled_shape=resampled,
        padding=_hwd(padding),
        shape=_hwd(padded),
        tiles=tiles(padded, spec.patch_hwd),
        patch=spec.patch_hwd,
        refinement_iterations=iterations,
        separate_axis=separate_axis,
    )


def region_spacing(
    shape_dhw: Sequence[int], spacing_dhw: Sequence[float], classes: Iterable[str], spec: StageSpec, alone: bool
) -> np.ndarray:
    """Return the spacing (D, H, W) with which the published code sizes stage 2's region: float32.

    It is the policy of `plan` for stage 2 on the whole volume, without the part that fills the patch; and the airway
    rule holds for the tree alone.

    Args:
        shape_dhw: The volume in voxels.
        spacing_dhw: Its spacing in mm.
        classes: Classes of the run.
        spec: What stage 2's network was trained on.
        alone: Whether the rules for a class asked for alone hold.
    """
    if spec.resampling != "published":
        return np.array(spacing_dhw, dtype=_F)
    rules = rules_of(frozenset(classes))
    shape, spacing = _hwd(hwd(shape_dhw)), np.array(hwd(spacing_dhw), dtype=_F)
    for axis in range(3):
        value = _policy_spacing(axis, spacing[axis], shape, spec, rules, alone, region=True)
        if _too_long(axis, value, shape, spec):
            value = _F(spec.spacing_hwd[axis])
        spacing[axis] = _F(value * _F(1.1)) if rules.enlarged else value
    if not alone:
        spacing = _shrunk(spacing, [float(value) for value in spec.spacing_hwd], shape, spec.patch_hwd)
    return spacing[[2, 0, 1]]


def _policy_spacing(
    axis: int, spacing: np.float32, shape: Hwd, spec: StageSpec, rules: ClassRules, alone: bool, region: bool = False
) -> np.float32:
    """Return the spacing an axis is taken to have, before its length is compared with the patch."""
    size, patch, target = shape[axis], spec.patch_hwd[axis], _F(spec.spacing_hwd[axis])
    value = _F(1.0) if rules.unit_spacing else spacing
    if value < 1.0 and size <= _LARGEST_HWD[axis]:
        value = _F(1.0)
    if alone and value > 1.0:
        divisor = 1.2 if not rules.magnified_lesion else (1.45 if spec.stage == 1 else 1.35)
        value = max(_F(value / _F(divisor)), target)
        ratio = _F(value / target)
        if ratio > 3:
            value = _F(_F(_F(3) * value) / _F(ratio - _F(0.5)))
    limit = rules.most_patches_of_region if region else rules.most_patches
    if alone and size > patch * 2.0:
        return _F(patch * 2.0 / size)
    if alone and limit is not None and size > patch * limit:
        return _F(patch * limit / size)
    if spec.stage != 1 and value < _F(0.4) and patch * 2 < size <= _LARGEST_HWD[axis]:
        return _F(value * _F(2.0 if alone else 1.5))
    return value


def _too_long(axis: int, value: np.float32, shape: Hwd, spec: StageSpec) -> bool:
    return bool(_F(value * _F(shape[axis])) > _LARGEST_HWD[axis] and value > _F(spec.spacing_hwd[axis]))


def _filling_spacing(value: np.float32, size: int, patch: int, target: float) -> float | np.float32:
    """Return the target spacing of an axis: lowered in steps of 1.25^k where the axis is shorter than the patch."""
    length = _F(value * _F(size))
    if not length < _F(patch * target):
        return target
    step = next((step for step in reversed(_STEPS) if size <= patch / step), 1.0)
    filling = max(_F(length / _F(patch)), _F(value / _F(step)))
    return filling if filling < _F(target) else target


def _shrunk(spacing: np.ndarray, target: Sequence[float | np.float32], shape: Hwd, patch: Hwd) -> np.ndarray:
    """Return the spacing of a volume that several classes share, shrunk to 1.9 patches where it is too large."""
    volume = _F(1)
    for value, size in zip(spacing, shape, strict=True):
        volume = _F(volume * _F(value * _F(size)))
    if not float(volume) > 1.8**3 * prod(patch):
        return spacing
    result = spacing.copy()
    for axis in range(3):
        wanted = target[axis]
        # A lowered target is single precision, the network's own is double, and so is what is computed with it.
        limit = patch[axis] * 1.9 * wanted if isinstance(wanted, float) else _F(_F(patch[axis] * 1.9) * wanted)
        if not _F(spacing[axis] * _F(shape[axis])) > _F(limit):
            continue
        single = not isinstance(wanted, float)
        fitting = _F(_F(limit) / _F(shape[axis])) if single else limit / shape[axis]
        if spacing[axis] > _F(wanted):
            roomier = _F(_F(fitting) / _F(1.1)) if single else fitting / 1.1
            result[axis] = max(wanted, roomier)
        else:
            result[axis] = min(wanted, fitting)
    return result


def _new_shape(spacing: np.ndarray, target: Sequence[float | np.float32], shape: Hwd) -> Hwd:
    # At least one voxel: a single thin slice is less than half a voxel of a coarse network.
    sizes = (
        max(1, round(float(_F(_F(value / _F(wanted)) * _F(size)))))
        for value, wanted, size in zip(spacing, target, shape, strict=True)
    )
    return _hwd(sizes)


def _thick_axis(spacing: np.ndarray, target: Sequence[float | np.float32]) -> int | None:
    """Return the one axis of thick slices: of the volume, or else of the target, where anisotropy exceeds 3."""
    for values in (spacing, np.array(target)):
        if values.max() / values.min() > _ANISOTROPIC:
            thickest = np.flatnonzero(values.max() / values == 1)
            return int(thickest[0]) if len(thickest) == 1 else None
    return None


def _checked(shape_hwd: Sequence[int], spacing_hwd: Sequence[float]) -> Hwd:
    shape = _hwd(shape_hwd)
    if min(shape) < 1:
        raise InputError(f"The volume has no voxels: its shape is {shape}.", "Choose a region that is not empty.")
    if not all(np.isfinite(value) and value > 0 for value in spacing_hwd):
        raise InputError(f"The spacing {tuple(spacing_hwd)} is not positive.", "Correct the spacing of the image.")
    return shape


def _hwd(values: Iterable[int]) -> Hwd:
    high, wide, deep = (int(value) for value in values)
    return high, wide, deep


def _floats(values: Iterable[float | np.float32]) -> HwdMm:
    high, wide, deep = (float(value) for value in values)
    return high, wide, deep
