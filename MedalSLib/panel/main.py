"""The panel as the module shows it: presenters, pages, and the life of module and scene."""

from __future__ import annotations

import logging
from typing import Any

OLDEST = (5, 10)


class MainPanel:
    """Builds the panel; installs, loads and asks nothing.

    Args:
        logic: The module's logic: `parameters`, `runner`, `useEditor(editorNode, saveStateForUndo)`.
        factories: How engines are opened, by kind; None for the real ones.

    Attributes:
        widget: The QWidget to be put into the module's layout.
        model: The presenters; None in a 3D Slicer that is too old.
    """

    def __init__(self, logic: Any, factories: Any = None) -> None:
        import slicer

        self.model: Any = None
        self._view: Any = None
        version = (int(slicer.app.majorVersion), int(slicer.app.minorVersion))
        if version < OLDEST:
            self.widget = _refusal(version)
            return
        from MedalSLib.panel.widgets.panel_view import PanelView

        self._view = PanelView(logic, version, factories)
        self.model = self._view.model
        self.widget = self._view.widget

    def enter(self) -> None:
        """The module is shown."""
        if self._view is not None:
            self._view.enter()

    def exit(self) -> None:
        """Another module is shown."""
        if self._view is not None:
            self._view.exit()

    def cleanup(self) -> None:
        """The module is closed for good."""
        if self._view is not None:
            self._view.cleanup()
        self._view = None


def _refusal(version: tuple[int, int]) -> Any:
    import qt

    from MedalSLib.panel.i18n import tr as _

    text = _("Medal S needs 3D Slicer {oldest} or newer; this is {found}. Install the newest version from slicer.org.")
    words = text.format(oldest=".".join(map(str, OLDEST)), found=".".join(map(str, version)))
    logging.warning(words)
    label = qt.QLabel(words)
    label.wordWrap = True
    label.objectName = "refusal"
    return label
