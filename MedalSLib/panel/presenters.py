"""Creates the presenters of the panel and connects their signals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from MedalSLib.panel.chips import UNKNOWN_MODEL, ModelClasses
from MedalSLib.panel.consent import ConsentPresenter
from MedalSLib.panel.engines import EnginePresenter, Factory
from MedalSLib.panel.install.host import SlicerHost
from MedalSLib.panel.install.presenter import InstallPresenter
from MedalSLib.panel.install.system import SystemFacts
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.model_chooser import ModelRow, ModelsPresenter
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.prompt import PromptPresenter
from MedalSLib.panel.run_presenter import RunPresenter
from MedalSLib.panel.signal import Signal
from MedalSLib.panel.spatial import SpatialPresenter
from MedalSLib.panel.volume_facts import VolumeFacts

if TYPE_CHECKING:
    from MedalSLib.panel.workspace import Workspace


class Presenters:
    """The presenters of the panel.

    Args:
        workspace: The application.
        settings: What belongs to this computer.
        jobs: Work beside the interface.
        pump: Lets the application process its events.
        registry: Returns `MedalSLib.network.registry`.
        factories: How engines are opened.
        installHost: Where packages are installed.
        gatherFacts: Gathers facts about this computer.

    Attributes:
        volumeChanged: Emitted with the chosen volume's facts when they were read again.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        jobs: BackgroundJobs,
        pump: Callable[[], None],
        registry: Callable[[], ModuleType],
        factories: Mapping[str, Factory],
        installHost: SlicerHost,
        gatherFacts: Callable[[], SystemFacts],
    ) -> None:
        self.workspace = workspace
        self.volumeChanged = Signal()
        self.volume: VolumeFacts | None = None
        self.prompt = PromptPresenter(workspace.state, settings, self._modelsKnowing)
        self.spatial = SpatialPresenter(workspace)
        self.consent = ConsentPresenter(settings)
        self.install = InstallPresenter(installHost, settings, gatherFacts, jobs, pump, self._engineWords)
        self.engines = EnginePresenter(
            workspace.state, settings, factories, jobs, workspace.forget, lambda: self.install.blocker
        )
        self.models = ModelsPresenter(
            registry, lambda: self.engines.model, partial(setattr, self.engines, "model"), jobs
        )
        self.run = RunPresenter(workspace, self.prompt, self.spatial, self.engines, self.consent)
        self.run.changed.connect(self._rememberPrompt)
        self._blocker = self.engines.blocker
        self.install.changed.connect(self._installed)
        self.spatial.changed.connect(self.run.measure)
        self.engines.changed.connect(self._useModel)
        self.models.changed.connect(self._useModel)

    def refresh(self) -> None:
        """Read volume and segments again: another one was chosen, or the scene changed."""
        self.volume = self.workspace.volume()
        usable = self.volume is not None and not self.volume.problem
        self.prompt.detect(self.volume.modality if usable and self.volume is not None else "")
        self.spatial.refresh(self.prompt.modality)
        self.run.measure()
        self.volumeChanged.emit(self.volume)

    def close(self) -> None:
        """Stop and close the engine."""
        self.run.forget()
        self.engines.stopOpening()
        self.models.cancel()
        self.engines.close()

    def _rememberPrompt(self) -> None:
        if self.run.state == "opening":
            self.prompt.remember()

    def _modelsKnowing(self, keys: Collection[str]) -> tuple[ModelRow, ...]:
        return () if self.engines.isRemote else self.models.knowing(keys)

    def _installed(self) -> None:
        """Let everything know when the engine of this computer came, or went."""
        former, self._blocker = self._blocker, self.engines.blocker
        if self._blocker != former:
            self.models.refresh()
            self.engines.changed.emit()
            self.run.changed.emit()

    def _useModel(self) -> None:
        info = self.engines.info
        if info is not None:
            self.prompt.useModel(ModelClasses(info.title, frozenset(info.classes)))
        elif self.engines.isRemote:
            self.prompt.useModel(UNKNOWN_MODEL)  # what a server knows is known once it is connected
        else:
            self.prompt.useModel(self.models.current)
        self.spatial.useModel(self.prompt.model)

    def _engineWords(self) -> str:
        badge = self.engines.badge
        return f"{self.engines.kind}, {badge.text} ({badge.detail})"
