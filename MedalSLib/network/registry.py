"""The models known on this computer: bundled, installed in the user's folder, and available for download.

Needs no torch.  Installed models live in one folder per user (`MEDALS_HOME`, else the platform's place for data); a
model appears there in one step, whole and verified, or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from MedalSLib.errors import ModelError, OutputError
from MedalSLib.network import published
from MedalSLib.network.install_sources import (
    OnProgress,
    Steps,
    archive_manifest,
    copy_model,
    describe_folder,
    fetch_published,
    unpack_zip,
)
from MedalSLib.network.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_files, write_manifest
from MedalSLib.resources import resource

BUNDLED = "starter"
_PUBLISHED_BYTES = 1_314_000_000  # two networks of 109.4 M and a text encoder of 110 M float32 weights


@dataclass(frozen=True)
class ModelEntry:
    """A model as `list_models` shows it.

    Attributes:
        name: Its short name.
        title: The model in words.
        version: Version of the weights.
        state: "bundled", "installed", "available" (to be fetched) or "damaged" (installed, manifest unreadable).
        licence: Licence of the weights.
        licence_url: Where it can be read.
        size_bytes: Size of its files; an estimate while they are not here.
        folder: Where its files are; "" while they are not here.
        classes: Structures it knows, as "MODALITY_Published name".
        card: The model card, Markdown.
    """

    name: str
    title: str
    version: str
    state: str
    licence: str
    licence_url: str
    size_bytes: int
    folder: str
    classes: tuple[str, ...] = ()
    card: str = ""


def home() -> Path:
    """Return the user's folder for models and unfinished downloads (it need not exist)."""
    if override := os.environ.get("MEDALS_HOME"):
        return Path(override).expanduser()
    from platformdirs import user_data_path

    return user_data_path("MedalS", appauthor=False)


def list_models() -> list[ModelEntry]:
    """Return the bundled model, the installed ones by name, and those available for download."""
    entries = []
    if (bundled := _bundled_folder()) is not None:
        entries.append(_entry(read_manifest(bundled), "bundled", bundled))
    folders = sorted(path for path in _models().iterdir() if path.is_dir()) if _models().is_dir() else []
    entries += [_installed_entry(folder) for folder in folders]
    if published.NAME not in {entry.name for entry in entries}:
        entries.append(replace(_entry(_published_stand_in(), "available"), size_bytes=_PUBLISHED_BYTES))
    return entries


def show(name: str) -> ModelEntry:
    """Return one model.

    Raises:
        ModelError: No such model.
    """
    known = {entry.name: entry for entry in reversed(list_models())}
    if name not in known:
        names = ", ".join(reversed(known))
        raise ModelError(f'There is no model "{name}".', f"Known: {names}. A model's folder can be named instead.")
    return known[name]


def model_folder(name: str) -> Path:
    """Return the folder of a bundled or installed model.

    Raises:
        ModelError: No such model, or it is not installed.
    """
    entry = show(name)
    if not entry.folder:
        raise ModelError(f'The model "{name}" is not installed.', f"Install it first: medals models install {name}")
    return Path(entry.folder)


def find_folder(name_or_path: str | Path) -> Path:
    """Return the folder of a model named in either way; a known name goes before a folder that is called the same.

    Raises:
        ModelError: No such model or folder, or it is not installed.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir() and str(name_or_path) not in {entry.name for entry in list_models() if entry.folder}:
        return path
    return model_folder(str(name_or_path))


def licence_notice(name: str, source: str | Path | None = None) -> str:
    """Return what the user must read before the model is installed: licence, address, size.

    Args:
        name: A model's name, or the folder or zip it is installed from.
        source: Folder or zip to install from.

    Raises:
        ModelError: No such model.
    """
    where = _source_of(name, source)
    if where is not None and where.is_dir():
        entry = _entry(describe_folder(where), "available", where)
    elif where is not None:
        manifest = archive_manifest(where) or _published_stand_in()
        entry = replace(_entry(manifest, "available", where), size_bytes=where.stat().st_size)
    else:
        entry = show(name)
    text = published.LICENCE_TEXT if entry.name == published.NAME else f"Licence of the weights: {entry.licence}."
    return f"{entry.title}\n{text}\nLicence: {entry.licence_url}\nSize: {entry.size_bytes / 2**20:.0f} MiB"


def install(
    name: str | Path,
    source: str | Path | None = None,
    *,
    accept_licence: bool = False,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> ModelEntry:
    """Install a model; what is there already and whole is left as it is.

    Args:
        name: A known model ("medals-v1"), or a folder or zip with one.
        source: Folder or zip to take it from instead of fetching it.
        accept_licence: Whether the user accepted what `licence_notice` says.
        on_progress: Called as (bytes done, bytes in all).
        cancel: Set it to stop; a download goes on where it stopped the next time.

    Raises:
        ModelError: The licence is not accepted; no such model; files are missing, damaged or unsafe; no network.
        OutputError: No space left, or the folder cannot be written.
        CancelledError: `cancel` was set.
    """
    where = _source_of(name, source)
    if not accept_licence:
        raise ModelError(
            f"The licence was not accepted, so nothing was installed.\n{licence_notice(str(name), source)}",
            "Read it, then accept it (on the command line: --accept-licence).",
        )
    if where is not None:
        expected = None if source is None else str(name)
        return _install_local(where, expected, on_progress, cancel)
    entry = show(str(name))
    if entry.state == "bundled" or (entry.state == "installed" and _is_whole(Path(entry.folder))):
        return entry
    if entry.name != published.NAME:
        raise ModelError(f'The model "{name}" cannot be fetched.', "Install it from its folder or zip.")
    staging = _ensured(home() / "downloads" / published.NAME)
    manifest = fetch_published(staging, Steps(on_progress, cancel))
    return _publish(staging, manifest)


def verify(name: str) -> ModelEntry:
    """Check a model's files against their checksums.

    Raises:
        ModelError: No such model, not installed, or files are missing or damaged.
    """
    folder = model_folder(name)
    verify_files(folder, read_manifest(folder))
    return show(name)


def remove(name: str) -> None:
    """Delete an installed model, and what unfinished downloads of it left.

    Raises:
        ModelError: No such model, or it is the bundled one.
        OutputError: The folder cannot be deleted.
    """
    entry = show(name)
    if entry.state == "bundled":
        raise ModelError(f'The model "{name}" is part of Medal S and cannot be removed.')
    doomed = [folder for folder in (_models() / name, home() / "downloads" / name) if folder.is_dir()]
    if not doomed:
        raise ModelError(f'The model "{name}" is not installed.', "There is nothing to remove.")
    try:
        for folder in doomed:
            shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"The model cannot be deleted: {error}.", "Close what is using it, and try again.") from error


def _install_local(
    where: Path, expected: str | None, on_progress: OnProgress | None, cancel: threading.Event | None
) -> ModelEntry:
    _ensured(home())
    with tempfile.TemporaryDirectory(dir=home(), prefix=".installing-") as folder:
        staging, unpacked = _ensured(Path(folder) / "model"), _ensured(Path(folder) / "zip")
        steps = Steps(on_progress, cancel)
        origin = where if where.is_dir() else unpack_zip(where, unpacked, steps)
        manifest = copy_model(origin, staging, steps)
        if expected is not None and manifest.name != expected:
            raise ModelError(
                f'{where} holds the model "{manifest.name}", not "{expected}".', f"Install it as {manifest.name}."
            )
        return _publish(staging, manifest)


def _publish(staging: Path, manifest: Manifest) -> ModelEntry:
    """Move a complete model into place in one step, replacing an installed one of the same name."""
    if manifest.name == BUNDLED and _bundled_folder() is not None:
        raise ModelError(f'"{BUNDLED}" is the name of the bundled model.', "Give the model another name.")
    target = _ensured(_models()) / manifest.name
    for leftover in staging.rglob("*.part"):
        leftover.unlink()
    try:
        write_manifest(staging, manifest)
        _swap(staging, target)
    except OSError as error:
        raise OutputError(
            f"The model cannot be put in {target}: {error}.", "Check the folder's permissions."
        ) from error
    return show(manifest.name)


def _swap(staging: Path, target: Path) -> None:
    """Move a folder to its place; what was there is deleted afterwards, or put back if the move fails."""
    if not target.exists():
        staging.rename(target)
        return
    # In the same file system as the target, so that each move is one rename.
    aside = Path(tempfile.mkdtemp(dir=home(), prefix=".replaced-"))
    target.rename(aside / "old")
    try:
        staging.rename(target)
    except OSError:
        (aside / "old").rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _source_of(name: str | Path, source: str | Path | None) -> Path | None:
    """Return the folder or zip to install from, if one is named."""
    given = source if source is not None else name
    path = Path(given).expanduser()
    if path.is_dir() and (source is not None or str(given) not in {published.NAME, BUNDLED}):
        return path
    if path.is_file():
        return path
    if source is not None or isinstance(name, Path) or len(path.parts) > 1:
        raise ModelError(f"{path} is neither a folder nor a zip.", "Check the path.")
    return None


def _models() -> Path:
    return home() / "models"


def _ensured(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be made: {error}.", "Set MEDALS_HOME to a folder of yours."
        ) from error
    return folder


def _bundled_folder() -> Path | None:
    try:
        return resource("Models", BUNDLED, MANIFEST_NAME).parent
    except ModelError:
        return None  # an installation without the bundled model lists the others


def _is_whole(folder: Path) -> bool:
    try:
        verify_files(folder, read_manifest(folder))
    except ModelError:
        return False
    return True


def _installed_entry(folder: Path) -> ModelEntry:
    try:
        return _entry(read_manifest(folder), "installed", folder)
    except ModelError as error:
        return ModelEntry(folder.name, str(error), "", "damaged", "", "", 0, str(folder))


def _published_stand_in() -> Manifest:
    """Describe the published model before its files' full names are known."""
    return published.published_manifest({stage: f"{part}.pth" for stage, part in published.NETWORKS.items()})


def _entry(manifest: Manifest, state: str, folder: Path | None = None) -> ModelEntry:
    paths = [] if folder is None else [folder / path for path in manifest.checksums()]
    return ModelEntry(
        name=manifest.name,
        title=manifest.title,
        version=manifest.version,
        state=state,
        licence=manifest.licence,
        licence_url=manifest.licence_url,
        size_bytes=sum(path.stat().st_size for path in paths if path.is_file()),
        folder="" if folder is None else str(folder),
        classes=manifest.classes,
        card=manifest.card,
    )
