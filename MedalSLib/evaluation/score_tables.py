"""Tables and folders of scores: CSV out of dataclasses, JSON without NaN, and no file overwritten unasked."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from MedalSLib.errors import OutputError
from MedalSLib.volume import files
from MedalSLib.volume.files import replacing


def output_folder(folder: Path, names: Iterable[str], overwrite: bool) -> Path:
    """Make a folder for results.

    Args:
        folder: The folder; made if needed.
        names: Names of the files that will be written.
        overwrite: Whether they may be there already.

    Raises:
        OutputError: One of the files is there already, or the folder cannot be made.
    """
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise OutputError(
            f"{folder / existing[0]} exists already.", "Choose another folder, or allow it to be overwritten."
        )
    return files.output_folder(folder)


def write_table(path: Path, kind: type[Any], rows: Sequence[Any], overwrite: bool) -> None:
    """Write dataclasses of a kind as CSV, a column for each field; NaN is an empty cell.

    Args:
        path: The CSV file.
        kind: The dataclass, whose fields are the columns.
        rows: Instances of it.
        overwrite: Whether the file may be there already.
    """
    with replacing(path, overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in asdict(row).items()} for row in rows)


def write_report(path: Path, report: Mapping[str, Any], overwrite: bool) -> None:
    """Write a report as JSON.

    Args:
        path: The JSON file.
        report: JSON-ready values.
        overwrite: Whether the file may be there already.
    """
    with replacing(path, overwrite) as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def json_ready(values: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not have, by null."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
