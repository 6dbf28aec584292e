"""Prepared cases on disk: chunked Blosc2 arrays of which a patch can be read without the rest.

A case is a folder with `image.b2nd` (float16, 0..255), `labels.b2nd` (int16), `locations.npz` and, written last, the
record `case.json`: a folder without a record is what an interrupted run left behind, and is prepared again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError, OutputError, ResourceError
from MedalSLib.records import from_json, read_json, to_json

RECORD = "case.json"
_IMAGE, _LABELS, _LOCATIONS = "image.b2nd", "labels.b2nd", "locations.npz"
_CHUNK_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 16
_LOCATIONS_PER_LABEL = 10_000
_UNFINISHED = ".preparing-"
_OPEN_CASES = 32

Hwd = tuple[int, int, int]


@dataclass(frozen=True)
class CaseRecord:
    """A prepared case.

    Attributes:
        identifier: Name, unique in its data set.
        dataset: Data set.
        modality: Modality.
        folder: Its folder, relative to the prepared folder.
        shape_hwd: Voxels on the training grid.
        spacing_hwd: Spacing of the training grid in mm, after the resampling policy.
        region_hwd: Box around all labels, in voxels.
        voxels: Voxels by label; only labels that are present.
        annotated: Labels that someone looked for in this case: an absent one of these is known to be absent.
        source: File it was made from.
        fingerprint: What the case depends on: another one means that it must be prepared again.
        notes: What the user should know of it.
    """

    identifier: str
    dataset: str
    modality: str
    folder: str
    shape_hwd: Hwd
    spacing_hwd: tuple[float, float, float]
    region_hwd: Hwd
    voxels: dict[int, int]
    annotated: tuple[int, ...]
    source: str
    fingerprint: str
    notes: tuple[str, ...] = ()


def chunk_and_block(shape: Sequence[int], patch: Sequence[int], item_bytes: int) -> tuple[Hwd, Hwd]:
    """Return chunk and block shapes for an array that is read patch by patch.

    A chunk is the patch, halved along its longest axis until it takes at most 4 MiB, and a block, the unit that is
    decompressed, is the chunk halved likewise down to 64 KiB, which fits a core's second-level cache.

    Args:
        shape: Array in voxels.
        patch: What is read at once, in voxels.
        item_bytes: Bytes of a voxel.
    """
    chunk = _halved([min(size, limit) for size, limit in zip(shape, patch, strict=True)], _CHUNK_BYTES // item_bytes)
    return chunk, _halved(chunk, _BLOCK_BYTES // item_bytes)


def _halved(shape: Sequence[int], limit: int) -> Hwd:
    sizes = list(shape)
    while prod(sizes) > limit and max(sizes) > 1:
        longest = sizes.index(max(sizes))
        sizes[longest] = -(-sizes[longest] // 2)
    height, width, depth = sizes
    return height, width, depth


def foreground_locations(labels: np.ndarray, values: Iterable[int]) -> dict[int, np.ndarray]:
    """Return up to 10 000 voxels (n, 3) of each of `values` in labels (H, W, D), drawn without repetition."""
    rng = np.random.default_rng(0)
    flat = labels.ravel()
    order = np.flatnonzero(flat)
    found = {}
    for value in sorted(values):
        indices = order[flat[order] == value]
        if len(indices):
            if len(indices) > _LOCATIONS_PER_LABEL:
                indices = np.sort(rng.choice(indices, _LOCATIONS_PER_LABEL, replace=False))
            found[value] = np.stack(np.unravel_index(indices, labels.shape), axis=1).astype(np.int32)
    return found


def save_case(
    root: Path,
    record: CaseRecord,
    image: np.ndarray,
    labels: np.ndarray,
    locations: Mapping[int, np.ndarray],
    patch: Hwd,
) -> None:
    """Write a case; it appears whole or not at all.

    Args:
        root: The prepared folder.
        record: Its record.
        image: (H, W, D), 0..255; stored in half precision, which keeps steps of at most 1/8.
        labels: (H, W, D), int16.
        locations: Voxels by label.
        patch: Patch that will be read.

    Raises:
        OutputError: The files cannot be written.
    """
    blosc2 = _blosc2()
    target = root / record.folder
    unfinished = target.with_name(f"{_UNFINISHED}{secrets.token_hex(4)}-{target.name}")
    try:
        unfinished.mkdir(parents=True)
        for name, array in ((_IMAGE, image.astype(np.float16)), (_LABELS, labels.astype(np.int16))):
            chunk, block = chunk_and_block(array.shape, patch, array.itemsize)
            blosc2.asarray(
                np.ascontiguousarray(array),
                urlpath=str(unfinished / name),
                chunks=chunk,
                blocks=block,
                cparams={"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1},
                mode="w",
            )
        np.savez(unfinished / _LOCATIONS, allow_pickle=False, **{str(key): value for key, value in locations.items()})
        (unfinished / RECORD).write_text(json.dumps(to_json(record), indent=1), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
    except OSError as error:
        raise OutputError(
            f"The case {record.identifier} cannot be written to {target}: {error.strerror or error}.",
            "Check the space that is left and that the folder is yours.",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_record(folder: Path) -> CaseRecord | None:
    """Return the record of a case folder, None if it holds no finished case."""
    try:
        return from_json(CaseRecord, read_json(folder / RECORD, "record"), "the record")
    except InputError:
        return None


def remove_unfinished(root: Path) -> None:
    """Delete what interrupted runs left behind."""
    for path in root.glob(f"*/{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


class CaseReader:
    """Reads windows of the cases of a prepared folder; keeps a few cases open."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, tuple[Any, Any, dict[int, np.ndarray]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out of what travels to another process."""
        return self.__dict__ | {"_open": {}}

    def locations(self, record: CaseRecord) -> dict[int, np.ndarray]:
        """Return some voxels (n, 3) of each label that is present."""
        return self._case(record)[2]

    def window(self, record: CaseRecord, corner: Hwd, size: Hwd) -> tuple[np.ndarray, np.ndarray]:
        """Read a window, zeros outside the case.

        Args:
            record: The case.
            corner: First voxel, possibly negative.
            size: Voxels along (H, W, D).

        Returns:
            Image, float32, and labels, int16.

        Raises:
            InputError: The case is damaged or gone.
        """
        image_file, label_file, _ = self._case(record)
        image, labels = np.zeros(size, np.float32), np.zeros(size, np.int16)
        low = [max(start, 0) for start in corner]
        high = [min(start + length, end) for start, length, end in zip(corner, size, record.shape_hwd, strict=True)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            there = tuple(slice(a - start, b - start) for a, b, start in zip(low, high, corner, strict=True))
            image[there], labels[there] = image_file[inside], label_file[inside]
        return image, labels

    def whole(self, record: CaseRecord) -> tuple[np.ndarray, np.ndarray]:
        """Read a whole case: image, float32, and labels, int16."""
        return self.window(record, (0, 0, 0), record.shape_hwd)

    def _case(self, record: CaseRecord) -> tuple[Any, Any, dict[int, np.ndarray]]:
        if record.folder in self._open:
            return self._open[record.folder]
        blosc2 = _blosc2()
        folder = self._root / record.folder
        try:
            files = [blosc2.open(str(folder / name), mode="r", dparams={"nthreads": 1}) for name in (_IMAGE, _LABELS)]
            with np.load(folder / _LOCATIONS, allow_pickle=False) as stored:
                locations = {int(key): stored[key] for key in stored.files}
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The prepared case {record.identifier} in {folder} is missing or damaged ({error}).",
                "Delete its folder and run prepare again.",
            ) from error
        while len(self._open) >= _OPEN_CASES:
            self._open.pop(next(iter(self._open)))
        self._open[record.folder] = (files[0], files[1], locations)
        return self._open[record.folder]


def _blosc2() -> Any:
    os.environ.setdefault("BLOSC_NTHREADS", "1")
    try:
        import blosc2
    except ImportError as error:
        raise ResourceError(
            "Prepared data sets need Blosc2, which is not installed.", "Install it with: pip install 'medals[train]'."
        ) from error
    return blosc2
