"""Shared by reading and writing: checks of paths, errors that name the file, and atomic replacement of files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from MedalSLib import atomic_files
from MedalSLib.errors import InputError, MedalSError, OutputError, ResourceError

_LONGEST_SHOWN = 300


def existing(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path.

    Raises:
        InputError: There is nothing, or an empty file, or a file that may not be read.
    """
    found = Path(path)
    try:
        is_there = found.exists()
    except (OSError, ValueError):  # longer than any name may be, or with a zero byte
        is_there = False
    if not is_there:
        raise InputError(f"There is no file or folder {_shown(found)}.", "Check the spelling of its path.")
    if not (found.is_file() or found.is_dir()):
        raise InputError(f"{found} is neither a file nor a folder.", "Choose a file.")
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
        OutputError: The folder is missing or not writable, the name is too long, the path is a folder, or the file
            exists and `overwrite` is False.
    """
    target = Path(path)
    try:
        with atomic_files.writing(target):
            if not target.parent.is_dir():
                raise OutputError(f"There is no folder {_shown(target.parent)}.", "Create it, or choose another one.")
            if target.is_dir():
                raise OutputError(f"{target} is a folder.", "Give the name of a file.")
            if target.exists() and not overwrite:
                raise OutputError(
                    f"{target} exists already.", "Choose another name, or allow it to be overwritten (--overwrite)."
                )
            if target.exists() and not target.is_file():
                raise OutputError(f"{target} is not a file.", "Give the name of a file.")
    except ValueError as error:
        raise OutputError(f"{_shown(target)} is no name of a file.", "Choose another name.") from error
    atomic_files.check_writable(target)
    return target


def output_folder(folder: Path) -> Path:
    """Make a folder for results, if it is not there, and try whether files can be written into it.

    Raises:
        OutputError: It cannot be made, is a file, or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{_shown(folder)} is a file, not a folder.", "Give the name of a folder.") from error
    except OSError as error:
        raise OutputError(
            f"The folder {_shown(folder)} cannot be made ({error.strerror}).", "Choose another one."
        ) from error
    except ValueError as error:
        raise OutputError(f"{_shown(folder)} is no name of a folder.", "Choose another name.") from error
    atomic_files.check_writable(folder / "trial")
    return folder


def check_not_input(target: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over a file that is read, whatever may be overwritten.

    Raises:
        OutputError: `target` is one of the inputs, under whatever name.
    """
    for source in inputs:
        try:
            is_same = target.exists() and source.exists() and target.samefile(source)
        except (OSError, ValueError):
            continue  # what is wrong with the path is said by who reads or writes it
        if is_same:
            raise OutputError(f"{target} is an input of this run, which would be lost.", "Choose another name.")


def check_room(target: Path, needed: int) -> None:
    """Refuse to begin what will not fit on the disk.

    Args:
        target: The file that will be written.
        needed: Its size in bytes, or the least that it can be.

    Raises:
        OutputError: There is less room than that.
    """
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError:
        return  # not every file system says it
    if free < needed:
        raise OutputError(
            f"There are {free >> 20} MiB left on the disk of {target}, and the result needs about "
            f"{max(1, needed >> 20)} MiB.",
            "Free some space, or write to another disk.",
        )


def _shown(path: Path) -> str:
    """Return a path short enough to be read."""
    text = str(path).replace("\0", "\\0")
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


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
