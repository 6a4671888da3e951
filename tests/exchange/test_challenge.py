import warnings

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.exchange.challenge import write_masks
from biounet.exchange.objects import Objects

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ctc_metrics.metrics import seg
    from ctc_metrics.utils.filesystem import parse_masks
    from ctc_metrics.utils.representations import match

LABELS = np.arange(12, dtype=np.int32).reshape(3, 4)


def test_frames_keep_their_number(tmp_path):
    (path,) = write_masks(tmp_path, [Objects(LABELS, "t067")], sequence="02")
    assert path == tmp_path / "02_RES" / "mask067.tif"
    assert tifffile.imread(path).dtype == np.uint16
    assert np.array_equal(tifffile.imread(path), LABELS)
    (path,) = write_masks(tmp_path, [Objects(LABELS, "t0067")])
    assert path.name == "mask0067.tif"


def test_stacks_are_numbered_by_time(tmp_path):
    paths = write_masks(tmp_path, [Objects(LABELS, "film", t=t) for t in range(3)])
    assert [path.name for path in paths] == ["mask000.tif", "mask001.tif", "mask002.tif"]


def test_the_challenge_s_measures_read_them(tmp_path):
    """py-ctcmetrics finds the frames in order and, beside the same objects under other ids, a SEG of 1."""
    frames = [np.roll(LABELS, t, 1) for t in range(3)]
    written = write_masks(tmp_path, [Objects(labels, "film", t=t) for t, labels in enumerate(frames)])
    found = parse_masks(str(tmp_path / "01_RES"))
    assert found == [str(path) for path in written]
    for path, labels in zip(found, frames, strict=True):
        tifffile.imwrite(tmp_path / "man_seg.tif", (labels + 100 * (labels > 0)).astype(np.uint16))
        true, ids, *_, iou = match(str(tmp_path / "man_seg.tif"), path)
        assert sorted(ids) == np.unique(labels)[1:].tolist()
        assert seg([true], [iou]) == 1


def test_more_objects_than_16_bits(tmp_path):
    with pytest.raises(DataError, match="more than 65,535 objects"):
        write_masks(tmp_path, [Objects(np.full((2, 2), 70000, np.int32), "t000")])
