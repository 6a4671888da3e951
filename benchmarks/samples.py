"""A complete training sample beside a textbook version, in one run, on one core.

    taskset -c 0 python benchmarks/samples.py [--samples 100] [--textbook-samples 3]

Input 572 x 572, output 388 x 388 with about 150 cells: rotation, mirror, zoom, elastic deformation,
grey values and noise, the line between cells, class targets and weights. The textbook version does
the same with scipy: a dense cubic map of coordinates, cubic interpolation, and a distance map of
the whole output for each cell.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.labels.targets import carve
from biounet.samples.augment import Augmentation
from biounet.samples.border_weights import class_weights
from biounet.samples.sampler import Sampler, class_counts
from biounet.settings import standard
from border_weights import crowded_plane, textbook_weights

INPUT, OUTPUT, MARGIN = 572, 388, 92
SIDE, CELLS_A_SIDE = 800, 25  # 25^2 cells of 32 px: about 150 in an output


def sampler() -> Sampler:
    """The library's sampler, as `standard` varies cells, on one crowded image."""
    labels = crowded_plane(SIDE, CELLS_A_SIDE)
    noise = np.random.default_rng(1).standard_normal(labels.shape, np.float32)
    image = (labels > 0) + 0.3 * noise
    weights = class_weights(class_counts([labels], task="instances"))
    chosen = {"elastic_std_px": 10.0, "rotation_degrees": 180.0, "mirror": True}
    return Sampler(
        (image.astype(np.float32)[None],), (labels,), (INPUT,) * 2, (OUTPUT,) * 2, (MARGIN,) * 2,
        class_weights=tuple(weights.tolist()),
        augmentation=Augmentation(**standard().augmentation.model_dump() | chosen),
    )  # fmt: skip


def textbook_sample(draws: Sampler, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], ...]:
    """The same sample as it is usually written."""
    image, labels = draws.images[0][0], draws.labels[0]
    start = rng.integers(0, SIDE - OUTPUT, 2) - MARGIN
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / rng.uniform(0.85, 1.15)
    steps = np.indices((INPUT, INPUT)) - (INPUT - 1) / 2
    place = np.einsum("ij,jyx->iyx", turn, steps) + (start + (INPUT - 1) / 2)[:, None, None]
    grid = np.indices((INPUT, INPUT)) * 2 / (INPUT - 1)
    for axis in range(2):
        place[axis] += ndimage.map_coordinates(rng.normal(0, 10, (3, 3)), grid, order=3, mode="nearest")
    warped = ndimage.map_coordinates(image, place, order=3, mode="mirror")
    warped = warped * rng.uniform(0.8, 1.25) + rng.uniform(-0.2, 0.2) + rng.normal(0, 0.05, warped.shape)
    inner = place[:, MARGIN : MARGIN + OUTPUT, MARGIN : MARGIN + OUTPUT]
    instances = carve(ndimage.map_coordinates(labels, inner, order=0, mode="constant", cval=-1), 2)
    cells = np.unique(instances)
    border = textbook_weights(instances, cells[cells > 0])
    target = np.minimum(instances, 1)
    return warped, target, np.where(target < 0, 0, np.array(draws.class_weights)[target] + border)


def main() -> None:
    """Print samples a second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--textbook-samples", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    draws = sampler()
    ours, cells = [], []
    for step in range(options.samples):
        start = time.perf_counter()
        sample = draws.sample(0, step, 0)
        ours.append(time.perf_counter() - start)
        cells.append(len(np.unique(sample.instances[sample.instances > 0])))
    textbook = []
    for step in range(options.textbook_samples):
        start = time.perf_counter()
        textbook_sample(draws, np.random.default_rng(step))
        textbook.append(time.perf_counter() - start)
    mine, theirs = statistics.median(ours), statistics.median(textbook)
    print(f"input {INPUT} x {INPUT}, output {OUTPUT} x {OUTPUT}, {statistics.median(cells):.0f} cells in the output")
    print(f"biounet    {mine * 1e3:9.1f} ms a sample {1 / mine:8.1f} a second  (median of {len(ours)})")
    print(f"textbook   {theirs * 1e3:9.1f} ms a sample {1 / theirs:8.1f} a second  (median of {len(textbook)})")
    print(f"ratio      {theirs / mine:9.0f}")


if __name__ == "__main__":
    main()
