"""Images and masks: grids, orientation, intensity windows, reading and writing of files.

Importing this room loads numpy only; the libraries that read and write files are imported by the functions that need
them.
"""

from MedalSLib.volume.geometry import Box, Grid, NetworkFrame, axial_grid, same_grid
from MedalSLib.volume.windows import AS_IS, PERCENTILE, WINDOWS, Window, apply_window, group_by_window, parse_window

__all__ = [
    "AS_IS",
    "PERCENTILE",
    "WINDOWS",
    "Box",
    "Grid",
    "NetworkFrame",
    "Window",
    "apply_window",
    "axial_grid",
    "group_by_window",
    "parse_window",
    "same_grid",
]
