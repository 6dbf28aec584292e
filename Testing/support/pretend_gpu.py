"""A GPU that is none: tensors that say they are on "cuda:0", lie in main memory and mind what real ones mind.

Calls that join tensors of both devices are refused as CUDA refuses them, arrays are had through `.cpu()` alone, and
every wait for the device and every byte that travels is counted.  So the way an engine takes on a GPU is walked with
real figures where there is no GPU.  What this cannot show: speed, the order of summation in CUDA's kernels, and
whether CUDA has a kernel for what is asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_map_only

GPU = torch.device("cuda:0")
MEMORY = 16 << 30
"""Bytes that the GPU says it has."""

_MAY_MIX = frozenset({Tensor.copy_, Tensor.to, Tensor.__getitem__, torch._has_compatible_shallow_copy_type})
_CONVOLUTIONS = frozenset({torch.conv3d, torch.conv_transpose3d})
_WAITING_NAMES = """
    __bool__ __contains__ __float__ __index__ __int__ allclose argwhere bincount equal item masked_select nonzero
    repeat_interleave tolist unique unique_consecutive
"""
_WAITING = frozenset(f"{place}.{name}" for place in ("torch", "torch.Tensor") for name in _WAITING_NAMES.split())
"""What has to know figures before it can go on."""
_ASKING_NAMES = """
    __hash__ __len__ contiguous detach dim dtype element_size expand expand_as flatten is_contiguous is_floating_point
    is_inference movedim ndim numel permute requires_grad reshape select shape size split squeeze storage_offset stride
    transpose unbind unflatten unsqueeze untyped_storage view view_as
"""
_ASKING = frozenset(f"torch.Tensor.{name}" for name in _ASKING_NAMES.split())
"""What computes nothing on the device."""


@dataclass
class Traffic:
    """What went between a program and the device.

    Attributes:
        waits: Times the program had to wait for figures, by function.
        calls: Calls that computed something on the device, by function.
        sent: Bytes of each tensor that went to the device.
        fetched: Bytes of each tensor that came from it.
        seconds: Time within calls that the device took part in, which is not that of a GPU.
    """

    waits: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    sent: list[int] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    seconds: float = 0.0


class OnGpu(Tensor):
    """A tensor that says it is on the GPU."""

    traffic = Traffic()

    @property
    def device(self) -> torch.device:
        """Where it says it is."""
        return GPU

    @property
    def is_cuda(self) -> bool:
        """Always."""
        return True

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as CUDA tensors do."""
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return self.cpu().numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.cpu().__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))


class _Generator(torch.Generator):
    """Random numbers for either device; main memory's own, so that they can be drawn here."""

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")


class _Everywhere(TorchFunctionMode):
    """Sees the calls that no tensor of the GPU takes part in: those that make the first ones."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))


def _call(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    begun = time.perf_counter()
    traffic = OnGpu.traffic
    tensors = list(_tensors((args, kwargs)))
    result = _answer(func, args, kwargs, tensors)
    if isinstance(result, OnGpu) or any(isinstance(one, OnGpu) for one in tensors):
        traffic.seconds += time.perf_counter() - begun
    return result


def _answer(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> Any:
    there = [isinstance(one, OnGpu) for one in tensors]
    if any(there) and not all(there) and func not in _MAY_MIX:
        _refuse(func, args, [one for one, on in zip(tensors, there, strict=True) if not on])
    given = args, dict(kwargs)
    args, kwargs, wanted = _without_device(func, list(args), kwargs)
    if func is Tensor.pin_memory:
        return args[0]
    if not any(there) and (wanted is None or wanted.type != "cuda"):
        return func(*given[0], **given[1])  # none of the GPU's business
    if any(there):
        _count(func, args)
    with torch._C.DisableTorchFunctionSubclass():
        result = _convolved(func, args, kwargs) if func in _CONVOLUTIONS else func(*args, **kwargs)
        if func is Tensor.copy_:
            if there[0] != there[1]:
                _moved(tensors[1], to_gpu=there[0])
            return result
        on = any(there) if wanted is None else wanted.type == "cuda"
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda) and on != there[0]:
            if result.data_ptr() == tensors[0].data_ptr():
                result = result.clone()
            _moved(result, to_gpu=on, waits=not given[1].get("non_blocking", False))
            return result.as_subclass(OnGpu if on else Tensor)
        if func in (torch.as_tensor, torch.tensor) and on and not any(there):
            _moved(result, to_gpu=True)
        if not on:
            return result
        return tree_map_only(Tensor, lambda one: one.as_subclass(OnGpu) if type(one) is Tensor else one, result)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Find the tensors among arguments."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _convolved(func: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Convolve in float32 and round the sums, as tensor cores do: processors without bf16 units take minutes in it."""
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    dtype = half or args[0].dtype
    args, kwargs = tree_map_only(Tensor, lambda one: one.to(dtype).float(), (args, dict(kwargs)))
    with torch.autocast("cpu", enabled=False):
        return func(*args, **kwargs).to(dtype)


class RoundedConvolutions(TorchFunctionMode):
    """While this is entered, half precision on the processor rounds as a GPU does, and takes no longer than float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        call = partial(_convolved, func) if func in _CONVOLUTIONS else lambda args, kwargs: func(*args, **kwargs)
        return call(args, kwargs or {})


def _without_device(
    func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], torch.device | None]:
    """Take the device out of a call: the arguments without it, and the device that was asked for."""
    wanted = kwargs.pop("device", None)
    if func is Tensor.cpu:
        wanted = "cpu"
    elif func is Tensor.cuda:
        args, wanted = args[:1], "cuda"
    elif func is Tensor.to:
        pattern = next((one for one in args[1:] if isinstance(one, Tensor)), None)
        wanted = next((one for one in args[1:] if isinstance(one, str | torch.device)), wanted)
        wanted = wanted if pattern is None else pattern.device
        dtypes = [one for one in [*args[1:], kwargs.get("dtype"), pattern] if one is not None]
        dtype = next((getattr(one, "dtype", one) for one in dtypes if isinstance(one, torch.dtype | Tensor)), None)
        kept = {name: kwargs[name] for name in ("copy", "memory_format") if name in kwargs}
        args, kwargs = args[:1], {**kept, "dtype": dtype or args[0].dtype}
    if wanted is None:
        return args, kwargs, None
    device = torch.device(wanted)
    if device.type not in ("cpu", "cuda"):
        kwargs["device"] = device  # such as "meta", which is not pretended
        return args, kwargs, None
    if func not in (Tensor.to, Tensor.cpu, Tensor.cuda):
        kwargs["device"] = "cpu"
    return args, kwargs, device


def _refuse(func: Callable[..., Any], args: Sequence[Any], others: Sequence[Tensor]) -> None:
    """Raise as CUDA does, unless what is in main memory are single figures or indices."""
    if func in (Tensor.__setitem__, Tensor.index_put_, Tensor.index_put):
        others = [] if args[-1].dim() == 0 and isinstance(args[0], OnGpu) else others
    if any(one.dim() > 0 for one in others):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"(in {resolve_name(func)})"
        )


def _count(func: Callable[..., Any], args: Sequence[Any]) -> None:
    name = resolve_name(func) or getattr(func, "__name__", str(func))
    index = args[1] if len(args) > 1 and func in (Tensor.__getitem__, Tensor.__setitem__) else None
    if name in _WAITING or any(one.dtype == torch.bool for one in _tensors(index)):
        OnGpu.traffic.waits[name] += 1
    elif name not in _ASKING and not name.endswith("__get__") and func is not Tensor.__getitem__:
        OnGpu.traffic.calls[name] += 1


def _moved(tensor: Tensor, *, to_gpu: bool, waits: bool = True) -> None:
    size = tensor.numel() * tensor.element_size()
    (OnGpu.traffic.sent if to_gpu else OnGpu.traffic.fetched).append(size)
    OnGpu.traffic.waits["sending" if to_gpu else "fetching"] += waits


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Let PyTorch find one GPU, which has bf16, for a while."""
    reset_traffic()
    with pytest.MonkeyPatch.context() as patch:
        known = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda *_: "Pretended GPU",
            "get_device_properties": lambda *_: SimpleNamespace(total_memory=MEMORY),
            "mem_get_info": lambda *_: (MEMORY, MEMORY),
            "memory_reserved": lambda *_: 0,
            "max_memory_allocated": lambda *_: 0,
            "reset_peak_memory_stats": lambda *_: None,
            "set_per_process_memory_fraction": lambda *_: None,
            "is_bf16_supported": lambda *_: True,
            "empty_cache": lambda: None,
            "synchronize": lambda *_: None,
            "set_device": lambda *_: None,
        }
        for name, stand_in in known.items():
            patch.setattr(torch.cuda, name, stand_in)
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch.nn.Module, "_apply", _swapping(torch.nn.Module._apply))
        with _Everywhere():
            yield


def _swapping(apply: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    """Have modules that are moved keep their parameters, as on CUDA, and these take the class of what was moved."""

    def swapped(*args: Any, **kwargs: Any) -> torch.nn.Module:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(*args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return swapped


def reset_traffic() -> Traffic:
    """Begin to count anew; returns what was counted before."""
    before, OnGpu.traffic = OnGpu.traffic, Traffic()
    return before
