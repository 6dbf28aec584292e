"""Stand-in for `slicer.packaging` of Slicer 5.12: parses and checks as Slicer does, and records what it would install.

Nothing is ever installed: `pip_install` appends its arguments to `installs`, or raises `failure` when a test set it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

installs: list[dict] = []
failure: Exception | None = None


def load_requirements(path):
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(req, _seen=None):
    requirements = [req] if isinstance(req, Requirement) else req.split() if isinstance(req, str) else list(req)
    return all(_satisfied(Requirement(str(requirement))) for requirement in requirements)


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    if skip_in_testing:
        return None
    return pip_install([str(requirement) for requirement in requirements], constraints, skip_packages=skip_packages)


def pip_install(
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    logCallback=None,
    completedCallback=None,
):
    if no_deps_requirements and skip_packages:
        raise ValueError("no_deps_requirements and skip_packages are mutually exclusive")
    if failure is not None:
        raise failure
    installs.append({"requirements": requirements, "constraints": constraints, "requester": requester})
    if logCallback is not None:
        logCallback("Successfully installed")
    if not blocking and completedCallback is not None:
        completedCallback(0)
    return


def _satisfied(requirement):
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
