"""Which packages the local engine needs in Slicer's Python, and the bounds that leave Slicer's own packages alone."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from MedalSLib.resources import resource

TORCH_REQUIREMENT = ">=2.6,!=2.9.*"
"""For the PyTorch extension's `installTorch(torchVersionRequirement=...)`."""

PROTECTED = (
    "numpy",
    "scipy",
    "requests",
    "urllib3",
    "certifi",
    "idna",
    "charset-normalizer",
    "packaging",
    "pydicom",
    "dicomweb-client",
    "highdicom",
    "SimpleITK",
    "simpleitk-slicer",
    "vtk",
    "PythonQt",
    "pip",
    "setuptools",
    "wheel",
    "six",
    "torch",
    "torchvision",
)
"""Packages that Slicer ships, or that its PyTorch extension installs: no installation of ours changes their version."""


def engineRequirements() -> Path:
    """Return the requirements file of the local engine."""
    return resource("requirements", "engine.txt")


def protectedVersions() -> list[str]:
    """Return "name==version" of every protected package that is installed here."""
    pins = []
    for name in PROTECTED:
        try:
            pins.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return pins


def writeConstraints(path: Path) -> Path:
    """Write the bounds for pip: ours, and the installed version of every protected package.

    Args:
        path: The file to write, in a temporary folder.
    """
    ours = resource("requirements", "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = protectedVersions()
    taken = {pin.split("==")[0].lower() for pin in pinned}
    lines = [line for line in ours if line and not line.startswith("#") and _name(line) not in taken]
    path.write_text("\n".join([*lines, *pinned]) + "\n", encoding="utf-8")
    return path


def _name(line: str) -> str:
    for index, letter in enumerate(line):
        if not (letter.isalnum() or letter in "-_."):
            return line[:index].lower()
    return line.lower()
