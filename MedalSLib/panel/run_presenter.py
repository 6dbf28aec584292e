"""Run, refine, cancel, and compare or revert the result; correct and ask by pointing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, MedalSError, PromptError, ServiceError
from MedalSLib.panel.consent import ConsentPresenter
from MedalSLib.panel.engines import EnginePresenter
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message, messageOf
from MedalSLib.panel.prompt import PromptPresenter
from MedalSLib.panel.result_rows import (
    ResultRow,
    finishedRows,
    measuredRows,
    remarks,
    summary,
    waitingRows,
    withRows,
    writtenRow,
)
from MedalSLib.panel.signal import Signal
from MedalSLib.panel.spatial import SpatialPresenter
from MedalSLib.panel.structures import StructureRow, structureRows
from MedalSLib.panel.wording import estimateText, progressText
from MedalSLib.run import Progress, RunOptions
from MedalSLib.slicer.request import NodeRequest, RunOutcome, Written

if TYPE_CHECKING:
    from MedalSLib.panel.workspace import Workspace

RunState = Literal["idle", "estimating", "opening", "running", "reverting", "cancelling"]


class RunPresenter:
    """Runs what the other presenters describe.

    Nothing here waits on its own: the workspace and the engine presenter let the application process its events while
    they work, so buttons are pressed in the middle of `run`.

    Args:
        workspace: The application.
        prompt: What to segment.
        spatial: Which segments are prompts.
        engines: Where to compute.
        consent: Whether images may be sent there.

    Attributes:
        changed: Emitted when anything below changed.
        state: What is going on.
        fraction: Share of the run that is done, 0..1.
        progress: The run in one line.
        estimate: Cost of the next run in one line, empty if it is not known.
        message: What the last run said.
        remarks: What the user should read about it.
        rows: The table of results.
        comparing: Whether the segments are shown as they were before the run.
        corrected: Structures that were painted or erased since their last result: the next run refines them.
        held: Structures whose last result honours corrections: only `startOver` replaces it.
        volumes: Volume in ml by ID of each segment of the chosen segmentation.
    """

    def __init__(
        self,
        workspace: Workspace,
        prompt: PromptPresenter,
        spatial: SpatialPresenter,
        engines: EnginePresenter,
        consent: ConsentPresenter,
    ) -> None:
        self._workspace = workspace
        self._prompt = prompt
        self._spatial = spatial
        self._engines = engines
        self._consent = consent
        self._cancel = threading.Event()
        self._waiting: Callable[[], None] | None = None
        self._unread: tuple[str, ...] = ()
        self._lastGood: tuple[tuple[ResultRow, ...], tuple[str, ...]] = ((), ())
        self._about: tuple[object, ...] = (None,)
        self._isForgotten = False
        self.changed = Signal()
        prompt.changed.connect(self._dropStale)
        self.state: RunState = "idle"
        self.fraction = 0.0
        self.progress = ""
        self.estimate = ""
        self.message = Message()
        self.remarks: tuple[str, ...] = ()
        self.rows: tuple[ResultRow, ...] = ()
        self.comparing = False
        self.corrected: tuple[str, ...] = ()
        self.held: tuple[str, ...] = ()
        self.volumes: Mapping[str, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a run is going on, or about to."""
        return self.state not in ("idle", "estimating")

    @property
    def canCancel(self) -> bool:
        """Whether what is going on can be stopped."""
        return self.state in ("opening", "running", "reverting")

    @property
    def blocker(self) -> str:
        """Why nothing can be run now, as a sentence; empty if something can."""
        if self.busy:
            return _("A run is going on.")
        if self._engines.blocker:
            return self._engines.blocker
        volume = self._workspace.volume()
        if volume is None:
            return _("Load an image and choose it as the volume.")
        if volume.problem:
            return volume.problem
        if self.corrected:
            return ""
        if self._spatial.problems:
            return self._spatial.problems[0]
        if not self._prompt.structures and not self._spatial.prompts:
            return self._blockerOfPrompt()
        if not self._uncorrected() and not self._spatial.prompts:
            text = _("Nothing to do: {names} as you corrected it.").format(names=", ".join(self._prompt.structures))
            return f"{text} {_('Correct more, type another name, or start over.')}"
        return ""

    @property
    def canReview(self) -> bool:
        """Whether there is a result to compare or revert."""
        return not self.busy and self._workspace.canRevert and not self._workspace.resultElsewhere

    @property
    def structures(self) -> tuple[StructureRow, ...]:
        """The list of structures."""
        rows = () if self.isElsewhere else self.rows
        frame = None if self.busy else self._workspace.resultFrame
        return structureRows(rows, self._spatial.rows, self.volumes, frame)

    @property
    def isElsewhere(self) -> bool:
        """Whether rows and message are those of another volume or segmentation than the chosen one."""
        return not self.busy and bool(self.rows) and self._workspace.resultElsewhere

    def request(self) -> NodeRequest:
        """Return the run that the panel describes now; names that were not understood are left out."""
        state = self._workspace.state
        names = self._prompt.structures
        volume = self._workspace.volume()
        window = state.windows.get("*", "")
        every = dict.fromkeys((*names, *self._spatial.prompts.values()), window) if window else {}
        options = RunOptions(
            seed=state.seed,
            stages="first" if state.firstStageOnly else "both",
            instances=("*",) if state.separateInstances else (),
            windows=every,
        )
        return NodeRequest(
            volumeNode=state.volume,
            segmentationNode=state.segmentation,
            prompts=names,
            modality=self._prompt.modality or None,
            spatialPrompts=self._spatial.prompts,
            excludedIDs=self._spatial.excluded,
            roiNode=state.region,
            options=options,
            overlap=state.overlap,
            allFrames=state.allFrames and volume is not None and volume.frames > 1,
        )

    @property
    def action(self) -> str:
        """What `run` will do, in words for its button."""
        if not self.corrected:
            return _("Segment")
        text = _("Refine ({count} corrected)").format(count=len(self.corrected))
        new = self._new()
        return f"{text} {_('and segment {count} new').format(count=len(new))}" if new else text

    @property
    def replaced(self) -> tuple[str, ...]:
        """Corrected structures that `startOver` would segment without the corrections."""
        wanted = {*self._prompt.structures, *self._spatial.prompts.values()}
        return tuple(name for name in dict.fromkeys((*self.corrected, *self.held)) if name in wanted)

    def run(self) -> None:
        """Refine what was corrected, and segment what is named and new; says why if nothing can be run."""
        self._start(anew=False)

    def startOver(self) -> None:
        """Segment what the panel describes as if nothing had been corrected; undo and Revert bring corrections back."""
        self._start(anew=True)

    def cancel(self) -> None:
        """Stop the run; the segments stay as they were before it.  Stops taking back a run on many frames, too."""
        if self.canCancel:
            self._cancel.set()
            self._set("cancelling", _("Stopping …"))

    def answerConsent(self, allowed: bool) -> None:
        """Answer the question before the first upload; a yes starts the run that waited for it."""
        waiting, self._waiting = self._waiting, None
        self._consent.answer(allowed)
        if allowed and waiting is not None:
            waiting()
        elif not allowed:
            self._say(
                Message(_("Nothing was sent. Choose this computer on the Engine page, or another server."), "info")
            )

    def updateEstimate(self) -> None:
        """Work out the cost of the next run, if that sends nothing and loads nothing."""
        if self.state != "idle":
            return
        if self.blocker or self.corrected or not self._engines.isOpen:
            self._showEstimate("")
            return
        request, info = self.request(), self._engines.info
        assert info is not None
        text = ""
        try:
            engine = self._engines.open()
            if self._mayUse(engine, request):
                self.state = "estimating"
                # A server gets an image when a run is asked for, which shows how far it is and can be cancelled.
                found = self._workspace.estimate(engine, request, send=not self._engines.isRemote)
                text = "" if found is None else estimateText(found, info.device)
        except MedalSError:
            text = ""  # what is wrong is said when the run is asked for
        finally:
            self.state = "idle"
        self._showEstimate(text)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def revert(self) -> None:
        """Take the last result back."""
        if self.busy:
            return
        if self.state == "estimating":
            self._waiting = self.revert
            return
        self.compare(False)
        self._cancel = threading.Event()
        self.fraction, self.message = 0.0, Message()
        self._set("reverting", _("Taking the result back …"))
        try:
            self._workspace.revert(self._progressed, self._cancel)
            self.rows, self.remarks = (), ()
            self.message = Message(_("The segments are as they were before the run."), "info")
        except Exception as error:
            self.message = messageOf(error)
        finally:
            self.fraction = 0.0
            self._about = (None,)
            self._set("idle", "")
            self._refreshSegments()

    def compare(self, before: bool) -> None:
        """Show the segments as they were before the last run, or as they are."""
        if before != self.comparing:
            self._workspace.compare(before)
            self.comparing = before
            self.changed.emit()

    def show(self, segmentID: str) -> None:
        """Bring a segment into view."""
        self._workspace.show(segmentID)

    def sliceIsRight(self) -> None:
        """Take note that the slice in view of the chosen segment is right: no refinement changes it."""
        try:
            name = self._workspace.checkSlice()
        except MedalSError as error:
            self._say(messageOf(error))
            return
        self._refreshSegments()
        self._say(Message(_("This slice of {name} counts as right from now on.").format(name=name), "success"))

    def click(self, belongs: bool) -> None:
        """Say that the place under the mouse belongs to the chosen segment, or does not, and refine it from there."""
        if self.busy:
            return
        try:
            self._workspace.click(erase=not belongs)
        except MedalSError as error:
            self._say(messageOf(error))
            return
        self._refreshSegments()
        if self.corrected:
            self._start(anew=False)

    def namesHere(self) -> tuple[str, ...]:
        """Return what the model finds under the mouse, of everything that it knows; says so if that is nothing."""
        volume = self._workspace.volume()
        if self.state != "idle" or volume is None or volume.problem:
            return ()
        self._cancel, self.message, self.fraction = threading.Event(), Message(), 0.0
        self._set("opening", _("Loading the model …"))
        names: tuple[str, ...] = ()
        try:
            engine = self._engines.open(self._cancel)
            known, options = self._prompt.everything, RunOptions(stages="first")
            if not known:
                raise PromptError("The model knows nothing in this modality.", "Choose another model or modality.")
            request = replace(self.request(), prompts=known, spatialPrompts={}, options=options)
            if not self._mayUse(engine, request):
                self._consent.ask(self._workspace.describeUpload(engine, request))
                return ()
            self._set("running", _("Looking at this place …"))
            names = self._workspace.namesHere(engine, request, self._progressed, self._cancel)
            if not names:
                self.message = Message(_("The model finds nothing that it knows at this place."), "info")
        except Exception as error:
            self.message = self._fault(error)
        finally:
            self.fraction = 0.0
            self._about = self._situation()
            self._set("idle", "")
        return names

    def showDoubtful(self) -> None:
        """Bring the slice that is most worth checking into view: of the first result that has one left."""
        for row in self.rows:
            for segmentID in row.segments:
                left = [place for place in row.worthChecking if place not in self._workspace.checked(segmentID)]
                if left and not row.gone:
                    self._workspace.showSlice(segmentID, left[0])
                    self._say(Message(_("Most doubtful slice of {name}.").format(name=row.structure), "info"))
                    return
        self._say(Message(_("There is no doubtful slice left to check."), "info"))

    def measure(self) -> None:
        """Show the results as their segments are now: the user paints, undoes and deletes."""
        if self.comparing and self._workspace.resultElsewhere:
            self.compare(False)
        if self.busy:
            return
        volumes = self._workspace.volumes()
        here = self._workspace.showsResult and not self._workspace.resultElsewhere
        rows = measuredRows(self.rows, volumes) if here else self.rows
        strokes = self._workspace.strokes(self._prompt.modality)
        shown = rows, () if strokes is None else tuple(strokes.edits), self._workspace.held(), volumes
        if shown != (self.rows, self.corrected, self.held, self.volumes):
            self.rows, self.corrected, self.held, self.volumes = shown
            self.changed.emit()
        self._dropStale()

    def _dropStale(self) -> None:
        """Take back what was said of a state of things that is over: another image, other names, an edit, an undo."""
        if self.busy or self.isElsewhere:
            return
        former, self._about = self._about, self._situation()
        # Where no image was chosen, it was the run's, which is no longer there: that was said.
        if former[0] is not None and former != self._about and (self.message.text or self.remarks):
            self.message, self.remarks = Message(), ()
            self.changed.emit()

    def _situation(self) -> tuple[object, ...]:
        return self._workspace.state.volume, self._prompt.text, self.rows, self.corrected, self.volumes

    def forget(self) -> None:
        """Stop, and forget the last result: the scene was closed."""
        self._cancel.set()
        self._waiting = None
        self.rows, self.remarks, self.comparing = (), (), False
        self._lastGood, self.corrected, self.held, self.volumes = ((), ()), (), (), {}
        self.estimate, self.message = "", Message()
        self._isForgotten = True
        self.changed.emit()

    def _start(self, anew: bool) -> None:
        if not self.busy:
            self._refreshSegments()
        if self.blocker and not (anew and self.replaced):
            if not self.busy:
                self._say(Message(self.blocker, "warning"))
            return
        self._go(anew)

    def _go(self, anew: bool) -> None:
        if self.state == "estimating":
            self._waiting = lambda: self._go(anew)
            return
        refine = bool(self.corrected) and not anew
        self.compare(False)
        self._cancel = threading.Event()
        self._lastGood = self.rows, self.remarks
        self._isForgotten = False
        self.message, self.remarks = Message(), ()
        self.fraction = 0.0
        self._set("opening", _("Loading the model …"))
        try:
            engine = self._engines.open(self._cancel)
            request = self.request()  # only now is it certain what the model knows
            if refine:
                request = replace(request, refine=True, prompts=self._new())
            elif not anew:
                request = replace(request, prompts=self._uncorrected())
            if not refine and not request.prompts and not request.spatialPrompts:
                raise PromptError(self._blockerOfPrompt())
            if not self._mayUse(engine, request):
                self._waiting = lambda: self._go(anew)
                self._consent.ask(self._workspace.describeUpload(engine, request))
                return
            if self._cancel.is_set():
                raise CancelledError
            former = tuple(row for row in self.rows if refine or (not anew and row.structure in self.held))
            waiting = (*self.corrected, *request.prompts) if refine else request.prompts
            self.rows = withRows(former, waitingRows(waiting))
            self._unread = self._leftOut()
            self._set("running", _("Preparing …"))
            outcomes = self._workspace.run(engine, request, self._progressed, self._written, self._cancel)
            self._finished(outcomes, former)
        except Exception as error:
            self.rows, self.remarks = self._lastGood  # the segments are as they were, and so is what is known of them
            # Who closed the scene need not be told so when the next patient is open.
            self.message = Message() if self._isForgotten else self._fault(error)
        finally:
            self.fraction = 0.0
            self._about = (None,)
            self._set("idle", "")
            self._refreshSegments()

    def _uncorrected(self) -> tuple[str, ...]:
        """Return the structures of the prompt whose result nobody corrected."""
        return tuple(name for name in self._prompt.structures if name not in self.held)

    def _new(self) -> tuple[str, ...]:
        """Return the structures of the prompt that have no result yet."""
        known = {*self.corrected, *self._spatial.results}
        return tuple(name for name in self._prompt.structures if name not in known)

    def _fault(self, error: Exception) -> Message:
        """Return what to say of a run that failed."""
        if isinstance(error, ServiceError):
            self._engines.failed(error)
        message = messageOf(error)
        if message.level != "error" or self.state == "opening" or self._workspace.state.allFrames:
            return message
        return Message(f"{message.text} {_('Your segments are as they were.')}", message.level)

    def _blockerOfPrompt(self) -> str:
        if self._prompt.chips:
            return self._prompt.chips[0].explanation
        return _("Type the name of a structure, for example liver.")

    def _leftOut(self) -> tuple[str, ...]:
        phrases = ", ".join(chip.phrase for chip in self._prompt.problems)
        return (_("Not segmented: {names}. The marks above say why.").format(names=phrases),) if phrases else ()

    def _mayUse(self, engine: Engine, request: NodeRequest) -> bool:
        if not self._engines.isRemote:
            return True
        return self._consent.given(self._workspace.describeUpload(engine, request))

    def _finished(self, outcomes: Sequence[RunOutcome], former: Sequence[ResultRow]) -> None:
        last = outcomes[-1]
        self.rows = withRows(former, finishedRows(last))
        said = [text for outcome in outcomes for text in remarks(outcome)]
        self.remarks = tuple(dict.fromkeys([*self._unread, *said]))
        found = last.strokes or any(item.found for one in outcomes for item in one.report.structures.values())
        self.message = Message(summary(last, len(outcomes)), "success" if found else "warning")

    def _progressed(self, event: Progress) -> None:
        self.fraction = max(self.fraction, min(event.fraction, 1.0))
        if self.state in ("running", "reverting"):
            self.progress = progressText(event)
        self.changed.emit()

    def _written(self, written: Written) -> None:
        self.rows = withRows(self.rows, [writtenRow(written)])
        self.changed.emit()

    def _refreshSegments(self) -> None:
        self._spatial.refresh(self._prompt.modality)
        self.measure()

    def _showEstimate(self, text: str) -> None:
        if text != self.estimate:
            self.estimate = text
            self.changed.emit()

    def _set(self, state: RunState, progress: str) -> None:
        self.state, self.progress = state, progress
        self.changed.emit()

    def _say(self, message: Message) -> None:
        self.message, self._about = message, self._situation()
        self.changed.emit()
