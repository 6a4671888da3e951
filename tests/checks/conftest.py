"""A clean set of synthetic cells, made once, and a way to plant a fault in a copy of it."""

import numpy as np
import pytest
import tifffile

from biounet.checks.data import check_data
from biounet.samples.synthetic import synthetic_cells


def write_set(folder, pairs, **options):
    for name, (image, mask) in pairs.items():
        for kind, array in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{name}.tif", array, **options)
    return folder


@pytest.fixture(scope="session")
def clean_pairs():
    """Six images of 128 x 128 with touching cells of 22 px and their ids; not to be changed."""
    made = [synthetic_cells((128, 128), seed=seed, diameter_px=22) for seed in range(6)]
    return {f"f{k}": (image, labels.astype(np.uint16)) for k, (image, labels) in enumerate(made)}


@pytest.fixture(scope="session")
def clean(clean_pairs, tmp_path_factory):
    """What the doctor says of the clean set."""
    return check_data(write_set(tmp_path_factory.mktemp("clean"), clean_pairs))


@pytest.fixture(name="write_set")
def _write_set():
    """Write pairs by name into images/ and masks/ of a folder: write_set(folder, pairs, **options of tifffile)."""
    return write_set


@pytest.fixture(scope="session")
def binary_pairs():
    """Six images of separate cells brighter than the background, masks 0 and 255; not to be changed."""
    found = {}
    for seed in range(6):
        labels = synthetic_cells((128, 128), seed=seed, diameter_px=22, cells=12)[1]
        noise = np.random.default_rng(seed).normal(0, 12, labels.shape)
        image = (60 + 110 * (labels > 0) + noise).clip(0, 250).astype(np.uint8)
        found[f"f{seed}"] = (image, (255 * (labels > 0)).astype(np.uint8))
    return found


@pytest.fixture
def plant(clean_pairs, tmp_path):
    """Check a copy of the clean set in which single pairs are replaced: plant(f1=(image, mask))."""

    def run(pairs=None, *, task=None, **changed):
        return check_data(write_set(tmp_path / "set", (pairs or clean_pairs) | changed), task=task)

    return run


@pytest.fixture
def kinds():
    """The kinds of a check's findings, with severities where asked for."""

    def of(found, severity=None):
        return {f.kind for f in found.findings if severity in (None, f.severity)}

    return of
