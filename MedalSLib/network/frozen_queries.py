"""Queries of a text encoder that does not learn: each text is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_TEXTS_AT_ONCE = 64
Encode = Callable[[Sequence[str], Sequence[str]], Tensor]
"""`(texts, modalities) -> queries [N, query_dim]`."""


class FrozenQueries:
    """A frozen text encoder, called without gradients, that encodes each text once."""

    def __init__(self, encoder: Encode) -> None:
        self._encoder = encoder
        self._known: dict[tuple[str, str], Tensor] = {}

    def __call__(self, texts: Sequence[str], modalities: Sequence[str]) -> Tensor:
        """Return queries [N, query_dim], float32, on the CPU."""
        keys = list(zip(texts, modalities, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        for start in range(0, len(new), _TEXTS_AT_ONCE):
            some = new[start : start + _TEXTS_AT_ONCE]
            with torch.no_grad():  # not inference mode: fine-tuning takes gradients through its use of these
                queries = self._encoder([text for text, _ in some], [modality for _, modality in some])
            self._known |= dict(zip(some, queries.float().cpu().clone(), strict=True))
        return torch.stack([self._known[key] for key in keys])
