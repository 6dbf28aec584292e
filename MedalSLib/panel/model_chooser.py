"""The model chooser: what each model knows, its licence and size; install, verify, remove, from the hub or a folder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from MedalSLib.panel.chips import UNKNOWN_MODEL, ModelClasses
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.messages import Message, messageOf
from MedalSLib.panel.signal import Signal
from MedalSLib.panel.wording import bytesText

if TYPE_CHECKING:
    from MedalSLib.network.registry import ModelEntry


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        name: Its short name.
        title: The model in words.
        status: Where it is, in words.
        knows: How many structures it knows, by modality.
        licence: Licence of the weights.
        size: Size of its files.
        usable: Whether it can run now.
        installable: Whether it can be fetched.
        removable: Whether its files can be deleted.
        chosen: Whether the next run uses it.
    """

    name: str
    title: str
    status: str
    knows: str
    licence: str
    size: str
    usable: bool
    installable: bool
    removable: bool
    chosen: bool


@dataclass(frozen=True)
class LicenceQuestion:
    """A licence that waits to be accepted.

    Attributes:
        name: Model, folder or zip to install.
        notice: What the user must read.
    """

    name: str
    notice: str


@dataclass(eq=False)
class ModelsPresenter:
    """Lists the models and changes what is installed.

    Attributes:
        registry: Returns `MedalSLib.network.registry`; called when first needed, as its packages may be missing.
        chosen: Returns the name of the model that the next run uses.
        use: Chooses another.
        jobs: Installs beside the interface.
        question: A licence to accept, None if there is none.
        fraction: Share of the work that is done, 0..1; None while nothing is being done.
        message: What the last step said.
        changed: Emitted when the list, the question, the progress or the message changed.
    """

    registry: Callable[[], ModuleType]
    chosen: Callable[[], str]
    use: Callable[[str], None]
    jobs: BackgroundJobs
    question: LicenceQuestion | None = None
    fraction: float | None = None
    message: Message = field(default_factory=Message)

    def __post_init__(self) -> None:
        self._entries: list[ModelEntry] = []
        self._cancel = threading.Event()
        self.changed = Signal()

    def refresh(self) -> None:
        """Read the list again."""
        self._entries = self._try(lambda: self.registry().list_models()) or []
        self.changed.emit()

    @property
    def rows(self) -> tuple[ModelRow, ...]:
        """The models, the bundled one first."""
        return tuple(_row(entry, self.chosen()) for entry in self._entries)

    @property
    def current(self) -> ModelClasses:
        """What the chosen model knows, as far as its manifest says it."""
        for entry in self._entries:
            if entry.name == self.chosen():
                return ModelClasses(entry.title, frozenset(entry.classes))
        return UNKNOWN_MODEL

    def knowing(self, keys: Collection[str]) -> tuple[ModelRow, ...]:
        """Return the other models that can be had and know most of the structures, those that are ready first.

        Args:
            keys: Structures, as "MODALITY_Published name".
        """
        counts = {entry.name: len(set(keys) & set(entry.classes)) for entry in self._entries}
        rows = [row for row in self.rows if (row.usable or row.installable) and not row.chosen]
        most = max((counts[row.name] for row in rows), default=0)
        return tuple(sorted((row for row in rows if counts[row.name] == most > 0), key=lambda row: not row.usable))

    @property
    def folder(self) -> str:
        """Where installed models lie; empty if that cannot be said."""
        try:
            return str(self.registry().home())
        except ImportError:
            return ""

    @property
    def busy(self) -> bool:
        """Whether something is being installed or verified."""
        return self.fraction is not None

    def choose(self, name: str) -> None:
        """Use a model for the next run."""
        self.use(name)
        self.changed.emit()

    def askLicence(self, name: str) -> None:
        """Show the licence of a model, a folder or a zip; `install` follows when it is accepted."""
        if not name.strip():
            self.message = Message(_("Choose the folder or the zip file of a model first."), "warning")
        else:
            notice = self._try(lambda: self.registry().licence_notice(name.strip()))
            if notice is not None:
                self.question, self.message = LicenceQuestion(name.strip(), notice), Message()
        self.changed.emit()

    def declineLicence(self) -> None:
        """Install nothing."""
        self.question = None
        self.changed.emit()

    def acceptLicence(self) -> None:
        """Install what was asked about, and use it."""
        question, self.question = self.question, None
        if question is None or self.busy:
            return
        entry = self._do(
            lambda report, cancel: self.registry().install(
                question.name, accept_licence=True, on_progress=report, cancel=cancel
            )
        )
        if entry is not None:
            self.use(entry.name)
            self.message = Message(_("{title} is installed.").format(title=entry.title), "success")
            self.refresh()

    def verify(self, name: str) -> None:
        """Check a model's files against their checksums."""
        entry = self._do(lambda _report, _cancel: self.registry().verify(name))
        if entry is not None:
            text = _("All files of {title} are as they should be.").format(title=entry.title)
            self.message = Message(text, "success")
            self.changed.emit()

    def remove(self, name: str) -> None:
        """Delete an installed model's files; the bundled model takes its place if it was the chosen one."""
        if self._do(lambda _report, _cancel: self.registry().remove(name) or True):
            self.message = Message(_("The files of {name} were deleted.").format(name=name), "success")
            self.refresh()
            usable = [row.name for row in self.rows if row.usable]
            if self.chosen() == name and usable:
                self.use(usable[0])
                self.changed.emit()

    def cancel(self) -> None:
        """Stop what is being done; a download goes on there the next time."""
        self._cancel.set()

    def _try(self, work: Callable[[], Any]) -> Any:
        """Ask the registry; returns None if it fails, with the reason in `message`."""
        try:
            return work()
        except ImportError as error:  # the registry itself may need a package that a bare Slicer lacks
            text = _("Models on this computer need packages that are not installed ({name}). See the Install page.")
            self.message = Message(text.format(name=error.name or error), "warning")
        except Exception as error:
            self.message = messageOf(error)
        return None

    def _do(self, work: Callable[[Callable[[int, int], None], threading.Event], Any]) -> Any:
        """Do something beside the interface; returns None if it failed, with the reason in `message`."""
        if self.busy:
            return None
        self._cancel = threading.Event()
        self.fraction, self.message = 0.0, Message()
        self.changed.emit()
        try:
            return self.jobs.run(
                lambda send: work(lambda done, total: send((done, total)), self._cancel), self._progressed
            )
        except Exception as error:
            self.message = messageOf(error)
            return None
        finally:
            self.fraction = None
            self.changed.emit()

    def _progressed(self, event: tuple[int, int]) -> None:
        done, total = event
        self.fraction = done / total if total else 0.0
        self.message = Message(_("{done} of {total}").format(done=bytesText(done), total=bytesText(total)))
        self.changed.emit()


def _row(entry: ModelEntry, chosen: str) -> ModelRow:
    status = {
        "bundled": _("ready, part of Medal S"),
        "installed": _("ready, installed"),
        "available": _("can be downloaded"),
        "damaged": _("damaged: remove and install it again"),
    }.get(entry.state, entry.state)
    usable = entry.state in ("bundled", "installed")
    size = bytesText(entry.size_bytes) if entry.size_bytes else ""
    counts = Counter(key.partition("_")[0] for key in entry.classes)
    known = [_("{count} in {modality}").format(count=count, modality=name) for name, count in counts.items()]
    return ModelRow(
        name=entry.name,
        title=entry.title,
        status=status,
        knows=", ".join(known),
        licence=entry.licence,
        size=size,
        usable=usable,
        installable=entry.state == "available",
        removable=entry.state in ("installed", "damaged"),
        chosen=entry.name == chosen,
    )
