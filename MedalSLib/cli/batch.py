"""`medals batch`: the same structures in every image of a folder, to be interrupted and gone on with at will."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from MedalSLib import errors
from MedalSLib.cli.console import Commands, StepBar, cancel_on_interrupt, note, print_json, read_key
from MedalSLib.errors import InputError, PromptError

if TYPE_CHECKING:
    from MedalSLib.engine.interface import Engine
    from MedalSLib.run import Progress
    from MedalSLib.service.batch import BatchSummary
    from MedalSLib.service.batch_files import StudyOutcome

_DESCRIPTION = """\
Segment the structures named in --text in every study of SOURCE, and write the results into one folder.

SOURCE is a folder (searched with its subfolders for NIfTI, NRRD and MetaImage files and for folders of DICOM files), a
text file with one path a line, or one image. Labelmaps (ct_seg.nii.gz and the like) are no studies. Each study that has
ended is a line of manifest.jsonl in the output folder, with the state "done": its result, seconds and volumes; or
"failed": why. Give the same command again after an interruption: only what is missing is done. A study that fails does
not stop the others.
"""
_EPILOG = """\
examples:
  medals batch studies --text "liver, spleen" --modality CT -o results
  medals batch studies.txt --text "lung lobes" --modality CT -o results --format .nii.gz --workers 4
  medals batch studies --text "liver, spleen" --modality CT -o results --retry-failed

exit codes: 0 all studies are done, else that of the last failure (see medals --help), 130 stopped with Ctrl-C
"""
FORMATS = (".seg.nrrd", ".nii.gz", ".nii", ".npz")


def add_commands(commands: Commands) -> None:
    """Add `medals batch` to the parser."""
    parser = commands.add_parser(
        "batch",
        help="segment the same structures in many studies",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder, list of paths (.txt), or image")
    parser.add_argument("--text", default="", help='names as you would say them: "liver, lt kidney, L1-L5"')
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="folder for results and manifest (made if missing)")  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default=".seg.nrrd", metavar="ENDING",
                        help=f"of the results: {', '.join(FORMATS)} (default: %(default)s)")  # fmt: skip
    parser.add_argument("--modality", help="CT, MRI, US, PET or Microscopy, of all studies (default: guess each; with "
                        "it, a name that is not understood is said at once)")  # fmt: skip
    parser.add_argument("--model", default="starter", help="installed model, folder, or URL of a server (%(default)s)")
    parser.add_argument("--api-key-file", type=Path, help="file with the key of the server")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random prompt blocks (default: %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N",
                        help="N engines at once, on Ray: a GPU each, of the cluster of RAY_ADDRESS or this machine "
                        "(default: one engine in this process, without Ray)")  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true", help="try the studies again that failed before")
    parser.add_argument("--overwrite", action="store_true", help="replace results that the manifest does not know")
    parser.add_argument("--list", action="store_true", help="only say which studies there are, and do nothing")
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.add_argument("--quiet", action="store_true", help="no progress and no messages")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Segment what is not done yet; the exit code is that of the last failure."""
    from MedalSLib.service.batch import run_batch
    from MedalSLib.service.batch_files import MANIFEST, BatchJob, find_studies
    from MedalSLib.volume.files import existing, output_folder

    if arguments.list:
        return _list(arguments)
    if arguments.output is None:
        arguments.refuse("give -o DIR, or --list")
    if not arguments.text.strip():
        raise PromptError("Nothing was asked for.", 'Name structures with --text "liver, spleen".')
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(f"There cannot be {arguments.workers} workers.", "Give --workers 1 or more.")
    labelmaps: list[Path] = []
    studies = find_studies(existing(arguments.source), arguments.output, labelmaps)
    output_folder(arguments.output)
    if labelmaps:
        note(f"{len(labelmaps)} labelmaps are no studies and were left out ({labelmaps[0].name}, ...)", arguments.quiet)
    manifest = arguments.output / MANIFEST
    note(f"{len(studies)} studies; the manifest is {manifest}", arguments.quiet)
    job = BatchJob(
        (arguments.text,),
        arguments.output,
        arguments.format,
        arguments.modality,
        arguments.model,
        arguments.device,
        arguments.seed,
        arguments.overwrite,
    )
    with _Display(len(studies), arguments.quiet) as display, cancel_on_interrupt() as cancel:
        summary = run_batch(
            studies,
            job,
            workers=arguments.workers,
            retry_failed=arguments.retry_failed,
            on_outcome=display.outcome,
            on_progress=display.progress,
            engine_factory=_EngineFactory(arguments.api_key_file),
            cancel=cancel,
        )
    _tell(summary, arguments, manifest)
    failed = [*summary.failed_before, *summary.failures]
    return _exit_code(failed[-1]) if failed else 0


def _list(arguments: argparse.Namespace) -> int:
    from MedalSLib.service.batch_files import find_studies, result_names
    from MedalSLib.volume.files import existing

    labelmaps: list[Path] = []
    names = result_names(find_studies(existing(arguments.source), arguments.output, labelmaps), arguments.format)
    if arguments.json:
        print_json({"studies": {str(study): name for study, name in names.items()}, "labelmaps": labelmaps})
        return 0
    for study, name in names.items():
        print(f"{study}  ->  {name}")
    note(f"{len(names)} studies, {len(labelmaps)} labelmaps left out", arguments.quiet)
    return 0


class _EngineFactory:
    """Opens engines, in this process and in workers.

    Args:
        key_file: File with the key of a server.
    """

    def __init__(self, key_file: Path | None) -> None:
        self._options = read_key(key_file)

    def __call__(self, model: str, device: str) -> Engine:
        from MedalSLib.engine import open_engine

        return open_engine(model, device, **self._options)


class _Display:
    """A bar that counts studies, with the share of the one in progress; a line for each that has ended."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = StepBar()
        self._ended = 0
        self._total = total

    def progress(self, study: Path, progress: Progress) -> None:
        """Show how far a study is."""
        if not self._quiet:
            self._bar("studies", self._ended, self._total, f"{study.name} {100 * progress.fraction:.0f}%")

    def outcome(self, outcome: StudyOutcome, ended: int, total: int) -> None:
        """Show that a study has ended.

        Args:
            outcome: What came of it.
            ended: Studies that have ended.
            total: Studies there are to do.
        """
        self._ended, self._total = ended, total
        name = Path(outcome.study).name
        said = f"{outcome.seconds:.1f} s" if outcome.state == "done" else f"failed: {outcome.cause} {outcome.remedy}"
        note(f"{ended}/{total} {name}: {said.strip()}", self._quiet)
        if not self._quiet:
            self._bar("studies", ended, total, "")

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.__exit__(*details)


def _tell(summary: BatchSummary, arguments: argparse.Namespace, manifest: Path) -> None:
    failed = [*summary.failed_before, *summary.failures]
    if arguments.json:
        print_json(
            {
                "done": summary.done,
                "skipped": summary.skipped,
                "failed": [asdict(outcome) for outcome in failed],
                "output": str(arguments.output),
                "manifest": str(manifest),
            }
        )
    if failed and arguments.quiet:
        note(f"medals: {len(failed)} studies failed, the last one because: {failed[-1].cause}")
    note(f"done {summary.done}, done or failed before {summary.skipped}, failed {len(failed)}", arguments.quiet)
    if summary.failed_before:
        note(f"{len(summary.failed_before)} that failed before were left out; --retry-failed tries them again.")


def _exit_code(outcome: StudyOutcome) -> int:
    return int(getattr(errors, outcome.kind, errors.MedalSError).exit_code) if outcome.kind else 1
