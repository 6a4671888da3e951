"""Which numbers turn probabilities into objects best, on images held back for it.

The score is passed in, so nothing here knows how results are judged.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.labels.instances import InstanceSettings, SplitSettings, instances

Labels = npt.NDArray[np.int32]
Score = Callable[[Labels, Labels], float]

THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.8)
GIVE_BACKS_PX = (0, 1, 2, 3)
SIZE_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
HOLE_SHARES = (0.0, 0.1, 0.3)
SEED_PROBABILITIES = (0.7, 0.85, 0.95)
SEED_DEPTH_SHARES = (0.25, 0.4, 0.55)


def tune(probabilities: Sequence[npt.NDArray[np.float32]], truths: Sequence[Labels], score: Score) -> InstanceSettings:
    """The settings with the highest mean ``score(labels, truth)`` over held-back images: see `Tuner`."""
    return Tuner(probabilities, truths, score).best()


class Tuner:
    """Looks for the settings with the highest mean ``score(labels, truth)`` over held-back images, or some of them.

    ``probabilities`` of the cell class and ``truths`` (int32), pairs of equal shape (Z)YX. Searched
    in rounds until one brings no gain, each round trying all combinations of threshold and
    give-back, then of speck and hole sizes, then all splits (with and without). Sizes are shares
    of the median object of the images looked at, seed depths of its radius. Among equals the first tried is kept,
    and each list starts with the plainest choice; a score that is NaN counts as none. What one search
    scored serves the next. Raises `UsageError` where there are no pairs.
    """

    def __init__(
        self, probabilities: Sequence[npt.NDArray[np.float32]], truths: Sequence[Labels], score: Score
    ) -> None:
        check_pairs("probabilities", probabilities, truths)
        self._probabilities, self._truths, self._score = probabilities, truths, score
        self._scores: dict[tuple[InstanceSettings, int], float] = {}

    def best(self, images: Sequence[int] | None = None) -> InstanceSettings:
        """The best settings on the images at these positions; on all by default."""
        used = range(len(self._truths)) if images is None else images
        size_px = median_object_px([self._truths[index] for index in used])

        def mean_score(settings: InstanceSettings) -> float:
            return float(np.mean([self._score_of(settings, index) for index in used]))

        best = InstanceSettings()
        while True:
            before = best
            for changes in _groups(size_px, self._truths[0].ndim):
                best = _best(best, changes, mean_score)
            if best == before:
                return best

    def _score_of(self, settings: InstanceSettings, index: int) -> float:
        known = self._scores.get((settings, index))
        if known is None:
            labels = instances(self._probabilities[index], settings)
            known = self._scores[settings, index] = self._score(labels, self._truths[index])
        return known


def _best(
    start: InstanceSettings,
    changes: Sequence[dict[str, Any]],
    mean_score: Callable[[InstanceSettings], float],
) -> InstanceSettings:
    best, best_score = start, mean_score(start)
    for change in changes:
        settings = dataclasses.replace(start, **change)
        if (value := mean_score(settings)) > best_score or math.isnan(best_score) > math.isnan(value):
            best, best_score = settings, value
    return best


def _groups(size_px: float, ndim: int) -> Iterator[list[dict[str, Any]]]:
    """The three groups of a round, each a list of changes to the settings."""
    yield [
        {"threshold": threshold, "give_back_px": give_back}
        for threshold, give_back in itertools.product(THRESHOLDS, GIVE_BACKS_PX)
    ]
    yield [
        {"smallest_px": round(speck * size_px), "fill_holes_px": round(hole * size_px)}
        for speck, hole in itertools.product(SIZE_SHARES, HOLE_SHARES)
    ]
    yield [{"split": split} for split in _splits(size_px, ndim)]


def _splits(size_px: float, ndim: int) -> list[SplitSettings | None]:
    radius = (size_px * math.gamma(ndim / 2 + 1) / math.pi ** (ndim / 2)) ** (1 / ndim)
    steps = max(2, math.ceil(1.5 * radius))
    seed_px = max(1, round(0.02 * size_px))
    by_probability = [SplitSettings("probability", p, steps, seed_px) for p in SEED_PROBABILITIES]
    by_depth = [
        SplitSettings("depth", max(1.0, round(share * radius, 1)), steps, seed_px) for share in SEED_DEPTH_SHARES
    ]
    return [None, *by_probability, *by_depth]


def object_sizes_px(labels: Labels) -> npt.NDArray[np.int64]:
    """Pixels of every object in the order of its id (> 0), which may be as large as it likes."""
    return np.asarray(np.unique(labels[labels > 0], return_counts=True)[1], np.int64)


def median_object_px(truths: Sequence[Labels]) -> float:
    """Median size in pixels of all objects (positive ids) of the truths; 0 where there is none."""
    counts = np.concatenate([*map(object_sizes_px, truths), np.zeros(0, np.int64)])
    return float(np.median(counts)) if counts.size else 0.0


def check_pairs(name: str, inputs: Sequence[npt.NDArray[Any]], truths: Sequence[npt.NDArray[Any]]) -> None:
    """Raise `UsageError` unless inputs and truths are pairs of equal shape, at least one."""
    shapes = [a.shape for a in inputs], [a.shape for a in truths]
    if not inputs or shapes[0] != shapes[1]:
        raise UsageError(
            f"{name} of shapes {shapes[0]} and truths of shapes {shapes[1]}: need at least one pair, both of one shape"
        )
