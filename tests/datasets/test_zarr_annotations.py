"""Labels inside OME-Zarr images as annotations: found, chosen, said, and read."""

import json
import shlex

import numpy as np
import pytest
from tests.images.test_plates import group

from biounet.datasets.layouts import find_dataset, load
from biounet.datasets.zarr_annotations import PREDICTED
from biounet.errors import DataError
from biounet.images.ome_zarr_labels import add_zarr_labels
from biounet.results.request import Request

CELLS = np.zeros((24, 32), np.int32)
CELLS[3:9, 3:9], CELLS[12:20, 12:28] = 1, 2


@pytest.fixture(params=["0.4", "0.5"])
def make(request, write_zarr, rng, tmp_path):
    """Write an image of two channels and labels by name."""

    def write(name, *, axes="cyx", shape=(2, 24, 32), **labels):
        path = tmp_path / name if isinstance(name, str) else name
        write_zarr(path, rng.integers(0, 99, shape, np.uint8), axes=axes, version=request.param, names=("DNA", "actin"))
        for called, array in labels.items():
            inner = tuple(n for axis, n in zip(axes, shape, strict=True) if axis != "c")
            array = np.broadcast_to(array, inner)
            add_zarr_labels(path, called, lambda a, b, held=array: held[tuple(map(slice, a, b))], largest_id=9)
        return path

    write.version = request.param
    return write


def test_images_with_labels_inside_are_a_data_set(make, tmp_path):
    for name in ("a.zarr", "b.ome.zarr"):
        make(name, nuclei=CELLS)
    make("c.zarr")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.ndim, dataset.channels) == ("OME-Zarr labels", 2, 2)
    assert dataset.reasons[1:3] == (
        "labels 'nuclei' inside 2 OME-Zarr images are the annotation",
        "1 OME-Zarr images without labels 'nuclei' are not used",
    )
    examples = load(dataset)
    assert [example.name for example in examples] == ["a", "b"]
    for example in examples:
        assert np.array_equal(example.labels, CELLS)
        assert example.channel_names == ("DNA", "actin")
        assert example.pixel_size_um == (0.5, 0.5)


def test_of_several_names_one_is_chosen_and_the_way_to_another_works(make, tmp_path):
    make("a.zarr", biounet=CELLS * 3, nuclei=CELLS, rare=CELLS * 2)
    make("b.zarr", biounet=CELLS * 3, nuclei=CELLS)
    dataset = find_dataset(tmp_path)
    assert [item.labels.path.name for item in dataset.items] == ["nuclei", "nuclei"]
    (said,) = [reason for reason in dataset.reasons if "other labels" in reason]
    assert said.startswith("other labels there: biounet, rare; take one of them by --images ")
    words = shlex.split(said.split(" by ")[1])
    other = find_dataset(None, images=words[1], masks=words[3].replace("NAME", "biounet"))
    assert [item.name for item in other.items] == ["a", "b"]
    assert [example.labels.max() for example in load(other)] == [6, 6]


def test_what_biounet_predicted_counts_where_there_is_nothing_else(make, tmp_path):
    make("a.zarr", biounet=CELLS)
    assert find_dataset(tmp_path).items[0].labels.path.name == PREDICTED == Request(tmp_path).label_name


def test_labels_that_say_more_of_others(make, tmp_path):
    region, ignored = np.ones_like(CELLS), np.zeros_like(CELLS)
    region[:, 30:], ignored[:2] = 0, 1
    more = {"nuclei_region": region, "nuclei_ignore": ignored, "nuclei_classes": CELLS + (CELLS > 0)}
    make("a.zarr", nuclei=CELLS, **more)
    dataset = find_dataset(tmp_path)
    assert "1 with labels nuclei_region: unknown outside" in dataset.reasons
    assert not [reason for reason in dataset.reasons if "other labels" in reason]
    (example,) = load(dataset)
    expected = CELLS.copy()
    expected[:, 30:], expected[:2] = -1, -1
    assert np.array_equal(example.labels, expected)
    assert example.kinds == {1: "2", 2: "3"}


def test_one_image_by_its_name(make, tmp_path):
    make("a.zarr", nuclei=CELLS)
    make("b.zarr", nuclei=CELLS)
    for dataset in (
        find_dataset(tmp_path / "b.zarr"),
        find_dataset(None, images=tmp_path / "b.zarr", masks=tmp_path / "b.zarr" / "labels" / "nuclei"),
    ):
        assert [item.name for item in dataset.items] == ["b"]
        assert np.array_equal(load(dataset)[0].labels, CELLS)


@pytest.mark.parametrize(
    ("shape", "ndim", "count", "reason"),
    [
        ((1, 2, 1, 24, 32), 2, 1, "the z axis has a single plane"),
        ((3, 2, 1, 24, 32), 2, 3, "the z axis has a single plane"),
        ((1, 2, 20, 24, 32), 3, 1, "the files state a z axis: volumes"),
    ],
)
def test_five_axes(make, tmp_path, shape, ndim, count, reason):
    """As bioformats2raw writes them: all axes, also those of size 1."""
    make("a.zarr", axes="tczyx", shape=shape, nuclei=CELLS)
    dataset = find_dataset(tmp_path)
    assert (dataset.ndim, len(dataset.items)) == (ndim, count)
    assert f"{ndim}D: {reason}" in dataset.reasons
    for example in load(dataset):
        assert example.image.shape == (2, *example.labels.shape)
        assert np.array_equal(example.labels, np.broadcast_to(CELLS, example.labels.shape))


def test_a_volume_of_one_plane_among_others_is_a_volume(make, tmp_path):
    make("a.zarr", axes="czyx", shape=(2, 20, 24, 32), nuclei=CELLS)
    make("b.zarr", axes="czyx", shape=(2, 1, 24, 32), nuclei=CELLS)
    assert [example.labels.shape for example in load(find_dataset(tmp_path))] == [(20, 24, 32), (1, 24, 32)]


def test_series_and_plates(make, tmp_path):
    plate = tmp_path / "plates" / "p.zarr"
    for field in ("0", "1"):
        make(plate / "B" / "03" / field, nuclei=CELLS, other=CELLS)
    group(plate / "B" / "03", make.version, "well", {"images": [{"path": "0"}, {"path": "1"}]})
    wells = [{"path": "B/03", "rowIndex": 0, "columnIndex": 0}]
    group(plate, make.version, "plate", {"rows": [{"name": "B"}], "columns": [{"name": "03"}], "wells": wells})
    series = tmp_path / "series" / "s.zarr"
    make(series / "0", nuclei=CELLS, other=CELLS)
    if make.version == "0.5":
        group(series, "0.5", "bioformats2raw.layout", 3)
    else:
        (series / ".zgroup").write_text('{"zarr_format": 2}')
        (series / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    for folder, names in (
        (plate.parent, ["p_B03_0", "p_B03_1"]),
        (plate, ["p_B03_0", "p_B03_1"]),
        (series.parent, ["s"]),
    ):
        dataset = find_dataset(folder)
        assert [item.name for item in dataset.items] == names
        assert np.array_equal(load(dataset)[0].labels, CELLS)
    for folder, count in ((plate.parent, 2), (series.parent, 1)):
        (said,) = [reason for reason in find_dataset(folder).reasons if "other labels" in reason]
        words = shlex.split(said.split(" by ")[1])
        other = find_dataset(None, images=words[1], masks=words[3].replace("NAME", "other"))
        assert len(other.items) == count


def test_a_damaged_image_among_others_is_said(make, tmp_path):
    make("a.zarr", nuclei=CELLS)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(DataError, match=r"b: .*b\.zarr: is no OME-Zarr group"):
        find_dataset(tmp_path)
    assert [item.name for item in find_dataset(tmp_path, skip_bad=True).items] == ["a"]


@pytest.mark.parametrize("name", ["../../masks", "/etc", "a\\b"])
def test_a_list_that_leads_out_of_the_image_is_refused(make, tmp_path, name):
    path = make("a.zarr", nuclei=CELLS)
    make("b.zarr", nuclei=CELLS)
    file = path / "labels" / (".zattrs" if make.version == "0.4" else "zarr.json")
    file.write_text(file.read_text().replace('"nuclei"', json.dumps(name)))
    with pytest.raises(DataError, match="which is not in the folder"):
        find_dataset(tmp_path)


def test_images_without_labels_are_no_data_set(make, tmp_path):
    make("a.zarr")
    with pytest.raises(DataError, match="no pairs of images and annotations .*X.zarr with labels inside"):
        find_dataset(tmp_path)
