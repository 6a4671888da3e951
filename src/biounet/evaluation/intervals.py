"""Intervals by the bootstrap: how far a mean over images would move if other images had been taken.

The variant is the bootstrap-t (Efron and Tibshirani 1993, chapter 12.5): each resample's mean is divided by
its own standard error. It was chosen by simulation, 3,000 data sets of 6, 8, 10, 15, 20 and 30 values each:
a nominal 95 % covered the true mean in 93.0 to 95.7 % (normal, beta-distributed and Poisson values), while
percentile and BCa intervals of 6 values covered 82 to 90 %. It pays with width where an image stands far out.
A resample of equal values has no standard error and counts as infinitely far out; an end that would lie there is
that of Student's interval. No interval knows of failures that no image showed: where one image in ten fails badly
(0.3 instead of 0.9 each), 6, 10, 15 and 30 images give 48, 63, 81 and 95 % (600 data sets each).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from biounet.errors import UsageError

FEWEST_VALUES = 6
_RESAMPLES = 2000
_LEVEL = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its 95 % interval.

    ``mean`` is None without any value, ``low`` and ``high`` with fewer than `FEWEST_VALUES`. ``count``
    values were used, ``undefined`` were None and left out.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    undefined: int


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the images where both are defined, with interval as in `MeanInterval`.

    ``probability_better``: the share of resamples in which a is better than b, ties counting half; None
    where the interval is.
    """

    mean: float | None
    low: float | None
    high: float | None
    probability_better: float | None
    count: int
    undefined: int


def mean_with_interval(
    values: Sequence[float | None],
    rng: np.random.Generator,
    *,
    weights: Sequence[float] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> MeanInterval:
    """Mean of the defined values with its 95 % bootstrap-t interval over images.

    ``values``: one per image, None where undefined. ``weights``: how much each counts, at least 0
    (default all equal); images, not weights, are drawn. ``bounds``: the range of the score, which the
    interval does not leave. Raises `UsageError` where lengths differ or a weight is negative.
    """
    used, weight = _defined(values, weights)
    undefined = len(values) - len(used)
    if weight.sum() == 0:
        return MeanInterval(None, None, None, len(used), undefined)
    mean = float(np.average(used, weights=weight))
    if len(used) < FEWEST_VALUES:
        return MeanInterval(mean, None, None, len(used), undefined)
    _, low, high = _bootstrap(used, weight, rng)
    low, high = float(np.clip(low, *bounds)), float(np.clip(high, *bounds))
    return MeanInterval(mean, low, high, len(used), undefined)


def paired_difference(
    a: Sequence[float | None],
    b: Sequence[float | None],
    rng: np.random.Generator,
    *,
    lower_is_better: bool = False,
    moved_to: float | None = None,
) -> Difference:
    """Mean of a - b with its 95 % interval, and the probability that a is better.

    The interval is the bootstrap-t's and Student's together, from the lowest end to the highest: the first alone finds
    differences too often where many are equal.

    ``a`` and ``b``: scores of two methods on the same images in the same order, None where undefined.
    ``lower_is_better`` for errors. ``moved_to``: the mean that everything is moved to, where the values
    are those of blocks but the mean over images is meant. Raises `UsageError` where the lengths differ.

    Simulated, 600 comparisons each of 6, 10 and 30 images: one of two equally good methods is called better in 0
    to 5.5 % of them (5 % is meant), whether the differences are normal, skewed, rounded, counts or mostly zero.
    The price is width: of six images it holds the true difference more often than the 95 % that are meant.
    """
    if len(a) != len(b):
        raise UsageError(f"paired scores have lengths {len(a)} and {len(b)}: they must be equal")
    differences = np.array([x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None])
    count, undefined = len(differences), len(a) - len(differences)
    mean = float(differences.mean()) if count else None
    if mean is None or count < FEWEST_VALUES:
        return Difference(mean if moved_to is None else moved_to, None, None, None, count, undefined)
    shift = 0.0 if moved_to is None else moved_to - mean
    means, low, high = _bootstrap(differences, np.ones(count), rng)
    reach = student(count) * float(differences.std(ddof=1)) / math.sqrt(count)
    low, high = min(low, mean - reach), max(high, mean + reach)
    means += shift
    better = means < 0 if lower_is_better else means > 0
    probability = float(better.mean() + (means == 0).mean() / 2)
    return Difference(mean + shift, low + shift, high + shift, probability, count, undefined)


def _defined(values: Sequence[float | None], weights: Sequence[float] | None) -> tuple[Floats, Floats]:
    weights = [1.0] * len(values) if weights is None else weights
    if len(weights) != len(values) or any(weight < 0 for weight in weights):
        raise UsageError(f"weights (={list(weights)}) must be {len(values)} numbers of at least 0, one for each value")
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None]
    return np.array([v for v, _ in pairs], np.float64), np.array([w for _, w in pairs], np.float64)


def _bootstrap(values: Floats, weights: Floats, rng: np.random.Generator) -> tuple[Floats, float, float]:
    """Weighted means of the resamples, and both ends of the bootstrap-t interval."""
    chosen = rng.integers(0, len(values), (_RESAMPLES, len(values)))
    means, errors = _mean_and_error(values[chosen], weights[chosen])
    mean, error = (float(x[0]) for x in _mean_and_error(values[None], weights[None]))
    if error == 0:
        return means, mean, mean
    # A resample of one value over and over has no standard error to divide by: it lies infinitely far out.
    usable = errors > 1e-9 * error
    away = np.where(np.abs(means - mean) > 1e-9 * error, np.copysign(np.inf, means - mean), 0.0)
    t = np.where(usable, (means - mean) / np.where(usable, errors, 1.0), away)
    outer = student(len(values))
    low, high = np.quantile(t, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="nearest")
    low, high = (end if np.isfinite(end) else np.copysign(outer, end) for end in (low, high))
    return means, float(mean - high * error), float(mean - low * error)


def student(count: int) -> float:
    """How many standard errors Student's interval of a mean of ``count`` values reaches to either side."""
    return float(special.stdtrit(count - 1, (1 + _LEVEL) / 2))


def _mean_and_error(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean along the last axis and its standard error (that of a ratio, linearised)."""
    total = np.maximum(weights.sum(-1), np.finfo(float).tiny)
    mean = (weights * values).sum(-1) / total
    residuals = weights * (values - mean[..., None])
    n = values.shape[-1]
    return mean, np.sqrt((residuals**2).sum(-1) * n / (n - 1)) / total
