"""The same structures in thousands of studies: resumable, with a manifest, on Ray when there is more than one engine.

The manifest is a JSON-lines file beside the results, one line a study, written when the study has ended; so a batch
that was interrupted goes on where it ended, and what failed can be told from what was never tried.  The last line of
a study counts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from MedalSLib.engine import Options, open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, InputError, MedalSError, OutputError, ResourceError
from MedalSLib.service.logs import log_exception

MANIFEST = "manifest.jsonl"
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
CRASHES_ALLOWED = 2
"""Times a study may take its worker process along before it counts as failed."""


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
    """

    prompts: tuple[str, ...]
    output: Path
    suffix: str = ".seg.nrrd"
    modality: str | None = None
    model: str = "starter"
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class StudyOutcome:
    """A line of the manifest.

    Attributes:
        study: Path of the image as it was given.
        state: "done" or "failed".
        result: File of the result, relative to the output folder; empty if it failed.
        seconds: Time the study took.
        structures: Volume in millilitres by published name.
        cause: Why it failed.
        remedy: What to do about it.
    """

    study: str
    state: str
    result: str = ""
    seconds: float = 0.0
    structures: dict[str, float] | None = None
    cause: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class BatchSummary:
    """How a batch went: numbers of studies, and the failures."""

    done: int
    skipped: int
    failures: tuple[StudyOutcome, ...]


def find_studies(source: Path) -> tuple[Path, ...]:
    """Return the images below a folder, those a text file lists (one path a line), or the one image given.

    Raises:
        InputError: There is none.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.name.lower().endswith(IMAGE_SUFFIXES))
    elif source.suffix.lower() == ".txt" and source.is_file():
        lines = source.read_text(encoding="utf-8").splitlines()
        found = [source.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]
    else:
        found = [source] if source.exists() else []
    if not found:
        raise InputError(f"{source} holds no image.", f"Give a folder with {', '.join(IMAGE_SUFFIXES)} files.")
    return tuple(found)


def result_names(studies: Sequence[Path], suffix: str) -> dict[Path, str]:
    """Return a result's file name for each study: its own name, with its folders where names meet twice."""
    common = Path(os.path.commonpath([study.absolute().parent for study in studies]))
    stems = {study: _stem(study) for study in studies}
    twice = {stem for stem in stems.values() if list(stems.values()).count(stem) > 1}
    names: dict[Path, str] = {}
    for study, stem in stems.items():
        folders = study.absolute().parent.relative_to(common).parts if stem in twice else ()
        names[study] = "__".join([*folders, stem]) + suffix
    return names


def _stem(path: Path) -> str:
    ending = next((end for end in IMAGE_SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    return path.name[: -len(ending)] if ending else path.name


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


def _append(folder: Path, outcome: StudyOutcome) -> None:
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


def segment_study(engine: Engine, study: Path, job: BatchJob, result: str) -> StudyOutcome:
    """Segment one study and write its result; a failure is an outcome, not an exception."""
    from MedalSLib.vocabulary import describe
    from MedalSLib.volume import SegmentInfo, read_image, write_segmentation

    begun = time.monotonic()
    try:
        image = read_image(study)
        modality = job.modality or image.modality.modality
        with engine.open_session(image.array_kji, image.grid.affine_ras, modality) as session:
            found = session.segment(job.prompts, options=Options(seed=job.seed))
        infos = {name: SegmentInfo.of(describe(f"{found.report.modality}_{name}")) for name in found.masks}
        write_segmentation(job.output / result, dict(found.masks), image.grid, infos, image, True)
    except CancelledError:
        raise
    except MedalSError as error:
        return StudyOutcome(str(study), "failed", cause=error.cause, remedy=error.remedy)
    except Exception as error:  # one study must not stop the thousands after it
        log_exception("study_failed", error)
        return StudyOutcome(str(study), "failed", cause=f"Failed unexpectedly ({type(error).__name__}: {error}).")
    volumes = {name: report.volume_ml for name, report in found.report.structures.items()}
    return StudyOutcome(str(study), "done", result, round(time.monotonic() - begun, 2), volumes)


def run_batch(
    studies: Sequence[Path],
    job: BatchJob,
    *,
    workers: int | None = None,
    retry_failed: bool = False,
    on_outcome: Callable[[StudyOutcome, int, int], None] = lambda outcome, done, total: None,
    engine_factory: Callable[[str, str], Engine] = open_engine,
    cancelled: Callable[[], bool] = lambda: False,
) -> BatchSummary:
    """Segment the studies that are not done yet.

    Args:
        studies: Images.
        job: What is done with each.
        workers: Engines at once, on Ray (its cluster if RAY_ADDRESS is set); None for one engine in this process.
        retry_failed: Try those again that failed before.
        on_outcome: Told each outcome, how many have ended, and how many there are to do.
        engine_factory: Makes an engine from a model and a device.
        cancelled: Asked between studies; what was done is kept.

    Raises:
        OutputError: The output folder or the manifest cannot be written.
        ResourceError: Ray is wanted and not installed.
        CancelledError: `cancelled` returned True.
    """
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {job.output} cannot be made ({error}).", "Check the path.") from error
    names = result_names(studies, job.suffix)
    before = read_manifest(job.output)
    todo = [study for study in studies if not _settled(before.get(str(study)), job.output, retry_failed)]
    outcomes: Iterator[StudyOutcome] = (
        _outcomes_here(todo, names, job, engine_factory)
        if workers is None
        else _outcomes_on_ray(todo, names, job, engine_factory, workers)
    )
    done, failures = 0, []
    for number, outcome in enumerate(outcomes, 1):
        _append(job.output, outcome)
        done += outcome.state == "done"
        if outcome.state == "failed":
            failures.append(outcome)
        on_outcome(outcome, number, len(todo))
        if cancelled():
            raise CancelledError("The batch was cancelled.", "Start it again to go on where it ended.")
    return BatchSummary(done, len(studies) - len(todo), tuple(failures))


def _settled(outcome: StudyOutcome | None, folder: Path, retry_failed: bool) -> bool:
    if outcome is None:
        return False
    if outcome.state == "failed":
        return not retry_failed
    return (folder / outcome.result).exists()


def _outcomes_here(
    todo: Sequence[Path], names: dict[Path, str], job: BatchJob, factory: Callable[[str, str], Engine]
) -> Iterator[StudyOutcome]:
    if not todo:
        return
    with factory(job.model, job.device) as engine:
        for study in todo:
            yield segment_study(engine, study, job, names[study])


def _outcomes_on_ray(
    todo: Sequence[Path],
    names: dict[Path, str],
    job: BatchJob,
    factory: Callable[[str, str], Engine],
    workers: int,
) -> Iterator[StudyOutcome]:
    """Hand the studies to actors, one at a time each; a study whose actor died is tried once more."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ResourceError("Ray is not installed.", 'Install "medals[scale-out]" with pip.') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0

    class Worker:
        """One engine, in a process of its own."""

        def __init__(self) -> None:
            self.engine = factory(job.model, job.device)

        def segment(self, study: Path) -> StudyOutcome:
            return segment_study(self.engine, study, job, names[study])

    remote: Any = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
    idle = [remote.remote() for _ in range(max(1, min(workers, len(todo))))]
    waiting = list(reversed(todo))
    running: dict[Any, tuple[Any, Path]] = {}
    crashes: dict[Path, int] = {}
    while waiting or running:
        while waiting and idle:
            worker, study = idle.pop(), waiting.pop()
            running[worker.segment.remote(study)] = (worker, study)
        finished, _ = ray.wait(list(running), num_returns=1)
        worker, study = running.pop(finished[0])
        try:
            outcome = ray.get(finished[0])
            idle.append(worker)
            yield outcome
        except ray.exceptions.RayActorError as error:
            idle.append(remote.remote())
            crashes[study] = crashes.get(study, 0) + 1
            if crashes[study] < CRASHES_ALLOWED:
                waiting.append(study)
            else:
                cause = f"The worker process ended {CRASHES_ALLOWED} times ({type(error).__name__})."
                yield StudyOutcome(str(study), "failed", cause=cause, remedy="It probably ran out of memory.")
    for worker in idle:
        ray.kill(worker)
