"""How far an engine is from fp32, measured on a sample before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

Float32 = npt.NDArray[np.float32]

TORCH = "fp32 torch"
EXACT = 2e-5  # of the largest |logit|: rounding, as everywhere in fp32


class Function(Protocol):
    """Logits (N, K, *output) of a batch (N, C, *input)."""

    def __call__(self, batch: Float32) -> Float32:
        """See the class."""


@dataclass(frozen=True)
class Agreement:
    """``difference``: the largest, as a share of the largest |logit|. ``labels``: share of pixels with the same most
    probable class. ``sample``: what was compared, ``reference``: what with, both in words."""

    difference: float
    labels: float
    pixels: int
    sample: str
    reference: str = TORCH

    @property
    def is_exact(self) -> bool:
        """Within the rounding of fp32."""
        return self.difference <= EXACT

    def __str__(self) -> str:
        changed = round((1 - self.labels) * self.pixels)
        return (
            f"logits within {self.difference:.1e} of the largest, {self.labels:.3%} of labels equal "
            f"({changed} of {self.pixels:,} pixels differ; {self.sample})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def compare(expected: Sequence[Float32], found: Sequence[Float32], sample: str, reference: str = TORCH) -> Agreement:
    """The agreement of logits (N, K, *output), one array for each batch of the sample.

    ``reference``: what computed those expected. Numbers that are not finite are infinitely far off, and their labels
    differ. Raises `UsageError` where shapes differ.
    """
    for e, f in zip(expected, found, strict=True):
        if e.shape != f.shape:
            shapes = ["x".join(map(str, logits.shape)) for logits in (f, e)]
            raise UsageError(f"logits of {shapes[0]} in place of {shapes[1]} (samples, classes, pixels)")
    largest = float(np.max([np.abs(e).max() for e in expected]))  # not max, which passes over NaN
    pairs = list(zip(expected, found, strict=True))
    difference = max(largest_difference(e, f) for e, f in pairs) / max(largest, float(np.finfo(np.float32).tiny))
    same = sum(same_labels(e, f, axis=1) for e, f in pairs)
    pixels = sum(e[:, 0].size for e in expected)
    return Agreement(difference if np.isfinite(difference) else float("inf"), same / pixels, pixels, sample, reference)


def largest_difference(expected: Float32, found: Float32) -> float:
    """The largest absolute difference of two arrays of one shape; infinite where a number of either is not finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = float(np.abs(expected - found).max())
    return difference if np.isfinite(difference) else float("inf")


def same_labels(expected: Float32, found: Float32, *, axis: int) -> int:
    """How many pixels have the same most probable class, classes on ``axis``, and only finite numbers in both."""
    same = expected.argmax(axis) == found.argmax(axis)
    return int((same & np.isfinite(expected).all(axis) & np.isfinite(found).all(axis)).sum())


def measure(
    engine: Function, reference: Function, batches: Sequence[Float32], sample: str, named: str = TORCH
) -> Agreement:
    """The agreement of two engines on batches of tiles (N, C, *input); ``named``: the reference, in words."""
    return compare([reference(b) for b in batches], [engine(b) for b in batches], sample, named)
