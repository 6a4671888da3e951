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


def test_the_planes_of_a_time_are_one_volume(tmp_path):
    """Ids go on from plane to plane, in files whose axes nothing states."""
    places = [(t, z) for t in range(2) for z in range(3)]
    planes = [Objects(np.roll(LABELS, t, 1) % (5 + z), "film", z=z, t=t) for t, z in places]
    for number, path in enumerate(write_masks(tmp_path, planes)):
        assert path.name == f"mask00{number}.tif"
        found = tifffile.imread(path)
        assert (found.shape, found.dtype) == ((3, 3, 4), np.uint16)
        for plane, labels, before in zip(found, planes[3 * number :], (0, 4, 9), strict=False):
            assert np.array_equal(plane, np.where(labels.labels > 0, labels.labels + before, 0))
    with tifffile.TiffFile(path) as tif:
        assert (len(tif.pages), tif.pages[0].description) == (3, "")
    (path,) = write_masks(tmp_path, [Objects(LABELS, "stack", z=z) for z in range(2)])
    assert (path.name, tifffile.imread(path).max()) == ("mask000.tif", 22)


def test_a_file_that_is_a_frame_is_one_mask(tmp_path):
    """Also where nothing says that its pages are planes."""
    for place in ({"z": 1}, {"t": 1}):
        (path,) = write_masks(tmp_path, [Objects(LABELS, "t005"), Objects(LABELS, "t005", **place)])
        assert path.name == "mask005.tif"
        assert np.array_equal(tifffile.imread(path), np.stack([LABELS, np.where(LABELS > 0, LABELS + 11, 0)]))


def test_volumes_are_frames(tmp_path):
    volume = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    paths = write_masks(tmp_path, [Objects(volume, "film", t=t) for t in range(2)])
    assert [path.name for path in paths] == ["mask000.tif", "mask001.tif"]
    assert all(np.array_equal(tifffile.imread(path), volume) for path in paths)


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
    planes = [Objects(np.full((2, 2), 33_000, np.int32), "t000", z=z) for z in range(2)]
    write_masks(tmp_path, planes[:1])
    with pytest.raises(DataError, match="t000: more than 65,535 objects in a frame"):
        write_masks(tmp_path, planes)
