import zipfile

import numpy as np
import roifile
import tifffile

from biounet.datasets.outlines import paint
from biounet.datasets.rois import roi_outlines
from biounet.exchange.objects import Objects
from biounet.exchange.rois import write_rois
from biounet.images.image import Header

NAMES = ("background", "cell A", "3")


def painted(path, shape):
    return paint(roi_outlines(path), shape)


def test_rois_filled_again_are_the_same_objects(crowded, tmp_path):
    assert write_rois(tmp_path / "r.zip", [Objects(crowded)]) == 5
    found = painted(tmp_path / "r.zip", crowded.shape).labels
    ids = np.append(0, np.unique(crowded)[1:])  # ROIs are numbered in their order
    assert np.array_equal(ids[found], crowded)


def test_roifile_reads_names_kinds_and_coordinates(tmp_path):
    labels = np.zeros((9, 9), np.int32)
    labels[1:4, 2:6] = 5
    labels[5:9, 5:9], labels[6, 6] = 8, 0
    write_rois(tmp_path / "r.zip", [Objects(labels)])
    square, ring = roifile.roiread(tmp_path / "r.zip")
    assert (square.name, ring.name) == ("00005", "00008")
    assert square.roitype == roifile.ROI_TYPE.TRACED
    assert sorted(map(tuple, square.coordinates().tolist())) == [(2, 1), (2, 4), (6, 1), (6, 4)]
    assert (square.top, square.left, square.bottom, square.right) == (1, 2, 4, 6)
    assert ring.composite
    assert len(ring.coordinates(multi=True)) == 2


def test_classes_are_names_and_groups_and_come_back(tmp_path):
    labels = np.arange(1, 5, dtype=np.int32).repeat(6).reshape(4, 6)
    classes = np.array([0, 1, 2, 1, 2], np.int32)
    write_rois(tmp_path / "r.zip", [Objects(labels, classes=classes, class_names=NAMES)])
    rois = roifile.roiread(tmp_path / "r.zip")
    assert [roi.name for roi in rois] == ["cell A-00001", "class3-00002", "cell A-00003", "class3-00004"]
    assert [roi.group for roi in rois] == [1, 2, 1, 2]
    assert list(painted(tmp_path / "r.zip", (4, 6)).kinds.values()) == ["cell A", "class3"] * 2


def test_slices_of_stacks(tmp_path):
    labels = np.ones((3, 4), np.int32)
    planes = [Objects(labels, z=z) for z in (0, 4)]
    write_rois(tmp_path / "r.zip", planes)
    rois = roifile.roiread(tmp_path / "r.zip")
    assert [(roi.name, roi.position) for roi in rois] == [("00001-0001", 1), ("00001-0005", 5)]
    write_rois(tmp_path / "h.zip", [Objects(labels, z=3, t=1)])
    (roi,) = [roifile.roiread(tmp_path / "h.zip")][0]
    assert (roi.position, roi.z_position, roi.t_position) == (0, 4, 2)
    header = Header("TZYX", (2, 5, 3, 4), labels.dtype, 0, lambda: None)
    assert [list(outline.place.planes(header)) for outline in roi_outlines(tmp_path / "h.zip")] == [[8]]


def test_one_channel_of_several_is_a_slice_of_a_hyperstack(tmp_path):
    labels, image = np.ones((3, 4), np.int32), np.zeros((1, 3, 4), np.uint8)
    write_rois(tmp_path / "r.zip", [Objects(labels, image=image, z=2, file_channels=3)])
    (roi,) = roifile.roiread(tmp_path / "r.zip")
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (0, 0, 3, 1)


def test_volumes_have_a_roi_a_slice(tmp_path):
    volume = np.zeros((3, 4, 5), np.int32)
    volume[1:, 1:3, 1:4] = 9
    assert write_rois(tmp_path / "r.zip", [Objects(volume)]) == 2
    assert [roi.position for roi in roifile.roiread(tmp_path / "r.zip")] == [2, 3]


def test_names_are_unique(crowded, tmp_path):
    write_rois(tmp_path / "r.zip", [Objects(crowded, z=0), Objects(crowded, z=1)])
    names = zipfile.ZipFile(tmp_path / "r.zip").namelist()
    assert len(names) == len(set(names)) == 10


def test_images_wider_than_16_bit_coordinates(tmp_path):
    labels = np.zeros((3, 40_000), np.int32)
    labels[1, 39_990:39_996] = 1
    write_rois(tmp_path / "r.zip", [Objects(labels)])
    assert np.array_equal(painted(tmp_path / "r.zip", labels.shape).labels, labels)


def test_imagej_keeps_them_inside_a_tiff(crowded, tmp_path):
    """The bytes are those that ImageJ stores as an overlay: tifffile writes and reads them as such."""
    write_rois(tmp_path / "r.zip", [Objects(crowded)])
    with zipfile.ZipFile(tmp_path / "r.zip") as file:
        stored = [file.read(name) for name in file.namelist()]
    tifffile.imwrite(tmp_path / "a.tif", crowded.astype(np.uint16), imagej=True, metadata={"Overlays": stored})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.imagej_metadata["Overlays"] == stored
