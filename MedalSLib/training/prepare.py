"""Prepare training data: resample, crop, find the foreground and store, in parallel; interrupted runs go on.

A prepared folder holds `prepared.json` (the grid), `datasets.json` (modality and texts of each data set), `index.jsonl`
(one case a line), `rejected.json` (cases left out, and why) and `cases/`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedalSLib import __version__
from MedalSLib.errors import CancelledError, InputError, MedalSError, OutputError
from MedalSLib.inference.resampling import labelmap_to_plan, preprocess
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec, plan
from MedalSLib.training.case_reading import LoadedCase, complete_dataset, load_case
from MedalSLib.training.case_store import (
    CaseRecord,
    foreground_locations,
    read_record,
    remove_unfinished,
    save_case,
)
from MedalSLib.training.sources import DatasetInfo, SourceCase, Sources
from MedalSLib.training.texts import canonical_key

FORMAT = "medals-prepared/1"
OnCase = Callable[[int, int, str], None]
"""Called as `(cases done, cases in all, name of the last one)`; may raise to stop."""


@dataclass(frozen=True)
class PrepareOptions:
    """How cases are prepared.

    Attributes:
        spec: Stage, spacing and patch of the network.
        window: Intensity window of plain folders; "" for the one of their structures.
        workers: Processes; 0 prepares in this one.
    """

    spec: StageSpec
    window: str = ""
    workers: int = 1


@dataclass(frozen=True)
class PreparedFolder:
    """What `prepare_cases` leaves behind.

    Attributes:
        root: The folder.
        spec: Its grid.
        datasets: Data sets by name.
        cases: Prepared cases.
        rejected: (case, reason) of those left out.
    """

    root: Path
    spec: StageSpec
    datasets: dict[str, DatasetInfo]
    cases: tuple[CaseRecord, ...]
    rejected: tuple[tuple[str, str], ...] = ()

    def classes(self) -> tuple[str, ...]:
        """Return "MODALITY_Name" of every structure that is present in a case."""
        keys: dict[str, None] = {}
        for name, info in sorted(self.datasets.items()):
            here = {label for case in self.cases if case.dataset == name for label in case.voxels}
            keys |= dict.fromkeys(canonical_key(info.texts[label], info.modality) for label in sorted(here))
        return tuple(keys)


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
    _claim(output, options.spec)
    remove_unfinished(output / "cases")
    cases, rejected = _completed(sources)
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
    _write_index(folder)
    if not records:
        raise InputError(
            f"None of {len(cases)} cases could be prepared; the first reason: {folder.rejected[0][1]}",
            f"See {output / 'rejected.json'}.",
        )
    return folder


def open_prepared(root: Path) -> PreparedFolder:
    """Open a prepared folder.

    Raises:
        InputError: It is none, or it is damaged, or its preparation was not finished.
    """
    remedy = "Run `medals prepare` first."
    try:
        grid = json.loads((root / "prepared.json").read_text(encoding="utf-8"))
        datasets = json.loads((root / "datasets.json").read_text(encoding="utf-8"))
        lines = (root / "index.jsonl").read_text(encoding="utf-8").splitlines()
        rejected = json.loads((root / "rejected.json").read_text(encoding="utf-8"))
        spec = StageSpec(
            int(grid["stage"]),
            tuple(grid["spacing_hwd"]),
            tuple(grid["patch_hwd"]),
            grid.get("resampling", "published"),
        )
        infos = {
            name: DatasetInfo(
                name,
                entry["modality"],
                {int(label): tuple(texts) for label, texts in entry["texts"].items()},
                entry["instances"],
            )
            for name, entry in datasets.items()
        }
        records = tuple(CaseRecord.from_dict(json.loads(line)) for line in lines if line.strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{root} is not a folder of prepared cases ({error}).", remedy) from error
    return PreparedFolder(root, spec, infos, records, tuple((entry["case"], entry["reason"]) for entry in rejected))


def _completed(sources: Sources) -> tuple[list[SourceCase], list[tuple[str, str]]]:
    """Return the cases with complete data sets, and those that cannot be used."""
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
    pool = ProcessPoolExecutor(min(options.workers, len(todo)), mp_context=context, initializer=_one_thread)
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


def _one_thread() -> None:
    torch.set_num_threads(1)


def _prepare_one(case: SourceCase, output: Path, options: PrepareOptions) -> CaseRecord | str:
    """Prepare a case; a case that cannot be used gives the reason instead of ending the run."""
    try:
        return prepare_case(case, output, options)
    except OutputError:
        raise  # a full disk concerns every case
    except MedalSError as error:
        return str(error)
    except Exception as error:  # one odd file among thousands must not end the run; its reason is reported
        return f"Unexpected: {type(error).__name__}: {error}"


def prepare_case(case: SourceCase, output: Path, options: PrepareOptions) -> CaseRecord:
    """Prepare and store one case.

    Raises:
        InputError: It cannot be read, or none of its structures is present.
        OutputError: It cannot be written.
    """
    loaded = load_case(case, options.window)
    image, labels, spacing = to_training_grid(loaded, classes_of(case.dataset), options.spec)
    locations = foreground_locations(labels, case.dataset.texts, seed=0)
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


def classes_of(dataset: DatasetInfo) -> tuple[str, ...]:
    """Return "MODALITY_Name" of each of a data set's structures, for the resampling policy."""
    return tuple(canonical_key(texts, dataset.modality) for texts in dataset.texts.values())


def to_training_grid(
    loaded: LoadedCase, classes: Sequence[str], spec: StageSpec
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Bring a case to the network's spacing: the resampling policy, and the crop to non-zero voxels.

    Args:
        loaded: The case.
        classes: Its structures.
        spec: Stage, spacing and patch.

    Returns:
        Image and labels (H, W, D), and the spacing that one voxel now has in mm.

    Raises:
        InputError: The image is zero everywhere.
    """
    policy = plan(loaded.image_hwd.shape, loaded.spacing_hwd, classes, spec, training=True)
    box = _non_zero(loaded.image_hwd)
    image, labels = loaded.image_hwd[box], loaded.labels_hwd[box]
    cropped = _for_shape(policy, image.shape)
    height, width, depth = (
        spacing * before / after
        for spacing, before, after in zip(loaded.spacing_hwd, image.shape, cropped.shape, strict=True)
    )
    return (
        preprocess(np.ascontiguousarray(image), cropped).numpy(),
        labelmap_to_plan(np.ascontiguousarray(labels), cropped).numpy(),
        (float(height), float(width), float(depth)),
    )


def _for_shape(policy: ResamplingPlan, shape: Sequence[int]) -> ResamplingPlan:
    """Return a plan with the same spacings for a part of the volume, without padding."""
    height, width, depth = (
        max(1, round(size * before / after))
        for size, before, after in zip(shape, policy.spacing, policy.target_spacing, strict=True)
    )
    original = (int(shape[0]), int(shape[1]), int(shape[2]))
    size = (height, width, depth)
    return replace(policy, original_shape=original, resampled_shape=size, padding=(0, 0, 0), shape=size, tiles=())


def _non_zero(image: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        filled = np.flatnonzero(image.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(filled):
            raise InputError("The image is zero everywhere.", "Check its intensity window.")
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


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
        options.window,
        case.dataset.modality,
        sorted((label, texts[0]) for label, texts in case.dataset.texts.items()),
        case.dataset.instances,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _claim(output: Path, spec: StageSpec) -> None:
    """Create the folder with its grid, or check that it is for this one."""
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "stage": spec.stage,
        "spacing_hwd": list(spec.spacing_hwd),
        "patch_hwd": list(spec.patch_hwd),
        "resampling": spec.resampling,
    }
    path = output / "prepared.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}).", "Choose another output folder.") from error
        if {key: found.get(key, "published" if key == "resampling" else None) for key in wanted} != wanted:
            raise InputError(
                f"{output} was prepared for another grid ({found.get('spacing_hwd')} mm, {found.get('patch_hwd')}).",
                "Choose another output folder.",
            )
        return
    if output.exists() and any(output.iterdir()):
        raise OutputError(f"The folder {output} is not empty.", "Choose another one.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {output} cannot be made ({error.strerror}).", "Choose another one.") from error
    write_json(path, wanted | {"software": __version__})


def _write_index(folder: PreparedFolder) -> None:
    write_json(
        folder.root / "datasets.json",
        {
            name: {
                "modality": info.modality,
                "instances": info.instances,
                "texts": {str(label): list(texts) for label, texts in info.texts.items()},
            }
            for name, info in folder.datasets.items()
        },
    )
    write_json(folder.root / "rejected.json", [{"case": case, "reason": reason} for case, reason in folder.rejected])
    lines = "".join(json.dumps(record.to_dict(), ensure_ascii=False) + "\n" for record in folder.cases)
    write_text(folder.root / "index.jsonl", lines)


def write_json(path: Path, values: Any) -> None:
    """Write JSON so that the file is whole at every moment."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is whole at every moment.

    Raises:
        OutputError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).", "Check the space that is left.") from error
    finally:
        temporary.unlink(missing_ok=True)
