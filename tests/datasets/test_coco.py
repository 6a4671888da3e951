import json

import numpy as np
import pytest

from biounet.datasets.coco import read_coco
from biounet.datasets.outlines import paint
from biounet.errors import DataError

SHAPE = (6, 7)


def read(tmp_path, *annotations):
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 5, "name": "neuron"}],
        "annotations": [{"image_id": 1, **annotation} for annotation in annotations],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    return read_coco(tmp_path / "c.json")


def run_lengths(mask):
    """Run lengths down the columns, background first: written out, as the definition says."""
    runs, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def compressed(runs):
    """COCO's text of run lengths, after its published C code."""
    text = ""
    for index, run in enumerate(runs):
        x, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            bits = x & 0x1F
            x >>= 5
            more = x != -1 if bits & 0x10 else x != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def test_polygons_and_categories(tmp_path):
    first, second = read(tmp_path, {"segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]], "category_id": 5})
    assert (first.entry, first.file_name, second.outlines) == ("1", "a.png", ())
    found = paint(first.outlines, SHAPE)
    assert found.labels[1:4, 1:5].sum() == found.labels.sum() == 12
    assert found.kinds == {1: "neuron"}


def test_parts_are_one_object_also_where_they_overlap(tmp_path):
    segmentation = [[1, 1, 5, 1, 5, 4, 1, 4], [4, 3, 6, 3, 6, 5, 4, 5]]
    assert paint(read(tmp_path, {"segmentation": segmentation})[0].outlines, SHAPE).labels.sum() == 12 + 3


@pytest.mark.parametrize("as_text", [False, True])
def test_run_lengths(tmp_path, as_text):
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        mask = rng.random((50, 41)) < share
        mask[5:40, 3:30] |= share > 0
        runs = run_lengths(mask)
        segmentation = {"size": [50, 41], "counts": compressed(runs) if as_text else runs}
        (outline,) = read(tmp_path, {"segmentation": segmentation})[0].outlines
        assert np.array_equal(paint([outline], mask.shape).labels, mask)


def test_crowds_are_unknown(tmp_path):
    crowd = {"segmentation": {"size": [6, 7], "counts": [0, 42]}, "iscrowd": 1, "category_id": 5}
    assert (paint(read(tmp_path, crowd)[0].outlines, SHAPE).labels == -1).all()


@pytest.mark.parametrize(
    "segmentation",
    [[["x"]], {"size": [6, 7], "counts": [3]}, {"size": [6, 7]}, {"size": [0, 7], "counts": []}, [[1, 2, 3]]],
)
def test_what_is_none_is_refused(tmp_path, segmentation):
    with pytest.raises(DataError, match="not COCO annotations"):
        read(tmp_path, {"segmentation": segmentation})


def test_objects_without_outline_are_left_out(tmp_path):
    outlines = read(tmp_path, {"bbox": [0, 0, 3, 3]}, {"segmentation": []})[0].outlines
    found = paint(outlines, SHAPE)
    assert found.labels.max() == 0
    assert found.notes == ("2 lines, points, texts or boxes have no outline: left out",)


def test_the_size_that_is_stated_is_that_of_the_image(tmp_path):
    square = {"image_id": 1, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    for size, fits in (({"height": 6, "width": 7}, True), ({"height": 12, "width": 14}, False), ({"height": 0}, True)):
        content = {"images": [{"id": 1, "file_name": "a.png", **size}], "annotations": [square]}
        (tmp_path / "c.json").write_text(json.dumps(content))
        outlines = read_coco(tmp_path / "c.json")[0].outlines
        if fits:
            assert paint(outlines, SHAPE).labels.sum() == 9
        else:
            with pytest.raises(DataError, match="an object drawn on 12 x 14 pixels, the image has 6 x 7"):
                paint(outlines, SHAPE)
