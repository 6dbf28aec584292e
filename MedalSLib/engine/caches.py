"""What a session keeps of its image between runs: voxel features, answers of patches, within a budget.

Voxel features of patches without prompts depend on no text, so another name on the same image needs the query side
alone; answers of prompted patches spare those that a correction did not touch.  Both give the figures that the networks
would compute again.  They lie where they were made while there is room, then in main memory, then in a file that is
mapped when it is read.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from MedalSLib.engine.memory_probe import free_memory_mb

if TYPE_CHECKING:
    from torch import Tensor

    from MedalSLib.inference.hooks import RunKey
    from MedalSLib.inference.tiling import Tile
    from MedalSLib.network.medals import VoxelFeatures

Tier = Literal["device", "host", "disk"]
_TIERS: tuple[Tier, ...] = ("device", "host", "disk")
_FEATURES_OF_A_GPU: tuple[Tier, ...] = ("device", "host")
_PROBABILITIES_OF_A_GPU: tuple[Tier, ...] = ("device",)
"""A GPU computes again sooner than files are written, and answers, 0.7 GB for 24 classes of a patch of 192^3, are
fetched."""
_MIB = 2**20


@dataclass(frozen=True)
class CacheSettings:
    """How much a session may keep, and how.

    Attributes:
        device_mb: MiB on the GPU; None for a quarter of what is free when the session opens, 0 for none.
        host_mb: The same in main memory.
        disk_mb: MiB in temporary files, which go with the session; None for a quarter of the free disk, at most 16 GiB.
        answers: Keep answers of prompted patches too.
    """

    device_mb: float | None = None
    host_mb: float | None = None
    disk_mb: float | None = None
    answers: bool = True

    @classmethod
    def off(cls) -> CacheSettings:
        """Keep nothing."""
        return cls(0, 0, 0, answers=False)


@dataclass
class _Entry:
    tensors: tuple[Tensor, ...]
    tier: Tier
    size: int
    run: int
    files: tuple[Path, ...] = ()


class TensorStore:
    """Tensors by key within a budget of bytes for each tier.

    What does not fit is not kept: what earlier runs left goes, oldest first, but nothing of the run in progress, as a
    sweep over more patches than there is room for would otherwise throw each out before it is asked for again.

    Args:
        budget: Bytes by tier.
        folder: Where files go; None for the system's place.
    """

    def __init__(self, budget: dict[Tier, int], folder: Path | None = None) -> None:
        self._budget = budget
        self._where = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._entries: dict[Hashable, _Entry] = {}
        self._run = 0
        self._files = 0

    def begin_run(self) -> None:
        """Say that a run begins: from now on, what is neither used nor put may go."""
        self._run += 1

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """Return what was put in, None if it is not there; the tensors must not be changed."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.run = self._run
        if entry.tier != "disk":
            return entry.tensors
        return tuple(_read(path, like) for path, like in zip(entry.files, entry.tensors, strict=True))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Hashable]:
        return iter(tuple(self._entries))

    def put(self, key: Hashable, tensors: Sequence[Tensor], tiers: Sequence[Tier] = _TIERS) -> bool:
        """Keep tensors that are not changed afterwards, False if there is no room for them.

        Args:
            key: Key.
            tensors: What to keep.
            tiers: Where it may be kept.
        """
        self._drop(key)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        for tier in tiers:
            if tier == "device" and all(tensor.device.type == "cpu" for tensor in tensors):
                continue
            if self._make_room(tier, size):
                try:
                    self._entries[key] = self._keep(tensors, tier, size)
                except OSError:  # the disk is full or gone: what is kept there is a convenience
                    self._budget["disk"] = self.used("disk")
                    continue
                return True
        return False

    def used(self, tier: Tier) -> int:
        """Return the bytes kept in a tier."""
        return sum(entry.size for entry in self._entries.values() if entry.tier == tier)

    def clear(self) -> None:
        """Forget everything and remove the files."""
        self._entries.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _keep(self, tensors: Sequence[Tensor], tier: Tier, size: int) -> _Entry:
        if tier == "device":
            return _Entry(tuple(tensors), tier, size, self._run)
        if tier == "host":
            return _Entry(tuple(tensor.cpu() for tensor in tensors), tier, size, self._run)
        files, likes = [], []
        for tensor in tensors:
            path = self._new_file()
            files.append(path)
            try:
                _write(path, tensor)
            except OSError:
                for written in files:
                    written.unlink(missing_ok=True)
                raise
            likes.append(tensor.to("meta"))
        return _Entry(tuple(likes), tier, size, self._run, tuple(files))

    def _make_room(self, tier: Tier, size: int) -> bool:
        budget = self._budget[tier]
        if size > budget:
            return False
        old = (
            sorted(
                (entry.run, number, key)
                for number, (key, entry) in enumerate(self._entries.items())
                if entry.tier == tier and entry.run < self._run
            )
            if self.used(tier) + size > budget
            else []
        )
        for _, _, key in old:
            if self.used(tier) + size <= budget:
                break
            self._drop(key)
        return self.used(tier) + size <= budget

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        for path in entry.files if entry is not None else ():
            path.unlink(missing_ok=True)

    def _new_file(self) -> Path:
        if self._folder is None:
            # Removes itself when the session is forgotten without being closed; mapped files cannot go on Windows.
            self._folder = tempfile.TemporaryDirectory(
                prefix="medals-cache-", dir=self._where, ignore_cleanup_errors=True
            )
        self._files += 1
        return Path(self._folder.name) / f"{self._files}.bin"


class SessionCaches:
    """Caches of one session: of one image and one model.

    Args:
        settings: How much is kept.
        device: Torch device name of the networks.
        folder: Where files go; None for the system's place.
    """

    def __init__(self, settings: CacheSettings, device: str, folder: Path | None = None) -> None:
        self.settings = settings
        self.store = TensorStore(_budget(settings, device, folder), folder)

    def begin_run(self) -> None:
        """Say that a run begins."""
        self.store.begin_run()

    def features(self, key: RunKey) -> _Features:
        """Return where voxel features of a run are kept."""
        return _Features(self.store, ("features", key))

    def probabilities(self, key: RunKey) -> _Probabilities:
        """Return where probabilities of prompted patches of a run are kept."""
        return _Probabilities(self.store, ("answers", key))

    def patches_kept(self, window: Hashable) -> int:
        """Return how many patches of an intensity window need not be computed again for other names."""
        kinds = [key[0] for key in self.store if isinstance(key, tuple)]
        return sum(kind == "features" and run.window == window for kind, run in kinds)

    def clear(self) -> None:
        """Forget everything."""
        self.store.clear()


class _Features:
    """A `FeatureCache` in a store."""

    def __init__(self, store: TensorStore, base: tuple[Hashable, ...]) -> None:
        self._store = store
        self._base = base

    def get(self, tile: Tile) -> VoxelFeatures | None:
        from MedalSLib.network.medals import VoxelFeatures

        kept = self._store.get((self._base, tile))
        if kept is None:
            return None
        tokens, embedding, grid = kept
        high, wide, deep = (int(cells) for cells in grid)
        return VoxelFeatures(tokens, (high, wide, deep), embedding)

    def put(self, tile: Tile, features: VoxelFeatures) -> None:
        import torch

        tensors = (features.tokens, features.embedding, torch.tensor(features.grid))
        tiers = _TIERS if features.embedding.device.type == "cpu" else _FEATURES_OF_A_GPU
        self._store.put((self._base, tile), tensors, tiers)


class _Probabilities:
    """A `ProbabilityCache` in a store."""

    def __init__(self, store: TensorStore, base: tuple[Hashable, ...]) -> None:
        self._store = store
        self._base = base

    def get(self, key: Hashable) -> Tensor | None:
        kept = self._store.get((self._base, key))
        return None if kept is None else kept[0]

    def put(self, key: Hashable, values: Tensor) -> bool:
        tiers = _TIERS if values.device.type == "cpu" else _PROBABILITIES_OF_A_GPU
        return self._store.put((self._base, key), (values,), tiers)


def _budget(settings: CacheSettings, device: str, folder: Path | None) -> dict[Tier, int]:
    def share(wanted: float | None, free: float | None) -> int:
        return int(_MIB * (wanted if wanted is not None else (free or 0.0) / 4))

    free_disk = shutil.disk_usage(folder or tempfile.gettempdir()).free / _MIB
    return {
        "device": 0 if device == "cpu" else share(settings.device_mb, free_memory_mb(device)),
        "host": share(settings.host_mb, free_memory_mb("cpu")),
        "disk": share(settings.disk_mb, min(free_disk, 4 * 16 * 1024)),
    }


def _write(path: Path, tensor: Tensor) -> None:
    import torch

    tensor.contiguous().flatten().cpu().view(torch.uint8).numpy().tofile(path)


def _read(path: Path, like: Tensor) -> Tensor:
    """Map a file as the tensor that was written; a change of it would not reach the file."""
    import numpy as np
    import torch

    mapped = np.memmap(path, dtype=np.uint8, mode="c")
    return torch.from_numpy(mapped).view(like.dtype).view(like.shape)
