"""Shared by reading and writing: checks of paths, errors that name the file, and atomic replacement of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from MedalSLib import atomic_files
from MedalSLib.errors import InputError, MedalSError, OutputError, ResourceError


def existing(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path.

    Raises:
        InputError: There is nothing, or an empty file, or a file that may not be read.
    """
    found = Path(path)
    if not found.exists():
        raise InputError(f"There is no file or folder {found}.", "Check the spelling of its path.")
    if not os.access(found, os.R_OK):
        raise InputError(f"{found} may not be read.", "Ask its owner for permission.")
    if found.is_file() and found.stat().st_size == 0:
        raise InputError(f"The file {found} is empty.", "Copy or export it again.")
    return found


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a file library raises while it reads `path` into an InputError that names the file.

    The libraries raise many kinds of exceptions on damaged files (zlib, struct, their own), so all of them are caught;
    the original stays attached as the cause.

    Raises:
        InputError: The file is damaged, cut short, or not of this kind.
        ResourceError: There is not enough memory for it.
    """
    try:
        yield
    except MedalSError:
        raise
    except MemoryError as error:
        raise ResourceError(
            f"There is not enough memory to read {path}.", "Close other programs or crop it."
        ) from error
    except Exception as error:
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise InputError(
            f"{path} cannot be read as {kind} ({reason or type(error).__name__}).",
            "It may be damaged or cut short: copy or export it again, or choose another file.",
        ) from error


def check_output(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Return `path` as a Path if a result may be written there; worth calling before a long run.

    Raises:
        OutputError: The folder is missing, the path is a folder, or the file exists and `overwrite` is False.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise OutputError(f"There is no folder {target.parent}.", "Create it, or choose another one.")
    if target.is_dir():
        raise OutputError(f"{target} is a folder.", "Give the name of a file.")
    if target.exists() and not overwrite:
        raise OutputError(
            f"{target} exists already.", "Choose another name, or allow it to be overwritten (--overwrite)."
        )
    return target


@contextmanager
def replacing(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces `path` if the block succeeds, and is deleted if it fails.

    Raises:
        OutputError: As `check_output`; or the disk is full or read-only, or permission is missing.
    """
    target = check_output(path, overwrite)
    with atomic_files.replacing(target) as temporary:
        yield temporary
        check_output(target, overwrite)  # another program may have written it meanwhile
