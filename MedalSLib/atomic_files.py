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
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter name."),
}
_LONGEST_STEM = 80  # bytes; a name may have 255, and the temporary one has a token more


def suffix_of(path: Path) -> str:
    """Return the file name's ending in lower case, ".seg.nrrd" and ".nii.gz" as one."""
    name = path.name.casefold()
    return next((suffix for suffix in _LONG_SUFFIXES if name.endswith(suffix)), Path(name).suffix)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures to write a file into an error that says why.

    Raises:
        OutputError: The disk is full or read-only, or permission is missing.
    """
    try:
        yield
    except OSError as error:
        cause, remedy = _CAUSES.get(error.errno or 0, (error.strerror or str(error), "Choose another place."))
        raise OutputError(f"{path} cannot be written: {cause}.", remedy) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well, and vanishes if not.

    It keeps the file name's ending, from which file libraries choose the format.

    Raises:
        OutputError: As `writing`.
    """
    temporary = _temporary(path)
    try:
        with writing(path):
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):  # a leftover must not hide the reason of the failure
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Try whether a file could be written, by making a temporary one beside it; nothing stays behind.

    Raises:
        OutputError: As `replacing`.
    """
    temporary = _temporary(path)
    with writing(path):
        path.exists()  # raises if the name itself is too long
        temporary.touch(exist_ok=False)
        temporary.unlink()


def _temporary(path: Path) -> Path:
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix) or None].encode(errors="surrogateescape")[:_LONGEST_STEM]
    return path.with_name(f".{stem.decode(errors='ignore')}.{secrets.token_hex(4)}{suffix}")


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: As `writing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file.

    Raises:
        OutputError: As `writing`.
    """
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def empty_folder(path: Path) -> None:
    """Make a folder, or check that the one that is there is empty.

    Raises:
        OutputError: It holds something, or cannot be made.
    """
    if path.exists() and any(path.iterdir()):
        raise OutputError(f"The folder {path} is not empty.", "Choose another one.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {path} cannot be made ({error.strerror}).", "Choose another one.") from error
