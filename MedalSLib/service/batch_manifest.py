"""The records of a batch: what is asked of each study, what came of it, and the file that remembers.

The manifest is a JSON-lines file beside the results, with a line when a study is started and one when it has ended; so
a batch that was interrupted goes on where it ended, what failed can be told from what was never tried, and a result
that a killed batch wrote from a file that was there before.  The last line of a study counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from MedalSLib.errors import OutputError

MANIFEST = "manifest.jsonl"


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
