"""Read MetaImage files by ITK, and say what their headers leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading
from MedalSLib.volume.formats import check_claim
from MedalSLib.volume.geometry import Grid, grid_from_lps
from MedalSLib.volume.image import check_volume

_MAX_HEADER = 1 << 16
_SPACING, _ORIENTATION = ("elementspacing", "elementsize"), ("transformmatrix", "rotation", "orientation")
_OWN_DATA = "LOCAL"


def read_metaimage(path: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Return the frames or components (L, K, J, I), their grid, and what the user should know.

    Raises:
        InputError: Damaged, cut short, 2-D, or its header claims more than the file can hold.
    """
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with reading(path, "MetaImage"):
        header = _header(path)
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("MetaImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size, dimension = reader.GetSize(), reader.GetDimension()
        components = reader.GetNumberOfComponents()
        check_volume(tuple(size[:3]), path)
        if header.get("elementdatafile") == _OWN_DATA:
            is_packed = header.get("compresseddata", "").lower() == "true"
            check_claim(path, (*size, components), 1, "gzip" if is_packed else "")
        direction = np.asarray(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
        i, j, k = size[:3]
        grid = grid_from_lps((k, j, i), reader.GetOrigin()[:3], reader.GetSpacing()[:3], direction.ravel().tolist())
        if dimension > 4 or (dimension == 4 and components > 1):
            raise InputError(f"{path} has more than four axes.", "Save a single 3-D volume of it.")
        image = reader.Execute()
        array = SimpleITK.GetArrayFromImage(image)
    layers = array if dimension == 4 else np.moveaxis(array, -1, 0) if components > 1 else array[None]
    return layers, grid, _omissions(header)


def _header(path: Path) -> dict[str, str]:
    """Return the fields of the header, which is text up to the name of the data file."""
    with path.open("rb") as stream:
        text = stream.read(_MAX_HEADER)
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.decode("latin-1").partition("=")
        if not separator:
            break
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    return fields


def _omissions(header: dict[str, str]) -> tuple[str, ...]:
    said = []
    if not any(key in header for key in _SPACING):
        said.append("The MetaImage file does not say the size of its voxels; 1 mm was taken, so volumes are not right.")
    if not any(key in header for key in _ORIENTATION):
        said.append("The MetaImage file does not say how the image lies in the patient; left and right may be swapped.")
    return tuple(said)
