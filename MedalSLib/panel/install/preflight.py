"""Checks before an installation: each says what was found, and what to do if that is not enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install.system import SystemFacts
from MedalSLib.panel.wording import bytesText, durationText

CheckState = Literal["ok", "warning", "failed"]

NEEDED_BYTES = 8 * 2**30
"""torch with CUDA takes about 6 GB unpacked, its download a share of that at the same time."""
NEEDED_BYTES_CPU = 2 * 2**30
DOWNLOAD_BYTES = 3_090_000_000
"""Sizes of all files that `pip install --dry-run --ignore-installed --report` names for `requirements/engine.txt`,
torch and torchvision: Linux, Python 3.11, torch 2.14.1 with CUDA 13, November 2026."""
DOWNLOAD_BYTES_CPU = 270_000_000
"""The same with torch 2.13.0 for processors."""
_BYTES_PER_SECOND = 100e6 / 8
MEMORY_BYTES = 8 * 2**30
GPU_MB = 4096
LONGEST_PREFIX = 90
"""Windows refuses paths over 260 characters, and torch has files 170 characters below the prefix."""
OLDEST_SLICER = (5, 10)
OLDEST_PYTHON = (3, 10)
OLDEST_DRIVER = 525
"""First driver series that runs CUDA 12 programs."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What was looked at.
        state: "ok"; "warning" if it may become a problem; "failed" if a local installation cannot work.
        text: What was found, and what to do.
    """

    name: str
    state: CheckState
    text: str


def preflight(facts: SystemFacts) -> tuple[Check, ...]:
    """Return the checks in the order in which they matter."""
    checks = (_slicer(facts), _platform(facts), _disk(facts), _memory(facts), _gpu(facts), _network(facts))
    return (*checks, _path(facts), _torch(facts))


def canInstall(checks: tuple[Check, ...]) -> bool:
    """Whether a local installation can work."""
    return all(check.state != "failed" for check in checks)


def cost(gpu: bool) -> str:
    """Return what an installation fetches and how long that takes, in words.

    Args:
        gpu: Whether it is made for an NVIDIA GPU.
    """
    size = DOWNLOAD_BYTES if gpu else DOWNLOAD_BYTES_CPU
    text = _("a download of about {size} ({time} at 100 Mbit/s), {disk} on the disk")
    disk = bytesText(NEEDED_BYTES if gpu else NEEDED_BYTES_CPU)
    return text.format(size=bytesText(size), time=durationText(size / _BYTES_PER_SECOND), disk=disk)


def _slicer(facts: SystemFacts) -> Check:
    found = _("3D Slicer {slicer}, Python {python}").format(slicer=_dotted(facts.slicer), python=_dotted(facts.python))
    name = _("3D Slicer and Python")
    if facts.slicer < OLDEST_SLICER or facts.python < OLDEST_PYTHON:
        remedy = _("Medal S needs 3D Slicer {oldest} or newer: install it from slicer.org.")
        return Check(name, "failed", f"{found}. {remedy.format(oldest=_dotted(OLDEST_SLICER))}")
    return Check(name, "ok", found)


def _platform(facts: SystemFacts) -> Check:
    name, found = _("Platform"), f"{facts.system} {facts.machine}"
    if facts.system == "Darwin" and facts.machine == "x86_64":
        remedy = _("What computes is no longer made for Macs with Intel processors: use a server (Engine page).")
        return Check(name, "failed", f"{found}. {remedy}")
    return Check(name, "ok", found)


def _disk(facts: SystemFacts) -> Check:
    name = _("Disk")
    if facts.free_bytes is None:
        return Check(name, "warning", _("Free space cannot be read."))
    needed = NEEDED_BYTES if facts.gpus else NEEDED_BYTES_CPU
    text = _("{free} free, about {needed} needed").format(free=bytesText(facts.free_bytes), needed=bytesText(needed))
    if facts.torch not in ("", "?"):
        return Check(name, "ok", _("{free} free").format(free=bytesText(facts.free_bytes)))
    if facts.free_bytes < needed:
        return Check(name, "failed", f"{text}. " + _("Free some space on the disk of 3D Slicer."))
    return Check(name, "ok", text)


def _memory(facts: SystemFacts) -> Check:
    name = _("Memory")
    if facts.memory_bytes is None:
        return Check(
            name, "warning", _("It cannot be read; {needed} are recommended.").format(needed=bytesText(MEMORY_BYTES))
        )
    text = bytesText(facts.memory_bytes)
    if facts.memory_bytes < MEMORY_BYTES * 0.9:
        remedy = _("Large images will be slow or fail: use a region of interest, or a server.")
        return Check(name, "warning", f"{text}. {remedy}")
    return Check(name, "ok", text)


def _gpu(facts: SystemFacts) -> Check:
    name = _("Graphics card")
    if not facts.gpus:
        return Check(name, "warning", _("No NVIDIA card was found: runs take minutes instead of seconds."))
    gpu = facts.gpus[0]
    text = _("{name}, {memory}, driver {driver}").format(
        name=gpu.name, memory=bytesText(gpu.memory_mb * 2**20), driver=gpu.driver
    )
    major = gpu.driver.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_DRIVER:
        return Check(name, "warning", f"{text}. " + _("The driver is too old for PyTorch: update it."))
    if gpu.memory_mb < GPU_MB:
        return Check(name, "warning", f"{text}. " + _("It has little memory: large images will run on the processor."))
    return Check(name, "ok", text)


def _network(facts: SystemFacts) -> Check:
    name = _("Network")
    if facts.network is None:
        return Check(name, "warning", _("Not tried yet."))
    if facts.network:
        remedy = _(
            "What is missing cannot be fetched: the package index cannot be reached ({reason}). Connect this computer, "
            "check proxy and firewall, or ask your IT. A server needs no installation (Engine page)."
        )
        return Check(name, "failed", remedy.format(reason=facts.network))
    return Check(name, "ok", _("The package index answers."))


def _path(facts: SystemFacts) -> Check:
    name, length = _("Folder of 3D Slicer"), len(facts.prefix)
    if facts.system == "Windows" and length > LONGEST_PREFIX:
        remedy = _(
            "Its path has {length} characters, too many for Windows: install 3D Slicer in a short one, like C:/Slicer."
        )
        return Check(name, "failed", remedy.format(length=length))
    return Check(name, "ok", _("The path is short enough."))


def _torch(facts: SystemFacts) -> Check:
    name = _("PyTorch")
    if facts.torch == "?":
        remedy = _("Only parts of it are there, from an installation that broke off. Install will put it right.")
        return Check(name, "warning", remedy)
    if not facts.torch:
        return Check(name, "ok", _("Will be installed through the PyTorch extension."))
    if facts.torch.startswith("2.9."):
        remedy = _(
            "Version {version} computes 3-D images ten times slower than others: update it in the PyTorch extension."
        )
        return Check(name, "warning", remedy.format(version=facts.torch))
    return Check(name, "ok", _("Version {version} is installed.").format(version=facts.torch))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
