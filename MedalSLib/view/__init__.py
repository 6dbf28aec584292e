"""The panel's work in a browser, on Slicer's own core and views: what `medals view` serves.

- `server.serve` opens one page on the loopback, below a random token without which nothing is answered.
- `scene.ViewScene` is Slicer's scene with the image, and reads and writes segmentations.
- `desk.Desk` joins the panel's presenters with the page's state; `page` lays the page out.
- `brush.Brush` paints in the slice views; `event_loop` lets the runner wait without stopping the server.

What to run, refine, compare and undo is decided by the panel's presenters and done by the slicer room; nothing of that
is here.  Needs `medals[view]` (trame-slicer, which brings Slicer's core), never Qt.
"""
