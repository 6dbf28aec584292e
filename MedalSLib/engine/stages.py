"""A loaded model as the inference room sees it: two networks, and what each was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from MedalSLib.inference.resampling_policy import StageSpec
    from MedalSLib.network.bundle import Model
    from MedalSLib.network.medals import MedalS


class ModelStages:
    """The networks of a model by stage number.

    Args:
        model: An open model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def stage_spec(self, stage: Literal[1, 2]) -> StageSpec | None:
        """Return spacing and patch of a stage's network, None if the model has no such stage."""
        from MedalSLib.inference.resampling_policy import StageSpec

        for described in self._model.manifest.stages:
            if described.stage == str(stage):
                return StageSpec(stage, described.spacing_hwd, described.patch_hwd)
        return None

    def network(self, stage: Literal[1, 2]) -> MedalS:
        """Return the network of a stage, loaded once and kept."""
        return self._model.network(str(stage))
