"""What inference asks of a model: its stages and their networks (`MedalSLib.network.bundle.Model` has both)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from MedalSLib.errors import ModelError
from MedalSLib.inference.resampling_policy import Resampling, StageSpec


class StageFacts(Protocol):
    """What a model's manifest says of a stage."""

    @property
    def stage(self) -> str:
        """Either "1" or "2"."""
        ...

    @property
    def spacing_hwd(self) -> tuple[float, float, float]:
        """Spacing in mm."""
        ...

    @property
    def patch_hwd(self) -> tuple[int, int, int]:
        """Patch in voxels."""
        ...

    @property
    def resampling(self) -> Resampling:
        """How images are brought to that spacing, as of `StageSpec`."""
        ...


class ModelFacts(Protocol):
    """A model's manifest."""

    @property
    def stages(self) -> Sequence[StageFacts]:
        """Its stages; one is enough."""
        ...


class StagedModel(Protocol):
    """A model of one or two stages."""

    @property
    def manifest(self) -> ModelFacts:
        """Facts about the model."""
        ...

    def network(self, stage: str) -> Any:
        """Return the network of a stage, in evaluation mode."""
        ...


def stage_specs(model: StagedModel) -> dict[int, StageSpec]:
    """Return what the networks of a model were trained on, by stage.

    Raises:
        ModelError: The model has no stage 1 or 2.
    """
    specs = {
        int(facts.stage): StageSpec(int(facts.stage), facts.spacing_hwd, facts.patch_hwd, facts.resampling)
        for facts in model.manifest.stages
        if facts.stage in ("1", "2")
    }
    if not specs:
        raise ModelError("The model has neither a stage 1 nor a stage 2.", "Install the model again.")
    return dict(sorted(specs.items()))
