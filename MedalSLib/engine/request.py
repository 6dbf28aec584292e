"""From what a user typed and drew to what the networks are asked: names, masks, locks and the region, all checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.engine.interface import Box
from MedalSLib.errors import InputError, PromptError
from MedalSLib.vocabulary import Resolution, Structure, describe, resolve
from MedalSLib.volume import Grid


@dataclass(frozen=True)
class Request:
    """One run, understood.

    Attributes:
        structures: What is wanted, once each, in the user's order.
        understood: Published names by typed phrase.
        masks: Boolean (K, J, I) prompts by published name.
        locked: Boolean (K, J, I) by published name: where the answer is the mask's value.
        box: Hard limits of the answer as index bounds, None for the whole image.
    """

    structures: tuple[Structure, ...]
    understood: dict[str, tuple[str, ...]]
    masks: dict[str, np.ndarray]
    locked: dict[str, np.ndarray]
    box: Box | None

    @property
    def names(self) -> tuple[str, ...]:
        """Published names in the user's order."""
        return tuple(item.name for item in self.structures)

    @property
    def typed(self) -> dict[str, str]:
        """Published name by typed phrase, where a phrase names one structure."""
        return {phrase: names[0] for phrase, names in self.understood.items() if len(names) == 1}


def understand(
    prompts: Sequence[str],
    masks: Mapping[str, np.ndarray] | None,
    locked: Mapping[str, np.ndarray] | None,
    roi: Box | None,
    *,
    grid: Grid,
    modality: str,
    known: Collection[str],
    model: str,
) -> Request:
    """Resolve all names and check all arrays of a run.

    Args:
        prompts: Phrases as typed.
        masks: Prompts by name as typed, on the grid.
        locked: Locks by name as typed, on the grid.
        roi: Index bounds ((i0, i1), (j0, j1), (k0, k1)).
        grid: The image's grid.
        modality: The image's modality.
        known: Keys ("CT_Liver") that the loaded model knows.
        model: Name of the loaded model, for messages.

    Raises:
        PromptError: Nothing was asked for, a phrase names nothing, or something the model does not know.
        InputError: A mask is on another grid, a lock has no mask, or the region contains no voxel.
    """
    understood: dict[str, tuple[str, ...]] = {}
    keys: dict[str, None] = {}
    for text in prompts:
        for resolution in _resolve(text, modality, known):
            understood[resolution.phrase] = resolution.classes
            keys |= dict.fromkeys(resolution.keys)
    own_masks = _named(masks or {}, modality, known, understood, keys)
    own_locks = _named(locked or {}, modality, known, understood, keys)
    if not keys:
        raise PromptError("Nothing was asked for.", 'Type at least one name, such as "liver".')
    _check_known(keys, known, model, modality)
    for kind, arrays in (("mask", own_masks), ("lock", own_locks)):
        for name, array in arrays.items():
            _check_shape(kind, name, array, grid)
    if orphans := [name for name in own_locks if name not in own_masks]:
        raise InputError(
            f"Voxels of {', '.join(orphans)} are locked, but no mask says what they are locked to.",
            "Pass the mask of the structure together with its locked voxels.",
        )
    return Request(
        structures=tuple(describe(key) for key in keys),
        understood=understood,
        masks={name: _boolean(array) for name, array in own_masks.items()},
        locked={name: _boolean(array) for name, array in own_locks.items()},
        box=None if roi is None else grid.clip_box(roi),
    )


def _resolve(text: str, modality: str, known: Collection[str]) -> list[Resolution]:
    """Resolve a text, the names that the model brings itself included."""
    resolutions = resolve(text, modality, known)
    if not resolutions:
        raise PromptError("Nothing was asked for.", 'Type at least one name, such as "liver".')
    unknown = [item for item in resolutions if not item.classes]
    if unknown:
        parts = []
        for item in unknown:
            hint = f" (did you mean {' or '.join(item.suggestions[:3])}?)" if item.suggestions else ""
            parts.append(f"'{item.phrase}'{hint}")
        raise PromptError(
            f"Not understood for {modality}: {'; '.join(parts)}.",
            "Correct the name, choose a suggestion, or see 'medals names' for all of them.",
        )
    return resolutions


def _named(
    arrays: Mapping[str, np.ndarray],
    modality: str,
    known: Collection[str],
    understood: dict[str, tuple[str, ...]],
    keys: dict[str, None],
) -> dict[str, np.ndarray]:
    """Key arrays by published name; a name that means several structures cannot say which one a mask is."""
    named: dict[str, np.ndarray] = {}
    for text, array in arrays.items():
        resolutions = _resolve(text, modality, known)
        names = tuple(name for item in resolutions for name in item.classes)
        if len(names) != 1:
            raise PromptError(
                f"The mask '{text}' may be any of {', '.join(names)}.", "Name the mask after one structure."
            )
        if names[0] in named:
            raise PromptError(f"Two masks are named {names[0]}.", "Join them into one, or rename one of them.")
        understood[text] = names
        keys |= dict.fromkeys(resolutions[0].keys)
        named[names[0]] = array
    return named


def _check_known(keys: Collection[str], known: Collection[str], model: str, modality: str) -> None:
    missing = [describe(key).name for key in keys if key not in known]
    if not missing:
        return
    own = sorted(describe(key).name for key in known if key.startswith(f"{modality}_"))
    if not own:
        raise PromptError(
            f"The model '{model}' knows nothing in {modality}.",
            "Choose another model (see 'medals models list'), or correct the modality.",
        )
    raise PromptError(
        f"The model '{model}' does not know {', '.join(missing)} in {modality}.",
        f"It knows: {', '.join(own)}. Other models: 'medals models list'.",
    )


def _boolean(array: np.ndarray) -> np.ndarray:
    own = np.asarray(array)
    return own if own.dtype == bool else own != 0


def _check_shape(kind: str, name: str, array: np.ndarray, grid: Grid) -> None:
    if np.shape(array) != grid.shape_kji:
        raise InputError(
            f"The {kind} of {name} has the shape {'x'.join(map(str, np.shape(array)))}, but the image has "
            f"{'x'.join(map(str, grid.shape_kji))} voxels (k, j, i).",
            "Bring it onto the image's grid first (resample_mask does this).",
        )
