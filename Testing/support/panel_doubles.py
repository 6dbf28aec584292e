"""Stand-ins for what the panel's presenters talk to: a workspace without a scene, a registry without a disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

from MedalSLib.errors import CancelledError, InputError
from MedalSLib.panel.volume_facts import VolumeFacts
from MedalSLib.run import Estimate, Progress, Report, StructureReport
from MedalSLib.service.describing import UploadDescription
from MedalSLib.slicer.request import Overlap, RunOutcome, Written

CT = VolumeFacts("CT abdomen", "", (512, 512, 100), (0.8, 0.8, 2.0), "CT", "Hounsfield units.", True, 1)
CLASSES = ("CT_Liver", "CT_Spleen", "CT_Right kidney", "CT_Left kidney", "MRI_Liver")


@dataclass(frozen=True)
class Segment:
    segmentID: str
    name: str
    structure: str = ""
    how: str = ""
    empty: bool = False
    locked: bool = False
    color: tuple = (1.0, 0.0, 0.0)
    visible: bool = True


def state(**values):
    defaults = {
        "prompt": "",
        "modality": "",
        "model": "starter",
        "volume": "the volume node",
        "segmentation": None,
        "region": None,
        "overlap": Overlap.ALLOW,
        "allFrames": False,
        "firstStageOnly": False,
        "separateInstances": False,
        "seed": 0,
        "spatialPrompts": {},
        "excluded": (),
        "windows": {},
    }
    return SimpleNamespace(**{**defaults, **values})


@dataclass
class Workspace:
    """Answers from its fields, and records what it was asked in `calls`."""

    state: SimpleNamespace = field(default_factory=state)
    facts: VolumeFacts | None = CT
    shown: list = field(default_factory=list)
    found: dict = field(default_factory=lambda: {"Liver": 1500.0, "Spleen": 200.0})
    during: object = None
    isOpen: bool = False
    error: Exception | None = None
    warnings: tuple = ()
    frames: int = 1
    calls: list = field(default_factory=list)
    canRevert: bool = False
    measured: dict | None = None
    resultFrame: int | None = None
    resultElsewhere: bool = False
    painted: tuple = ()
    byHand: tuple = ()
    refined: tuple = ()
    cutOff: dict = field(default_factory=dict)
    doubtful: dict = field(default_factory=dict)
    right: dict = field(default_factory=dict)

    def volume(self):
        return self.facts

    def segments(self, modality):
        return self.shown

    def strokes(self, modality):
        if not self.painted:
            return None
        return SimpleNamespace(
            edits=dict.fromkeys(self.painted), segmentIDs={name: name for name in self.painted}, byHand=self.byHand
        )

    def held(self):
        return self.refined

    def checked(self, segmentID):
        return frozenset(self.right.get(segmentID, ()))

    def checkSlice(self):
        if not self.shown:
            raise InputError("No segment is chosen.", "Choose one.")
        self.right.setdefault(self.shown[0].segmentID, set()).add((0, 3))
        return self.shown[0].name

    def showSlice(self, segmentID, place):
        self.calls.append(("slice", segmentID, place))

    def takeAsPaint(self, segmentID):
        self.calls.append(("paint", segmentID))

    def makeVisible(self, segmentIDs, visible):
        self.shown = [replace(one, visible=visible) if one.segmentID in segmentIDs else one for one in self.shown]

    def lock(self, segmentID, locked):
        self.shown = [replace(one, locked=locked) if one.segmentID == segmentID else one for one in self.shown]

    def describeUpload(self, engine, request):
        self.calls.append(("describe", request))
        return UploadDescription("seg.example", True, False, "Nothing is kept.")

    def estimate(self, engine, request, send):
        self.calls.append(("estimate", request))
        if self.during is not None:
            self.during()
        return Estimate(42.0, 3000.0, 12, True) if send or self.isOpen else None

    def run(self, engine, request, onProgress, onWritten, cancel):
        self.calls.append(("refine" if request.refine else "run", request))
        written = []
        for number, name in enumerate(request.prompts):
            onProgress(Progress("stage 2", number / len(request.prompts), number, 4, 20.0))
            written.append(Written(name, name) if name in self.found else Written(name, reason="absent"))
            onWritten(written[-1])
            if self.during is not None:
                self.during()
            if cancel.is_set():
                raise CancelledError
            if self.error is not None:
                raise self.error
        self.canRevert = True
        structures = {
            name: StructureReport(
                name,
                name in self.found,
                self.found.get(name, 0.0),
                window="soft tissue",
                cut_off=self.cutOff.get(name, ()),
                worth_checking=self.doubtful.get(name, ()),
            )
            for name in request.prompts
        }
        report = Report("fake", "cpu", "CT", {"total": 1.5}, warnings=self.warnings, structures=structures)
        return (RunOutcome(report, tuple(written)),) * self.frames

    @property
    def showsResult(self):
        return self.measured is not None

    def volumes(self):
        return self.measured or {}

    def revert(self, onProgress, cancel):
        self.calls.append(("revert",))
        for frame in range(self.frames):
            onProgress(Progress("reverting", frame / self.frames, frame, self.frames))
            if self.during is not None:
                self.during()
            if cancel.is_set():
                raise CancelledError("Some frames are as they were.", "Revert again for the rest.")
        self.canRevert = False

    def compare(self, before):
        self.calls.append(("compare", before))

    def show(self, segmentID):
        self.calls.append(("show", segmentID))

    def forget(self):
        self.calls.append(("forget",))


@dataclass
class Entry:
    name: str
    title: str
    state: str
    version: str = "1"
    licence: str = "Apache-2.0"
    licence_url: str = "https://example.org"
    size_bytes: int = 50 * 2**20
    folder: str = ""
    classes: tuple = ("CT_Liver", "CT_Spleen", "MRI_Liver")
    card: str = ""


class Registry:
    """A registry in memory."""

    def __init__(self):
        self.entries = [Entry("starter", "Starter", "bundled"), Entry("medals-v1", "Medal S", "available")]
        self.accepted = []
        self.error = None

    def list_models(self):
        return list(self.entries)

    def licence_notice(self, name, source=None):
        if self.error is not None:
            raise self.error
        return f"Licence of {name}"

    def install(self, name, source=None, *, accept_licence=False, on_progress=None, cancel=None):
        self.accepted.append(accept_licence)
        for done in (10, 100):
            if cancel.is_set():
                raise CancelledError("The installation was cancelled.")
            on_progress(done * 2**20, 100 * 2**20)
            if self.error is not None:
                raise self.error
        entry = next(one for one in self.entries if one.name == name)
        entry.state = "installed"
        return entry

    def verify(self, name):
        if self.error is not None:
            raise self.error
        return next(one for one in self.entries if one.name == name)

    def remove(self, name):
        next(one for one in self.entries if one.name == name).state = "available"

    def home(self):
        return Path("models-home")


class DirectJobs:
    """Does the work at once, on this thread."""

    def run(self, work, onEvent=lambda _event: None):
        return work(onEvent)


class MemoryStore:
    """Keeps values as QSettings gives them back after a restart: as texts."""

    def __init__(self, values=None):
        self.values = dict(values or {})

    def value(self, key, default=None):
        return self.values.get(key, default)

    def setValue(self, key, value):
        self.values[key] = value if isinstance(value, str) else str(value)


class InstallHost:
    """A 3D Slicer in which installations succeed at once; versions by package name."""

    def __init__(self, versions=None, extension="usable", torch="", error=None, fails="", changes=None):
        self.versions = dict(versions or {})
        self.extension = extension
        self.torch = torch
        self.error = error
        self.fails = fails
        self.changes = dict(changes or {})
        self.installed = []
        self.constraints = ""
        self.imported = set()
        self.restarted = 0
        self.notSaved = ()
        self.onSave = lambda: False

    def extensionInstalled(self, name):
        return self.extension in ("usable", "installed")

    def installExtension(self, name):
        self.installed.append(f"extension {name}")
        if self.extension == "refused":
            return False
        self.extension = "installed"
        return True

    def extensionUsable(self):
        return self.extension == "usable"

    def installTorch(self, requirement, log, cancel):
        self.installed.append(f"torch{requirement}")
        if self.fails == "torch":
            raise self.error
        self.torch = "2.8.0"

    def installPackages(self, requirements, constraints, log, cancel):
        self.constraints = constraints.read_text(encoding="utf-8")
        self.installed += requirements
        log("Collecting packages")
        if cancel.is_set():
            raise CancelledError("The installation was stopped.")
        if self.fails == "packages":
            raise self.error
        for line in requirements:
            name, _, bound = line.partition(">=")
            self.versions[name] = bound.partition(",")[0]
        self.versions.update(self.changes)

    def version(self, name):
        return self.versions.get(name, "")

    def torchVersion(self):
        return self.torch

    def loaded(self, name):
        return name in self.imported

    def unsaved(self):
        return self.notSaved

    def save(self):
        return self.onSave()

    def restart(self):
        self.restarted += 1
