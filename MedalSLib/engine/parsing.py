"""From what a user typed and drew to what the networks are asked: structures, masks, locks and region, all checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import RunOptions, RunRequest
from MedalSLib.vocabulary import Resolution, Structure, describe, resolve
from MedalSLib.volume import BoxMask, Grid, Roi

_GROUP = 3  # more structures than the two sides of one


@dataclass(frozen=True)
class ParsedRequest:
    """A `RunRequest` whose names are resolved and whose masks lie on the image's grid.

    Attributes:
        structures: What is wanted, once each, in the user's order.
        understood: Published names by typed phrase.
        masks: Prompts (K, J, I) by key of the structure.
        locked: By key: where the answer is the mask's value.
        roi: Hard limits of the answer, None for the whole image.
        options: Choices of the run.
        painted: By key: what of `locked` is new since the structure's last result.
        by_hand: Keys of the structures that are made from paint alone: the model does not know them.
        texts: What the text encoder reads instead of the structure's own sentence, by key.
        notes: What of a group of structures the model does not know, as sentences.
    """

    structures: tuple[Structure, ...]
    understood: dict[str, tuple[str, ...]]
    masks: Mapping[str, BoxMask]
    locked: Mapping[str, BoxMask]
    roi: Roi | None
    options: RunOptions
    painted: Mapping[str, BoxMask] = field(default_factory=dict)
    by_hand: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Published names in the user's order."""
        return tuple(item.name for item in self.structures)


def parse_request(
    request: RunRequest, *, grid: Grid, modality: str, known: Collection[str], model: str
) -> ParsedRequest:
    """Resolve all names and check all masks of a run.

    Args:
        request: What is asked.
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
    notes: list[str] = []
    # What was painted can be refined from the paint, whatever its name.
    free = frozenset(request.locked) if request.options.mode == "refine" else frozenset()
    for text in request.prompts:
        if text in free:
            continue
        for resolution in _resolve(text, modality, known):
            here, missing = _known_of_a_group(resolution, known)
            if missing:
                notes.append(f"Of '{resolution.phrase}', the model does not know {', '.join(missing)}.")
            understood[resolution.phrase] = tuple(describe(key).name for key in here)
            keys |= dict.fromkeys(here)
    masks = _by_key(request.masks, modality, known, understood, free)
    locked = _by_key(request.locked, modality, known, understood, free)
    painted = _by_key(request.painted, modality, known, understood, free)
    keys |= dict.fromkeys([*masks, *locked])
    by_hand = frozenset(key for key in locked if key not in known) if free else frozenset()
    if not keys:
        raise PromptError("Nothing was asked for.", 'Type at least one name, such as "liver".')
    _check_known([key for key in keys if key not in by_hand], known, model, modality)
    for kind, given in (("mask", masks), ("lock", locked), ("paint", painted)):
        for key, mask in given.items():
            _check_shape(kind, describe(key).name, mask, grid)
    if loose := [describe(key).name for key in painted if key not in locked]:
        raise InputError(f"{', '.join(loose)} was painted, but is not locked.", "Pass as locked what was painted.")
    if orphans := [describe(key).name for key in locked if key not in masks]:
        raise InputError(
            f"Voxels of {', '.join(orphans)} are locked, but no mask says what they are locked to.",
            "Pass the mask of the structure together with its locked voxels.",
        )
    return ParsedRequest(
        structures=tuple(describe(key) for key in keys),
        understood=understood,
        masks=masks,
        locked=locked,
        roi=None if request.roi is None else grid.clip_box(request.roi),
        options=request.options,
        painted=painted,
        by_hand=by_hand,
        notes=tuple(notes),
    )


def _known_of_a_group(resolution: Resolution, known: Collection[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the keys to segment of a phrase, and the names of those that are left out of a group as not known.

    Of "all organs" that is what the model knows; where it knows nothing of a group, or one structure is asked for by
    name, all of it stays, and is refused as not known.
    """
    here = tuple(key for key in resolution.keys if key in known)
    if not here or len(resolution.keys) < _GROUP:
        return resolution.keys, []
    return here, [describe(key).name for key in resolution.keys if key not in known]


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
            parts.append(f"'{item.phrase}'{hint}{item.hint and f' {item.hint[:-1]}'}")
        raise PromptError(
            f"Not understood for {modality}: {'; '.join(parts)}.",
            "Correct the name, choose a suggestion, or see 'medals names' for all of them.",
        )
    return resolutions


def _by_key(
    masks: Mapping[str, BoxMask],
    modality: str,
    known: Collection[str],
    understood: dict[str, tuple[str, ...]],
    free: Collection[str],
) -> dict[str, BoxMask]:
    """Key masks by structure; a name that means several structures cannot say which one a mask is.

    Args:
        masks: Masks by name as given.
        modality: The image's modality.
        known: Keys that the model knows.
        understood: Published names by phrase, filled in.
        free: Names that need not mean anything.
    """
    keyed: dict[str, BoxMask] = {}
    for text, mask in masks.items():
        keys, names = _named(text, modality, known) if text in free else _understood(text, modality, known)
        if len(keys) != 1:
            raise PromptError(
                f"The mask '{text}' may be any of {', '.join(names)}.", "Name the mask after one structure."
            )
        if keys[0] in keyed:
            raise PromptError(f"Two masks are named {names[0]}.", "Join them into one, or rename one of them.")
        understood[text] = names
        keyed[keys[0]] = mask
    return keyed


def _understood(text: str, modality: str, known: Collection[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return keys and published names of what a text names."""
    resolutions = _resolve(text, modality, known)
    keys = [key for item in resolutions for key in item.keys]
    return keys, tuple(name for item in resolutions for name in item.classes)


def _named(text: str, modality: str, known: Collection[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return key and name of one structure: the published one of this name, or else one of the user's own."""
    resolutions = resolve(text, modality, known)
    keys = [key for item in resolutions for key in item.keys]
    if len(keys) == 1:
        return keys, (describe(keys[0]).name,)
    name = " ".join(text.split())
    if not name:
        raise PromptError("A painted structure has no name.", 'Give it one, such as "mass 1".')
    return [f"{modality}_{name}"], (name,)


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


def _check_shape(kind: str, name: str, mask: BoxMask, grid: Grid) -> None:
    if mask.shape != grid.shape_kji:
        raise InputError(
            f"The {kind} of {name} has the shape {'x'.join(map(str, mask.shape))}, but the image has "
            f"{'x'.join(map(str, grid.shape_kji))} voxels (k, j, i).",
            "Bring it onto the image's grid first (resample_mask does this).",
        )
