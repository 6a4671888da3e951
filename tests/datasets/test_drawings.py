import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import roifile

from biounet.datasets.dataset import Source
from biounet.datasets.drawings import OUTLINES, drawn_planes, is_drawing, outline_files, outline_suffix, painted
from biounet.errors import DataError
from biounet.images.image import Header

MUTATIONS = 60
RING = [(2, 1), (9, 1), (9, 8), (2, 8)]  # x, y


def header(axes="YX", shape=(12, 14)):
    return Header(axes, shape, np.dtype(np.uint8), 0, lambda: None)


def write_all(folder):
    """One small file of every kind, each with the same object."""
    rois = [
        roifile.ImagejRoi.frompoints(np.array(RING), name="a-1"),
        roifile.ImagejRoi.frompoints(np.array(RING) + 0.5),
    ]
    rois[1].roitype, rois[1].shape_roi_size = roifile.ROI_TYPE.RECT, 13
    rois[1].multi_coordinates = np.array([0, 2, 1, 1, 9, 1, 1, 9, 8, 1, 2, 8, 4], np.float32)
    roifile.roiwrite(folder / "a.zip", rois, name=["1", "2"], mode="w")
    rois[0].tofile(folder / "a.roi")
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [RING]}, "properties": {}}
    (folder / "a.geojson").write_text(json.dumps([feature]))
    rows = "".join(f"0,polygon,{k},{y - 0.5},{x - 0.5}\n" for k, (x, y) in enumerate(RING))
    (folder / "a.csv").write_text("index,shape-type,vertex-index,axis-0,axis-1\n" + rows)
    annotation = {"image_id": 1, "segmentation": {"size": [12, 14], "counts": [25, 7, 136]}}
    content = {"images": [{"id": 1, "file_name": "a.tif"}], "annotations": [annotation]}
    (folder / "coco.json").write_text(json.dumps(content))


def test_every_kind_of_file_gives_the_same_pixels(tmp_path):
    write_all(tmp_path)
    files = outline_files(tmp_path)
    assert {outline_suffix(file) for file in files} | {".geojson.gz"} == set(OUTLINES)
    for file in files:
        found = painted(Source(file), header()).labels
        assert found[1:8, 2:9].all(), file
        assert (found > 0).sum() == 49, file


def test_what_is_a_drawing(tmp_path):
    assert not is_drawing(Source(tmp_path / "a.tif"))
    assert is_drawing(Source(tmp_path / "a.tif", entry="rois inside"))
    assert is_drawing(Source(tmp_path))
    assert outline_suffix("a.GeoJSON.gz") == ".geojson.gz"


def test_other_tables_are_no_outlines(tmp_path):
    (tmp_path / "objects.csv").write_text("image,id\n")
    assert outline_files(tmp_path) == []


def test_outlines_without_a_place_lie_on_every_plane(tmp_path):
    write_all(tmp_path)
    source = Source(tmp_path / "a.roi")
    assert drawn_planes(source, header("ZYX", (3, 12, 14))) is None
    assert painted(Source(source.path, page=2), header("ZYX", (3, 12, 14))).labels.sum() == 49
    assert drawn_planes(Source(tmp_path / "a.geojson"), header("ZYX", (3, 12, 14))) == [0]  # QuPath's first plane


def test_a_file_written_anew_is_read_anew(tmp_path):
    write_all(tmp_path)
    source = Source(tmp_path / "a.geojson")
    assert painted(source, header()).labels.any()
    (tmp_path / "a.geojson").write_text("[]")
    assert not painted(source, header()).labels.any()


@pytest.mark.parametrize("name", ["a.zip", "a.roi", "a.geojson", "a.csv", "coco.json"])
def test_damaged_files_are_refused_or_read_never_worse(tmp_path, name):
    """Bytes changed, cut out or doubled: every one is read, or refused in one line."""
    write_all(tmp_path)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(sum(map(ord, name)))
    refused = 0
    for number in range(MUTATIONS):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        kind = number % 3
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        path = tmp_path / f"m{number}{''.join(Path(name).suffixes)}"
        path.write_bytes(data)
        source = Source(path, entry="1" if name == "coco.json" else None)
        with contextlib.suppress(DataError):
            painted(source, header())
            continue
        refused += 1
        with pytest.raises(DataError, match=r"^[^\n]*$"):
            painted(source, header())
    assert refused > 0
