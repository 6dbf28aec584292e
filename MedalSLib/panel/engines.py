"""Where the computation runs: this computer (isolated or in Slicer itself) or a server; opened when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from MedalSLib.engine.interface import Engine, EngineInfo
from MedalSLib.errors import MedalSError, ResourceError, ServiceError
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.messages import Message, messageOf
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.signal import Signal
from MedalSLib.service.addresses import parse_address

if TYPE_CHECKING:
    from MedalSLib.slicer.parameters import Parameters

Kind = Literal["isolated", "in-process", "remote"]
KINDS: tuple[Kind, ...] = ("isolated", "in-process", "remote")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class EngineChoice:
    """All that makes one engine differ from another; the key is part of it and is kept in memory only."""

    kind: str
    model: str
    device: str
    url: str
    key: str


@dataclass(frozen=True)
class Badge:
    """The device badge.

    Attributes:
        text: Device, or what is the matter.
        detail: Model, and why this device.
        level: "ready", "idle" or "problem".
    """

    text: str
    detail: str
    level: Literal["ready", "idle", "problem"]


Factory = Callable[[EngineChoice, threading.Event], Engine]


@dataclass(eq=False)
class EnginePresenter:
    """Holds the choice of engine and the open engine.

    Attributes:
        state: Keeps the model's name.
        settings: Keeps kind, device and address.
        factories: How to open an engine of each kind; see `defaultFactories`.
        jobs: Opens it beside the interface.
        beforeClose: Called before an engine closes: what is open in it has to be closed first.
        whyNotHere: Returns why nothing can be computed on this computer; empty if something can.
        changed: Emitted when the choice, the engine or the message changed.
        message: What the last test or opening said.
        busy: Whether an engine is being opened or tested.
    """

    state: Parameters
    settings: Settings
    factories: Mapping[str, Factory]
    jobs: BackgroundJobs
    beforeClose: Callable[[], None]
    whyNotHere: Callable[[], str] = lambda: ""
    message: Message = field(default_factory=Message, init=False)
    busy: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._key = ""
        self._engine: Engine | None = None
        self._info: EngineInfo | None = None
        self._opened: EngineChoice | None = None
        self._cancel = threading.Event()
        self.changed = Signal()

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        kind = self.settings.engineKind
        return kind if kind in KINDS else KINDS[0]

    @kind.setter
    def kind(self, kind: str) -> None:
        if kind != self.kind:
            self.settings.engineKind = kind
            self._choiceChanged()

    @property
    def device(self) -> str:
        """One of `DEVICES`."""
        device = self.settings.device
        return device if device in DEVICES else DEVICES[0]

    @device.setter
    def device(self, device: str) -> None:
        if device != self.device:
            self.settings.device = device
            self._choiceChanged()

    @property
    def url(self) -> str:
        """Address of the server, as typed."""
        return self.settings.serverUrl

    @url.setter
    def url(self, url: str) -> None:
        if url.strip() != self.url:
            self.settings.serverUrl = url.strip()
            self._choiceChanged()

    @property
    def key(self) -> str:
        """API key of the server; forgotten when the application closes."""
        return self._key

    @key.setter
    def key(self, key: str) -> None:
        if key.strip() != self._key:
            self._key = key.strip()
            self._choiceChanged()

    @property
    def model(self) -> str:
        """Name of the model to run on this computer; a server has its own."""
        return self.state.model

    @model.setter
    def model(self, model: str) -> None:
        if model != self.model:
            self.state.model = model
            self._choiceChanged()

    @property
    def isRemote(self) -> bool:
        """Whether images would leave this computer's Slicer for a server."""
        return self.kind == "remote"

    @property
    def blocker(self) -> str:
        """Why the chosen engine cannot be opened before something is installed; empty if it can be tried."""
        return "" if self.isRemote or self.isOpen else self.whyNotHere()

    @property
    def choice(self) -> EngineChoice:
        """The engine that the next run would use."""
        if self.isRemote:
            return EngineChoice(self.kind, "", "", self.url, self._key)
        return EngineChoice(self.kind, self.model, self.device, "", "")

    @property
    def isOpen(self) -> bool:
        """Whether the chosen engine is open."""
        return self._engine is not None and self._opened == self.choice

    @property
    def info(self) -> EngineInfo | None:
        """What the open engine is; None if the chosen one is not open."""
        return self._info if self.isOpen else None

    @property
    def badge(self) -> Badge:
        """What to show of the engine all the time."""
        info = self.info
        if info is not None and self.message.level != "error":
            where = _(" on {server}").format(server=self._host()) if self.isRemote else ""
            return Badge(f"{info.device}{where}", info.title, "ready")
        if self.busy:
            return Badge(_("Loading the model …"), "", "idle")
        if self.blocker:
            return Badge(_("Not set up"), _("Nothing can be computed on this computer yet."), "problem")
        if self.isRemote and not self.url:
            return Badge(_("No server"), _("Enter its address on the Engine page."), "problem")
        if self.message.level == "error":
            return Badge(_("Not ready"), self.message.text, "problem")
        if self.isRemote:
            return Badge(_("Server {server}").format(server=self._host()), _("Not connected yet"), "idle")
        return Badge(_("This computer"), _("The model is loaded when it is first needed."), "idle")

    def open(self, cancel: threading.Event | None = None) -> Engine:
        """Return the chosen engine, opening it if need be; another one that is open is closed first.

        Setting `cancel` stops the waiting.

        Raises:
            MedalSError: The engine cannot be opened; says why and what to do.
        """
        choice = self.choice
        if self._engine is not None and self._opened == choice:
            if self.message.level == "error":
                self._choiceChanged()  # it is tried again
            return self._engine
        if choice.kind == "remote" and not choice.url:
            raise ServiceError(_("No server is named."), _("Enter its address on the Engine page."))
        if self.blocker:
            raise ResourceError(self.blocker)
        self.close()
        self._cancel = cancel or threading.Event()
        self.busy = True
        self.message = Message()
        self.changed.emit()
        try:
            engine = self.jobs.run(lambda _send: self.factories[choice.kind](choice, self._cancel))
            self._engine, self._info, self._opened = engine, engine.info(), choice
            return engine
        except MedalSError as error:
            self.message = messageOf(error)
            raise
        finally:
            self.busy = False
            self.changed.emit()

    def test(self) -> bool:
        """Open the chosen engine and say how that went (the button “Test connection”); a server is asked again."""
        if self.isRemote:
            self.close()
        try:
            self.open()
        except Exception as error:
            self.message = messageOf(error)
            self.changed.emit()
            return False
        info = self._info
        assert info is not None
        text = _("Connected: {title} {version} on {device}, {count} structures, Medal S {software}.").format(
            title=info.title,
            version=info.version,
            device=info.device,
            count=len(info.classes),
            software=info.software,
        )
        self.message = Message(text, "success")
        self.changed.emit()
        return True

    def failed(self, error: ServiceError) -> None:
        """Take note that a server failed in a run: the badge says so until it is tried again."""
        if self.isRemote:
            self.message = messageOf(error)
            self.changed.emit()

    def stopOpening(self) -> None:
        """Stop waiting for an engine that is being opened."""
        self._cancel.set()

    def close(self) -> None:
        """Close the open engine; a server that is gone is no error then."""
        engine, self._engine, self._info, self._opened = self._engine, None, None, None
        if engine is None:
            return
        try:
            self.beforeClose()
            engine.close()
        except MedalSError as error:
            self.message = messageOf(error)

    def _choiceChanged(self) -> None:
        self.message = Message()
        self.changed.emit()

    def _host(self) -> str:
        try:
            return parse_address(self.url).url.partition("://")[2]
        except ServiceError:
            return self.url


def defaultFactories() -> dict[str, Factory]:
    """Return how the three kinds of engine are opened; nothing heavy is imported before one is."""

    def isolated(choice: EngineChoice, cancel: threading.Event) -> Engine:
        from MedalSLib.service.child import open_isolated_engine

        return open_isolated_engine(choice.model, choice.device, cancel=cancel)

    def inProcess(choice: EngineChoice, cancel: threading.Event) -> Engine:
        from MedalSLib.engine import open_engine

        return open_engine(choice.model, choice.device)

    def remote(choice: EngineChoice, cancel: threading.Event) -> Any:
        from MedalSLib.service.client import connect

        return connect(choice.url, choice.key, cancel=cancel)

    return {"isolated": isolated, "in-process": inProcess, "remote": remote}
