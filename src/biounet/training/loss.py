"""The weighted cross-entropy of the paper, from logits."""

from __future__ import annotations

import torch
from torch.nn import functional


def weighted_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L = -sum_x w(x) log p_l(x)(x) / sum_x w(x), a scalar in float32.

    ``logits``: (N, K, *spatial) before the softmax. ``targets``: (N, *spatial) integer classes,
    -1 unknown. ``weights``: (N, *spatial), at least 0; unknown pixels weigh nothing whatever is
    given. Without any weight the loss is 0.

    Source: Ronneberger et al. 2015, equation 1. Deviation: the paper's sum is divided by the sum of
    the weights, so that the learning rate does not depend on the size of the tile.
    """
    return mean_loss(*weighted_sums(logits, targets, weights))


def mean_loss(summed: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The loss from the two of `weighted_sums`; 0 without any weight."""
    return summed / weight.clamp_min(torch.finfo(torch.float32).tiny)


def weighted_sums(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numerator and denominator of `weighted_cross_entropy`, for sums over several processes."""
    known = targets >= 0
    weights = weights.float() * known
    losses = functional.cross_entropy(logits.float(), targets.clamp_min(0).long(), reduction="none")
    return (losses * weights).sum(), weights.sum()
