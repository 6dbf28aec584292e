"""The same structures in thousands of studies: resumable, with a manifest, on Ray for more than one engine."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, InputError, OutputError, PromptError
from MedalSLib.service.batch_files import BatchJob, StudyOutcome, append_outcome, read_manifest, result_names
from MedalSLib.service.batch_lock import only_batch_in
from MedalSLib.service.batch_report import write_summary
from MedalSLib.service.batch_study import ProgressOfStudy, segment_study

UNWRITTEN_IN_A_ROW = 3
"""Studies in a row whose result could not be written, after which a batch stops: the disk is full."""


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


def run_batch(
    studies: Sequence[Path],
    job: BatchJob,
    *,
    workers: int | None = None,
    retry_failed: bool = True,
    on_outcome: Callable[[StudyOutcome, int, int], None] = lambda outcome, done, total: None,
    on_progress: ProgressOfStudy = lambda study, progress: None,
    engine_factory: Callable[[str, str], Engine] = open_engine,
    cancel: threading.Event | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> BatchSummary:
    """Segment the studies that are not done yet, and write a summary of all of them.

    Args:
        studies: Images.
        job: What is done with each.
        workers: Engines at once, on Ray (its cluster if RAY_ADDRESS is set); None for one engine in this process.
        retry_failed: Try those again that failed before.
        on_outcome: Told each outcome, how many have ended, and how many there are to do.
        on_progress: Told how far a study is, with one engine in this process.
        engine_factory: Makes an engine from a model and a device.
        cancel: Set it to stop, within one patch with one engine in this process; what was done is kept.
        say: Told what the user should know about the workers.

    Raises:
        InputError: A result would replace a study.
        OutputError: The folder cannot be written, another batch works there, or it holds the results of another one.
        PromptError: A name is not understood, and so in no study, because all have the modality of the job.
        ResourceError: Ray is wanted and not installed.
        CancelledError: `cancel` was set.
    """
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {job.output} cannot be made ({error}).", "Check the path.") from error
    with only_batch_in(job.output):
        names = result_names(studies, job.suffix)
        _check_replaces_no_study(studies, names, job.output)
        before = read_manifest(job.output)
        _check_same_batch(before, job)
        todo = [study for study in studies if not _settled(before.get(str(study)), job.output, retry_failed)]
        waiting = {str(study) for study in todo}
        # In the order of the studies: the last failure is the one whose code the command ends with.
        skipped = [before[study] for study in dict.fromkeys(map(str, studies)) if study not in waiting]
        refused = [] if job.overwrite else _not_ours(todo, names, before, job)
        taken = {outcome.study for outcome in refused}
        free = [study for study in todo if str(study) not in taken]
        work = _Work(free, names, job, engine_factory, on_progress, cancel or threading.Event())
        outcomes = work.here() if workers is None else work.on_ray(workers, say)
        done, failures = 0, []
        try:
            with contextlib.closing(outcomes):
                for number, outcome in enumerate(itertools.chain(refused, _writable(outcomes)), 1):
                    if job.modality is not None and outcome.kind == PromptError.__name__:
                        raise PromptError(outcome.cause, outcome.remedy)
                    append_outcome(job.output, outcome)
                    done += outcome.state == "done"
                    if outcome.state == "failed":
                        failures.append(outcome)
                    on_outcome(outcome, number, len(todo))
                    if work.cancel.is_set():
                        raise _cancelled()
        finally:
            ended = [outcome for outcome in read_manifest(job.output).values() if outcome.state != "started"]
            with contextlib.suppress(OutputError):  # a summary that cannot be written hides no other error
                write_summary(job.output, ended)
        failed_before = tuple(outcome for outcome in skipped if outcome.state == "failed")
        return BatchSummary(done, len(skipped), tuple(failures), failed_before)


def _writable(outcomes: Iterable[StudyOutcome]) -> Generator[StudyOutcome, None, None]:
    """Pass outcomes on until the results of several in a row could not be written: no other study could be."""
    unwritten = 0
    for outcome in outcomes:
        yield outcome
        unwritten = unwritten + 1 if outcome.kind == OutputError.__name__ else 0
        if unwritten == UNWRITTEN_IN_A_ROW:
            raise OutputError(outcome.cause, f"{outcome.remedy} Then give the same command again.")


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

    def on_ray(self, workers: int, say: Callable[[str], None]) -> Generator[StudyOutcome, None, None]:
        """Hand the studies to Ray's workers."""
        if not self.studies:
            return
        from MedalSLib.service.batch_workers import RayWorkers

        def stop() -> None:
            if self.cancel.is_set():
                raise _cancelled()

        pool = RayWorkers(self.job, self.names, self.factory, workers, self._begin, say)
        yield from pool.work(list(self.studies), stop)
