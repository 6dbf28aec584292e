"""Which form of a network runs: the module itself, channels last in half precision on a GPU, or OpenVINO on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import Hwd
from MedalSLib.network import openvino_network
from MedalSLib.network.gpu_network import GpuNetwork
from MedalSLib.network.medals import MedalS

Network = MedalS | GpuNetwork | openvino_network.OpenVinoNetwork
"""Each form has the parts of a network that inference calls, as `MedalS` describes them."""

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
    make: Callable[[], Network]
    key: Hashable
    if kind == "cuda" and dtype is not None:
        make, key = partial(GpuNetwork, network, dtype), (kind, dtype)
    elif kind == "cpu" and openvino_network.available():
        make = partial(openvino_network.OpenVinoNetwork, network, patch, dtype or torch.float32)
        key = (kind, dtype, patch)
    else:
        return network
    with _lock:
        forms = _made.setdefault(network, {})
        if key not in forms:
            forms[key] = make()
        return forms[key]
