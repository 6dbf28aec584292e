"""The panel: plain-Python presenters that decide, and thin Qt widgets that show what they decided.

Presenters import neither Qt nor Slicer; what they need of the application is given to them.  Importing this package
needs nothing but the standard library; `widgets.panel_view.PanelView` is what the module puts on the screen.
"""
