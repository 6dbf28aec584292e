"""Facts about this computer, gathered without installing or importing anything heavy."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it.

    Attributes:
        name: Its name.
        memory_mb: Memory in MiB.
        driver: Version of the driver.
    """

    name: str
    memory_mb: float
    driver: str


@dataclass(frozen=True)
class SystemFacts:
    """What the checks before an installation look at.

    Attributes:
        slicer: Version of 3D Slicer as (major, minor).
        python: Version of Python as (major, minor).
        system: "Windows", "Linux" or "Darwin".
        machine: Processor ("x86_64", "arm64", "AMD64").
        prefix: Where packages are installed.
        free_bytes: Free space there, None if it cannot be read.
        memory_bytes: Memory of this computer, None if it cannot be read.
        gpus: NVIDIA GPUs.
        network: Why the package index cannot be reached, empty if it can; None if it was not tried.
        torch: Version of torch; "" if it is not installed, "?" if only parts of it are.
        packages: Versions of installed packages, "" for those that are missing, by name.
    """

    slicer: tuple[int, int]
    python: tuple[int, int]
    system: str
    machine: str
    prefix: str
    free_bytes: int | None
    memory_bytes: int | None
    gpus: tuple[Gpu, ...] = ()
    network: str | None = None
    torch: str = ""
    packages: dict[str, str] = field(default_factory=dict)


def gather(
    slicer: tuple[int, int], names: Sequence[str], network: Callable[[], str] | None = None, run: Run | None = None
) -> SystemFacts:
    """Gather the facts; takes a second or two when the network or a GPU's driver is slow.

    Args:
        slicer: Version of 3D Slicer.
        names: Packages whose versions are wanted.
        network: Tries the package index and returns what is wrong; None to leave it out.
        run: Runs a program and returns its output; for tests.
    """
    prefix = sys.prefix
    return SystemFacts(
        slicer=slicer,
        python=(sys.version_info[0], sys.version_info[1]),
        system=platform.system(),
        machine=platform.machine(),
        prefix=prefix,
        free_bytes=_free(prefix),
        memory_bytes=_memory(),
        gpus=_gpus(run or _output),
        network=network() if network is not None else None,
        torch=torchVersion(),
        packages={name: installedVersion(name) for name in names},
    )


def installedVersion(name: str) -> str:
    """Return the version of an installed package, empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def torchVersion() -> str:
    """Return torch's version without importing it; "?" if an installation was interrupted."""
    found = installedVersion("torch")
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        spec = None
    whole = spec is not None and spec.origin is not None
    if found and whole:
        return found
    return "?" if found or spec is not None else ""


def hasNvidiaDriver() -> bool:
    """Whether there is the driver of an NVIDIA GPU; starts nothing."""
    return shutil.which("nvidia-smi") is not None


def tryIndex(url: str = "https://pypi.org/simple/safetensors/", seconds: float = 5.0) -> str:
    """Ask the package index for one page; return what is wrong, empty if it answers."""
    import requests

    try:
        answer = requests.head(url, timeout=seconds, allow_redirects=True)
    except requests.RequestException as error:
        return type(error).__name__
    return "" if answer.ok else f"HTTP {answer.status_code}"


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _memory() -> int | None:
    try:
        import psutil
    except ImportError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None
    return int(psutil.virtual_memory().total)


def _gpus(run: Run) -> tuple[Gpu, ...]:
    text = run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"])
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[1].replace(".", "", 1).isdigit():
            found.append(Gpu(parts[0], float(parts[1]), parts[2]))
    return tuple(found)


def _output(command: Sequence[str]) -> str:
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [str(Path(program)), *command[1:]],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
