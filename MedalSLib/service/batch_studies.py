"""Which studies a batch has, and what their results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from MedalSLib.errors import InputError

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def find_studies(source: Path, output: Path | None = None) -> tuple[Path, ...]:
    """Return the images below a folder, those a text file lists (one path a line), or the one image given.

    Args:
        source: Folder, list, or image; a list may name DICOM folders too.
        output: Folder of the results, whose files are no studies.

    Raises:
        InputError: There is none.
    """
    source = source.absolute()
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if _is_image(path))
        if output is not None and output.absolute() != source:
            found = [path for path in found if output.absolute() not in path.parents]
    elif source.suffix.lower() == ".txt" and source.is_file():
        lines = source.read_text(encoding="utf-8").splitlines()
        found = [source.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]
    else:
        found = [source] if source.exists() else []
    if not found:
        raise InputError(f"{source} holds no image.", f"Give a folder with {', '.join(IMAGE_SUFFIXES)} files.")
    return tuple(dict.fromkeys(found))


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(IMAGE_SUFFIXES) and not name.endswith(".seg.nrrd") and not name.startswith(".")


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
