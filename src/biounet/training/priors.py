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
    scores = [
        float(np.mean([_score(p, t, class_weights, share) for p, t in zip(probabilities, truths, strict=True)]))
        for share in SHARES
    ]
    return SHARES[int(np.argmax(scores))]


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


def _score(probabilities: Float32, truth: Labels, class_weights: Sequence[float], share: float) -> float:
    weights = np.array([w if w > 0 else 1.0 for w in class_weights], np.float32)
    factors = (weights**-share).reshape(-1, *(1,) * truth.ndim)
    labels = known_part(np.asarray((probabilities * factors).argmax(axis=0), dtype=np.int32), truth)
    found = class_scores(labels, truth, [str(k) for k in range(len(weights))])
    values = [scores["dice"] for scores in found.values() if scores["dice"] is not None]
    if not values:
        return 0.0
    cells, segments = segments_of(labels, "classes"), segments_of(truth, "classes")
    parted = rand_parts(overlap(flooded(cells, segments), segments)).score
    return float(np.mean(values)) if parted is None else float(np.mean(values) + parted) / 2
