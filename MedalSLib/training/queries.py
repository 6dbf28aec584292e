"""Texts to queries in training: a compact encoder that learns along, or a frozen one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from MedalSLib.network.compact_encoder import CompactTextEncoder
from MedalSLib.network.frozen_queries import Encode
from MedalSLib.network.medals import MedalS


class PromptedModel(nn.Module):
    """Network and text encoder as one module, so that both are trained, averaged and synchronised together.

    Args:
        network: The Medal S network.
        encoder: A text encoder to train, or None if queries come from `frozen`.
        frozen: Where queries come from without `encoder`.
    """

    def __init__(self, network: MedalS, encoder: CompactTextEncoder | None, frozen: Encode | None = None) -> None:
        super().__init__()
        if (encoder is None) == (frozen is None):
            raise ValueError("give either an encoder to train or frozen queries")
        self.network = network
        self.encoder = encoder
        self._frozen = frozen

    def forward(
        self,
        texts: Sequence[Sequence[str]],
        modalities: Sequence[str],
        image: Tensor,
        union: Tensor,
        prompts: Tensor | None,
    ) -> list[Tensor]:
        """Return the network's outputs.

        Args:
            texts: Texts of each sample.
            modalities: Modality of each sample.
            image: [B, 1, H, W, D].
            union: [B, 1, H, W, D].
            prompts: [B, N, H, W, D], N being the largest number of texts; None to withhold them.
        """
        return self.network(self.queries(texts, modalities, image.device), image, union, prompts)

    def queries(self, texts: Sequence[Sequence[str]], modalities: Sequence[str], device: torch.device) -> Tensor:
        """Return queries [B, N, query_dim], zeros where a sample has fewer texts.

        Args:
            texts: Texts of each sample.
            modalities: Modality of each sample.
            device: Where queries are needed.
        """
        flat = [text for lines in texts for text in lines]
        kinds = [modality for lines, modality in zip(texts, modalities, strict=True) for _ in lines]
        if self.encoder is not None:
            encoded: Tensor = self.encoder(flat, kinds)
        else:
            assert self._frozen is not None
            encoded = self._frozen(flat, kinds).to(device)
        most = max(len(lines) for lines in texts)
        rows, start = [], 0
        for lines in texts:
            own = encoded[start : start + len(lines)]
            start += len(lines)
            rows.append(torch.cat([own, own.new_zeros((most - len(lines), own.shape[1]))]))
        return torch.stack(rows)
