"""3D Slicer's MRML nodes to arrays and back: volumes, segments, strokes, results, and the module's state in the scene.

The way of a run through this room:

1. `request.NodeRequest` names volume, segmentation, segments and ROI as nodes.
2. `runner.Runner` refuses a second run, watches the nodes (`run_guard`), and reads them on the main thread into a
   `MedalSLib.run.RunRequest` (`run_inputs`: `volumes`, `segments`, `roi`, and `strokes` for a refinement).
3. The engine works on the worker thread (`background`), with the session that `session_holder` keeps open.
4. `run_output` writes each structure on the main thread as it comes: `writer` respects locked and other segments,
   `targets` finds or adds the segment, `segment_terminology` gives it codes, `editing` changes its voxels with undo.
5. `frames` does that for every frame of a time series (`sequences`).

Only the main thread touches nodes.  Where it has long work, `ui_yield` processes the application's events in between,
and whatever the user may have removed meanwhile is looked up again.  Voxels are `volume.mask.BoxMask`s with the axes
(K, J, I) everywhere; `oriented_image` is the one place that converts them from and to VTK images, and `transforms`
knows what lies between the coordinates of two nodes.

Needs `slicer` and `vtk` (but for `request`), never Qt: it runs in the application, in `PythonSlicer` and on the bare
`slicer-core`.  Names follow Slicer's camelCase.
"""
