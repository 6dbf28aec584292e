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
from MedalSLib.atomic_files import empty_folder, write_json, write_text
from MedalSLib.errors import InputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.records import from_json, read_json, to_json
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.sources import DatasetInfo
from MedalSLib.training.texts import canonical_key

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

    def report(self) -> dict[str, Any]:
        """Return what was prepared as JSON-ready values."""
        return {
            "folder": str(self.root),
            "cases": len(self.cases),
            "datasets": {name: sum(case.dataset == name for case in self.cases) for name in sorted(self.datasets)},
            "structures": list(self.classes()),
            "spacing_hwd": list(self.spec.spacing_hwd),
            "patch_hwd": list(self.spec.patch_hwd),
            "rejected": [{"case": case, "reason": reason} for case, reason in self.rejected],
            "notes": {case.identifier: list(case.notes) for case in self.cases if case.notes},
        }


def open_prepared(root: Path) -> PreparedFolder:
    """Open a prepared folder.

    Raises:
        InputError: It is none, or it is damaged, or its preparation was not finished.
    """
    try:
        grid = read_json(root / "prepared.json", "file")
        facts = {key: value for key, value in grid.items() if key not in ("format", "software")}
        spec = from_json(StageSpec, facts, "prepared.json")
        datasets = {
            name: from_json(DatasetInfo, {"name": name} | entry, f"datasets.json, {name}")
            for name, entry in read_json(root / "datasets.json", "file").items()
        }
        lines = (root / "index.jsonl").read_text(encoding="utf-8").splitlines()
        records = tuple(from_json(CaseRecord, json.loads(line), "index.jsonl") for line in lines if line.strip())
        rejected = [(entry["case"], entry["reason"]) for entry in read_json(root / "rejected.json", "file")]
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{root} is not a folder of prepared cases ({error}).", "Run `medals prepare` first."
        ) from error
    return PreparedFolder(root, spec, datasets, records, tuple(rejected))


def claim(output: Path, spec: StageSpec) -> None:
    """Create a folder with its grid, or check that it is for this one.

    Raises:
        InputError: It was prepared for another grid, or is damaged.
        OutputError: It holds something else, or cannot be made.
    """
    wanted = {"format": FORMAT} | to_json(spec)
    path = output / "prepared.json"
    if path.is_file():
        found = read_json(path, "description of the prepared folder")
        if {key: found.get(key, "published" if key == "resampling" else None) for key in wanted} != wanted:
            raise InputError(
                f"{output} was prepared for another grid ({found.get('spacing_hwd')} mm, {found.get('patch_hwd')}).",
                "Choose another output folder.",
            )
        return
    empty_folder(output)
    write_json(path, wanted | {"software": __version__})


def write_index(folder: PreparedFolder) -> None:
    """Write what a folder holds: its data sets, the cases left out, and its cases."""
    datasets = {name: to_json(info) for name, info in folder.datasets.items()}
    for entry in datasets.values():
        del entry["name"]  # it is the key
    write_json(folder.root / "datasets.json", datasets)
    write_json(folder.root / "rejected.json", [{"case": case, "reason": reason} for case, reason in folder.rejected])
    lines = "".join(json.dumps(to_json(record), ensure_ascii=False) + "\n" for record in folder.cases)
    write_text(folder.root / "index.jsonl", lines)
