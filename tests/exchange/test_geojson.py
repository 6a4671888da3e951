import gzip
import json

import numpy as np
import shapely

from biounet.datasets.geojson import geojson_outlines
from biounet.datasets.outlines import paint
from biounet.exchange import geojson
from biounet.exchange.geojson import write_geojson
from biounet.exchange.objects import Objects


def features(path):
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    return content["features"]


def test_outlines_filled_again_are_the_same_objects(crowded, tmp_path):
    assert write_geojson(tmp_path / "a.geojson", [Objects(crowded)]) == 5
    found = paint(geojson_outlines(tmp_path / "a.geojson"), crowded.shape).labels
    assert np.array_equal(np.append(0, np.unique(crowded)[1:])[found], crowded)


def test_geometries_are_valid_and_closed(crowded, tmp_path):
    write_geojson(tmp_path / "a.geojson", [Objects(crowded)])
    for feature in features(tmp_path / "a.geojson"):
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.area == (crowded == int(feature["properties"]["name"])).sum()
    kinds = [feature["geometry"]["type"] for feature in features(tmp_path / "a.geojson")]
    assert kinds == ["MultiPolygon"] * 3 + ["Polygon"] * 2


def test_corners_are_pixel_corners_x_first(tmp_path):
    labels = np.zeros((5, 9), np.int32)
    labels[1, 6] = 1
    write_geojson(tmp_path / "a.geojson", [Objects(labels)])
    (feature,) = features(tmp_path / "a.geojson")
    assert feature["geometry"]["coordinates"] == [[[6, 1], [7, 1], [7, 2], [6, 2], [6, 1]]]


def test_classes_measurements_and_ids(crowded, tmp_path):
    classes = np.zeros(71, np.int32)
    classes[[3, 6, 9, 12, 70]] = [1, 2, 1, 2, 1]
    names = ("background", "neuron", 'glia "x"')
    image = np.full((1, *crowded.shape), 7, np.uint8)
    write_geojson(tmp_path / "a.geojson", [Objects(crowded, "a", image, ("DAPI",), classes, names)])
    found = features(tmp_path / "a.geojson")
    properties = [feature["properties"] for feature in found]
    assert [p["classification"]["name"] for p in properties] == [names[k] for k in (1, 2, 1, 2, 1)]
    assert properties[0]["classification"]["color"] != properties[1]["classification"]["color"]
    assert properties[4]["measurements"]["area_px2"] == 54
    assert properties[4]["measurements"]["mean_intensity_DAPI"] == 7
    assert len({feature["id"] for feature in found}) == 5
    assert all(len(feature["id"]) == 36 for feature in found)
    kinds = paint(geojson_outlines(tmp_path / "a.geojson"), crowded.shape).kinds
    assert list(kinds.values()) == [names[k] for k in (1, 2, 1, 2, 1)]


def test_planes_are_written_in_stacks_only(tmp_path):
    labels = np.ones((3, 4), np.int32)
    write_geojson(tmp_path / "a.geojson", [Objects(labels, z=2), Objects(labels, z=3)])
    assert [f["geometry"]["plane"] for f in features(tmp_path / "a.geojson")] == [
        {"c": -1, "z": z, "t": 0} for z in (2, 3)
    ]
    write_geojson(tmp_path / "b.geojson", [Objects(np.ones((2, 3, 4), np.int32))])
    assert [outline.place.z for outline in geojson_outlines(tmp_path / "b.geojson")] == [0, 1]
    write_geojson(tmp_path / "c.geojson", [Objects(labels)])
    assert "plane" not in features(tmp_path / "c.geojson")[0]["geometry"]


def test_compressed_it_is_the_same_text(crowded, tmp_path):
    write_geojson(tmp_path / "a.geojson", [Objects(crowded)])
    write_geojson(tmp_path / "a.geojson.gz", [Objects(crowded)])
    assert gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()) == (tmp_path / "a.geojson").read_bytes()


def test_many_objects_are_detections(crowded, tmp_path, monkeypatch):
    write_geojson(tmp_path / "a.geojson", [Objects(crowded)])
    assert features(tmp_path / "a.geojson")[0]["properties"]["objectType"] == "annotation"
    monkeypatch.setattr(geojson, "MOST_ANNOTATIONS", 4)
    write_geojson(tmp_path / "a.geojson", [Objects(crowded)])
    assert features(tmp_path / "a.geojson")[0]["properties"]["objectType"] == "detection"


def test_nothing_found_is_an_empty_collection(tmp_path):
    assert write_geojson(tmp_path / "a.geojson", [Objects(np.zeros((4, 4), np.int32))]) == 0
    assert features(tmp_path / "a.geojson") == []
    assert geojson_outlines(tmp_path / "a.geojson") == []
