"""PySide6's classes changed in place, so that they behave as PythonQt's wrappers do.

- A Qt property is an attribute and hides the getter of its name: `label.text`, while `label.setText("x")` and
  `button.isEnabled()` stay methods.
- An attribute that the C++ class lacks cannot be set; on Python subclasses it can, unless it is a slot's name.
- `connect("clicked(bool)", f)` and `.clicked.connect(f)`; an unknown signal raises (PythonQt: returns False).
- Constructors take no keywords.  Lists come back as tuples, enumerations as numbers.
"""

from __future__ import annotations

import enum
import inspect
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from qt_host.journal import journal
from qt_host.slots import slot

STRICT: set[type] = set()
"""Classes that stand for C++ ones."""

_property = QtCore.QObject.property
_set_property = QtCore.QObject.setProperty
_connect = QtCore.QObject.connect
_disconnect = QtCore.QObject.disconnect
_get = QtCore.QObject.__getattribute__
_signal_connect = QtCore.SignalInstance.connect
_signal_disconnect = QtCore.SignalInstance.disconnect
_slots: dict[tuple[int, str, Any], Any] = {}


def apply() -> None:
    """Change the classes; once per process."""
    if STRICT:
        return
    classes = {
        item
        for module in (QtCore, QtGui, QtWidgets)
        for item in (getattr(module, name) for name in dir(module))  # classes are loaded when they are asked for
        if isinstance(item, type) and issubclass(item, QtCore.QObject)
    }
    for item in sorted(classes, key=lambda one: len(one.__mro__)):
        _make_strict(item)
    STRICT.update(classes)
    QtCore.SignalInstance.connect = _connect_signal
    QtCore.SignalInstance.disconnect = _disconnect_signal
    for event in (QtGui.QMouseEvent, QtGui.QWheelEvent, QtGui.QDropEvent):
        for name in ("position", "globalPosition", "scenePosition"):
            if hasattr(event, name):
                setattr(event, name, property(_qt6_only(name)))
    _refuse_dialogs()


def strict(cls: type) -> type:
    """Make a stand-in widget as strict as the C++ class it stands for; names with an underscore are its own."""
    STRICT.add(cls)
    return cls


def _make_strict(cls: type) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        item = meta.property(index)
        made = _attribute(item.name(), item.isWritable())
        made.static = vars(cls).get(item.name())
        setattr(cls, item.name(), made)
    cls.__getattribute__ = _getattribute
    cls.__setattr__ = _setattr
    original = cls.__init__

    def init(self: Any, *arguments: Any, **keywords: Any) -> None:
        if keywords:
            raise TypeError(f"PythonQt's constructors take no keywords: {cls.__name__}({', '.join(keywords)}=...)")
        original(self, *arguments)

    cls.__init__ = init


class Attribute(property):
    """A Qt property; on the class itself, a static function of the same name (QTimer.singleShot) stays one."""

    static: Any = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.static if instance is None and self.static is not None else super().__get__(instance, owner)


def _attribute(name: str, writable: bool) -> Attribute:
    def get(self: Any) -> Any:
        return converted(_property(self, name))

    def put(self: Any, value: Any) -> None:
        number = value.value if isinstance(value, enum.Enum) else value
        if not (_set_property(self, name, value) or _set_property(self, name, number)):
            raise TypeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    return Attribute(get, put if writable else None)


def converted(value: Any) -> Any:
    """Return a value as PythonQt hands it out."""
    if isinstance(value, enum.Enum):
        return value.value
    return tuple(value) if isinstance(value, list) else value


def _getattribute(self: Any, name: str) -> Any:
    if name in ("connect", "disconnect"):
        ours, own = (connect, _get(self, name)) if name == "connect" else (disconnect, _get(self, name))

        def call(*arguments: Any) -> Any:
            mine = len(arguments) == 2 and isinstance(arguments[0], str) and arguments[0][:1].isalpha()
            return ours(self, *arguments) if mine else own(*arguments)  # PySide's own signals come through here

        return call
    return _get(self, name)


def _setattr(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    found = inspect.getattr_static(cls, name, None)
    if isinstance(found, property):
        if found.fset is None:
            raise AttributeError(f"{cls.__name__}.{name} is read-only")
        found.fset(self, value)
        return
    if name.startswith("_"):
        self.__dict__[name] = value
        return
    if cls in STRICT:
        raise AttributeError(f"{cls.__name__} has no property {name}: PythonQt refuses to set it")
    if any(name in vars(base) for base in cls.__mro__ if base in STRICT):
        raise AttributeError(f"{name} is a method or signal of {cls.__name__}: PythonQt refuses to overwrite it")
    self.__dict__[name] = value


def connect(sender: Any, signature: str, function: Any) -> bool:
    """Connect by signature, as in C++."""
    wrapped = slot(function)
    alias = getattr(type(sender), "signatures", {}).get(signature)
    if alias is not None:
        _signal_connect(_get(sender, alias), wrapped)
    else:
        normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
        if sender.metaObject().indexOfSignal(normal) < 0:
            raise AttributeError(f"{type(sender).__name__} has no signal {signature}")
        _connect(sender, QtCore.SIGNAL(signature), wrapped)
    _slots[(id(sender), signature, function)] = wrapped
    return True


def disconnect(sender: Any, signature: str | None = None, function: Any = None) -> bool:
    """Undo `connect`; what was never connected raises."""
    wrapped = _slots.pop((id(sender), signature, function), None)
    if wrapped is None:
        raise RuntimeError(f"{signature} of {type(sender).__name__} was not connected to {function!r}")
    alias = getattr(type(sender), "signatures", {}).get(signature)
    if alias is not None:
        return bool(_signal_disconnect(_get(sender, alias), wrapped))
    return bool(_disconnect(sender, QtCore.SIGNAL(signature), wrapped))


def _connect_signal(self: Any, function: Any, *_rest: Any) -> Any:
    if isinstance(function, QtCore.SignalInstance):
        return _signal_connect(self, function)
    wrapped = slot(function)
    _slots[(0, str(self), function)] = wrapped
    return _signal_connect(self, wrapped)


def _disconnect_signal(self: Any, function: Any = None) -> Any:
    if function is None:
        return _signal_disconnect(self)
    return _signal_disconnect(self, _slots.pop((0, str(self), function)))


def _qt6_only(name: str) -> Any:
    def refuse(_self: Any) -> None:
        raise AttributeError(f"{name} exists in Qt 6 only; Slicer 5.12 has Qt 5.15")

    return refuse


def _refuse_dialogs() -> None:
    def dialog(name: str) -> Any:
        return lambda *_arguments: journal.answer(name)

    QtWidgets.QDialog.exec = dialog("QDialog.exec")
    QtWidgets.QDialog.exec_ = dialog("QDialog.exec_")
    for name in ("information", "warning", "critical", "question", "about"):
        setattr(QtWidgets.QMessageBox, name, staticmethod(dialog(f"QMessageBox.{name}")))
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"):
        setattr(QtWidgets.QFileDialog, name, staticmethod(dialog(f"QFileDialog.{name}")))
    for name in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        setattr(QtWidgets.QInputDialog, name, staticmethod(dialog(f"QInputDialog.{name}")))
