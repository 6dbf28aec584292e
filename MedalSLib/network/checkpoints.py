"""Published checkpoints: read without running their pickle; every entry must fit the network."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.version import Version
from torch import Tensor

from MedalSLib.errors import ModelError
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.medals import HEADS, MedalS

_PREFIX = "module."
_TWIN = re.compile(r"\.all_modules\.([01])\.")
_TWIN_NAMES = {"0": ".conv.", "1": ".norm."}
_SHOWN = 4
_SAFE_LOADER = (2, 6)
"""First PyTorch whose `weights_only` has no known way around it (CVE-2025-32434)."""
_LOADING = threading.Lock()  # torch keeps its allow-list for the whole process


def load_published(path: str | Path, config: MedalSConfig, device: str | torch.device = "cpu") -> MedalS:
    """Build the network of a published checkpoint.

    The file is `torch.save({"step", "model_state_dict"})`; names may begin with `module.`, and each convolution and
    norm may come under its own name, as its `.all_modules.` twin, or as both.  The weights of deep-supervision heads
    are dropped unless `config` asks for the heads.

    Args:
        path: The `.pth` file.
        config: Architecture.
        device: Where to put the network.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        ModelError: The file is missing or damaged, holds something other than tensors, or is no checkpoint of this
            architecture (names what is missing, unexpected or of another shape).
    """
    path = Path(path)
    weights = merge_twins(read_published(path), path)
    if not config.deep_supervision:
        weights = {key: value for key, value in weights.items() if not key.startswith(HEADS)}
    with torch.device("meta"):
        network = MedalS(config)
    fill(network, weights, path)
    return network.to(device).eval()


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a published checkpoint, without the `module.` prefix of their names.

    Raises:
        ModelError: The file is missing or damaged, or holds something other than tensors and numbers.
    """
    if not path.is_file():
        raise ModelError(f"The checkpoint {path} does not exist.", "Check the path, or install the model again.")
    if Version(torch.__version__).release < _SAFE_LOADER:
        raise ModelError(
            f"The checkpoint {path.name} cannot be read safely with PyTorch {torch.__version__}.",
            "Install PyTorch 2.6 or newer; models in the safetensors format work with older ones.",
        )
    try:
        with _LOADING, torch.serialization.safe_globals(_step_types()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a malformed or hostile pickle may raise anything; none of its code has run
        raise ModelError(
            f"The checkpoint {path.name} is damaged or holds more than tensors ({_first_line(error)}).",
            "It was not opened. Fetch it again from a source that you trust.",
        ) from error
    state = content.get("model_state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"The checkpoint {path.name} holds no weights.", "Choose a Medal S checkpoint.")
    others = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise ModelError(
            f"The checkpoint {path.name} holds entries that are no weights: {_some(others)}.",
            "Choose a Medal S checkpoint.",
        )
    return {key.removeprefix(_PREFIX): value for key, value in state.items()}


def merge_twins(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give `.all_modules.` twins the name of the convolution or norm that they are.

    Raises:
        ModelError: Both names are there and hold different values.
    """
    merged: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = _TWIN.sub(lambda found: _TWIN_NAMES[found[1]], key)
        twin = merged.setdefault(name, value)
        if twin is not value and (twin.shape != value.shape or not torch.equal(twin, value)):
            raise ModelError(
                f"The checkpoint {path.name} holds two different values for {name}.", "Fetch the file again."
            )
    return merged


def fill(module: torch.nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Put weights into a module as float32; every name and shape must be the module's own.

    Args:
        module: The module, possibly on the meta device.
        weights: Tensors by name.
        source: File they came from, for the message.

    Raises:
        ModelError: Names are missing or unexpected, or shapes differ.
    """
    expected = module.state_dict()
    shared = expected.keys() & weights.keys()
    complaints = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - expected.keys()),
        "of another shape": [
            f"{key} {list(weights[key].shape)} instead of {list(expected[key].shape)}"
            for key in sorted(shared)
            if weights[key].shape != expected[key].shape
        ],
    }
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in complaints.items() if names]
    if found:
        raise ModelError(
            f"{source.name} does not fit this network: of {len(expected)} weights, {'; '.join(found)}.",
            "It is probably the checkpoint of another model, or of another part of this one.",
        )
    module.load_state_dict({key: value.float().contiguous() for key, value in weights.items()}, assign=True)


def _step_types() -> list[Any]:
    """What a checkpoint may hold besides tensors: its step may be a numpy number."""
    scalar = np.int64(0).__reduce__()[0]
    types: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in ("i4", "i8", "u4", "u8", "f4", "f8"))]
    # The name of the function depends on the numpy that wrote the file.
    return [*types, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
