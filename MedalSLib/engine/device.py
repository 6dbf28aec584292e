"""Which device a run uses, in words a user can act on."""

from __future__ import annotations

from dataclasses import dataclass

from MedalSLib.errors import ResourceError


@dataclass(frozen=True)
class Device:
    """A torch device and what to tell the user about it.

    Attributes:
        name: Torch's name ("cuda:0", "mps", "cpu").
        words: The device for a badge ("NVIDIA H100 80GB (cuda:0)", "CPU, 8 threads").
        reason: Why this one.
    """

    name: str
    words: str
    reason: str


def choose_device(wanted: str = "auto") -> Device:
    """Choose a device: CUDA where there is one, else the CPU; Apple's MPS only when asked for.

    MPS is opt-in because its 3-D convolutions are still incomplete in several torch releases.

    Raises:
        ResourceError: The device asked for is not there, or torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ResourceError(
            "PyTorch is not installed or cannot be loaded, so nothing can run on this computer.",
            "Install Medal S with its engine (in 3D Slicer: the page Install), or use a server.",
        ) from error
    name = wanted.strip().lower()
    if name == "auto":
        if torch.cuda.is_available():
            return _cuda(torch.cuda.current_device(), "the first CUDA device")
        why = "this PyTorch build has no CUDA support" if torch.version.cuda is None else "no CUDA device was found"
        return _cpu(why)
    if name == "cpu":
        return _cpu("chosen by the user")
    if name == "cuda" or name.startswith("cuda:"):
        index = name.partition(":")[2] or "0"
        if not index.isdigit() or not torch.cuda.is_available() or int(index) >= torch.cuda.device_count():
            raise ResourceError(
                f"There is no device {wanted} (CUDA devices found: {torch.cuda.device_count()}).",
                "Use --device auto or --device cpu, or install a PyTorch build that fits the GPU's driver.",
            )
        return _cuda(int(index), "chosen by the user")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise ResourceError("There is no Apple GPU that PyTorch can use (mps).", "Use --device auto or cpu.")
        return Device("mps", "Apple GPU (mps, experimental)", "chosen by the user")
    raise ResourceError(f"'{wanted}' is no device.", "Use auto, cpu, cuda, cuda:1 or mps.")


def _cuda(index: int, reason: str) -> Device:
    import torch

    gibibytes = torch.cuda.get_device_properties(index).total_memory / 2**30
    return Device(f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {gibibytes:.0f} GB (cuda:{index})", reason)


def _cpu(reason: str) -> Device:
    import torch

    count = torch.get_num_threads()
    return Device("cpu", f"CPU, {count} thread{'s' if count != 1 else ''}", reason)
