"""The installation's presenter: checks, one button, cancel, restart and resume, diagnostics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from MedalSLib.errors import MedalSError
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install import packages
from MedalSLib.panel.install.diagnostics import diagnostics
from MedalSLib.panel.install.host import SlicerHost
from MedalSLib.panel.install.installer import Installer
from MedalSLib.panel.install.preflight import Check, canInstall, cost, preflight
from MedalSLib.panel.install.system import SystemFacts, hasNvidiaDriver
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.messages import Message, messageOf
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.signal import Signal

_JARGON = ("pip", "cuda", "torch")


@dataclass(eq=False)
class InstallPresenter:
    """Nothing is looked at before `check`, and nothing is installed before `install`.

    Attributes:
        host: 3D Slicer.
        settings: Keeps what goes on after a restart.
        gatherFacts: Gathers the facts about this computer; may take seconds.
        jobs: Gathers them beside the interface.
        pump: Lets the application show each step: pip has to run on the main thread.
        engineWords: Returns the engine in words, for the diagnostics.
        checks: The checks, empty before the first `check`.
        busy: Whether checks or an installation are going on.
        fraction: Share of the installation that is done, 0..1.
        message: What was said last.
        needsRestart: Whether a restart is due.
        unsaved: What a restart would lose, while the user is asked about it ("" for the scene itself); else empty.
        log: What the installers said.
        changed: Emitted when anything above changed.
    """

    host: SlicerHost
    settings: Settings
    gatherFacts: Callable[[], SystemFacts]
    jobs: BackgroundJobs
    pump: Callable[[], None] = lambda: None
    engineWords: Callable[[], str] = lambda: ""
    checks: tuple[Check, ...] = field(default=(), init=False)
    busy: bool = field(default=False, init=False)
    fraction: float = field(default=0.0, init=False)
    message: Message = field(default_factory=Message, init=False)
    needsRestart: bool = field(default=False, init=False)
    unsaved: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self._facts: SystemFacts | None = None
        self._lacks: bool | None = None
        self._cancel = threading.Event()
        self.log: list[str] = []
        self.changed = Signal()

    @property
    def pending(self) -> bool:
        """Whether an installation waits to go on after the restart that it asked for."""
        return bool(self.settings.pendingInstall) and not self.needsRestart

    @property
    def isInstalled(self) -> bool:
        """Whether everything that the local engine needs is there."""
        torch = self.host.torchVersion()
        return torch not in ("", "?") and not packages.missing(packages.requirements(), self.host.version)

    @property
    def blocker(self) -> str:
        """Why nothing can be computed on this computer yet, in words for everybody; empty if something can."""
        if self._lacks is None:
            names = packages.names(packages.requirements())
            torch = self.host.torchVersion()
            self._lacks = torch in ("", "?") or not all(self.host.version(name) for name in names)
        if not self._lacks:
            return ""
        if self.needsRestart:
            return _("Restart 3D Slicer: the installation goes on after it.")
        return _("Medal S is not set up on this computer yet: press Install.")

    @property
    def offer(self) -> str:
        """What the button will do, with size and time."""
        gpu = bool(self._facts.gpus) if self._facts is not None else hasNvidiaDriver()
        text = _("Medal S is not set up on this computer yet. Install adds what it computes with: {cost}.")
        text = text.format(cost=cost(gpu))
        if self.host.torchVersion() in ("", "?") and not self.host.extensionUsable():
            text += " " + _("3D Slicer will have to restart once; it asks first.")
        return text

    @property
    def plainMessage(self) -> Message:
        """`message` in words for everybody: the details are the Install page's."""
        if any(word in self.message.text.casefold() for word in _JARGON):
            return Message(
                _("The installation did not finish. The Install page says why and what to do."), self.message.level
            )
        return self.message

    @property
    def status(self) -> str:
        """What is installed, in one sentence."""
        if self.needsRestart:
            return _("Restart 3D Slicer to go on.")
        if self.isInstalled:
            return _("Everything for running on this computer is installed.")
        if self.pending:
            return _("The installation is not finished: press Continue.")
        return _("Running on this computer needs an installation. Using a server needs none.")

    @property
    def canInstall(self) -> bool:
        """Whether the button may be pressed."""
        return not self.busy and not self.needsRestart and not self.isInstalled and canInstall(self.checks)

    def check(self) -> None:
        """Look at this computer."""
        if self.busy:
            return
        with self._working():
            self._look()
            self.message = Message()

    def install(self) -> None:
        """Check, then install everything that is missing; called by the button only."""
        if self.busy or self.needsRestart:
            return
        with self._working():
            self.settings.pendingInstall = ""  # it goes on by itself only after a restart that it asked for itself
            self._cancel = threading.Event()
            self._look()
            failed = [check for check in self.checks if check.state == "failed"]
            if failed:
                self.message = Message(f"{failed[0].name}: {failed[0].text}", "error")
                return
            need = Installer(self.host, self._stepped, self._logged, self._cancel).install()
            self.needsRestart = need == "restart"
            if self.isInstalled:
                self.message = Message(_("Medal S is ready to run on this computer."), "success")
            if self.needsRestart:
                self.message = Message(_("Restart 3D Slicer; the installation goes on from here."), "warning")
                if self.isInstalled:
                    self.message = Message(_("Installed. Restart 3D Slicer to use it."), "success")
                else:
                    self.settings.pendingInstall = "local"
            self._look()

    def resume(self) -> None:
        """Go on with an installation that waited for a restart."""
        if self.pending:
            self.install()

    def cancel(self) -> None:
        """Stop what is being installed; what is there by then stays."""
        if self.busy:
            self._cancel.set()
            self.message = Message(_("Stopping …"))
            self.changed.emit()

    def restart(self) -> None:
        """Restart the application; ask first if that would lose something."""
        self.unsaved = self.host.unsaved()
        if self.unsaved:
            self.changed.emit()
        else:
            self.host.restart()

    def saveFirst(self) -> None:
        """Let the user save, and restart if all data are saved; else ask again about what is left."""
        saved = self.host.save()
        self.unsaved = self.host.unsaved()
        if not self.unsaved or (saved and self.unsaved == ("",)):
            self.restartAnyway()
        else:
            self.changed.emit()

    def restartAnyway(self) -> None:
        """Restart whatever is lost."""
        self.unsaved = ()
        self.changed.emit()
        self.host.restart()

    def restartLater(self) -> None:
        """Do not restart now; the installation goes on after the next start."""
        self.unsaved = ()
        self.changed.emit()

    def dismiss(self) -> None:
        """Do not go on with an installation that was begun."""
        self.settings.pendingInstall = ""
        self.changed.emit()

    def refresh(self) -> None:
        """Look again at what is installed: other modules install, too."""
        self._lacks = None
        self.changed.emit()

    def diagnostics(self) -> str:
        """Return the text for the clipboard."""
        if self._facts is None:
            self.check()
        if self._facts is None:
            return self.message.text
        return diagnostics(self._facts, self.checks, self.engineWords(), self.log)

    def _look(self) -> None:
        self._facts = self.jobs.run(lambda _send: self.gatherFacts())
        self.checks = preflight(self._facts)

    def _stepped(self, text: str, share: float) -> None:
        self.fraction, self.message = share, Message(text)
        self.changed.emit()
        self.pump()

    def _logged(self, line: str) -> None:
        self.log.append(line)
        self.pump()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Show that something is going on, and what went wrong with it."""
        self.busy, self.fraction = True, 0.0
        self.message = Message(_("Looking at this computer …"))
        self.changed.emit()
        try:
            yield
        except Exception as error:
            if isinstance(error, MedalSError):
                self._logged(str(error))
            self.message = messageOf(error)
        finally:
            self.busy, self.fraction, self._lacks = False, 0.0, None
            self.changed.emit()
