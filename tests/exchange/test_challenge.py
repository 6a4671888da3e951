import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.exchange.challenge import write_masks
from biounet.exchange.objects import Objects

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


def test_more_objects_than_16_bits(tmp_path):
    with pytest.raises(DataError, match="more than 65,535 objects"):
        write_masks(tmp_path, [Objects(np.full((2, 2), 70000, np.int32), "t000")])
