"""Time of writing objects for other programs, beside scikit-image on the same objects in the same run.

    python benchmarks/exchange.py [--objects 10000] [--cells 3600] [--side 2048] [--repeat 3] [--large 0]

ROI set and GeoJSON of 10,000 objects, reading them back, and the measurements of 3,600 objects in 2048x2048.
The rivals: `skimage.measure.find_contours` on every object, which is what outlines are mostly made with and
does not give back the same pixels, and `skimage.measure.regionprops_table` with the same columns.
``--large 300000`` also streams that many objects to compressed GeoJSON and prints the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import find_contours, regionprops_table

from biounet.datasets.geojson import geojson_outlines
from biounet.datasets.outlines import paint
from biounet.datasets.rois import roi_outlines
from biounet.exchange.geojson import write_geojson
from biounet.exchange.measure import measure
from biounet.exchange.objects import Objects
from biounet.exchange.rois import write_rois
from common import Seconds, median_seconds, touching_discs

Labels = npt.NDArray[np.int32]

COLUMNS = (
    "label", "area", "perimeter", "centroid", "axis_major_length", "axis_minor_length", "solidity", "intensity_mean",
)  # fmt: skip


def line(what: str, times: Seconds, note: str = "") -> None:
    """One row of results."""
    print(f"  {what:40s} {times.clock:7.2f} s   {times.processor:6.2f} s of processor   {note}".rstrip())


def contours(labels: Labels) -> int:
    """The rival's outlines, object by object in its own box."""
    count = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            count += len(find_contours(np.pad(labels[box] == number, 1).astype(np.float32), 0.5))
    return count


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=3600)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        outlines(options, Path(name), rng)
        measurements(options, rng)
        if options.large:
            large(options.large, Path(name), rng)


def outlines(options: argparse.Namespace, folder: Path, rng: np.random.Generator) -> None:
    """ROI set and GeoJSON, written and read back."""
    labels = touching_discs(options.objects, 34, rng)
    objects = [Objects(labels, "a", rng.integers(0, 255, (1, *labels.shape)).astype(np.uint8))]
    count = len(np.unique(labels)) - 1
    print(f"{count:,} objects in {labels.shape[0]}x{labels.shape[1]}")
    rois, geojson = folder / "a.zip", folder / "a.geojson"
    jobs: dict[str, Callable[[], Any]] = {
        "write RoiSet.zip": lambda: write_rois(rois, objects),
        "write GeoJSON with measurements": lambda: write_geojson(geojson, objects),
        "read RoiSet.zip to pixels": lambda: paint(roi_outlines(rois), labels.shape),
        "read GeoJSON to pixels": lambda: paint(geojson_outlines(geojson), labels.shape),
        "rival: find_contours, nothing written": lambda: contours(labels),
    }
    times = {job: median_seconds(function, options.repeat) for job, function in jobs.items()}
    for job, took in times.items():
        line(job, took)
    same = all(
        np.array_equal(paint(read(file), labels.shape).labels > 0, labels > 0)
        for read, file in ((roi_outlines, rois), (geojson_outlines, geojson))
    )
    print(f"  the same pixels come back: {same}")


def measurements(options: argparse.Namespace, rng: np.random.Generator) -> None:
    """All columns of all objects."""
    across = int(np.sqrt(options.cells))
    labels = touching_discs(across**2, options.side // across, rng)
    labels = np.pad(labels, ((0, max(0, options.side - len(labels))),) * 2)
    image = rng.integers(0, 4000, labels.shape).astype(np.uint16)
    ours = median_seconds(lambda: measure(Objects(labels, "a", image[None])), options.repeat)
    rival = median_seconds(lambda: regionprops_table(labels, image, properties=COLUMNS), 1)
    print(f"measurements of {len(np.unique(labels)) - 1:,} objects in {labels.shape[0]}x{labels.shape[1]}")
    line("biounet", ours)
    line("rival: regionprops_table", rival, f"{rival.processor / ours.processor:.1f} times the processor")


def large(count: int, folder: Path, rng: np.random.Generator) -> None:
    """Very many objects, compressed."""
    labels = touching_discs(count, 24, rng)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    path = folder / "large.geojson.gz"
    written = 0

    def write() -> None:
        nonlocal written
        written = write_geojson(path, [Objects(labels, "large")])

    took = median_seconds(write, 1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{written:,} objects in {labels.shape[0]}x{labels.shape[1]} to compressed GeoJSON")
    line("write", took, f"{path.stat().st_size / 1e6:.0f} MB, memory at most {after:.1f} GiB ({before:.1f} before)")


if __name__ == "__main__":
    main()
