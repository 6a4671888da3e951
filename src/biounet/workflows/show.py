"""What the network will see: samples after deformation, their targets and their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from biounet.images.writing import write_png
from biounet.planning.data import Data, read_training_data
from biounet.planning.plan import make_plan
from biounet.report.pictures import heat, label_layer, middle_plane, side_by_side, stack, to_rgb
from biounet.samples.sampler import Sample, Sampler
from biounet.settings import Settings

_GAP_PX = 8


def show_samples(
    data: Data, out: str | Path, *, settings: Settings, samples: int = 4, seed: int = 0, skip_bad: bool = False
) -> tuple[str, ...]:
    """Write a PNG with one row a sample: input, target over the output, border and class weights.

    The samples are the first ``samples`` that training with this seed draws. Returns the statements
    of data and plan.
    """
    known = read_training_data(data, settings.data, skip_bad=skip_bad)
    plan = make_plan(known, settings, seed=seed)
    rows = [sample_row(plan.sampler, plan.sampler.sample(seed, step, 0)) for step in range(samples)]
    write_png(out, stacked(rows))
    return known.statements + plan.statements


def sample_row(sampler: Sampler, sample: Sample) -> npt.NDArray[np.uint8]:
    """One sample as a row of pictures of equal size: input, output with target, weights."""
    ndim = sampler.ndim
    inputs = to_rgb(sample.image, ndim)
    top, left = (sampler.margin[axis] for axis in (ndim - 2, ndim - 1))
    height, width = sampler.output_size[-2:]
    framed = inputs.copy()
    for row in (top, top + height - 1):
        framed[row, left : left + width] = (255, 200, 0)
    for column in (left, left + width - 1):
        framed[top : top + height, column] = (255, 200, 0)
    output = inputs[top : top + height, left : left + width]
    target = stack(output, label_layer(middle_plane(sample.instances, ndim), fill=0.35))
    weights = heat(middle_plane(sample.weights, ndim))
    captions = (
        "input, its output framed",
        "output: target (hatched: unknown)",
        f"weights {float(sample.weights.min()):.2g} to {float(sample.weights.max()):.3g}",
    )
    return side_by_side([framed, target, weights], captions)


def stacked(rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Pictures below each other on white."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP_PX), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)
