"""Which packages the local engine needs, and which of 3D Slicer's may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from MedalSLib.panel.install.system import installedVersion
from MedalSLib.resources import resource

TORCH = ">=2.6,!=2.9.*"
"""For the PyTorch extension's `installTorch(torchVersionRequirement=...)`; 2.9 computes 3-D convolutions far slower."""
OWN = (
    "numpy",
    "scipy",
    "SimpleITK",
    "simpleitk-slicer",
    "vtk",
    "requests",
    "urllib3",
    "certifi",
    "charset-normalizer",
    "idna",
    "pydicom",
    "highdicom",
    "dicomweb-client",
    "Pillow",
    "packaging",
    "pip",
    "setuptools",
    "wheel",
    "six",
    "pynrrd",
    "torch",
    "torchvision",
)
"""Packages that come with 3D Slicer, or through another extension: an installation may not change them."""


def requirements() -> tuple[str, ...]:
    """Return the requirements of the local engine, torch left out."""
    return _lines(resource("requirements", "engine.txt"))


def names(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the names in requirements."""
    from packaging.requirements import Requirement

    return tuple(Requirement(line).name for line in lines)


def missing(lines: Iterable[str], version: Callable[[str], str] = installedVersion) -> tuple[str, ...]:
    """Return the requirements that are not met, in the order given."""
    from packaging.requirements import Requirement

    found = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        installed = version(requirement.name)
        if not installed or not requirement.specifier.contains(installed, prereleases=True):
            found.append(line)
    return tuple(found)


def ownVersions(version: Callable[[str], str] = installedVersion) -> dict[str, str]:
    """Return the versions of the packages that may not change, by name; missing ones are left out."""
    return {name: found for name in OWN if (found := version(name))}


def constraints(own: dict[str, str]) -> tuple[str, ...]:
    """Return the constraints of an installation: what is there stays exactly as it is.

    A local version ("2.8.0+cu128") is pinned without its label, which indexes do not know.
    """
    pins = [f"{name}=={found.partition('+')[0]}" for name, found in own.items()]
    pinned = {name.casefold() for name in own}
    bounds = [
        line
        for line in _lines(resource("requirements", "constraints.txt"))
        if names([line])[0].casefold() not in pinned
    ]
    return (*pins, *bounds)


def _lines(path: Path) -> tuple[str, ...]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line)
