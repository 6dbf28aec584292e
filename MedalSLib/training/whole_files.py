"""Small files that are whole at every moment: written aside, then renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from MedalSLib.errors import OutputError


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
