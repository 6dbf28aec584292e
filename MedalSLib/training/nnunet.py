"""Labelled cases as a raw data set of nnU-Net (version 2): `Dataset501_NAME/` with imagesTr, labelsTr, dataset.json."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from MedalSLib.atomic_files import empty_folder, replacing, write_json
from MedalSLib.errors import CancelledError, InputError
from MedalSLib.network.axes import array_to_dhw, dhw
from MedalSLib.training.case_reading import RawCase, read_case
from MedalSLib.training.case_store import CaseReader, CaseRecord
from MedalSLib.training.prepare import OnCase, complete_cases
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.sources import DatasetInfo, Sources
from MedalSLib.volume import axial_grid
from MedalSLib.volume.writing import nifti_of

FIRST_NUMBER = 501
"""nnU-Net asks that numbers of one's own begin at 500 or above."""
_LAST_NUMBER, _ENDING = 999, ".nii.gz"
_Case = tuple[str, DatasetInfo, Callable[[], RawCase]]


def write_nnunet(
    source: Sources | PreparedFolder,
    output: Path,
    first_number: int = FIRST_NUMBER,
    on_case: OnCase | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Write each data set of a source as one of nnU-Net's; labels are numbered from 1 without gaps.

    Args:
        source: Cases as they lie in their files, from `find_sources`; or prepared ones, on the network's grid.
        output: The folder of raw data sets (`nnUNet_raw`).
        first_number: Number of the first data set.
        on_case: Progress.
        cancel: Set it to stop.

    Returns:
        JSON-ready: "folders", "cases", "rejected" and "notes".

    Raises:
        InputError: A number is not one of nnU-Net's, or no case can be used.
        OutputError: A folder holds something already, or cannot be written.
        CancelledError: `cancel` was set.
    """
    cases, rejected = _cases(source)
    infos = {info.name: info for _, info, _ in cases}
    if first_number < 1 or first_number + len(infos) - 1 > _LAST_NUMBER:
        raise InputError(f"nnU-Net has numbers from 1 to {_LAST_NUMBER}.", "Give a first number that leaves room.")
    folders = {
        name: output / f"Dataset{number:03d}_{re.sub(r'[^A-Za-z0-9]+', '_', name)}"
        for number, name in enumerate(sorted(infos), first_number)
    }
    for folder in folders.values():
        empty_folder(folder)
        for part in ("imagesTr", "labelsTr"):
            empty_folder(folder / part)
    written = dict.fromkeys(infos, 0)
    notes: dict[str, list[str]] = {}
    for done, (identifier, info, read) in enumerate(cases, 1):
        if cancel is not None and cancel.is_set():
            raise CancelledError("Writing was cancelled.", "Delete what was written before you run it again.")
        try:
            case = read()
        except InputError as error:
            rejected.append((identifier, str(error)))
        else:
            _write_case(folders[info.name], identifier, case, sorted(info.texts))
            written[info.name] += 1
            if said := _notes(case, info):
                notes[identifier] = said
        if on_case:
            on_case(done, len(cases), identifier)
    if not any(written.values()):
        reason = f"; the first reason: {rejected[0][1]}" if rejected else "."
        raise InputError(f"None of {len(cases)} cases could be read{reason}", "Correct the files.")
    for name, folder in folders.items():
        write_json(folder / "dataset.json", _description(infos[name], written[name]))
    return {
        "folders": [str(folder) for folder in folders.values()],
        "cases": sum(written.values()),
        "rejected": [{"case": case, "reason": reason} for case, reason in rejected],
        "notes": notes,
    }


def _cases(source: Sources | PreparedFolder) -> tuple[list[_Case], list[tuple[str, str]]]:
    """Return each case with its data set and what reads it, and those that cannot be used."""
    if isinstance(source, PreparedFolder):
        reader = CaseReader(source.root)
        datasets = source.datasets
        return [(one.identifier, datasets[one.dataset], partial(_prepared, reader, one)) for one in source.cases], []
    cases, rejected = complete_cases(source)
    return [(one.identifier, one.dataset, partial(read_case, one)) for one in cases], [*rejected, *source.unmatched]


def _prepared(reader: CaseReader, record: CaseRecord) -> RawCase:
    """Return a prepared case; where it lies in the patient is not kept, so it begins at the origin."""
    image, labels = (array_to_dhw(array) for array in reader.whole(record))
    return RawCase(image, labels, axial_grid(image.shape, dhw(record.spacing_hwd)), True, record.annotated)


def _write_case(folder: Path, identifier: str, case: RawCase, values: Sequence[int]) -> None:
    table = np.zeros(max(values) + 1, np.uint8 if len(values) <= np.iinfo(np.uint8).max else np.uint16)
    table[list(values)] = range(1, len(values) + 1)
    for path, array in (
        (folder / "imagesTr" / f"{identifier}_0000{_ENDING}", case.array_kji),
        (folder / "labelsTr" / f"{identifier}{_ENDING}", table[case.labels_kji]),
    ):
        with replacing(path) as temporary:
            nibabel.save(nifti_of(array, case.grid), temporary)


def _notes(case: RawCase, info: DatasetInfo) -> list[str]:
    """Return what the user should know; nnU-Net takes for background what nobody looked for."""
    missing = [info.texts[label][0] for label in sorted(info.texts) if label not in case.annotated]
    said = [f"Not annotated here, but background for nnU-Net: {', '.join(missing)}."] if missing else []
    return [*case.notes, *said]


def _description(info: DatasetInfo, cases: int) -> dict[str, Any]:
    names = [info.texts[label][0] for label in sorted(info.texts)]
    return {
        "name": info.name,
        "channel_names": {"0": info.modality},
        "labels": {"background": 0} | {name: number for number, name in enumerate(names, 1)},
        "numTraining": cases,
        "file_ending": _ENDING,
    }
