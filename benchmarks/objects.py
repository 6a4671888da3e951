"""Time of objects from probabilities, beside the usual recipe on the same probabilities in the same run.

    python benchmarks/objects.py [--side 2048] [--cells-per-side 60] [--repeat 5]

Touching discs on a jittered grid, 3,600 in 2048x2048 by default, with a line between them, blurred, with noise: as a
network gives them. The steps and their numbers are the same on both sides (holes filled, specks dropped, touching
objects split from seeds, the line given back). The rival takes them from SciPy and scikit-image, where the watershed
and `expand_labels` know no bound: its objects cannot be had block by block. Ours are also timed that way, with every
intermediate kept in a store in memory.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import remove_small_holes, remove_small_objects
from skimage.segmentation import expand_labels, watershed

from biounet.evaluation.scores import evaluate_pair
from biounet.labels.blocks import Grid, MemoryStore, Place, window
from biounet.labels.instances import InstanceSettings, SplitSettings, instances, mark
from biounet.labels.joined import join_instances
from biounet.labels.targets import carve
from common import median_seconds, touching_discs

Labels = npt.NDArray[np.int32]
Probability = npt.NDArray[np.float32]

_SETTINGS = InstanceSettings(0.4, 40, 40, 2, SplitSettings("probability", 0.7, 20, 10))
_BLOCK = 1024


def probability_of(labels: Labels, rng: np.random.Generator) -> Probability:
    """What a network might say of these objects, for which the line between them is background."""
    inside = (carve(labels, 2) > 0) + rng.normal(0, 0.2, labels.shape)
    return np.clip(ndimage.gaussian_filter(inside, 1.2), 0, 1).astype(np.float32)


def with_scikit_image(probability: Probability) -> Labels:
    """The same steps as `_SETTINGS` names, from SciPy and scikit-image."""
    split = _SETTINGS.split
    assert split is not None
    mask = remove_small_holes(probability >= _SETTINGS.threshold, max_size=_SETTINGS.fill_holes_px)
    mask = remove_small_objects(mask, max_size=_SETTINGS.smallest_px - 1)
    inner = remove_small_objects(mask & (probability >= split.level), max_size=split.smallest_seed_px - 1)
    seeds, _ = ndimage.label(inner)
    return np.asarray(expand_labels(watershed(-probability, seeds, mask=mask), _SETTINGS.give_back_px), np.int32)


def block_by_block(probability: Probability) -> Labels:
    """The objects of `instances`, no more than a block and its reach looked at together."""
    marks = mark(probability, _SETTINGS)

    def read(start: Place, stop: Place) -> npt.NDArray[np.uint8]:
        return marks[window((0, 0), start, stop)]

    joined = join_instances(read, Grid(marks.shape, (_BLOCK, _BLOCK)), _SETTINGS, MemoryStore())
    return joined.read((0, 0), marks.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--cells-per-side", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    truth = touching_discs(options.cells_per_side**2, options.side / options.cells_per_side, rng)
    probability = probability_of(truth, rng)
    print(f"{truth.shape[0]}x{truth.shape[1]} pixels, {len(np.unique(truth)) - 1} discs, median of {options.repeat}")
    rows = {
        "instances": lambda: instances(probability, _SETTINGS),
        f"the same in blocks of {_BLOCK}": lambda: block_by_block(probability),
        "scikit-image": lambda: with_scikit_image(probability),
    }
    ours = 0.0
    for name, function in rows.items():
        found = function()
        seconds = median_seconds(function, options.repeat)
        ours = ours or seconds.processor
        scores = evaluate_pair(found, truth, task="instances", warping=False)
        print(
            f"{name:28s} {seconds.clock:7.3f} s, {seconds.processor:7.3f} s of processor, ratio "
            f"{seconds.processor / ours:5.2f}; {found.max()} objects, seg {scores['seg']:.3f}, "
            f"pq {scores['pq']:.3f}"
        )


if __name__ == "__main__":
    main()
