"""Query decoder of Medal S: text queries attend to the image's tokens, not to each other."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CrossAttentionLayer(nn.Module):
    """Pre-norm cross-attention and feed-forward layer.

    `norm1` has no effect: it belongs to the self-attention that the published layers lack, and exists because the
    published checkpoints hold its weights.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim).requires_grad_(False)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Update the queries.

        Args:
            queries: [B, N, dim].
            keys: Image tokens with their position code [B, T, dim].
            values: Image tokens [B, T, dim].
        """
        attended, _ = self.multihead_attn(self.norm2(queries), keys, values, need_weights=False)
        queries = queries + attended
        return queries + self.linear2(functional.relu(self.linear1(self.norm3(queries))))


class QueryDecoder(nn.Module):
    """A stack of `CrossAttentionLayer`s with a final normalization."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossAttentionLayer(dim, heads, ffn_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, queries: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
        """Decode.

        Args:
            queries: Text queries [B, N, dim].
            tokens: Image tokens [B, T, dim].
            positions: Position code [T, dim]; added to the keys only.

        Returns:
            [B, N, dim]; each query's row depends on that query alone.
        """
        keys = tokens + positions.to(tokens.dtype)
        for layer in self.layers:
            queries = layer(queries, keys, tokens)
        return self.norm(queries)
