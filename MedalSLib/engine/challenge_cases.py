"""The challenge's cases: their texts, spacing, drawings and label values around a session's run.

Cases with texts run with the published policy; their boxes are no part of that track.  Those of the interactive track
(boxes, clicks, a previous prediction) are corrected by the product's refinement, from paint alone where no text says
what a target is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from MedalSLib.engine.local import LocalEngine
from MedalSLib.engine.parsing import ParsedRequest
from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import ProgressCallback, RunOptions, RunRequest, RunResult
from MedalSLib.vocabulary import Structure, describe, resolve
from MedalSLib.vocabulary.modality import case_modality
from MedalSLib.vocabulary.structure import Kind
from MedalSLib.volume import BoxMask, Grid, axial_grid, guess_modality
from MedalSLib.volume.challenge_prompts import TargetPrompts, painted_target
from MedalSLib.volume.orientation_doubt import couch_doubt

if TYPE_CHECKING:
    from MedalSLib.volume.challenge import ChallengeCase


@dataclass(frozen=True)
class Targets:
    """What the texts of a case mean.

    Attributes:
        structures: Structure by label value; one of the user's own where the vocabulary cannot place the text.
        texts: What the text encoder reads instead of the structure's own sentence, by key.
        not_known: Texts by label value that cannot be answered.
    """

    structures: dict[int, Structure]
    texts: dict[str, str]
    not_known: dict[int, str]


def read_texts(texts: Mapping[int, str], modality: str, known: Collection[str], reads_sentences: bool) -> Targets:
    """Return what the texts of a case mean.

    Args:
        texts: Text by label value.
        modality: Canonical modality.
        known: Keys that the model knows.
        reads_sentences: Whether the model's text encoder reads any sentence: then it gets the texts as they stand, and
            those that the vocabulary cannot place are structures of their own.
    """
    structures: dict[int, Structure] = {}
    read: dict[str, str] = {}
    not_known: dict[int, str] = {}
    for label, text in texts.items():
        parts = resolve(text, modality)
        keys = [key for part in parts for key in part.keys]
        is_placed = len(keys) == 1 and all(part.classes for part in parts) and keys[0] not in read
        key = keys[0] if is_placed else f"{modality}_{' '.join(text.split())}"
        if (is_placed and key not in known) or (not is_placed and not reads_sentences) or key in read:
            not_known[label] = text
            continue
        structures[label], read[key] = describe(key), text
    return Targets(structures, read if reads_sentences else {}, not_known)


def predict_case(
    engine: LocalEngine,
    case: ChallengeCase,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    *,
    uses_drawings: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Segment one case.

    Args:
        engine: The engine.
        case: Image with texts, or with boxes, clicks or a previous prediction.
        seed: Seed of the random prompt blocks.
        on_progress: Called often.
        cancel: Set it to stop within one patch.
        uses_drawings: Whether the boxes of a case with texts are prompts as well; clicks and previous predictions are.

    Returns:
        Labels (D, H, W) as the case numbers them (instances are numbered 1..n), and a JSON-ready report.

    Raises:
        InputError: The case has no image, or nothing says what is wanted.
        PromptError: No text names anything this model knows.
        CancelledError: `cancel` was set.
    """
    from MedalSLib.inference.regions import challenge_spacing
    from MedalSLib.network.axes import dhw

    if case.imgs is None:
        raise InputError(f"{case.path.name} has no image (imgs).", "Give the challenge's input files.")
    is_drawn = _is_drawn(case, uses_drawings)
    if not case.text_prompts and not is_drawn:
        raise InputError(f"{case.path.name} has no text_prompts.", "Give the challenge's input files.")
    modality = _modality(case)
    manifest = engine.model.manifest
    targets = read_texts(case.text_prompts, modality, manifest.classes, manifest.text_encoder.kind == "knowledge")
    # The spacing is guessed as published; no axis turns unless the user said that the case lies otherwise.
    grid = axial_grid(case.imgs.shape, dhw(challenge_spacing(case.spacing, case.imgs.shape)), case.orientation)
    doubt = couch_doubt(case.imgs, grid, is_windowed=True) if modality == "CT" else ""
    with engine.open_windowed(case.imgs, grid.affine_ras, modality) as session:
        if is_drawn:
            found = {}
            names = [item.name for item in targets.structures.values() if item.key in manifest.classes]
            if case.previous is None and names:  # what the network finds by name is corrected
                found = dict(session.segment(names, on_progress=on_progress, cancel=cancel).box_masks)
            request = _drawn_request(case, targets, grid, found, seed)
            labels = dict(zip(request.masks, _labels_of(case), strict=True))
            result = session.run(request, on_progress=on_progress, cancel=cancel)
            labelmap, voxels = _labelmap_of(result, labels, case.imgs.shape)
            classes = {label: f"{modality}_{name}" for name, label in labels.items()}
        else:
            classes, parsed = _text_request(case, targets, manifest.name, seed)
            result = session.run_parsed(parsed, on_progress, cancel)
            labelmap, voxels = _labelmap(case, result, classes)
    instances = case.instance_label == 1 and not is_drawn
    return labelmap, {
        "seconds": result.report.seconds["total"],
        "classes": classes,
        "not_known": {} if is_drawn else targets.not_known,
        "voxels": {} if instances else voxels,
        "instances": int(labelmap.max(initial=0)) if instances else None,
        "steps": list(result.report.steps),
        "warnings": [*([doubt] if doubt else []), *result.report.warnings],
    }


def _is_drawn(case: ChallengeCase, uses_drawings: bool) -> bool:
    """Return whether a case is one of the interactive track."""
    has_clicks = any(target.foreground or target.background for target in case.targets.values())
    has_previous = case.previous is not None and bool(case.previous.any())
    has_boxes = bool(case.targets) and (uses_drawings or not case.text_prompts)
    return has_clicks or has_previous or has_boxes


def _text_request(case: ChallengeCase, targets: Targets, model: str, seed: int) -> tuple[dict[int, str], ParsedRequest]:
    """Return key by label value in the published order, by class (a tie between probabilities goes to the first)."""
    if not targets.structures:
        raise PromptError(
            f"{case.path.name}: the model '{model}' knows none of {', '.join(case.text_prompts.values())}.",
            "Use a model that knows them (see 'medals models list').",
        )
    kind: Kind = "instance" if case.instance_label == 1 else "semantic"
    ordered = dict(sorted(targets.structures.items(), key=lambda entry: entry[1].key))
    request = ParsedRequest(
        structures=tuple(replace(item, kinds=(kind,)) for item in ordered.values()),
        understood={},
        masks={},
        locked={},
        roi=None,
        options=RunOptions(policy="published", seed=seed),
        texts=targets.texts,
    )
    return {label: item.key for label, item in ordered.items()}, request


def _labelmap(case: ChallengeCase, result: RunResult, classes: Mapping[int, str]) -> tuple[np.ndarray, dict[int, int]]:
    from MedalSLib.inference.postprocessing import split_instances

    if case.instance_label == 1:
        return split_instances(result.labelmap > 0).astype(np.uint16), {}
    labelmap = np.array([0, *classes], dtype=np.uint16)[result.labelmap]
    return labelmap, {label: int(np.count_nonzero(labelmap == label)) for label in classes}


def _labels_of(case: ChallengeCase) -> list[int]:
    """Return the label values of an interactive case's targets."""
    drawn = {int(value) for value in np.unique(case.previous) if value} if case.previous is not None else set()
    return sorted({*case.targets, *drawn})


def _drawn_request(
    case: ChallengeCase, targets: Targets, grid: Grid, found: Mapping[str, BoxMask], seed: int
) -> RunRequest:
    """Return what an interactive case asks: each target's mask with what was drawn on it.

    Args:
        case: The case.
        targets: What its texts mean.
        grid: Its grid.
        found: Masks by published name, found by name alone, of a case without a previous prediction.
        seed: Seed of the random prompt blocks.
    """
    nothing = BoxMask.empty(grid.shape_kji)
    masks: dict[str, BoxMask] = {}
    locked: dict[str, BoxMask] = {}
    painted: dict[str, BoxMask] = {}
    for label in _labels_of(case):
        structure = targets.structures.get(label)
        name = f"target {label}" if structure is None else structure.name
        before = found.get(name, nothing) if case.previous is None else BoxMask.of(case.previous == label)
        target = painted_target(case.targets.get(label, TargetPrompts()), before, grid.spacing_kji)
        masks[name], locked[name], painted[name] = target.mask, target.locked, target.painted
    return RunRequest((), masks, locked, painted, None, RunOptions(mode="refine", seed=seed))


def _labelmap_of(
    result: RunResult, labels: Mapping[str, int], shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[int, int]]:
    """Return the masks of targets as one labelmap; where they overlap, the smaller one stays whole."""
    labelmap = np.zeros(shape, np.uint16)
    sizes = {name: result.box_masks[name].count() for name in labels}
    for name in sorted(labels, key=lambda one: -sizes[one]):
        labelmap[result.box_masks[name].array()] = labels[name]
    return labelmap, {label: sizes[name] for name, label in labels.items()}


def _modality(case: ChallengeCase) -> str:
    """The modality of a case: what most of its texts say, else the beginning of its file's name ("CT_AMOS_...")."""
    texts: Mapping[int, str] = case.text_prompts
    votes = Counter(item.modality for text in texts.values() for item in resolve(text) if item.classes)
    if (modality := case_modality(case.path.name)) is not None:
        return modality
    if not votes and not texts and case.imgs is not None:
        return guess_modality(case.imgs).modality
    if not votes:
        raise PromptError(f"{case.path.name}: none of its texts is understood.", "Check the text_prompts of the case.")
    return str(votes.most_common(1)[0][0])
