"""The large button, progress, messages, and the question before an upload."""

from __future__ import annotations

import time
from functools import partial

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.tools import (
    button,
    guarded,
    named,
    progressBar,
    say,
    showFraction,
    sideBySide,
    stacked,
    textLabel,
)
from MedalSLib.panel.wording import durationText

_LISTEN_MS = 1000
_SILENCE_SECONDS = 5.0


class RunView:
    """Run and cancel.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._model = model
        run = model.run
        self._estimate = textLabel("estimateLabel")
        self.run = button(_("Segment"), _("Segment the structures (Ctrl+Enter)"), run.run, "runButton")
        font = self.run.font
        font.setBold(True)
        self.run.setFont(font)
        self.run.setMinimumHeight(34)
        hint = _("Segment as if nothing had been corrected; Undo and Revert bring the corrections back")
        self.again = button(_("Start over"), hint, run.startOver, "startOverButton")
        self.cancel = button(_("Cancel"), _("Stop; your segments stay as they were before"), run.cancel, "cancelButton")
        self.cancel.setMinimumHeight(34)
        self.bar = progressBar("progressBar", _("Progress"))
        self.bar.setFormat("%p %")
        self.bar.setMinimumHeight(34)
        buttons = sideBySide(self.run, self.bar, self.again, self.cancel, stretch=False)
        for place in (0, 1):
            buttons.layout().setStretch(place, 1)
        self._progress = textLabel("progressLabel")
        self._message = textLabel("messageLabel")
        self._remarks = textLabel("remarksLabel")
        self._question = textLabel("consentText")
        self._consent = named(
            stacked(
                self._question,
                sideBySide(
                    button(
                        _("Send to this server"),
                        _("Remembered for this server; can be taken back on the Engine page"),
                        partial(run.answerConsent, True),
                        "consentAllow",
                    ),
                    button(
                        _("Do not send"),
                        _("Nothing leaves this computer"),
                        partial(run.answerConsent, False),
                        "consentDecline",
                    ),
                ),
            ),
            "consentBox",
            _("Permission to send the image"),
        )
        self._replaced = textLabel("replacedLabel")
        said = (self._progress, self._consent, self._message, self._remarks)
        self.widget = stacked(self._estimate, buttons, self._replaced, *said)
        self._heard = 0.0
        self._listening = qt.QTimer(self.widget)
        self._listening.setInterval(_LISTEN_MS)
        self._listening.connect("timeout()", guarded(self._showProgress))
        run.changed.connect(self._runChanged)
        model.consent.changed.connect(self.update)
        model.prompt.changed.connect(self.update)
        model.spatial.changed.connect(self.update)
        model.volumeChanged.connect(lambda _facts: self.update())
        self.update()

    def update(self) -> None:
        """Show what the presenter says."""
        run = self._model.run
        busy = run.busy
        self.run.setVisible(not busy)
        self.run.enabled = not busy and not run.blocker
        self.run.text = run.action
        what = _("Carries on from what you painted or erased, which stays as it is (Ctrl+Enter)")
        self.run.toolTip = run.blocker or (what if run.corrected else _("Segment the structures (Ctrl+Enter)"))
        replaced = () if busy else run.replaced
        self.again.setVisible(bool(replaced))
        text = _("Start over would replace your corrections of {names}; Undo or Revert brings them back.")
        say(self._replaced, Message(text.format(names=", ".join(replaced)) if replaced else ""))
        self.cancel.setVisible(busy)
        self.cancel.enabled = run.canCancel
        self.bar.setVisible(busy)
        showFraction(self.bar, run.fraction, known=not busy or run.fraction > 0)
        self._showProgress()
        say(self._estimate, Message(run.estimate if not busy else ""))
        message = run.message
        if run.isElsewhere:
            message = Message(_("The last result is in {place}.").format(place=self._model.workspace.resultPlace))
        waits = not busy and not message.text and not self._model.prompt.typing
        waits = waits and not self._model.engines.blocker  # the set-up says it itself
        say(self._message, Message(run.blocker) if waits else message)
        remarks = () if run.isElsewhere else run.remarks
        say(self._remarks, Message("\n".join(remarks), "warning" if remarks else "info"))
        question = self._model.consent.question
        self._consent.setVisible(question is not None)
        title = _("This is the first image for this server. May it be sent?")
        say(self._question, Message(f"{title}\n{question.text}" if question is not None else "", "warning"))

    def _runChanged(self) -> None:
        self._heard = time.monotonic()
        self.update()
        if not self._model.run.busy:
            self._listening.stop()
        elif not self._listening.isActive():
            self._listening.start()

    def _showProgress(self) -> None:
        """Show what is going on; a server that has been silent for a while may be gone."""
        text = self._model.run.progress
        silence = time.monotonic() - self._heard
        if text and self._model.engines.isRemote and silence >= _SILENCE_SECONDS:
            text += " · " + _("no news from the server for {time}").format(time=durationText(silence))
        say(self._progress, Message(text))
