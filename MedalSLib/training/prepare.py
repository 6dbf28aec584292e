"""Prepare training data: resample, crop, find the foreground and store, in parallel; interrupted runs go on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from MedalSLib.errors import CancelledError, InputError, MedalSError, OutputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.training.case_reading import complete_dataset, load_case
from MedalSLib.training.case_store import (
    CaseRecord,
    foreground_locations,
    read_record,
    remove_unfinished,
    save_case,
)
from MedalSLib.training.prepared_folder import FORMAT, PreparedFolder, claim, write_index
from MedalSLib.training.sources import SourceCase, Sources
from MedalSLib.training.texts import canonical_key
from MedalSLib.training.training_grid import to_training_grid
from MedalSLib.volume.challenge import ORIENTATION

OnCase = Callable[[int, int, str], None]
"""Called as `(cases done, cases in all, name of the last one)`; may raise to stop."""


@dataclass(frozen=True)
class PrepareOptions:
    """How cases are prepared.

    Attributes:
        spec: Stage, spacing and patch of the network.
        window: Intensity window of plain folders; "" for the one of their structures.
        ct_window: Window of CT in plain folders where `window` is "", for a model that sees all of CT in one.
        workers: Processes; 0 prepares in this one.
    """

    spec: StageSpec
    window: str = ""
    ct_window: str = ""
    workers: int = 1


def prepare_cases(
    sources: Sources,
    output: Path,
    options: PrepareOptions,
    on_case: OnCase | None = None,
    cancel: threading.Event | None = None,
) -> PreparedFolder:
    """Prepare cases; those that are prepared already, from the same files and for the same grid, are kept.

    Args:
        sources: Cases, from `find_sources`.
        output: The prepared folder, created if need be.
        options: Options.
        on_case: Progress.
        cancel: Set it to stop; what is done stays.

    Raises:
        InputError: The folder was prepared for another grid, or no case could be prepared.
        OutputError: The folder cannot be written.
        CancelledError: `cancel` was set.
    """
    claim(output, options.spec)
    remove_unfinished(output / "cases")
    cases, rejected = complete_cases(sources)
    rejected += [(name, reason) for name, reason in sources.unmatched]
    records, todo = [], []
    for case in cases:
        record = read_record(output / _case_folder(case))
        if record is not None and record.fingerprint == _fingerprint(case, options):
            records.append(record)
        else:
            todo.append(case)
    done = len(records)
    for case, result in _results(todo, output, options, cancel):
        done += 1
        if isinstance(result, CaseRecord):
            records.append(result)
        else:
            rejected.append((case.identifier, result))
        if on_case:
            on_case(done, len(cases), case.identifier)
    folder = PreparedFolder(
        output,
        options.spec,
        {case.dataset.name: case.dataset for case in cases},
        tuple(sorted(records, key=lambda record: (record.dataset, record.identifier))),
        tuple(sorted(rejected)),
    )
    write_index(folder)
    if not records:
        raise InputError(
            f"None of {len(cases)} cases could be prepared; the first reason: {folder.rejected[0][1]}",
            f"See {output / 'rejected.json'}.",
        )
    return folder


def complete_cases(sources: Sources) -> tuple[list[SourceCase], list[tuple[str, str]]]:
    """Return the cases with complete data sets, and those that cannot be used, with the reason.

    Raises:
        InputError: As `complete_dataset`.
    """
    groups: dict[str, list[SourceCase]] = {}
    for case in sources.cases:
        groups.setdefault(case.dataset.name, []).append(case)
    cases: list[SourceCase] = []
    rejected: list[tuple[str, str]] = []
    for name, group in groups.items():
        if group[0].labels is None:
            if not group[0].dataset.modality:
                rejected += [(case.identifier, f"The modality of the data set {name} is not known.") for case in group]
                continue
            cases += group
            continue
        info, unreadable = complete_dataset(group)
        lost = {identifier for identifier, _ in unreadable}
        rejected += unreadable
        cases += [replace(case, dataset=info) for case in group if case.identifier not in lost]
    return cases, rejected


def _results(
    todo: Sequence[SourceCase], output: Path, options: PrepareOptions, cancel: threading.Event | None
) -> Iterator[tuple[SourceCase, CaseRecord | str]]:
    """Yield each case with its record, or the reason why it was rejected."""
    if options.workers <= 1 or len(todo) <= 1:
        for case in todo:
            _stop_if(cancel)
            yield case, _prepare_one(case, output, options)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(options.workers, len(todo)), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        waiting: dict[Future[CaseRecord | str], SourceCase] = {
            pool.submit(_prepare_one, case, output, options): case for case in todo
        }
        while waiting:
            _stop_if(cancel)
            finished, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                case = waiting.pop(future)
                yield case, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _stop_if(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("Preparing was cancelled; cases that were done are kept.", "Run it again to go on.")


def _prepare_one(case: SourceCase, output: Path, options: PrepareOptions) -> CaseRecord | str:
    """Prepare a case; a case that cannot be used gives the reason instead of ending the run."""
    try:
        return _prepare_case(case, output, options)
    except OutputError:
        raise  # a full disk concerns every case
    except MedalSError as error:
        return str(error)
    except Exception as error:  # one odd file among thousands must not end the run; its reason is reported
        return f"Unexpected: {type(error).__name__}: {error}"


def _prepare_case(case: SourceCase, output: Path, options: PrepareOptions) -> CaseRecord:
    loaded = load_case(case, options.window, options.ct_window)
    info = case.dataset
    classes = [canonical_key(texts, info.modality) for texts in info.texts.values()]
    image, labels, spacing = to_training_grid(loaded, classes, options.spec)
    locations = foreground_locations(labels, case.dataset.texts)
    if not locations:
        raise InputError(f"{case.identifier} contains none of the structures.", "Check its labels and names.")
    everything = np.concatenate(list(locations.values()))
    extent = tuple(int(size) for size in everything.max(0) - everything.min(0) + 1)
    values, counts = np.unique(labels, return_counts=True)
    present = {int(value): int(count) for value, count in zip(values, counts, strict=True) if int(value) in locations}
    height, width, depth = labels.shape
    record = CaseRecord(
        identifier=case.identifier,
        dataset=case.dataset.name,
        modality=case.dataset.modality,
        folder=_case_folder(case).as_posix(),
        shape_hwd=(height, width, depth),
        spacing_hwd=spacing,
        region_hwd=(extent[0], extent[1], extent[2]),
        voxels=present,
        annotated=loaded.annotated,
        source=str(case.image),
        fingerprint=_fingerprint(case, options),
        notes=loaded.notes,
    )
    save_case(output, record, image, labels, locations, options.spec.patch_hwd)
    return record


def _case_folder(case: SourceCase) -> Path:
    return Path("cases") / _safe(case.dataset.name) / _safe(case.identifier)


def _safe(name: str) -> str:
    """Return a name that is a single folder on every system, different for different names."""
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in name).strip(".")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _fingerprint(case: SourceCase, options: PrepareOptions) -> str:
    files = [path.stat() for path in (case.image, case.labels) if path is not None]
    facts = [
        FORMAT,
        *((stat.st_size, stat.st_mtime_ns) for stat in files),
        options.spec.stage,
        options.spec.spacing_hwd,
        options.spec.patch_hwd,
        options.spec.resampling,
        options.window or (case.dataset.modality == "CT" and options.ct_window) or "",
        case.dataset.modality,
        sorted((label, texts[0]) for label, texts in case.dataset.texts.items()),
        case.dataset.instances,
        # What was prepared before there was a choice stays valid.
        *([] if case.orientation == ORIENTATION else [case.orientation]),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
