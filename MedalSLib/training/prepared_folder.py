"""The folder that `medals prepare` makes: its grid, its data sets, and an index of its cases.

It holds `prepared.json` (the grid), `datasets.json` (modality and texts of each data set), `index.jsonl` (one case a
line), `rejected.json` (cases left out, and why) and `cases/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedalSLib import __version__
from MedalSLib.errors import InputError, OutputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.sources import DatasetInfo
from MedalSLib.training.texts import canonical_key
from MedalSLib.training.whole_files import write_json, write_text

FORMAT = "medals-prepared/1"


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


def claim(output: Path, spec: StageSpec) -> None:
    """Create a folder with its grid, or check that it is for this one.

    Raises:
        InputError: It was prepared for another grid, or is damaged.
        OutputError: It holds something else, or cannot be made.
    """
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


def write_index(folder: PreparedFolder) -> None:
    """Write what a folder holds: its data sets, the cases left out, and its cases."""
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
