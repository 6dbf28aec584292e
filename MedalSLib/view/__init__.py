"""The panel's work in a browser, on Slicer's own core and views: what `medals view` serves.

- `pages.Pages` has an address for each image and a process for each that is open; `server.serve` opens the page of one
  on the loopback.  Both answer nothing without a random token.
- `scene.ViewScene` is Slicer's scene with the image, and reads and writes segmentations.
- `desk.Desk` joins the panel's presenters with the page's state; `page` lays the page out.
- `views.Views` says which view is drawn when; `brush.Brush` paints in the slices, and `page.js` draws the stroke in the
  browser until the picture with the paint is there.
- `event_loop` lets the runner wait without stopping the server.

What to run, refine, compare and undo is decided by the panel's presenters and done by the slicer room; nothing of that
is here.  Needs `medals[view]` (trame-slicer, which brings Slicer's core), never Qt.
"""
