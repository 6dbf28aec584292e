"""A model that ignores what texts say, to measure what masks alone are worth."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from MedalSLib.engine.local import LocalEngine
from MedalSLib.network.bundle import Model
from MedalSLib.vocabulary import describe, text_for

if TYPE_CHECKING:
    from torch import Tensor

    from MedalSLib.network.medals import MedalS


class TextBlindModel(Model):
    """A model in which every text is the same query: the mean of those of all structures it knows in the modality.

    The network cannot be asked without a query; this one says that something is wanted, but not what.

    Args:
        model: The model; networks and text encoder are shared with it.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.folder, model.manifest, model.device)
        self._model = model

    def network(self, stage: str) -> MedalS:
        """Return the model's network."""
        return self._model.network(stage)

    def encode(self, structures: Sequence[tuple[str, str]]) -> Tensor:
        """Return the same query [N, query_dim] for every text of a modality."""
        import torch

        means = {}
        for modality in {modality for _, modality in structures}:
            known = [key for key in self.manifest.classes if key.startswith(f"{modality}_")]
            means[modality] = self._model.encode([(text_for(describe(key)), modality) for key in known]).mean(0)
        return torch.stack([means[modality] for _, modality in structures])


def without_texts(engine: LocalEngine) -> LocalEngine:
    """Return an engine on the same device with the same networks that ignores what texts say; need not be closed."""
    twin = copy.copy(engine)
    twin.loaded = replace(engine.loaded, model=TextBlindModel(engine.model))
    return twin
