"""Weight files of this project: safetensors with architecture, classes, training data and licence in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from MedalSLib.atomic_files import replacing
from MedalSLib.errors import ModelError, OutputError
from MedalSLib.network.checkpoints import fill
from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.manifest import file_sha256
from MedalSLib.network.medals import MedalS

FORMAT = "medals-weights/1"
Kind = Literal["network", "compact-text-encoder"]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def save_weights(
    path: str | Path,
    module: MedalS | CompactTextEncoder,
    classes: tuple[str, ...] = (),
    training_data: str = "",
    licence: str = "",
    dtype: torch.dtype | None = None,
) -> str:
    """Write a module's weights; an existing file is replaced only once the new one is whole.

    Args:
        path: The `.safetensors` file.
        module: A network or a compact encoder.
        classes: Structures it was trained on, as "MODALITY_Published name".
        training_data: What it was trained on, in words.
        licence: SPDX name of the weights' licence.
        dtype: Precision in the file; None keeps the module's.

    Returns:
        SHA-256 of the file, in hexadecimal, for the manifest.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path)
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in module.state_dict().items()
    }
    kind: Kind = "network" if isinstance(module, MedalS) else "compact-text-encoder"
    header = {
        "format": FORMAT,
        "kind": kind,
        "config": json.dumps(module.config.to_dict()),
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "training_data": training_data,
        "licence": licence,
        "tensors_sha256": _digest(tensors),
        "extra": "{}",  # older readers look for it
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=header)
            _order_metadata(temporary)
            checksum = file_sha256(temporary)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The weights cannot be written to {path}: {error}.", "Check the folder and the space that is left."
        ) from error
    return checksum


def _order_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in a fixed order, so that the same weights are the same file.

    safetensors writes it in an order that differs from process to process.
    """
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # spaces fill it up, as the format wants
            file.seek(8)
            file.write(text.ljust(size))


def read_weights(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the header and the tensors of a weight file, which are checked against the digest in the header.

    Raises:
        ModelError: The file is missing, damaged, or none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"The weight file {path} does not exist.", "Check the path, or install the model again.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weight file {path.name} is damaged ({error}).", "Install the model again.") from error
    if header.get("format") != FORMAT or header.get("kind") not in get_args(Kind):
        raise ModelError(
            f"{path.name} is not a weight file of Medal S, or one of a newer version.",
            "Choose another file, or update Medal S.",
        )
    if header.get("tensors_sha256") != _digest(tensors):
        raise ModelError(f"The weight file {path.name} is damaged: wrong checksum.", "Install the model again.")
    return header, tensors


def load_network(path: str | Path, device: str | torch.device = "cpu") -> MedalS:
    """Build the network of a weight file, in evaluation mode, float32.

    Raises:
        ModelError: The file is missing, damaged, or holds something else.
    """
    header, tensors = read_weights(path)
    config = MedalSConfig.from_dict(_config(header, "network", Path(path)))
    with torch.device("meta"):
        network = MedalS(config)
    return _filled(network, tensors, Path(path), device)


def load_compact_encoder(path: str | Path, device: str | torch.device = "cpu") -> CompactTextEncoder:
    """Build the compact text encoder of a weight file, in evaluation mode, float32.

    Raises:
        ModelError: The file is missing, damaged, or holds something else.
    """
    header, tensors = read_weights(path)
    config = CompactEncoderConfig.from_dict(_config(header, "compact-text-encoder", Path(path)))
    encoder = CompactTextEncoder(config)
    return _filled(encoder, tensors, Path(path), device)


def _filled(module: AnyModule, tensors: Mapping[str, Tensor], path: Path, device: str | torch.device) -> AnyModule:
    fill(module, tensors, path)
    return module.to(device).eval()


def _config(header: Mapping[str, str], kind: Kind, path: Path) -> dict[str, Any]:
    """Return the architecture of a file that must hold weights of a kind."""
    if header["kind"] != kind:
        raise ModelError(
            f"{path.name} holds a {header['kind'].replace('-', ' ')}, not a {kind.replace('-', ' ')}.",
            "Check the file names in the model's manifest.",
        )
    try:
        return dict(json.loads(header["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"The header of {path.name} is not valid ({error!r}).", "Install the model again.") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
