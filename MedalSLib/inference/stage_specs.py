"""What the networks of a model were trained on, stage by stage."""

from __future__ import annotations

from MedalSLib.errors import ModelError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.network.bundle import Model


def stage_specs(model: Model, modality: str = "") -> dict[int, StageSpec]:
    """Return what the networks of a model were trained on, by stage.

    Args:
        model: The model.
        modality: The modality they are used for; "" for what holds in general.

    Raises:
        ModelError: The model has no stage 1 or 2.
    """
    specs = {
        int(facts.stage): StageSpec(int(facts.stage), facts.spacing_hwd, facts.patch_hwd, facts.resampling)
        for facts in (stage.used_for(modality) for stage in model.manifest.stages)
        if facts.stage in ("1", "2")
    }
    if not specs:
        raise ModelError("The model has neither a stage 1 nor a stage 2.", "Install the model again.")
    return dict(sorted(specs.items()))
