"""Where the files that ship with Medal S lie: beside the package in a checkout and in Slicer, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from MedalSLib.errors import ModelError

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Return the path of a bundled resource, such as `resource("Vocabulary", "structures.csv")`.

    Raises:
        ModelError: The resource is not part of this installation.
    """
    for root in (_PACKAGE.parent / "Resources", _PACKAGE / "_resources"):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise ModelError(
        f"The file {'/'.join(parts)} is missing from this installation of Medal S.", "Install Medal S again."
    )
