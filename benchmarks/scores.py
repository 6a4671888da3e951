"""Time of all scores of one label pair, beside textbook versions on the same pair in the same run.

    python benchmarks/scores.py [--side 2048] [--cells-per-side 60] [--repeat 5]

The pair: touching and overlapping discs on a jittered grid, 3,600 in 2048x2048 by default, and the same
discs drawn again with other jitter, some joined and some left out. The rivals are scikit-image, and the
loop over pairs of masks for the object scores, timed on 20 objects and scaled to all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from biounet.evaluation import objects, rand
from biounet.evaluation.boundaries import warping_error
from biounet.evaluation.overlap import overlap
from biounet.evaluation.scores import evaluate_pair
from common import median_seconds, touching_discs

Labels = npt.NDArray[np.int32]


def with_errors(labels: Labels, rng: np.random.Generator) -> Labels:
    """The labels with 3 % of the objects joined to the next and 3 % left out."""
    ids = np.arange(labels.max() + 1)
    chosen = rng.random(len(ids))
    ids[chosen < 0.03] = np.minimum(ids[chosen < 0.03] + 1, len(ids) - 1)
    ids[(chosen >= 0.03) & (chosen < 0.06)] = 0
    ids[0] = 0
    return ids[labels].astype(np.int32)


def iou_by_masks(predicted: Labels, true: Labels, ids: npt.NDArray[np.int32]) -> None:
    """Largest IoU of some true objects, comparing whole masks as a first version would."""
    for t in ids:
        mask = true == t
        for p in np.unique(predicted[mask]):
            other = predicted == p
            (mask & other).sum() / (mask | other).sum()


def thin_with_scikit_image(predicted: Labels) -> Labels:
    """Flooding of the predicted borders by scikit-image's watershed."""
    return np.asarray(watershed(np.zeros(predicted.shape, np.uint8), predicted), np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--cells-per-side", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    true = touching_discs(options.cells_per_side**2, options.side / options.cells_per_side, rng)
    predicted = with_errors(touching_discs(options.cells_per_side**2, options.side / options.cells_per_side, rng), rng)
    mask, true_mask = (predicted > 0).astype(np.int32), (true > 0).astype(np.int32)
    inside = ndimage.gaussian_filter(mask.astype(np.float32), 1.5)
    repeat = options.repeat

    def all_scores(**more: Any) -> Callable[[], Any]:
        return lambda: evaluate_pair(predicted, true, task="instances", warping=False, **more)

    print(f"{options.side}x{options.side} pixels, {len(np.unique(true)) - 1} true objects, median of {repeat}")
    rows = {
        "all scores but warping error": all_scores(),
        "... with probabilities (nine thresholds)": all_scores(probabilities=inside),
        "... of class masks with probabilities": lambda: evaluate_pair(
            mask, true_mask, task="classes", probabilities=inside, warping=False
        ),
        "contingency table": lambda: overlap(predicted, true),
        "ap, f1, pq at ten thresholds": lambda: objects.ap(predicted, true),
        "thinned v_rand": lambda: rand.v_rand(predicted, true),
        "warping error": lambda: warping_error(predicted, true),
        "scikit-image: watershed, adapted Rand, variation of information": lambda: (
            adapted_rand_error(true, thinned := thin_with_scikit_image(predicted)),
            variation_of_information(true, thinned, ignore_labels=[0]),
        ),
    }
    for name, function in rows.items():
        print(f"{median_seconds(function, repeat).clock:9.3f} s  {name}")
    few = rng.choice(np.unique(true)[1:], 20, replace=False)
    loop = median_seconds(lambda: iou_by_masks(predicted, true, few), 1).clock / len(few) * (len(np.unique(true)) - 1)
    table = median_seconds(lambda: overlap(predicted, true).pairs, repeat).clock
    print(f"{loop:9.1f} s  IoU of all objects by a loop over masks (scaled from 20 objects)")
    print(f"{loop / table:9.0f} times the table's {table:.3f} s")


if __name__ == "__main__":
    main()
