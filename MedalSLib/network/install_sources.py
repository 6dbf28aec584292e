"""Copy, unpack or download a model's files into a staging folder."""

from __future__ import annotations

import shutil
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from MedalSLib.atomic_files import writing
from MedalSLib.errors import CancelledError, ModelError, OutputError
from MedalSLib.network import published
from MedalSLib.network.download import RemoteFile, download, list_repository
from MedalSLib.network.manifest import MANIFEST_NAME, Manifest, file_sha256, parse_manifest, read_manifest

OnProgress = Callable[[int, int], None]
"""Called as (bytes done, bytes in all)."""

_BLOCK = 1 << 20
_MARGIN = 64 << 20  # bytes that stay free on the disk


class Steps:
    """Progress over several steps in bytes, and the user's request to cancel.

    Attributes:
        total: Bytes in all; 0 until known.
        cancel: Set by the user to stop.
    """

    def __init__(self, on_progress: OnProgress | None = None, cancel: threading.Event | None = None) -> None:
        self.total = 0
        self.cancel = cancel
        self._done = 0
        self._on_progress = on_progress

    def __call__(self, count: int) -> None:
        """Count bytes as done (negative: to be done again).

        Raises:
            CancelledError: The user wants to stop.
        """
        if self.cancel is not None and self.cancel.is_set():
            raise CancelledError("The installation was cancelled.")
        self._done += count
        if self._on_progress:
            self._on_progress(self._done, self.total)


def describe_folder(folder: Path) -> Manifest:
    """Return the manifest of a model folder; a folder with the published files gets the built-in one.

    Raises:
        ModelError: The folder holds no model.
    """
    if not (folder / MANIFEST_NAME).exists() and published.is_published_folder(folder):
        return published.published_manifest(published.find_networks(folder))
    return read_manifest(folder)


def require_space(folder: Path, size: int) -> None:
    """Check that a disk has room.

    Raises:
        OutputError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        raise OutputError(
            f"There is no space left for the model: it takes {size / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free "
            f"in {folder}.",
            "Free some space, or set MEDALS_HOME to a folder on a larger disk.",
        )


def copy_model(folder: Path, staging: Path, steps: Steps) -> Manifest:
    """Copy the files that a model's manifest names, and record the checksums it lacks.

    Args:
        folder: The model's folder.
        staging: Where to copy to.
        steps: Progress and cancel.

    Raises:
        ModelError: The folder holds no model, or files are missing or damaged.
        CancelledError: The user wants to stop.
        OutputError: No space left.
    """
    manifest = describe_folder(folder)
    sums = manifest.checksums()
    if missing := [path for path in sums if not (folder / path).is_file()]:
        raise ModelError(
            f"The folder {folder} lacks files of the model: {', '.join(missing)}.", "Fetch the whole model."
        )
    size = sum((folder / path).stat().st_size for path in sums)
    require_space(staging, size)
    steps.total = steps.total or 2 * size  # each file is copied and hashed
    recorded = {}
    for path, expected in sums.items():
        with (folder / path).open("rb") as read:
            _write(read, staging / path, steps)
        recorded[path] = file_sha256(staging / path, on_bytes=steps)
        if expected and recorded[path] != expected:
            raise ModelError(f"The model in {folder} is damaged: wrong checksum of {path}.", "Fetch the model again.")
    return manifest.with_checksums(recorded)


def archive_manifest(archive: Path) -> Manifest | None:
    """Read the manifest inside an archive without unpacking it; None for one of the published files.

    Raises:
        ModelError: No archive, a damaged one, or one without a model.
    """
    with _opened(archive) as opened:
        names = sorted(opened.namelist(), key=len)
        for name in names:
            if PurePosixPath(name).name == MANIFEST_NAME and name.count("/") <= 1:
                return parse_manifest(opened.read(name), f"{archive.name}/{name}")
        if any(PurePosixPath(name).name == published.TEXT_ENCODER for name in names):
            return None
    raise ModelError(f"The archive {archive.name} holds no model.", f"A model has a {MANIFEST_NAME}.")


def unpack_zip(archive: Path, target: Path, steps: Steps) -> Path:
    """Unpack an archive and return the folder in it that holds the model.

    Args:
        archive: A zip.
        target: Where to unpack to.
        steps: Progress and cancel.

    Raises:
        ModelError: No archive, a damaged one, one with entries that would land elsewhere, or one without a model.
        CancelledError: The user wants to stop.
        OutputError: No space left.
    """
    with _opened(archive) as opened:
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        for entry in entries:
            _require_harmless(entry, archive)
        size = sum(entry.file_size for entry in entries)
        require_space(target, 2 * size)  # the unpacked files, and their copies in the staging folder
        steps.total = 3 * size  # each file is unpacked, copied and hashed
        for entry in entries:
            with opened.open(entry) as read:
                _write(read, target / entry.filename, steps)
    for folder in (target, *sorted(path for path in target.iterdir() if path.is_dir())):
        if (folder / MANIFEST_NAME).is_file() or published.is_published_folder(folder):
            return folder
    raise ModelError(f"The archive {archive.name} holds no model.", f"A model has a {MANIFEST_NAME}.")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what is wrong with it becomes an error that names it."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"The archive {archive.name} cannot be unpacked ({error}).", "Fetch it again.") from error


def _write(read: IO[bytes], target: Path, steps: Steps) -> None:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            while block := read.read(_BLOCK):
                out.write(block)
                steps(len(block))


def _require_harmless(entry: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename or link:
        raise ModelError(
            f"The archive {archive.name} is not safe: {entry.filename} would be written outside the model's folder.",
            "It was not unpacked. Fetch it from a source that you trust.",
        )


def fetch_published(staging: Path, steps: Steps) -> Manifest:
    """Fetch the published model from the hub; `staging` is kept between attempts, so that they go on.

    Raises:
        ModelError: The network is forbidden or fails, or the repository does not hold what it should.
        CancelledError: `cancel` was set.
        OutputError: No space left.
    """
    revision, wanted = _published_files()
    size = sum(file.size for file in wanted.values())
    present = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    require_space(staging, max(size - present, 0))
    steps.total = size
    sums = {path: download(file, staging / path, steps, steps.cancel) for path, file in wanted.items()}
    networks = {stage: path for path in wanted if (stage := published.network_stage(path))}
    manifest = published.published_manifest(networks).with_checksums(sums)
    return Manifest.from_dict(manifest.to_dict() | {"source": f"{manifest.source} at {revision}"})


def _published_files() -> tuple[str, dict[str, RemoteFile]]:
    """Return the repository's revision, and its files by the path they get in the model's folder."""
    revision, files = list_repository(published.REPOSITORY)
    wanted: dict[str, RemoteFile] = {}
    for file in files:
        name = PurePosixPath(file.path).name
        if name == published.TEXT_ENCODER or published.network_stage(name):
            wanted[name] = file
        inner = "/".join(PurePosixPath(file.path).parts[-2:])
        if inner in published.LANGUAGE_MODEL_FILES:
            wanted[inner] = file
    if not all(path in wanted for path in published.LANGUAGE_MODEL_FILES):
        _, others = list_repository(published.LANGUAGE_MODEL_REPOSITORY)
        wanted |= {
            f"{published.LANGUAGE_MODEL}/{file.path}": file
            for file in others
            if f"{published.LANGUAGE_MODEL}/{file.path}" in published.LANGUAGE_MODEL_FILES
        }
    stages = [published.network_stage(path) for path in wanted]
    complete = all(stages.count(stage) == 1 for stage in published.NETWORKS)
    if not complete or not {published.TEXT_ENCODER, *published.LANGUAGE_MODEL_FILES} <= wanted.keys():
        raise ModelError(
            f"The repository {published.REPOSITORY} does not hold the files of the published model as expected "
            f"(found: {', '.join(sorted(wanted)) or 'none'}).",
            "Fetch the files by hand into one folder and install from there.",
        )
    return revision, wanted
