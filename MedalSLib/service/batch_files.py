"""The files of a batch: its studies, what their results are called, and the manifest that remembers what came of each.

The manifest is a JSON-lines file beside the results, with a line when a study is started and one when it has ended.
So a batch that was interrupted goes on where it ended, what failed can be told from what was never tried, and a result
that a killed batch wrote from a file that was there before.  The last line of a study counts.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from MedalSLib.errors import InputError, MedalSError, OutputError
from MedalSLib.volume.dicom_series import is_dicom_image
from MedalSLib.volume.segment_names import side_car

MANIFEST = "manifest.jsonl"
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_LABELMAPS = (
    "_seg",
    "-seg",
    ".seg",
    "_label",
    "-label",
    "_labels",
    "_labelmap",
    "_mask",
    "_segmentation",
    "_gt",
    "_pred",
)


@dataclass(frozen=True)
class BatchJob:
    """What is done with each study.

    Attributes:
        prompts: Names or phrases, as for `Session.segment`.
        output: Folder of the results.
        suffix: Format of the results, as a file name's end.
        modality: Modality of all studies, None to guess each.
        model: As for `open_engine`.
        device: As for `open_engine`.
        seed: Seed of the random prompt blocks.
        overwrite: Replace results that are there although the manifest does not know them.
    """

    prompts: tuple[str, ...]
    output: Path
    suffix: str = ".seg.nrrd"
    modality: str | None = None
    model: str = "starter"
    device: str = "auto"
    seed: int = 0
    overwrite: bool = False

    @property
    def asked(self) -> str:
        """What the results depend on, in words: results of another batch are told apart by it."""
        return f"{', '.join(self.prompts)}; {self.modality or 'any modality'}; model {self.model}; seed {self.seed}"

    def failure(self, study: Path, error: MedalSError) -> StudyOutcome:
        """Return the outcome of a study that failed with an expected error."""
        kind = type(error).__name__
        return StudyOutcome(str(study), "failed", cause=error.cause, remedy=error.remedy, kind=kind, asked=self.asked)


@dataclass(frozen=True)
class StudyOutcome:
    """A line of the manifest.

    Attributes:
        study: Path of the image as it was given.
        state: "started", "done" or "failed".
        result: File of the result, relative to the output folder; empty if it failed.
        seconds: Time the study took.
        structures: Volume in millilitres by published name.
        cause: Why it failed.
        remedy: What to do about it.
        kind: Class of `MedalSLib.errors` it failed with; empty for a failure that was not expected.
        asked: What was asked for; see `BatchJob.asked`.
        notes: What the user should read about the result: the run's warnings, and what the format could not hold.
        edges: Structures that the edge of the image cuts off.
    """

    study: str
    state: str
    result: str = ""
    seconds: float = 0.0
    structures: dict[str, float] | None = None
    cause: str = ""
    remedy: str = ""
    kind: str = ""
    asked: str = ""
    notes: Sequence[str] = ()
    edges: Sequence[str] = ()


def read_manifest(folder: Path) -> dict[str, StudyOutcome]:
    """Return the last outcome by study; a line that was cut off by a crash is left out."""
    path = folder / MANIFEST
    outcomes: dict[str, StudyOutcome] = {}
    if not path.is_file():
        return outcomes
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            outcomes[values["study"]] = StudyOutcome(**values)
        except (ValueError, KeyError, TypeError):
            continue
    return outcomes


def append_outcome(folder: Path, outcome: StudyOutcome) -> None:
    """Add a line to the manifest, on the disk when this returns.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with (folder / MANIFEST).open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the last line was cut off
                    file.write(b"\n")
            file.write(json.dumps(asdict(outcome)).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"The manifest in {folder} cannot be written ({error}).", "Check the disk.") from error


def find_studies(source: Path, output: Path | None = None, left_out: list[Path] | None = None) -> tuple[Path, ...]:
    """Return the images below a folder, those a text file lists (one path a line), or the one image given.

    A folder that holds DICOM images is one study.  Labelmaps, by their name or by the names beside them, are none.

    Args:
        source: Folder, list, or image; a list may name DICOM folders too.
        output: Folder of the results, whose files are no studies.
        left_out: Filled with the labelmaps that were passed by.

    Raises:
        InputError: There is none.
    """
    source = source.absolute()
    if source.is_dir():
        images = [path for path in source.rglob("*") if path.is_file() and _is_image(path)]
        labelmaps = [path for path in images if _is_labelmap(path)]
        if left_out is not None:
            left_out += sorted(labelmaps)
        found = sorted({*images, *_dicom_folders(source)}.difference(labelmaps))
        if output is not None and output.absolute() != source:
            found = [path for path in found if output.absolute() not in (path, *path.parents)]
    elif source.suffix.lower() == ".txt" and source.is_file():
        lines = source.read_text(encoding="utf-8").splitlines()
        found = [source.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]
    else:
        found = [source] if source.exists() else []
    if not found:
        raise InputError(f"{source} holds no image.", f"Give a folder with {', '.join(IMAGE_SUFFIXES)} or DICOM files.")
    return tuple(dict.fromkeys(found))


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(IMAGE_SUFFIXES) and not name.endswith(".seg.nrrd") and not name.startswith(".")


def _is_labelmap(path: Path) -> bool:
    return _stem(path).casefold().endswith(_LABELMAPS) or side_car(path).is_file()


def _dicom_folders(source: Path) -> list[Path]:
    """Return the folders that hold DICOM images themselves, without those inside of one that is read with them."""
    folders: list[Path] = []
    for folder in sorted(item for item in (source, *source.rglob("*")) if item.is_dir()):
        if not any(above in folder.parents for above in folders) and _holds_dicom(folder):
            folders.append(folder)
    return folders


def _holds_dicom(folder: Path) -> bool:
    return any(item.is_file() and not _is_image(item) and is_dicom_image(item) for item in sorted(folder.iterdir()))


def result_names(studies: Sequence[Path], suffix: str) -> dict[Path, str]:
    """Return a result's file name for each study: its own name, with its folders and ending where names meet twice."""
    common = Path(os.path.commonpath([study.absolute().parent for study in studies]))

    def parts(study: Path) -> list[str]:
        return list(study.absolute().parent.relative_to(common).parts)

    longer: tuple[Callable[[Path], str], ...] = (
        lambda study: "__".join([*parts(study), _stem(study)]),
        lambda study: "__".join([*parts(study), study.name]),
    )
    names = {study: _stem(study) for study in studies}
    for lengthen in longer:
        # Without regard to case, because not all file systems have any.
        count = Counter(name.casefold() for name in names.values())
        names = {study: lengthen(study) if count[name.casefold()] > 1 else name for study, name in names.items()}
    return {study: name + suffix for study, name in names.items()}


def _stem(path: Path) -> str:
    ending = next((end for end in IMAGE_SUFFIXES if path.name.lower().endswith(end)), "")
    if not ending and path.is_file():
        ending = path.suffix
    return path.name[: -len(ending)] if ending else path.name
