"""Which form of a network runs: the module itself, channels last in half precision on a GPU, or OpenVINO on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch

from MedalSLib.inference.compute import Compute
from MedalSLib.inference.network_interface import Network
from MedalSLib.inference.resampling_policy import Hwd
from MedalSLib.network.medals import MedalS

_made: WeakKeyDictionary[MedalS, dict[Hashable, Network]] = WeakKeyDictionary()
_lock = threading.Lock()


def backend(network: Any, compute: Compute, patch: Hwd) -> Network:
    """Return the form of a network that a run wants, made once for each network and patch.

    Args:
        network: A network in evaluation mode; what is not a `MedalS` is returned as it is.
        compute: Device, precision and whether a fast form is wanted.
        patch: The stage's patch.
    """
    if not compute.fast or not isinstance(network, MedalS):
        return network
    kind, dtype = compute.torch_device.type, compute.autocast
    if kind == "cuda" and dtype is not None:
        return _kept(network, (kind, dtype), lambda: _gpu(network, dtype))
    if kind == "cpu":
        return _kept(network, (kind, dtype, patch), lambda: _openvino(network, patch, dtype or torch.float32))
    return network


def _kept(network: MedalS, key: Hashable, make: Any) -> Network:
    with _lock:
        forms = _made.setdefault(network, {})
        if key not in forms:
            made = make()
            if made is None:
                return network
            forms[key] = made
        return forms[key]


def _gpu(network: MedalS, dtype: torch.dtype) -> Network:
    from MedalSLib.network.gpu_network import GpuNetwork

    return GpuNetwork(network, dtype)


def _openvino(network: MedalS, patch: Hwd, dtype: torch.dtype) -> Network | None:
    from MedalSLib.network import openvino_network

    if not openvino_network.available():
        return None
    return openvino_network.OpenVinoNetwork(network, patch, dtype)
