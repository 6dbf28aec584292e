"""Slicer nodes to arrays and back: volumes, segments, write-back, strokes, parameters, terminology.

Needs `slicer` and `vtk`, never Qt: it runs in the application, in `PythonSlicer` and on the bare `slicer-core`.
"""
