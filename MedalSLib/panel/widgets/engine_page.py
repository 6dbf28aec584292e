"""The Engine page: where runs are computed, with which model, and which servers may get images."""

from __future__ import annotations

from functools import partial

import qt

from MedalSLib.panel.engines import DEVICES, KINDS
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.models_view import ModelsView
from MedalSLib.panel.widgets.tools import button, choices, guarded, named, onChoice, say, sideBySide, stacked, textLabel


class EnginePage:
    """Engine and models.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._model = model
        engines = model.engines
        self.kind = named(qt.QComboBox(), "engineKind", _("Where runs are computed"))
        onChoice(self.kind, partial(setattr, engines, "kind"))
        self._kindNote = textLabel("kindNote")
        self.device = named(
            qt.QComboBox(),
            "engineDevice",
            _("Device"),
            _("Automatic takes the graphics card if there is one that fits"),
        )
        onChoice(self.device, partial(setattr, engines, "device"))
        self.url = named(qt.QLineEdit(), "serverUrl", _("Address of the server"))
        self.url.placeholderText = "https://server.example:8000"
        self.url.connect("editingFinished()", guarded(self._takeUrl))
        self.key = named(
            qt.QLineEdit(), "serverKey", _("API key"), _("Kept until 3D Slicer is closed, never written to a file")
        )
        self.key.setEchoMode(qt.QLineEdit.Password)
        self.key.placeholderText = _("from the server's administrator, if it wants one")
        self.key.connect("editingFinished()", guarded(self._takeKey))
        self.test = button(_("Test connection"), _("Opens the engine and says what it is"), self._test, "testButton")
        self._stop = button(_("Stop"), _("Do not wait any longer"), engines.stopOpening, "testStop")
        self._message = textLabel("engineMessage")
        self._form = qt.QWidget()
        rows = qt.QGridLayout(self._form)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setColumnStretch(1, 1)
        rows.addWidget(qt.QLabel(_("Compute on:")), 0, 0)
        rows.addWidget(self.kind, 0, 1)
        rows.addWidget(self._kindNote, 1, 1)
        self._deviceLabel, self._urlLabel, self._keyLabel = (
            qt.QLabel(text) for text in (_("Device:"), _("Server:"), _("API key:"))
        )
        fields = ((self._deviceLabel, self.device), (self._urlLabel, self.url), (self._keyLabel, self.key))
        for row, (label, widget) in enumerate(fields, 2):
            label.setBuddy(widget)
            rows.addWidget(label, row, 0)
            rows.addWidget(widget, row, 1)
        self.models = ModelsView(model)
        self._modelsBox = qt.QGroupBox(_("Models on this computer"))
        qt.QVBoxLayout(self._modelsBox).addWidget(self.models.widget)
        self._hosts = named(qt.QComboBox(), "consentHosts", _("Servers that may get images"))
        self._hostsBox = qt.QGroupBox(_("Servers that may get images"))
        forget = button(
            _("Ask again"), _("The next image for this server is asked about"), self._forget, "consentForget"
        )
        qt.QVBoxLayout(self._hostsBox).addWidget(sideBySide(self._hosts, forget))
        self.widget = stacked(
            self._form, sideBySide(self.test, self._stop), self._message, self._modelsBox, self._hostsBox
        )
        self.widget.layout().setContentsMargins(6, 8, 6, 6)
        self.widget.layout().addStretch(1)
        engines.changed.connect(self.update)
        model.consent.changed.connect(self.update)
        self.update()

    def update(self) -> None:
        """Show the presenter's choice."""
        engines = self._model.engines
        kinds = {
            "isolated": _("This computer, in a process of its own"),
            "in-process": _("This computer, inside 3D Slicer"),
            "remote": _("A server"),
        }
        notes = {
            "isolated": _("Recommended: it can always be stopped, and a fault in it cannot close 3D Slicer."),
            "in-process": _(
                "Only if the first way is blocked on this computer; running out of memory may close 3D Slicer."
            ),
            "remote": _("Images leave this computer. You are asked before the first one is sent."),
        }
        devices = {
            "auto": _("Automatic"),
            "cpu": _("Processor"),
            "cuda": _("NVIDIA graphics card"),
            "mps": _("Apple graphics (experimental)"),
        }
        choices(self.kind, [(kind, kinds[kind]) for kind in KINDS], engines.kind)
        choices(self.device, [(device, devices[device]) for device in DEVICES], engines.device)
        say(self._kindNote, Message(notes[engines.kind]))
        remote = engines.isRemote
        local: tuple[qt.QWidget, ...] = (self._deviceLabel, self.device, self._modelsBox)
        away: tuple[qt.QWidget, ...] = (self._urlLabel, self.url, self._keyLabel, self.key)
        for widget in local:
            widget.setVisible(not remote)
        for widget in away:
            widget.setVisible(remote)
        self.test.text = _("Test connection") if remote else _("Load the model now")
        if self.url.text.strip() != engines.url:
            self.url.text = engines.url
        hosts = self._model.consent.hosts
        self._hostsBox.setVisible(bool(hosts))
        choices(self._hosts, [(host, host) for host in hosts], "")
        self.test.enabled = not engines.busy
        self._stop.setVisible(engines.busy)
        say(self._message, Message(_("Loading …")) if engines.busy else engines.message)

    def _takeUrl(self) -> None:
        self._model.engines.url = self.url.text

    def _takeKey(self) -> None:
        self._model.engines.key = self.key.text

    def _test(self) -> None:
        self._takeUrl()
        self._takeKey()
        self._model.engines.test()

    def _forget(self) -> None:
        self._model.consent.forget(self._hosts.currentText)
