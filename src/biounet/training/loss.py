"""The weighted cross-entropy of the paper, from logits, and soft Dice beside it."""

from __future__ import annotations

import torch
from torch.nn import functional

_SMOOTH = 1e-5  # pixels; a class that is neither there nor predicted has Dice 1


def weighted_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L = -sum_x w(x) log p_l(x)(x) / sum_x w(x), a scalar in float32.

    ``logits``: (N, K, *spatial) before the softmax. ``targets``: (N, *spatial) integer classes,
    -1 unknown. ``weights``: (N, *spatial), at least 0; unknown pixels weigh nothing whatever is
    given. Without any weight the loss is 0.

    Source: Ronneberger et al. 2015, equation 1. Deviation: the paper's sum is divided by the sum of
    the weights, so that the learning rate does not depend on the size of the tile.
    """
    return loss_of(loss_sums(logits, targets, weights))


def loss_sums(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, with_dice: bool = False
) -> torch.Tensor:
    """What the loss is made of, as sums over pixels, so that those of several processes may be added; float32.

    Two numbers, numerator and denominator of `weighted_cross_entropy`; ``with_dice`` also, for each of the K classes
    over the known pixels, the probability that lies on it, and all its probability and pixels together: (2 + 2 K,).
    """
    known = targets >= 0
    classes = targets.clamp_min(0).long()
    weights = weights.float() * known
    losses = functional.cross_entropy(logits.float(), classes, reduction="none")
    sums = [(losses * weights).sum()[None], weights.sum()[None]]
    if with_dice:
        over = (0, *range(2, logits.ndim))
        probabilities = torch.softmax(logits.float(), 1) * known[:, None]
        true = functional.one_hot(classes, logits.shape[1]).movedim(-1, 1) * known[:, None]
        sums += [(probabilities * true).sum(over), probabilities.sum(over) + true.sum(over)]
    return torch.cat(sums)


def loss_of(sums: torch.Tensor, dice: float = 0.0) -> torch.Tensor:
    """The loss from `loss_sums`: the weighted cross-entropy, 0 without any weight, and ``dice`` times the Dice loss.

    That is 1 - mean over the classes of 2 sum p t / (sum p + sum t), p the probability and t the truth, 0 or 1, of
    all known pixels of a batch alike: Drozdzal et al. 2016, arXiv 1608.04117, section 3.2. Not in the paper.
    """
    entropy = sums[0] / sums[1].clamp_min(torch.finfo(torch.float32).tiny)
    if dice == 0:
        return entropy
    overlap, sizes = sums[2:].chunk(2)
    return entropy + dice * (1 - ((2 * overlap + _SMOOTH) / (sizes + _SMOOTH)).mean())
