"""Read NRRD files by pynrrd: any encoding, any space, axes in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading
from MedalSLib.volume.formats import check_claim
from MedalSLib.volume.geometry import Grid, swap_ras_lps

# Signs that take each space to LPS; the other spaces of the format say nothing about the patient.
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "μm": 0.001, "nm": 1e-6}
_LONG_UNITS = {"meter": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "um", "micron": "um",
               "nanometer": "nm"}  # fmt: skip
_PACKINGS = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_PLACELESS = "The NRRD file does not say how the image lies in the patient; left and right may be swapped."


@dataclass(frozen=True, eq=False)
class NrrdVolume:
    """The content of a NRRD file.

    Attributes:
        layers: (L, K, J, I): one layer, or what a list axis holds (frames, components, layers of a segmentation).
        grid: Grid of each layer.
        fields: The key/value pairs and fields of the header.
        warnings: Sentences the user should read.
    """

    layers: np.ndarray
    grid: Grid
    fields: Mapping[str, Any]
    warnings: tuple[str, ...]


def read_nrrd(path: Path) -> NrrdVolume:
    """Read a NRRD file, detached data included.

    Raises:
        InputError: Damaged, cut short, not three axes in space, or its header claims more than the file can hold.
    """
    import nrrd

    with reading(path, "NRRD"):
        with path.open("rb") as stream:
            header = nrrd.read_header(stream)
            sizes = tuple(int(size) for size in header["sizes"])
            packing = _PACKINGS.get(str(header["encoding"]).lower())
            if not {"data file", "datafile"} & header.keys() and packing is not None:
                check_claim(path, sizes, 1, packing)
            spatial = _spatial_axes(header, len(sizes), path)
            grid, warnings = _grid(header, sizes, spatial)
            data = nrrd.read_data(header, stream, str(path))
        others = [axis for axis in range(data.ndim) if axis not in spatial]
        # The list axis first, then k, j, i.
        turned = data.transpose(*others, *spatial[::-1])
        return NrrdVolume(turned.reshape(-1, *grid.shape_kji), grid, header, warnings)


def _spatial_axes(header: Mapping[str, Any], dimension: int, path: Path) -> list[int]:
    """Return which axes of the data are i, j, k."""
    directions = header.get("space directions")
    kinds = [str(kind).lower() for kind in header.get("kinds") or []]
    if directions is not None:
        rows = np.asarray(directions, dtype=np.float64)
        axes = [axis for axis in range(len(rows)) if np.isfinite(rows[axis]).all()]
    elif len(kinds) == dimension:
        axes = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space", "none", "???")]
    else:
        axes = list(range(dimension))
    if len(axes) == 4 and dimension == 4:  # nothing says which is the list axis: the last, as time in other formats
        axes = axes[:3]
    if dimension == 2 or len(axes) == 2:
        shape = "x".join(str(size) for size in header["sizes"])
        raise InputError(f"{path} is a 2-D image ({shape} voxels).", "Choose a volume with at least two slices.")
    if len(axes) != 3 or dimension > 4:
        raise InputError(
            f"{path} has {dimension} axes, {len(axes)} of them in space.", "Save a single 3-D volume of it."
        )
    return axes


def _grid(header: Mapping[str, Any], sizes: tuple[int, ...], spatial: list[int]) -> tuple[Grid, tuple[str, ...]]:
    space = str(header.get("space") or "").lower().removesuffix("-time").removesuffix("t")
    signs, said = _TO_LPS.get(space, (1, 1, 1)), []
    if not space:
        said.append(_PLACELESS)
    elif space not in _TO_LPS:
        said.append(f"The NRRD file gives the place in a space ('{space}') that is not the patient's; left and right "
                    "may be swapped.")  # fmt: skip
    directions, spacings = header.get("space directions"), header.get("spacings")
    affine = np.eye(4)
    if directions is not None:
        affine[:3, :3] = np.asarray(directions, dtype=np.float64)[spatial].T
        units = header.get("space units")
    else:
        steps = np.full(3, np.nan) if spacings is None else np.asarray(spacings, dtype=np.float64)[spatial]
        if not np.isfinite(steps).all():
            said.append("The NRRD file does not say the size of its voxels; 1 mm was taken, so volumes are not right.")
            steps = np.where(np.isfinite(steps), steps, 1.0)
        affine[:3, :3] = np.diag(steps)
        units = header.get("units")
    if header.get("space origin") is not None:
        affine[:3, 3] = np.asarray(header["space origin"], dtype=np.float64)
    affine[:3] *= _mm(units)
    affine[:3] *= np.asarray(signs)[:, None]
    i, j, k = (sizes[axis] for axis in spatial)
    return Grid((k, j, i), swap_ras_lps(affine)), tuple(said)


def _mm(units: Any) -> float:
    """Return millimetres per unit of length; 1 where the header says nothing or something else."""
    words = [units] if isinstance(units, str) else list(units or [])
    for word in words:
        name = str(word).strip().strip('"').lower()
        name = _LONG_UNITS.get(name.replace("metre", "meter").removesuffix("s"), name)
        if name in _MM_PER_UNIT:
            return _MM_PER_UNIT[name]
    return 1.0
