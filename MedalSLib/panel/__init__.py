"""The panel of the module: plain-Python presenters that decide, and thin Qt widgets that show what they decided.

- `widgets.panel_view.PanelView` is what the module puts on the screen; each view in `widgets` shows one presenter and
  updates itself when the presenter's `changed` signal (`signal`) is emitted.
- `presenters.Presenters` creates the presenters and connects them: `prompt` (what is typed: `chips`, `completion`),
  `spatial` (segments as prompts), `engines` (where runs are computed), `model_chooser`, `consent`, `run_presenter`
  (run, refine, cancel, review: `result_rows`, `wording`), and `install.presenter`.
- `workspace.Workspace` is the application as the presenters see it: chosen nodes, runs on them through the slicer
  room, the review of the last result (`comparison`, `defaults`).
- What belongs to the scene is kept in `slicer.parameters`; what belongs to the computer in `panel_settings`.  API keys
  are kept in memory only.

Presenters import neither Qt nor Slicer; what they need of the application is given to them.  Nothing here waits by
itself: `jobs` and the runner let the application process its events, so a button may be pressed in the middle of a run.
Importing this package needs nothing but the standard library.
"""
