"""The CTK widgets that the panel uses, with the properties of the real ones."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from qt_host.pythonqt import strict

__all__ = ["ctkCollapsibleButton", "ctkExpandableWidget", "ctkPathLineEdit"]


@strict
class ctkCollapsibleButton(QtWidgets.QWidget):
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._button = QtWidgets.QToolButton(self)
        self._button.setToolButtonStyle(QtCore.Qt.ToolButtonTextBesideIcon)
        self._button.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._collapsed = False
        self._button.connect("clicked()", self._toggle)
        self.setContentsMargins(0, self._button.sizeHint().height() + 4, 0, 0)
        self._update()

    @property
    def text(self):
        return self._button.text

    @text.setter
    def text(self, text):
        self._button.setText(text)

    @property
    def collapsed(self):
        return self._collapsed

    @collapsed.setter
    def collapsed(self, collapsed):
        if collapsed != self._collapsed:
            self._collapsed = collapsed
            self._update()
            self.contentsCollapsed.emit(collapsed)

    def click(self):
        self._toggle()

    def childEvent(self, event):
        if event.polished() and event.child().isWidgetType() and event.child() is not self._button:
            event.child().setVisible(not self._collapsed)

    def resizeEvent(self, _event):
        self._button.setGeometry(0, 0, self.size.width(), self._button.sizeHint().height())

    def _toggle(self):
        self.collapsed = not self._collapsed

    def _update(self):
        self._button.setArrowType(QtCore.Qt.RightArrow if self._collapsed else QtCore.Qt.DownArrow)
        for child in self.children():
            if child.isWidgetType() and child is not self._button:
                child.setVisible(not self._collapsed)
        self.setMaximumHeight(self._button.sizeHint().height() + 2 if self._collapsed else 16777215)
        self.updateGeometry()


@strict
class ctkPathLineEdit(QtWidgets.QWidget):
    currentPathChanged = QtCore.Signal(str)
    Dirs, Files, Readable = 0x001, 0x002, 0x010

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = QtWidgets.QLineEdit()
        layout.addWidget(self._edit)
        layout.addWidget(QtWidgets.QToolButton())
        self._edit.connect("textChanged(QString)", self.currentPathChanged.emit)
        self._filters = 0
        self._key = ""

    @property
    def currentPath(self):
        return self._edit.text

    @currentPath.setter
    def currentPath(self, path):
        self._edit.setText(path)

    @property
    def filters(self):
        return self._filters

    @filters.setter
    def filters(self, filters):
        self._filters = filters

    @property
    def settingKey(self):
        return self._key

    @settingKey.setter
    def settingKey(self, key):
        self._key = key


@strict
class ctkExpandableWidget(QtWidgets.QFrame):
    """A frame whose lower border can be dragged; not here."""
