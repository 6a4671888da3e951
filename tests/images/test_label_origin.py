import hashlib
import json

import numpy as np
import pytest
import yaozarrs

from biounet.errors import DataError
from biounet.images.label_origin import Origin, digest, recorded_result
from biounet.images.ome_zarr_labels import add_zarr_labels

IDS = np.arange(30, dtype=np.int32).reshape(5, 6)
MADE_BY = {"model_sha256": "ab", "settings": [1, None, {"x": 0.5}]}


def ids(start, stop):
    return IDS[tuple(map(slice, start, stop))]


def test_a_digest_is_of_names_and_bytes(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"one")
    (tmp_path / "a" / "d").write_bytes(b"")
    one, empty = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"").hexdigest()
    assert digest(tmp_path / "a" / "b" / "c") == one
    assert digest(tmp_path / "a") == hashlib.sha256(f"b/c {one}\nd {empty}\n".encode()).hexdigest()
    (tmp_path / "a" / "d").rename(tmp_path / "a" / "e")
    assert digest(tmp_path / "a") != hashlib.sha256(f"b/c {one}\nd {empty}\n".encode()).hexdigest()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_say_what_made_them(tmp_path, write_zarr, version):
    image = write_zarr(tmp_path / "a.zarr", np.ones((5, 6), np.uint8), version=version)
    assert recorded_result(image, "n", MADE_BY) is None
    add_zarr_labels(image, "n", ids, largest_id=29, origin=Origin(MADE_BY, {"objects": 3}))
    add_zarr_labels(image, "plain", ids, largest_id=29)
    yaozarrs.validate_zarr_store(str(image / "labels" / "n"))
    assert recorded_result(image, "n", MADE_BY) == {"objects": 3}
    assert recorded_result(image, "n", MADE_BY | {"more": 1}) is None
    assert recorded_result(image, "plain", MADE_BY) is None
    chunk = next(file for file in (image / "labels" / "n" / "0").rglob("0") if file.is_file())
    kept = chunk.read_bytes()
    chunk.write_bytes(kept[:-1])
    assert recorded_result(image, "n", MADE_BY) is None
    chunk.write_bytes(kept)
    next(file for file in (image / "s0").rglob("0") if file.is_file()).unlink()
    assert recorded_result(image, "n", MADE_BY) is None


def test_a_record_that_is_damaged_is_bad_data(tmp_path, write_zarr):
    image = write_zarr(tmp_path / "a.zarr", np.ones((5, 6), np.uint8))
    group = add_zarr_labels(image, "n", ids, largest_id=29, origin=Origin(MADE_BY, {}))
    text = json.loads((group / "zarr.json").read_text())
    del text["attributes"]["biounet"]["labels_sha256"]
    (group / "zarr.json").write_text(json.dumps(text))
    with pytest.raises(DataError, match="cannot be read"):
        recorded_result(image, "n", MADE_BY)
