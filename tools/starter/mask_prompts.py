"""Simulated mask prompts, made on the training device: an erring first stage, a user's mask, hidden blocks.

Also the model's own answers with a user's corrections in them: wrong in its ways, right where it was painted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tools.starter.synthesis import smooth_noise

_BLOCKS = (4, 8, 8, 8, 16)


def prompts_for(target: Tensor, host: np.random.Generator, rng: torch.Generator) -> Tensor:
    """Return prompts for targets: [B, N, D, H, W] bool to float 0/1.

    A structure has no prompt, a prompt as a coarse first stage errs (edges displaced, parts missing or added, shifted),
    or a nearly exact one as a user draws it.  Most often half of the blocks are hidden, since inference runs each
    prompted patch twice with complementary halves (reference behaviour).

    Args:
        target: What is true.
        host: Source of the decisions.
        rng: Source of the random fields, on the target's device.
    """
    return torch.stack([_sample_prompts(sample, host, rng) for sample in target])


def _sample_prompts(target: Tensor, host: np.random.Generator, rng: torch.Generator) -> Tensor:
    count, *shape = target.shape
    depth, height, width = (n // 2 for n in shape)
    small = (depth, height, width)
    soft = functional.adaptive_avg_pool3d(target.float()[None], small)
    soft = functional.avg_pool3d(soft, 3, 1, 1)[0]
    amplitude = torch.from_numpy(host.uniform(0.0, 0.9, count).astype(np.float32)).to(target.device)
    bias = torch.from_numpy(host.uniform(-0.25, 0.25, count).astype(np.float32)).to(target.device)
    field = smooth_noise((count, *small), [host.uniform(6, 16)] * 3, rng, target.device)
    wrong = soft + (amplitude.view(-1, 1, 1, 1) * field) * (soft > 0.02) + bias.view(-1, 1, 1, 1) * (soft > 0.02) > 0.5
    if host.random() < 0.3:
        blobs = smooth_noise((count, *small), [host.uniform(5, 12)] * 3, rng, target.device)
        wrong = wrong | (blobs > host.uniform(2.8, 3.6))
    shift = [int(value) for value in host.integers(-1, 2, 3)]
    wrong = torch.roll(wrong, shift, dims=(1, 2, 3))
    coarse = functional.interpolate(wrong.float()[None], size=tuple(shape), mode="nearest")[0]
    kinds = host.choice(3, count, p=[0.15, 0.6, 0.25])
    if host.random() < 0.1:
        kinds[:] = 0
    pick = torch.from_numpy(kinds).to(target.device).view(-1, 1, 1, 1)
    prompt = torch.where(pick == 1, coarse, target.float()) * (pick > 0)
    return _hidden(prompt, host, rng)


def corrected_answers(answers: Tensor, target: Tensor, host: np.random.Generator, rng: torch.Generator) -> Tensor:
    """Return the model's own answers as a user left them after some corrections: [B, N, D, H, W], 0/1.

    Each correction paints the truth into one slice with many errors, or along a short stroke in it.  Corrections are
    not told apart from the rest of the mask, as in inference.

    Args:
        answers: Probabilities [B, N, D, H, W].
        target: What is true, the same shape, bool.
        host: Source of the decisions.
        rng: Source of the random fields, on the target's device.
    """
    batch, count, *shape = target.shape
    device = target.device
    limits = torch.from_numpy(host.uniform(0.25, 0.75, (batch, count)).astype(np.float32)).to(device)
    mask = answers > limits.view(batch, count, 1, 1, 1)
    axes = [torch.arange(size, device=device) for size in shape]
    z, y, x = axes[0].view(-1, 1, 1), axes[1].view(-1, 1), axes[2]
    for _ in range(int(host.choice(5, p=[0.15, 0.3, 0.25, 0.2, 0.1]))):
        errors = (mask != target).flatten(3)
        noise = torch.rand((batch, count, shape[0]), generator=rng, device=device)
        worst = (errors.sum(3) * (0.5 + noise)).argmax(2)
        plane = errors.gather(2, worst.view(batch, count, 1, 1).expand(-1, -1, 1, errors.shape[3]))[:, :, 0]
        place = (plane * torch.rand(plane.shape, generator=rng, device=device)).argmax(2)
        at = [part.view(batch, count, 1, 1, 1) for part in (worst, place // shape[2], place % shape[2])]
        radius, slope = host.uniform(1.0, 2.5), host.uniform(-1.0, 1.0)
        across, along = (y - at[1]) - slope * (x - at[2]), (y - at[1]).abs() + (x - at[2]).abs()
        stroke = (across.abs() <= radius) & (along <= host.uniform(3, 10)) & ((z - at[0]).abs() <= radius / 2)
        whole = torch.from_numpy(host.random((batch, count)) < 0.6).to(device).view(batch, count, 1, 1, 1)
        mask = torch.where(torch.where(whole, z == at[0], stroke), target, mask)
    return torch.stack([_hidden(sample, host, rng) for sample in mask.float()])


def _hidden(prompt: Tensor, host: np.random.Generator, rng: torch.Generator) -> Tensor:
    """Return prompts (N, D, H, W) with some of their blocks hidden, most often."""
    if host.random() < 0.85:
        shape = prompt.shape[1:]
        edge = int(host.choice(_BLOCKS))
        blocks = [-(-n // edge) for n in shape]
        shown = torch.rand([1, 1, *blocks], generator=rng, device=prompt.device) < host.uniform(0.3, 0.7)
        grown = shown.float().repeat_interleave(edge, 2).repeat_interleave(edge, 3).repeat_interleave(edge, 4)
        prompt = prompt * grown[0, :, : shape[0], : shape[1], : shape[2]]
    return prompt
