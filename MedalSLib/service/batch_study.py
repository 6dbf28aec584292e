"""One study of a batch: read, segmented, written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.run import Progress, RunOptions
from MedalSLib.service.batch_files import BatchJob, StudyOutcome
from MedalSLib.service.batch_report import save_thumbnail, thumbnail_of
from MedalSLib.service.logs import log_exception
from MedalSLib.vocabulary import describe
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.writing import check_segmentation_output, write_or_keep

ProgressOfStudy = Callable[[Path, Progress], None]


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
        _save_picture(job.output / thumbnail_of(result), image, found.box_masks, infos)
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
    cut_off = {name: entry.cut_off_words for name, entry in found.report.structures.items() if entry.cut_off}
    notes += [f"{name}: {words}" for name, words in cut_off.items()]
    edges = tuple(cut_off)
    return StudyOutcome(str(study), "done", result, seconds, volumes, asked=job.asked, notes=notes, edges=edges)


def _save_picture(
    path: Path, image: Image, masks: Mapping[str, BoxMask], infos: Mapping[str, SegmentInfo | None]
) -> None:
    """Save the picture of the summary; the result is worth as much without it."""
    try:
        path.parent.mkdir(exist_ok=True)
        save_thumbnail(path, image, masks, infos)
    except Exception as error:
        log_exception("no_thumbnail", error)
