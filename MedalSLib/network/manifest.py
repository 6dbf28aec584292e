"""A model folder's `manifest.json`: what the model is, what it knows, and which files it is made of.

Needs no torch, so that models can be listed quickly.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from MedalSLib.atomic_files import write_json
from MedalSLib.errors import CancelledError, ModelError
from MedalSLib.records import model_record, to_json

FORMAT = "medals-model/1"
MANIFEST_NAME = "manifest.json"
ORIENTATION = "LPS"
Resampling = Literal["published", "plain", "relative"]
_RESAMPLINGS = get_args(Resampling)
_BY_MODALITY = {"spacing_hwd", "patch_hwd", "resampling"}
ENCODER_KINDS = ("knowledge", "compact")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class StageManifest:
    """One network of a model.

    Attributes:
        stage: "1" for the coarse network, "2" for the fine one.
        spacing_hwd: Voxel spacing it was trained at, in mm along (H, W, D) = (y, x, z).
        patch_hwd: Patch it was trained on, in voxels along (H, W, D).
        weights: File in the model's folder: our `.safetensors` or a published `.pth`.
        sha256: Checksum of that file; "" where nobody recorded one.
        config: Architecture as `MedalSConfig.to_dict`; empty for the published one.
        resampling: "published" for the rules that the published networks were trained with; "plain" for networks that
            were trained on true millimetres; "relative" for ones that count in voxels of the finest axis.
        by_modality: What differs in a modality: `spacing_hwd`, `patch_hwd` and `resampling` by its name.
    """

    stage: str
    spacing_hwd: tuple[float, float, float]
    patch_hwd: tuple[int, int, int]
    weights: str
    sha256: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    resampling: Resampling = "published"
    by_modality: dict[str, dict[str, Any]] = field(default_factory=dict)

    def used_for(self, modality: str) -> StageManifest:
        """Return what holds in a modality; `by_modality` is empty then."""
        other = {key: _tupled(value) for key, value in self.by_modality.get(modality, {}).items()}
        return replace(self, by_modality={}, **other)

    def rules(self) -> list[tuple[bool, str]]:
        """Return what can be wrong with the entry: whether it is, and in which words."""
        unknown = {key for entry in self.by_modality.values() for key in entry} - _BY_MODALITY
        if unknown:
            return [(True, f"a stage cannot differ by modality in {', '.join(sorted(unknown))}")]
        used = [self, *(self.used_for(modality) for modality in self.by_modality)]
        axes = [sizes for one in used for sizes in (one.spacing_hwd, one.patch_hwd)]
        return [
            (any(one.resampling not in _RESAMPLINGS for one in used), "resampling is published, plain or relative"),
            (not all(map(_three_positive, axes)), "spacing_hwd and patch_hwd are three positive numbers"),
        ]


@dataclass(frozen=True)
class TextEncoderManifest:
    """The text encoder of a model.

    Attributes:
        kind: "knowledge" for the published one, "compact" for ours.
        files: Its files in the model's folder.
        sha256: Checksum by file.
    """

    kind: str
    files: tuple[str, ...]
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a model is.

    Attributes:
        name: Short name for `--model`: lower-case letters, digits, dots, dashes, underscores.
        version: Version of the weights.
        title: The model in words.
        licence: Licence of the weights (SPDX name where there is one).
        licence_url: Where the licence can be read.
        classes: Structures it was trained on, as "MODALITY_Published name" ("CT_Liver").
        stages: Its networks, coarse first.
        text_encoder: Its text encoder.
        orientation: Patient axes its (x, y, z) grow towards.
        training_data: What it was trained on, in words.
        scores: Dice and other scores by data set or structure.
        card: The model card, Markdown.
        source: Where the files came from, and at which revision.
        text_stages: "both", or "first" where the fine network is better than the coarse one only from a mask that a
            user drew or corrected, so that text alone is answered by the coarse one.
        windows: Intensity window by modality, for a network that was trained to see all structures of it in one.
        format: Version of this file's format.
    """

    name: str
    version: str
    title: str
    licence: str
    licence_url: str
    classes: tuple[str, ...]
    stages: tuple[StageManifest, ...]
    text_encoder: TextEncoderManifest
    orientation: str = ORIENTATION
    training_data: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    source: str = ""
    text_stages: str = "both"
    windows: dict[str, str] = field(default_factory=dict)
    format: str = FORMAT

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._rules() if wrong]
        if problems:
            raise ModelError(f"The manifest of the model is not valid: {'; '.join(problems)}.", "Get the model again.")

    def _rules(self) -> list[tuple[bool, str]]:
        names = [stage.stage for stage in self.stages]
        sums = self.checksums()
        return [
            (self.format != FORMAT, f'format is "{self.format}", not "{FORMAT}" (a newer Medal S may know it)'),
            (not _NAME.fullmatch(self.name), f'"{self.name}" is not a name'),
            (self.orientation != ORIENTATION, f"orientation must be {ORIENTATION}"),
            (self.text_stages not in ("both", "first"), "text_stages is both or first"),
            (not names or set(names) - {"1", "2"} != set(), "stages are named 1 and 2"),
            (len(set(names)) != len(names), "a stage is given twice"),
            *(rule for stage in self.stages for rule in stage.rules()),
            (not all("_" in key for key in self.classes), "a class is MODALITY_Name"),
            (self.text_encoder.kind not in ENCODER_KINDS, f'text encoder "{self.text_encoder.kind}" is not known'),
            (not self.text_encoder.files, "the text encoder has no files"),
            (any(not _stays_inside(path) for path in sums), "a file lies outside the model's folder"),
            (any(sum_ and not _SHA256.fullmatch(sum_) for sum_ in sums.values()), "a sha256 has 64 hexadecimal digits"),
        ]

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file by its path in the folder; "" where none was recorded."""
        encoder = self.text_encoder
        return {stage.weights: stage.sha256 for stage in self.stages} | {
            path: encoder.sha256.get(path, "") for path in encoder.files
        }

    def with_checksums(self, sums: Mapping[str, str]) -> Manifest:
        """Return the manifest with recorded checksums."""
        return replace(
            self,
            stages=tuple(replace(stage, sha256=sums[stage.weights]) for stage in self.stages),
            text_encoder=replace(self.text_encoder, sha256={path: sums[path] for path in self.text_encoder.files}),
        )

    def stage(self, stage: str) -> StageManifest:
        """Return one stage.

        Raises:
            ModelError: The model has no such stage.
        """
        for candidate in self.stages:
            if candidate.stage == str(stage):
                return candidate
        raise ModelError(f'The model "{self.name}" has no stage {stage}.', "Choose another model.")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back."""
        return to_json(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Read what `to_dict` wrote.

        Raises:
            ModelError: Entries are missing, unknown or not valid.
        """
        return model_record(cls, values, "The manifest of the model")


def read_manifest(folder: Path) -> Manifest:
    """Read a model folder's manifest.

    Raises:
        ModelError: There is none, or it is not valid.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"The folder {folder} holds no model: there is no {MANIFEST_NAME}.", "Choose a model's folder."
        ) from error
    except OSError as error:
        raise ModelError(f"The manifest {path} cannot be read ({error}).", "Install the model again.") from error
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Read the bytes of a manifest; `source` names them in messages.

    Raises:
        ModelError: They are no valid manifest.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise ModelError(f"The manifest {source} cannot be read ({error}).", "Install the model again.") from error
    return Manifest.from_dict(values)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a model folder's manifest."""
    write_json(folder / MANIFEST_NAME, manifest.to_dict())


def file_sha256(
    path: Path, on_bytes: Callable[[int], None] | None = None, cancel: threading.Event | None = None
) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Args:
        path: The file.
        on_bytes: Called with the number of bytes of each block read.
        cancel: Set it to stop.

    Raises:
        CancelledError: `cancel` was set.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if cancel is not None and cancel.is_set():
                raise CancelledError
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that every file is there, and is the one the manifest was written for.

    Raises:
        ModelError: Files are missing, or their checksum is wrong (names them).
    """
    sums = manifest.checksums()
    missing = [path for path in sums if not (folder / path).is_file()]
    if missing:
        raise ModelError(
            f'The model "{manifest.name}" is not complete: {", ".join(missing)} missing in {folder}.',
            "Install the model again.",
        )
    wrong = [path for path, expected in sums.items() if expected and file_sha256(folder / path) != expected]
    if wrong:
        raise ModelError(
            f'The model "{manifest.name}" is damaged: wrong checksum of {", ".join(wrong)} in {folder}.',
            "Remove the model and install it again.",
        )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _three_positive(axes: tuple[Any, ...]) -> bool:
    return len(axes) == 3 and all(type(value) in (int, float) and value > 0 for value in axes)


def _stays_inside(path: str) -> bool:
    """Return whether a path is relative and never leaves the folder; back-slashes would on Windows."""
    if not path or "\\" in path or ":" in path:
        return False
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts
