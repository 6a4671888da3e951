"""Border weights beside the textbook loop, in one run: 2048 x 2048 pixels with 3,600 cells.

    taskset -c 0 python benchmarks/border_weights.py [--side 2048] [--cells-a-side 60] [--textbook-cells 100]

The textbook version computes one distance map of the whole plane for each cell and keeps the two
smallest; it is timed on some of the cells, and its time scaled to all of them.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.labels.targets import carve
from biounet.samples.border_weights import border_weights
from common import median_seconds

W0, SIGMA = 10.0, 5.0


def crowded_plane(side: int, cells_a_side: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Ellipses that fill about two thirds of the plane; neighbours touch and cover one another."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    pitch = side / cells_a_side
    for cell in range(cells_a_side**2):
        centre = (np.array(divmod(cell, cells_a_side)) + 0.5) * pitch + rng.uniform(-0.1, 0.1, 2) * pitch
        radii = rng.uniform(0.38, 0.52, 2) * pitch
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(labels, np.rint(centre[::-1]).astype(int).tolist(), np.rint(radii).astype(int).tolist(),
                    angle, 0, 360, cell + 1, -1)  # fmt: skip
    return carve(labels, 2)


def textbook_weights(labels: npt.NDArray[np.int32], ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """The loop over cells, with the two smallest distances kept, so that it fits in memory."""
    nearest = np.full(labels.shape, np.inf)
    second = nearest.copy()
    for cell in ids:
        distance = ndimage.distance_transform_edt(labels != cell)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return np.where(labels == 0, W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA**2)), 0)


def main() -> None:
    """Print the times, their ratio and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--cells-a-side", type=int, default=60)
    parser.add_argument("--textbook-cells", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)

    small = crowded_plane(256, 8)
    difference = np.abs(border_weights(small, W0, SIGMA) - textbook_weights(small, np.unique(small)[1:])).max()
    print(f"largest difference to the textbook loop (256 x 256, 64 cells): {difference:.1e}")

    labels = crowded_plane(options.side, options.cells_a_side)
    ids = np.unique(labels)[1:]
    ours = median_seconds(lambda: border_weights(labels, W0, SIGMA), options.repeats).clock
    some = ids[: options.textbook_cells]
    loop = median_seconds(lambda: textbook_weights(labels, some), 1).clock * len(ids) / len(some)
    print(f"{options.side} x {options.side} pixels, {len(ids)} cells, {np.mean(labels > 0):.0%} covered")
    print(f"biounet.border_weights   {ours:10.3f} s  (median of {options.repeats})")
    print(f"textbook loop            {loop:10.1f} s  (timed on {len(some)} cells, scaled)")
    print(f"ratio                    {loop / ours:10.0f}")


if __name__ == "__main__":
    main()
