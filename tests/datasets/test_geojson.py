import gzip
import json

import numpy as np
import pytest

from biounet.datasets.geojson import geojson_outlines
from biounet.datasets.outlines import Place, paint
from biounet.errors import DataError

SQUARE = [[1, 2], [6, 2], [6, 5], [1, 5], [1, 2]]  # x, y
HOLE = [[2, 3], [4, 3], [4, 4], [2, 4], [2, 3]]
ELSEWHERE = [[8, 0], [9, 0], [9, 2], [8, 2], [8, 0]]


def feature(coordinates, kind="Polygon", plane=None, **properties):
    geometry = {"type": kind, "coordinates": coordinates} | ({"plane": plane} if plane else {})
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def read(tmp_path, content):
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    return geojson_outlines(tmp_path / "a.geojson")


def test_polygons_with_holes_from_pixel_corners(tmp_path):
    collection = {"type": "FeatureCollection", "features": [feature([SQUARE, HOLE])]}
    (outline,) = read(tmp_path, collection)
    mask = paint([outline], (7, 10)).labels
    assert mask.sum() == 15 - 2
    assert mask[2:5, 1:6].sum() == 13
    assert mask[3, 2:4].tolist() == [0, 0]


def test_several_parts_are_one_object(tmp_path):
    (outline,) = read(tmp_path, feature([[SQUARE, HOLE], [ELSEWHERE]], "MultiPolygon"))
    assert paint([outline], (7, 10)).labels.sum() == 15


def test_classes_by_name(tmp_path):
    named = [
        feature([SQUARE], classification={"name": "Tumor", "color": [200, 0, 0]}),
        feature([SQUARE], classification={"names": ["Immune cells", "CD8"]}),
        feature([SQUARE], classification="Stroma"),
        feature([SQUARE], classification={"name": "Region*"}),
        feature([SQUARE], objectType="detection"),
        {**feature([SQUARE]), "properties": None},
    ]
    kinds = [outline.kind for outline in read(tmp_path, named)]
    assert kinds == ["Tumor", "Immune cells: CD8", "Stroma", "region", "", ""]


def square(y, x, side):
    return [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]


@pytest.mark.parametrize("old", [False, True])
def test_an_annotation_in_which_cells_were_detected_is_a_region(tmp_path, old):
    names = ("PathAnnotationObject", "PathCellObject") if old else ("annotation", "cell")

    def made(coordinates, name, **properties):
        return feature(coordinates, **properties) | {"id": name} if old else feature(
            coordinates, objectType=name, **properties)  # fmt: skip

    cells = [made(square(2 + 6 * k, 3, 4), names[1]) for k in range(3)]
    alone = made(square(2, 14, 5), names[0])  # drawn by hand: nothing was detected in it
    around = made(square(0, 0, 20), names[0])
    painted = paint(read(tmp_path, [around, *cells, alone]), (30, 30))
    assert (painted.labels[:20, :20] >= 0).all()
    assert (painted.labels[20:] == -1).all()
    assert painted.labels.max() == 4
    assert np.bincount(painted.labels[painted.labels > 0])[1:].tolist() == [16, 16, 16, 25]
    assert painted.notes == (
        "an annotation without class around detections is taken as the region in which they were looked for",
    )
    for others in ([around, *cells[:2]], [made(square(0, 0, 20), names[0], classification="Tumor"), *cells]):
        painted = paint(read(tmp_path, others), (30, 30))
        assert (painted.labels >= 0).all()
        assert painted.labels[0, 0] == 1


def test_what_an_annotation_encloses_lies_inside_of_it_and_on_its_plane(tmp_path):
    ring = [*square(0, 0, 20), *square(1, 1, 15)]  # a hole, in which the cells lie
    cells = [feature(square(2 + 5 * k, 3, 3), objectType="detection") for k in range(3)]
    assert read(tmp_path, [feature(ring, objectType="annotation"), *cells])[0].kind == ""
    other = feature(square(0, 0, 20), objectType="annotation", plane={"z": 1, "t": 0})
    assert read(tmp_path, [other, *cells])[0].kind == ""
    assert read(tmp_path, [other | {"geometry": {**other["geometry"], "plane": {"z": 0}}}, *cells])[0].kind == "region"


def test_planes_of_a_stack(tmp_path):
    found = read(tmp_path, [feature([SQUARE]), feature([SQUARE], plane={"c": -1, "z": 3, "t": 0})])
    assert [outline.place for outline in found] == [Place(z=0, t=0), Place(z=3, t=0)]


def test_points_and_lines_enclose_nothing(tmp_path):
    found = read(tmp_path, [feature([1, 2], "Point"), feature(SQUARE, "LineString"), feature([SQUARE])])
    assert [outline.has_area for outline in found] == [False, False, True]
    assert paint(found, (7, 10)).notes == ("2 lines, points, texts or boxes have no outline: left out",)


def test_compressed(tmp_path):
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(json.dumps([feature([SQUARE])]).encode()))
    assert len(geojson_outlines(tmp_path / "a.geojson.gz")) == 1


@pytest.mark.parametrize("content", [7, {"type": "FeatureCollection"}, [feature([[1, 2]])], [feature([["a"]])], [{}]])
def test_what_is_none_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="not GeoJSON as QuPath writes it"):
        read(tmp_path, content)


def test_three_coordinates_a_point_are_x_y_and_more(tmp_path):
    (outline,) = read(tmp_path, feature([[[*point, 0] for point in SQUARE]]))
    assert np.array_equal(outline.rings[0][0], (2, 1))
