"""Class weights taken back, as far as the held-back images want it, inside the network's last bias.

A network trained with the weights w_k estimates w_k p(k|x), normalised: rare classes are seen too
often. Dividing by w_k^s gives the weights of training at s = 0 and the frequencies of the data at
s = 1 (Saerens, Latinne and Decaestecker 2002, doi 10.1162/089976602753284446). As log-odds this is
a shift of each class by -s log w_k, which the 1x1 convolution's bias takes up: labels stay the
argmax of the probabilities, and nothing is left to do at prediction.

Not in the paper, which says nothing of a decision rule. Off where classes were not balanced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from biounet.evaluation.overlap import known_part, overlap
from biounet.evaluation.pixels import class_scores
from biounet.evaluation.rand import flooded, rand_parts
from biounet.evaluation.scores import segments_of

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


def best_share(probabilities: Sequence[Float32], truths: Sequence[Labels], class_weights: Sequence[float]) -> float:
    """The share s of `SHARES` that scores best on held-back images; the lowest among equals.

    The score of an image is the mean of two: Dice, averaged over all classes, and `v_rand` of the
    segments. By Dice alone thin membranes would give way, and the regions that they part would merge.
    ``probabilities``: (K, *spatial) of the balanced network; ``truths``: int32 class ids, -1 unknown.
    """
    return best_of([share_scores(p, t, class_weights) for p, t in zip(probabilities, truths, strict=True)])


def share_scores(probabilities: Float32, truth: Labels, class_weights: Sequence[float]) -> tuple[float, ...]:
    """The score of one image at each share of `SHARES`, see `best_share`."""
    return tuple(_score(probabilities * _factors(class_weights, share, truth.ndim), truth) for share in SHARES)


def best_of(scores: Sequence[Sequence[float]]) -> float:
    """The share with the best mean over images, by the `share_scores` of each; the lowest among equals."""
    return SHARES[int(np.argmax(np.mean(scores, axis=0)))]


def without_weights(probabilities: Float32, class_weights: Sequence[float], share: float) -> Float32:
    """Probabilities (K, *spatial) as `take_back` leaves them: divided by w_k^share, their sum 1 again."""
    shifted = probabilities * _factors(class_weights, share, probabilities.ndim - 1)
    return np.asarray(shifted / shifted.sum(0), dtype=np.float32)


def takes_back(network: nn.Module) -> bool:
    """Whether a network has the bias that `take_back` shifts."""
    return getattr(getattr(network, "head", None), "bias", None) is not None


@torch.no_grad()
def take_back(head: nn.Module, class_weights: Sequence[float], share: float) -> None:
    """Shift the bias of the last convolution by -share * log w_k, in place.

    Classes without weight (absent from the training images) stay as they are.
    """
    bias = head.bias
    assert isinstance(bias, torch.Tensor)
    weights = np.array(class_weights, dtype=np.float64)
    shift = -share * np.log(np.where(weights > 0, weights, 1.0))
    bias += torch.from_numpy(shift.astype(np.float32)).to(bias.device)


def _factors(class_weights: Sequence[float], share: float, ndim: int) -> Float32:
    weights = np.array([w if w > 0 else 1.0 for w in class_weights], np.float32)
    return np.asarray(weights**-share).reshape(-1, *(1,) * ndim)


def _score(probabilities: Float32, truth: Labels) -> float:
    labels = known_part(np.asarray(probabilities.argmax(axis=0), dtype=np.int32), truth)
    found = class_scores(labels, truth, [str(k) for k in range(len(probabilities))])
    values = [scores["dice"] for scores in found.values() if scores["dice"] is not None]
    if not values:
        return 0.0
    cells, segments = segments_of(labels, "classes"), segments_of(truth, "classes")
    parted = rand_parts(overlap(flooded(cells, segments), segments)).score
    return float(np.mean(values)) if parted is None else float(np.mean(values) + parted) / 2
