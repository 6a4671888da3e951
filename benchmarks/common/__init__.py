"""What several benchmarks need: medians of times, and label images of many touching discs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Seconds(NamedTuple):
    """Of the clock, and of the processor, which other programs disturb less."""

    clock: float
    processor: float


def median_seconds(function: Callable[[], object], repeats: int, *, warm: bool = False) -> Seconds:
    """Medians of some calls, after one that is not counted where ``warm``."""
    if warm:
        function()
    times = []
    for _ in range(repeats):
        clock, processor = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    return Seconds(*map(statistics.median, zip(*times, strict=True)))


def touching_discs(count: int, step: float, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Labels of discs on a jittered square grid of ``step`` pixels; where they overlap the later lies above."""
    across = math.ceil(math.sqrt(count))
    labels = np.zeros((round(across * step),) * 2, np.int32)
    for number, (row, column) in enumerate(islice(np.ndindex(across, across), count), start=1):
        y, x = (np.array([row, column]) + 0.5) * step + rng.normal(0, step * 0.05, 2)
        radius = step * rng.uniform(0.4, 0.52)
        top, left = (max(0, int(c - radius)) for c in (y, x))
        window = labels[top : int(y + radius) + 2, left : int(x + radius) + 2]
        yy, xx = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        window[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = number
    return labels
