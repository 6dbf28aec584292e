"""The same structures in thousands of studies: resumable, with a manifest, on Ray for more than one engine."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, InputError, MedalSError, OutputError, PromptError, ResourceError
from MedalSLib.run import Progress, RunOptions
from MedalSLib.service.batch_files import BatchJob, StudyOutcome, append_outcome, read_manifest, result_names
from MedalSLib.service.logs import log_exception

CRASHES_ALLOWED = 2
"""Times a study may take its worker process along before it counts as failed."""
LISTEN_SECONDS = 0.5
"""How often the cancel is looked at while workers work."""

ProgressOfStudy = Callable[[Path, Progress], None]


@dataclass(frozen=True)
class BatchSummary:
    """How a batch went.

    Attributes:
        done: Studies done now.
        skipped: Studies that were settled before.
        failures: What failed now.
        failed_before: What failed in an earlier batch and was not tried again.
    """

    done: int
    skipped: int
    failures: tuple[StudyOutcome, ...]
    failed_before: tuple[StudyOutcome, ...] = ()


def segment_study(
    engine: Engine,
    study: Path,
    job: BatchJob,
    result: str,
    on_progress: ProgressOfStudy = lambda study, progress: None,
    cancel: threading.Event | None = None,
) -> StudyOutcome:
    """Segment one study and write its result, also over an earlier one; a failure is an outcome, not an exception.

    Args:
        engine: A loaded engine.
        study: Image.
        job: What is done with it.
        result: File name of the result, in the job's output folder.
        on_progress: Told how far it is.
        cancel: Set it to stop within one patch.

    Raises:
        CancelledError: `cancel` was set.
    """
    from MedalSLib.vocabulary import describe
    from MedalSLib.volume.reading import read_image
    from MedalSLib.volume.segment_info import SegmentInfo
    from MedalSLib.volume.writing import check_segmentation_output, write_or_keep

    begun = time.monotonic()
    target = job.output / result
    try:
        image = read_image(study)
        check_segmentation_output(target, image, overwrite=True)
        modality = job.modality or image.modality.modality
        with engine.open_session(image.array_kji, image.grid.affine_ras, modality) as session:
            found = session.segment(
                job.prompts,
                options=RunOptions(seed=job.seed),
                on_progress=lambda progress: on_progress(study, progress),
                cancel=cancel,
            )
        infos = {name: SegmentInfo.of(describe(f"{found.report.modality}_{name}")) for name in found.box_masks}
        lost = write_or_keep(target, found.box_masks, image.grid, infos, image, overwrite=True)
    except CancelledError:
        raise
    except MedalSError as error:
        return job.failure(study, error)
    except Exception as error:  # one study must not stop the thousands after it
        log_exception("study_failed", error)
        return StudyOutcome(
            str(study), "failed", cause=f"Failed unexpectedly ({type(error).__name__}: {error}).", asked=job.asked
        )
    volumes = {name: report.volume_ml for name, report in found.report.structures.items()}
    seconds, notes = round(time.monotonic() - begun, 2), [*image.warnings, *found.report.warnings, *lost]
    notes += [f"{name}: {entry.cut_off_words}" for name, entry in found.report.structures.items() if entry.cut_off]
    return StudyOutcome(str(study), "done", result, seconds, volumes, asked=job.asked, notes=notes)


def run_batch(
    studies: Sequence[Path],
    job: BatchJob,
    *,
    workers: int | None = None,
    retry_failed: bool = False,
    on_outcome: Callable[[StudyOutcome, int, int], None] = lambda outcome, done, total: None,
    on_progress: ProgressOfStudy = lambda study, progress: None,
    engine_factory: Callable[[str, str], Engine] = open_engine,
    cancel: threading.Event | None = None,
) -> BatchSummary:
    """Segment the studies that are not done yet.

    Args:
        studies: Images.
        job: What is done with each.
        workers: Engines at once, on Ray (its cluster if RAY_ADDRESS is set); None for one engine in this process.
        retry_failed: Try those again that failed before.
        on_outcome: Told each outcome, how many have ended, and how many there are to do.
        on_progress: Told how far a study is, with one engine in this process.
        engine_factory: Makes an engine from a model and a device.
        cancel: Set it to stop, within one patch with one engine in this process; what was done is kept.

    Raises:
        InputError: A result would replace a study.
        OutputError: The folder or the manifest cannot be written, or it holds the results of another batch.
        PromptError: A name is not understood, and so in no study, because all have the modality of the job.
        ResourceError: Ray is wanted and not installed.
        CancelledError: `cancel` was set.
    """
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {job.output} cannot be made ({error}).", "Check the path.") from error
    names = result_names(studies, job.suffix)
    _check_replaces_no_study(studies, names, job.output)
    before = read_manifest(job.output)
    _check_same_batch(before, job)
    todo = [study for study in studies if not _settled(before.get(str(study)), job.output, retry_failed)]
    skipped = [before[str(study)] for study in studies if str(study) in before and study not in set(todo)]
    refused = [] if job.overwrite else _not_ours(todo, names, before, job)
    free = [study for study in todo if str(study) not in {outcome.study for outcome in refused}]
    work = _Work(free, names, job, engine_factory, on_progress, cancel or threading.Event())
    outcomes = work.here() if workers is None else work.on_ray(workers)
    done, failures = 0, []
    with contextlib.closing(outcomes):
        for number, outcome in enumerate(itertools.chain(refused, outcomes), 1):
            if job.modality is not None and outcome.kind == PromptError.__name__:
                raise PromptError(outcome.cause, outcome.remedy)
            append_outcome(job.output, outcome)
            done += outcome.state == "done"
            if outcome.state == "failed":
                failures.append(outcome)
            on_outcome(outcome, number, len(todo))
            if work.cancel.is_set():
                raise _cancelled()
    failed_before = tuple(outcome for outcome in skipped if outcome.state == "failed")
    return BatchSummary(done, len(skipped), tuple(failures), failed_before)


def _cancelled() -> CancelledError:
    return CancelledError("The batch was cancelled.", "Start it again to go on where it ended.")


def _check_replaces_no_study(studies: Sequence[Path], names: dict[Path, str], folder: Path) -> None:
    sources = {study.resolve() for study in studies}
    for name in names.values():
        if (folder / name).resolve() in sources:
            raise InputError(f"The result {name} would replace the study itself.", "Choose another folder.")


def _check_same_batch(before: dict[str, StudyOutcome], job: BatchJob) -> None:
    for outcome in before.values():
        if outcome.state != "failed" and outcome.asked != job.asked and (job.output / outcome.result).exists():
            raise OutputError(
                f"The folder {job.output} holds the results of another batch ({outcome.asked}).",
                "Choose another folder, or ask for the same.",
            )


def _not_ours(
    todo: Sequence[Path], names: dict[Path, str], before: dict[str, StudyOutcome], job: BatchJob
) -> list[StudyOutcome]:
    """Return a failure for each study whose result's name is taken by a file that no batch wrote."""
    refused = []
    for study in todo:
        known = before.get(str(study))
        if (known is None or known.state == "failed") and (job.output / names[study]).exists():
            cause = f"The file {names[study]} was there before the batch."
            remedy = "Move it away, or allow it to be replaced (--overwrite)."
            refused.append(job.failure(study, OutputError(cause, remedy)))
    return refused


def _settled(outcome: StudyOutcome | None, folder: Path, retry_failed: bool) -> bool:
    if outcome is None or outcome.state == "started":
        return False
    if outcome.state == "failed":
        return not retry_failed
    return (folder / outcome.result).exists()


@dataclass(frozen=True)
class _Work:
    """The studies that are left to do; both ways to do them yield an outcome as each ends.

    Attributes:
        studies: Images.
        names: File name of each result.
        job: What is done with each.
        factory: Makes an engine from a model and a device.
        on_progress: Told how far a study is.
        cancel: Set it to stop.
    """

    studies: Sequence[Path]
    names: dict[Path, str]
    job: BatchJob
    factory: Callable[[str, str], Engine]
    on_progress: ProgressOfStudy
    cancel: threading.Event

    def _begin(self, study: Path) -> None:
        """Note that a study is started: what a killed batch leaves is then known to be a batch's."""
        append_outcome(self.job.output, StudyOutcome(str(study), "started", self.names[study], asked=self.job.asked))

    def here(self) -> Generator[StudyOutcome, None, None]:
        """Segment one study after the other in this process."""
        if not self.studies:
            return
        with self.factory(self.job.model, self.job.device) as engine:
            for study in self.studies:
                self._begin(study)
                try:
                    yield segment_study(engine, study, self.job, self.names[study], self.on_progress, self.cancel)
                except CancelledError:
                    raise _cancelled() from None

    def on_ray(self, workers: int) -> Generator[StudyOutcome, None, None]:
        """Hand the studies to actors, one at a time each; a study whose actor died is tried once more."""
        if not self.studies:
            return
        ray, remote = _ray_worker(self.job, self.names, self.factory)
        idle = [remote.remote() for _ in range(max(1, min(workers, len(self.studies))))]
        waiting = list(reversed(self.studies))
        running: dict[Any, tuple[Any, Path]] = {}
        crashes: Counter[Path] = Counter()
        try:
            while waiting or running:
                while waiting and idle:
                    worker, study = idle.pop(), waiting.pop()
                    self._begin(study)
                    running[worker.segment.remote(study)] = (worker, study)
                finished, _ = ray.wait(list(running), num_returns=1, timeout=LISTEN_SECONDS)
                if self.cancel.is_set():
                    raise _cancelled()
                for one in finished:
                    worker, study = running.pop(one)
                    try:
                        outcome = ray.get(one)
                        idle.append(worker)
                        if isinstance(outcome, MedalSError):  # no worker can make its engine
                            raise outcome
                    except ray.exceptions.RayActorError as error:
                        idle.append(remote.remote())
                        crashes[study] += 1
                        if crashes[study] < CRASHES_ALLOWED:
                            waiting.append(study)
                            continue
                        cause = f"The worker process ended {CRASHES_ALLOWED} times ({type(error).__name__})."
                        remedy = "It probably ran out of memory."
                        outcome = StudyOutcome(str(study), "failed", cause=cause, remedy=remedy, asked=self.job.asked)
                    yield outcome
        finally:
            for worker in [*idle, *(worker for worker, _ in running.values())]:
                ray.kill(worker)


def _ray_worker(job: BatchJob, names: dict[Path, str], factory: Callable[[str, str], Engine]) -> tuple[Any, Any]:
    """Return Ray, connected, and the class of its workers: one engine each, in a process of its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ResourceError("Ray is not installed.", 'Install "medals[scale-out]" with pip.') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    job = replace(job, output=job.output.absolute())  # workers have other working folders

    class Worker:
        def __init__(self) -> None:
            self.engine: Engine | None = None

        def segment(self, study: Path) -> StudyOutcome | MedalSError:
            try:
                self.engine = self.engine or factory(job.model, job.device)
            except MedalSError as error:
                return error
            return replace(segment_study(self.engine, study.absolute(), job, names[study]), study=str(study))

    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
    return ray, ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
