"""Medal S: segment 3-D medical images from text and masks together.

Importing this package loads neither torch nor numpy; every room (`vocabulary`, `volume`, `network`, `inference`,
`engine`, `service`, `training`, `evaluation`, `slicer`, `panel`) is imported on its own.
"""

__version__ = "0.1.0"
