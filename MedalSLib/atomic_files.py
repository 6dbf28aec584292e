"""Files that are whole at every moment: written aside in the same folder, then renamed."""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from MedalSLib.errors import OutputError

_LONG_SUFFIXES = (".seg.nrrd", ".nii.gz")
_CAUSES = {
    errno.ENOSPC: ("there is no space left on its disk", "Free some space, or write to another disk."),
    errno.EDQUOT: ("your quota on its disk is used up", "Free some space, or write to another disk."),
    errno.EACCES: ("you may not write there", "Choose a folder of your own, or ask for permission."),
    errno.EPERM: ("you may not write there", "Choose a folder of your own, or ask for permission."),
    errno.EROFS: ("its disk is read-only", "Choose another folder."),
}


def suffix_of(path: Path) -> str:
    """Return the file name's ending in lower case, ".seg.nrrd" and ".nii.gz" as one."""
    name = path.name.casefold()
    return next((suffix for suffix in _LONG_SUFFIXES if name.endswith(suffix)), Path(name).suffix)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well, and vanishes if not.

    It keeps the file name's ending, from which file libraries choose the format.

    Raises:
        OutputError: The disk is full or read-only, or permission is missing.
    """
    suffix = suffix_of(path)
    temporary = path.with_name(f".{path.name[: -len(suffix) or None]}.{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        cause, remedy = _CAUSES.get(error.errno or 0, (error.strerror or str(error), "Choose another place."))
        raise OutputError(f"{path} cannot be written: {cause}.", remedy) from error
    finally:
        with suppress(OSError):  # a leftover must not hide the reason of the failure
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: As `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file.

    Raises:
        OutputError: As `replacing`.
    """
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
