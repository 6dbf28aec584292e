"""A run's folder: everything to repeat it, to go on with it, and to see how it went.

`recipe.json` and `provenance.json` say what was run, `log.jsonl` and `tensorboard/` how it went, `checkpoints/last.pt`
is where it goes on.  Checkpoints are written aside and renamed, so that a crash never leaves half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from MedalSLib import __version__
from MedalSLib.atomic_files import empty_folder, replacing, write_json, write_text
from MedalSLib.errors import InputError, OutputError
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.recipe import Recipe, load_recipe

_PACKAGES = ("torch", "numpy", "batchgeneratorsv2", "blosc2", "monai", "transformers")


class RunFolder:
    """One run's folder, `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._board: Any = None

    def start(self, recipe: Recipe, facts: Mapping[str, Any], resume: bool) -> None:
        """Create the folder, or check that it belongs to this recipe.

        Args:
            recipe: The recipe.
            facts: What else is needed to repeat the run.
            resume: Whether a run that is there already may go on.

        Raises:
            OutputError: The folder holds something else, or a run although `resume` is False, or cannot be made.
            InputError: The run was made with another recipe.
        """
        path = self.root / "recipe.json"
        if path.is_file():
            if not resume:
                raise OutputError(
                    f"{self.root} holds a run already.", "Go on with it (--resume), or choose another folder."
                )
            # Read as a recipe first: what an older version did not know yet had the default.
            if _lasting(load_recipe(path).to_dict()) != _lasting(recipe.to_dict()):
                raise InputError(
                    f"The run in {self.root} was made with another recipe.", "Give the same recipe, or another folder."
                )
            return
        empty_folder(self.root)
        (self.root / "checkpoints").mkdir()
        write_json(self.root / "provenance.json", provenance() | dict(facts))
        write_json(path, recipe.to_dict())

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the log, and its numbers to TensorBoard."""
        with (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(entry)) + "\n")
        board = self._tensorboard()
        if board is not None and "step" in entry:
            for key, value in entry.items():
                if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                    board.add_scalar(key, value, entry["step"])

    def entries(self) -> list[dict[str, Any]]:
        """Return the log."""
        path = self.root / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    def save(self, state: Mapping[str, Any], keep: bool) -> None:
        """Write a checkpoint.

        Args:
            state: Tensors, numbers and texts, with the entry "step".
            keep: Whether it is also kept under its step's name.
        """
        last = self.root / "checkpoints" / "last.pt"
        if keep:
            save_checkpoint(state, last.with_name(f"step_{state['step']}.pt"))
        save_checkpoint(state, last)

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint, None if there is none."""
        path = self.root / "checkpoints" / "last.pt"
        return load_checkpoint(path) if path.is_file() else None

    def forget_after(self, step: int) -> None:
        """Drop log lines after a step: a resumed run writes them again."""
        kept = [entry for entry in self.entries() if entry.get("step", 0) <= step]
        write_text(self.root / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in kept))

    def close(self) -> None:
        """Finish the TensorBoard file."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _tensorboard(self) -> Any:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None  # the log alone says the same
            self._board = SummaryWriter(str(self.root / "tensorboard"))
        return self._board


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` is whole at every moment.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with replacing(path) as temporary:
            torch.save(dict(state), temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # renamed only once it is on the disk: a power cut leaves the older one
    except RuntimeError as error:  # what torch raises for a full disk
        raise OutputError(f"The checkpoint {path} cannot be written ({error}).", "Free some space.") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code that it may hold.

    Raises:
        InputError: It is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its bytes happen to trigger
        raise InputError(
            f"The checkpoint {path} is damaged ({type(error).__name__}).",
            "Copy an older one (step_*.pt) over it, or begin again.",
        ) from error


def provenance() -> dict[str, Any]:
    """Return what else decides how a run goes: software, versions and machine, but no name of a person or computer."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "medals": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "cuda": torch.version.cuda or "",
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [],
    }


def data_digest(prepared: PreparedFolder) -> str:
    """Return a checksum over all prepared cases."""
    digest = hashlib.sha256()
    for case in prepared.cases:
        digest.update(f"{case.dataset}/{case.identifier}:{case.fingerprint}\n".encode())
    return digest.hexdigest()


def _lasting(recipe: dict[str, Any]) -> dict[str, Any]:
    """Leave out what may change between a run and its continuation."""
    return {key: value for key, value in recipe.items() if key not in ("log", "workers", "name")}
