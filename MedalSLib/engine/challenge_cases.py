"""The challenge's cases with the published policy: their texts, spacing and label values around a session's run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from MedalSLib.engine.local import LocalEngine
from MedalSLib.engine.parsing import ParsedRequest
from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import ProgressCallback, RunOptions
from MedalSLib.vocabulary import Structure, describe, resolve
from MedalSLib.vocabulary.modality import case_modality
from MedalSLib.volume import axial_grid
from MedalSLib.volume.orientation_doubt import couch_doubt

if TYPE_CHECKING:
    from MedalSLib.volume.challenge import ChallengeCase


def predict_case(
    engine: LocalEngine,
    case: ChallengeCase,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Segment one case.

    Args:
        engine: The engine.
        case: Image and texts.
        seed: Seed of the random prompt blocks.
        on_progress: Called often.
        cancel: Set it to stop within one patch.

    Returns:
        Labels (D, H, W) as the case numbers them (instances are numbered 1..n), and a JSON-ready report.

    Raises:
        InputError: The case has no image or no texts.
        PromptError: No text names anything this model knows.
        CancelledError: `cancel` was set.
    """
    from MedalSLib.inference.postprocessing import split_instances
    from MedalSLib.inference.regions import challenge_spacing
    from MedalSLib.network.axes import dhw

    if case.imgs is None:
        raise InputError(f"{case.path.name} has no image (imgs).", "Give the challenge's input files.")
    instance = case.instance_label == 1
    modality = _modality(case)
    structures, texts, not_known = _targets(engine, case, modality)
    # In the published order: by class.  A tie between probabilities goes to the first.
    ordered = {label: structures[label] for label in sorted(structures, key=lambda label: structures[label].key)}
    request = ParsedRequest(
        structures=tuple(replace(item, kinds=("instance" if instance else "semantic",)) for item in ordered.values()),
        understood={},
        masks={},
        locked={},
        roi=None,
        options=RunOptions(policy="published", seed=seed),
        texts=texts,
    )
    # The spacing is guessed as published; no axis turns unless the user said that the case lies otherwise.
    grid = axial_grid(case.imgs.shape, dhw(challenge_spacing(case.spacing, case.imgs.shape)), case.orientation)
    doubt = couch_doubt(case.imgs, grid, is_windowed=True) if modality == "CT" else ""
    with engine.open_windowed(case.imgs, grid.affine_ras, modality) as session:
        result = session.run_parsed(request, on_progress, cancel)
    if instance:
        labelmap = split_instances(result.labelmap > 0)
    else:
        labelmap = np.array([0, *ordered], dtype=np.uint16)[result.labelmap]
    return labelmap.astype(np.uint16), {
        "seconds": result.report.seconds["total"],
        "classes": {label: item.key for label, item in ordered.items()},
        "not_known": not_known,
        "voxels": {} if instance else {label: int(np.count_nonzero(labelmap == label)) for label in ordered},
        "instances": int(labelmap.max(initial=0)) if instance else None,
        "steps": list(result.report.steps),
        "warnings": [*([doubt] if doubt else []), *result.report.warnings],
    }


def _targets(
    engine: LocalEngine, case: ChallengeCase, modality: str
) -> tuple[dict[int, Structure], dict[str, str], dict[int, str]]:
    """Return the structure of each label, the sentence to read by key, and the texts this model cannot answer."""
    if not case.text_prompts:
        raise InputError(f"{case.path.name} has no text_prompts.", "Give the challenge's input files.")
    model = engine.model
    reads_sentences = model.manifest.text_encoder.kind == "knowledge"
    structures: dict[int, Structure] = {}
    texts: dict[str, str] = {}
    not_known: dict[int, str] = {}
    for label, text in case.text_prompts.items():
        keys = [key for item in resolve(text, modality) for key in item.keys]
        if len(keys) != 1 or not model.knows(keys[0]) or keys[0] in (item.key for item in structures.values()):
            not_known[label] = text
            continue
        structures[label] = describe(keys[0])
        if reads_sentences:
            texts[keys[0]] = text
    if not structures:
        raise PromptError(
            f"{case.path.name}: the model '{model.manifest.name}' knows none of "
            f"{', '.join(case.text_prompts.values())}.",
            "Use a model that knows them (see 'medals models list').",
        )
    return structures, texts, not_known


def _modality(case: ChallengeCase) -> str:
    """The modality of a case: what most of its texts say, else the beginning of its file's name ("CT_AMOS_...")."""
    texts: Mapping[int, str] = case.text_prompts
    votes = Counter(item.modality for text in texts.values() for item in resolve(text) if item.classes)
    if (modality := case_modality(case.path.name)) is not None:
        return modality
    if not votes:
        raise PromptError(f"{case.path.name}: none of its texts is understood.", "Check the text_prompts of the case.")
    return str(votes.most_common(1)[0][0])
