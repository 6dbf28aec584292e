"""Where training cases come from: folders of challenge npz files, and plain folders of images with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MedalSLib import vocabulary
from MedalSLib.errors import InputError, PromptError
from MedalSLib.records import read_json
from MedalSLib.training.texts import prompt_table
from MedalSLib.volume.challenge import ORIENTATION
from MedalSLib.volume.geometry import checked_orientation

_IMAGE_FOLDERS = ("images", "imagesTr")
_LABEL_FOLDERS = ("labels", "labelsTr", "segmentations", "masks")
_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd")
_LABEL_ENDINGS = ("_seg", "-seg", "_label", "-label", "_labels", "-labels", "_segmentation", "_mask")
_CHANNEL = "_0000"
_NAMES_FILES = ("names.json", "dataset.json")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before its cases are read.

    Attributes:
        name: Name.
        modality: Modality of its cases, "" if it is not known yet.
        texts: Texts by label, the name first; empty if the label files bring the names.
        instances: Whether the labels of a case are instances of one structure, whose texts are those of label 1.
    """

    name: str
    modality: str
    texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    instances: bool = False


@dataclass(frozen=True)
class SourceCase:
    """A case that may be prepared.

    Attributes:
        identifier: Name, unique in its data set.
        dataset: Its data set.
        image: File of the image; of a challenge case the only one.
        labels: File of the labels, None for a challenge case.
        orientation: Directions to which x, y, z of a challenge case grow.
    """

    identifier: str
    dataset: DatasetInfo
    image: Path
    labels: Path | None
    orientation: str = ORIENTATION


@dataclass(frozen=True)
class Sources:
    """All cases of a folder.

    Attributes:
        cases: Cases in the order of their names.
        unmatched: Files that belong to no case, with the reason.
    """

    cases: tuple[SourceCase, ...]
    unmatched: tuple[tuple[str, str], ...] = ()


def find_sources(
    folder: Path,
    modality: str = "",
    names: Mapping[int, str] | Path | None = None,
    prompts: Path | None = None,
    orientation: str | None = None,
) -> Sources:
    """Find the cases of a folder.

    Args:
        folder: Challenge npz files in a folder for each data set (also several levels deep), or images and labels:
            `images/` and `labels/` with the same file names (nnU-Net's `imagesTr/`, `labelsTr/` too), or side by side
            as `case.nii.gz` and `case.seg.nrrd` (or `case_seg.nii.gz`).
        modality: Modality of a plain folder; "" to find out.
        names: Names by label of a plain folder, or a JSON file with them; None for its names.json or dataset.json, or
            the names in the label files.
        prompts: The challenge's prompt file; None for the one `.json` file that lies in the folder.
        orientation: Directions to which x, y, z of challenge files grow, which do not say them; LPS if None.

    Raises:
        InputError: There is no such folder, or no case in it; or `orientation` is none, or of files that say their own.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Check the spelling of its path.")
    is_challenge = any(folder.rglob("*.npz"))
    if orientation is not None and not is_challenge:
        raise InputError(
            f"The images in {folder} say their own orientation.", "Leave --orientation out, which is for .npz."
        )
    code = checked_orientation(ORIENTATION if orientation is None else orientation)
    found = _challenge(folder, prompts, code) if is_challenge else _plain(folder, modality, names)
    if not found.cases:
        details = "; ".join(f"{file}: {why}" for file, why in found.unmatched[:3])
        raise InputError(
            f"There is no training case in {folder}" + (f" ({details})." if details else "."),
            "Put images into images/ and labels of the same names into labels/, or challenge npz files into a folder "
            "for each data set.",
        )
    return found


def _challenge(folder: Path, prompts: Path | None, orientation: str) -> Sources:
    tables = [prompts] if prompts else sorted(folder.glob("*.json"))
    if len(tables) != 1:
        raise InputError(
            f"There are {len(tables)} JSON files in {folder}; one must hold the prompts of each data set.",
            "Name it (--prompts FILE).",
        )
    flags = read_json(tables[0], "prompt file")
    raw = prompt_table(flags, tables[0])
    cases, unmatched = [], []
    for path in sorted(folder.rglob("*.npz")):
        words = path.stem.split("_")
        beginnings = ("_".join(words[:count]) for count in range(len(words) - 1, 0, -1))
        dataset = next((part for part in (path.parent.name, *beginnings) if part in raw), None)
        if dataset is None:
            unmatched.append((str(path.relative_to(folder)), "the prompt file has no entry for its data set"))
            continue
        instances = flags[dataset].get("instance_label") == 1
        info = DatasetInfo(dataset, _challenge_modality(dataset, path), raw[dataset], instances)
        cases.append(SourceCase(path.stem, info, path, None, orientation))
    return Sources(tuple(cases), tuple(unmatched))


def _challenge_modality(dataset: str, path: Path) -> str:
    """Return the modality a challenge data set's name begins with, or that its folder is called."""
    for word in (dataset.split("_")[0], *(part.split("_")[0] for part in path.parent.parts[::-1])):
        if (modality := _known_modality("US" if word.upper() == "US3D" else word)) is not None:
            return modality
    return ""


def _known_modality(word: str) -> str | None:
    try:
        return vocabulary.normalize_modality(word)
    except PromptError:
        return None


def _plain(folder: Path, modality: str, names: Mapping[int, str] | Path | None) -> Sources:
    described = _description(folder)
    if isinstance(names, Path):
        described |= _names_of(read_json(names, "file"), names)
    elif names is not None:
        described["texts"] = {label: (name,) for label, name in names.items()}
    said = modality or described.get("modality", "")
    known = vocabulary.normalize_modality(said) if said else ""
    info = DatasetInfo(described.get("name") or folder.resolve().name, known, described.get("texts", {}))
    image_folder = next((folder / name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), None)
    label_folder = next((folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()), None)
    if image_folder and label_folder:
        images = {stem.removesuffix(_CHANNEL): path for stem, path in _files(image_folder)}
        labels = {_without_ending(stem): path for stem, path in _files(label_folder)}
    else:
        images, labels = {}, {}
        for stem, path in _files(folder):
            is_labels = path.name.lower().endswith(".seg.nrrd") or _without_ending(stem) != stem
            (labels if is_labels else images)[_without_ending(stem)] = path
    cases = tuple(SourceCase(stem, info, images[stem], labels[stem]) for stem in sorted(images.keys() & labels.keys()))
    unmatched = [(images[stem].name, "no labels of the same name") for stem in sorted(images.keys() - labels.keys())]
    unmatched += [(labels[stem].name, "no image of the same name") for stem in sorted(labels.keys() - images.keys())]
    return Sources(cases, tuple(unmatched))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the images and labelmaps of a folder with their names without ending."""
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), None)
        if suffix is not None and not path.name.startswith("."):
            yield path.name[: -len(suffix)], path


def _without_ending(stem: str) -> str:
    return next((stem[: -len(end)] for end in _LABEL_ENDINGS if stem.lower().endswith(end) and stem != end), stem)


def _description(folder: Path) -> dict[str, Any]:
    for name in _NAMES_FILES:
        path = folder / name
        if path.is_file():
            return _names_of(read_json(path, "file"), path)
    return {}


def _names_of(values: Any, path: Path) -> dict[str, Any]:
    """Read `{"1": "liver"}`, `{"1": ["liver", "a sentence"]}`, or nnU-Net's dataset.json in either direction."""
    remedy = 'It should look like {"1": "liver", "2": "spleen"}.'
    if not isinstance(values, dict):
        raise InputError(f"{path} lists no names.", remedy)
    entries = values.get("labels", {key: value for key, value in values.items() if str(key).isdecimal()})
    texts: dict[int, tuple[str, ...]] = {}
    for key, value in entries.items():
        label, lines = (key, value) if str(key).isdecimal() else (value, key)
        if not isinstance(label, int) and not str(label).isdecimal():
            raise InputError(f"{path}: {key!r} is no label with a name.", remedy)
        if int(label) == 0:
            continue
        listed = [lines] if isinstance(lines, str) else lines
        if not isinstance(listed, list) or not listed or not all(isinstance(t, str) and t.strip() for t in listed):
            raise InputError(f"{path}: label {label} has no name.", remedy)
        texts[int(label)] = tuple(listed)
    channels = values.get("channel_names") or values.get("modality") or ""
    modality = next(iter(channels.values()), "") if isinstance(channels, dict) else str(channels)
    described: dict[str, Any] = {"texts": texts} if texts else {}
    if (known := _known_modality(modality)) is not None and modality:
        described["modality"] = known
    if isinstance(values.get("name"), str):
        described["name"] = values["name"]
    return described
