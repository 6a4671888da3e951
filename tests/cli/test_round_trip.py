"""Predict, correct in another program, put back, train again: with every format that goes out and comes in."""

import csv
import json

import numpy as np
import pytest
import roifile
import tifffile

from biounet.datasets.layouts import find_dataset, load

# stands in for the corrections of a person: the first object is deleted, a new one is drawn (y, x corners)
DRAWN = [(30, 30), (30, 44), (44, 44), (44, 30)]


@pytest.fixture(scope="module")
def predicted(model, data, tmp_path_factory):
    """Results of one image in every format."""
    from biounet import cli

    out = tmp_path_factory.mktemp("predicted")
    image = data / "images" / "zelle 9.tif"
    save = "labels,overlay,probabilities,rois,geojson,geojson.gz,table"
    assert cli.run(["predict", str(model), str(image), "--out", str(out), "--save", save, "-q"]) == 0
    return out


def correct_labels(predicted, folder):
    labels = corrected(tifffile.imread(predicted / "zelle 9_labels.tif"))
    tifffile.imwrite(folder / "zelle 9_labels.tif", labels.astype(np.uint16))


def correct_npy(predicted, folder):
    """As napari's layers are saved from its console."""
    np.save(folder / "zelle 9_labels.npy", corrected(tifffile.imread(predicted / "zelle 9_labels.tif")))


def correct_rois(predicted, folder):
    rois = roifile.roiread(predicted / "zelle 9_rois.zip")
    drawn = roifile.ImagejRoi.frompoints(np.array([(x, y) for y, x in DRAWN]), name="0037-0037")
    roifile.roiwrite(folder / "zelle 9_rois.zip", [*rois[1:], drawn])


def correct_overlay(predicted, folder):
    """ROIs stored inside the TIFF, as Fiji saves an image with an overlay."""
    rois = roifile.roiread(predicted / "zelle 9_rois.zip")
    drawn = roifile.ImagejRoi.frompoints(np.array([(x, y) for y, x in DRAWN]), name="0037-0037")
    image = tifffile.imread(folder / "zelle 9.tif")
    stored = [roi.tobytes() for roi in [*rois[1:], drawn]]
    tifffile.imwrite(folder / "zelle 9.tif", image, imagej=True, metadata={"Overlays": stored})


def correct_geojson(predicted, folder):
    content = json.loads((predicted / "zelle 9.geojson").read_text())
    ring = [[x, y] for y, x in [*DRAWN, DRAWN[0]]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    drawn = {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}
    content["features"] = [*content["features"][1:], drawn]
    (folder / "zelle 9.geojson").write_text(json.dumps(content))


def corrected(labels):
    """The same corrections on pixels."""
    labels = labels.astype(np.int32)
    labels[labels == labels[labels > 0].min()] = 0
    labels[30:44, 30:44] = labels.max() + 1
    return labels


WAYS = [correct_labels, correct_npy, correct_rois, correct_overlay, correct_geojson]


@pytest.mark.parametrize("correct", WAYS, ids=lambda way: way.__name__)
def test_what_was_corrected_is_learnt_from(biounet, train_tiny, data, predicted, tmp_path, correct):
    folder = tmp_path / "corrected"
    folder.mkdir()
    (folder / "zelle 9.tif").write_bytes((data / "images" / "zelle 9.tif").read_bytes())
    correct(predicted, folder)
    truth = corrected(tifffile.imread(predicted / "zelle 9_labels.tif"))
    (example,) = load(find_dataset(folder))
    pairs = np.unique(np.stack([example.labels.ravel(), truth.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]  # the same objects, pixel by pixel
    again = tmp_path / "again.safetensors"
    assert train_tiny(folder, again).code == 0
    done = biounet("predict", again, folder / "zelle 9.tif", "--out", tmp_path / "out", "--device", "cpu")
    assert done.code == 0


def test_all_that_goes_out_says_the_same(predicted):
    labels = tifffile.imread(predicted / "zelle 9_labels.tif")
    count = len(np.unique(labels)) - 1
    assert count > 1  # or nothing was tested
    rows = list(csv.DictReader((predicted / "zelle 9_objects.csv").read_text().splitlines()))
    assert [int(row["area_px2"]) for row in rows] == np.bincount(labels.ravel())[1:].tolist()
    inside = 1 - tifffile.imread(predicted / "zelle 9_probabilities.tif")[0]
    for row in rows:
        assert float(row["probability"]) == pytest.approx(inside[labels == int(row["id"])].mean(), rel=1e-4)
    assert len(roifile.roiread(predicted / "zelle 9_rois.zip")) == count
    assert len(json.loads((predicted / "zelle 9.geojson").read_text())["features"]) == count
    run = json.loads((predicted / "run.json").read_text())
    assert {"zelle 9_rois.zip", "zelle 9.geojson", "zelle 9_objects.csv"} <= set(run["inputs"][0]["files"])
    assert (predicted / "objects.csv").read_text() == (predicted / "zelle 9_objects.csv").read_text()


def test_predictions_are_compared_with_outlines(biounet, data, predicted, tmp_path):
    """The truth may be outlines: here the prediction's own, which it then equals."""
    (tmp_path / "zelle 9.tif").write_bytes((data / "images" / "zelle 9.tif").read_bytes())
    (tmp_path / "zelle 9.geojson").write_bytes((predicted / "zelle 9.geojson").read_bytes())
    assert biounet("evaluate", predicted / "zelle 9_labels.tif", tmp_path, "--json").json["mean"]["seg"] == 1


def test_a_stack_goes_out_with_its_slices(biounet, model, data, tmp_path):
    image = tifffile.imread(data / "images" / "zelle 9.tif")
    tifffile.imwrite(tmp_path / "s.tif", np.stack([image] * 3), imagej=True, metadata={"axes": "ZYX"})
    save = ("--save", "labels,rois,geojson,table,ctc", "--device", "cpu")
    assert biounet("predict", model, tmp_path / "s.tif", "--out", tmp_path / "out", *save).code == 0
    labels = tifffile.imread(tmp_path / "out" / "s_labels.tif")
    rois = roifile.roiread(tmp_path / "out" / "s_rois.zip")
    assert {roi.position for roi in rois} == {1, 2, 3}
    rows = list(csv.DictReader((tmp_path / "out" / "s_objects.csv").read_text().splitlines()))
    assert {row["z"] for row in rows} == {"0", "1", "2"}
    (mask,) = (tmp_path / "out" / "01_RES").iterdir()
    assert mask.name == "mask000.tif"  # one time, whose planes are a volume with ids of its own in each
    volume, before = tifffile.imread(mask), 0
    for plane, ids in zip(volume, labels, strict=True):
        assert np.array_equal(plane, np.where(ids > 0, ids + before, 0))
        before += int(ids.max())
    # put back beside the stack, both kinds are the planes of the labels again
    for name in ("s_rois.zip", "s.geojson"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / "s.tif").write_bytes((tmp_path / "s.tif").read_bytes())
        (folder / name).write_bytes((tmp_path / "out" / name).read_bytes())
        examples = load(find_dataset(folder))
        assert np.array_equal(np.stack([example.labels for example in examples]), labels)


def test_challenge_masks_need_frames(biounet, model, data, tmp_path):
    done = biounet("predict", model, data / "images", "--out", tmp_path / "out", "--save", "ctc")
    assert done.code == 2
    assert "--save ctc: zelle 14.tif does not say which frame it is" in done.complaint
    folder = tmp_path / "02"
    folder.mkdir()
    for frame in (3, 7):
        (folder / f"t{frame:03d}.tif").write_bytes((data / "images" / "zelle 9.tif").read_bytes())
    assert biounet("predict", model, folder, "--out", tmp_path / "out", "--save", "ctc", "--device", "cpu").code == 0
    assert sorted(p.name for p in (tmp_path / "out" / "02_RES").iterdir()) == ["mask003.tif", "mask007.tif"]


@pytest.mark.parametrize("stated", [True, False])
def test_each_file_of_a_sequence_is_a_frame_of_the_challenge(biounet, model, data, tmp_path, stated):
    """Volumes whose planes are predicted one by one, with and without axes; a film in one of the files is refused."""
    image = tifffile.imread(data / "images" / "zelle 9.tif")
    stated = {"imagej": True, "metadata": {"axes": "ZYX"}} if stated else {"metadata": None}
    for frame in range(2):
        planes = np.stack([image, image[::-1]])
        tifffile.imwrite(tmp_path / f"t00{frame}.tif", planes, photometric="minisblack", **stated)
    call = ("predict", model, tmp_path, "--out", tmp_path / "out", "--save", "labels,ctc", "--device", "cpu")
    assert biounet(*call).code == 0
    masks = sorted((tmp_path / "out" / "01_RES").iterdir())
    assert [path.name for path in masks] == ["mask000.tif", "mask001.tif"]
    for frame, path in enumerate(masks):
        labels, mask = tifffile.imread(tmp_path / "out" / f"t00{frame}_labels.tif"), tifffile.imread(path)
        assert np.array_equal(mask > 0, labels > 0)
        assert mask.max() == labels[0].max() + labels[1].max()
    tifffile.imwrite(tmp_path / "t002.tif", np.stack([image] * 3), imagej=True, metadata={"axes": "TYX"})
    done = biounet(*call, "--overwrite")
    assert done.code == 2
    assert "--save ctc: t002.tif holds 3 times, but its name says that it is one frame; give a" in done.complaint


def bright_and_dark(seed, *, dark):
    """Twelve cells on grey, 9 pixels a side: bright ones, and with ``dark`` every other one darker than the grey."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), np.uint16)
    grey = np.full(mask.shape, 110.0)
    for index in range(12):
        top, left = 2 + 16 * (index // 3) + rng.integers(0, 5), 3 + 21 * (index % 3) + rng.integers(0, 8)
        cell = slice(top, top + 9), slice(left, left + 9)
        mask[cell] = index + 1
        grey[cell] = 40 if dark and index % 2 else 190
    return (grey + rng.normal(0, 6, mask.shape)).clip(0, 255).astype(np.uint8), mask


def kept_and_drawn(labels, truth):
    """What a person makes of a prediction: ids that stay, and true objects (masks) that are drawn; the rest goes."""
    kept, drawn = [], []
    for number in np.unique(truth[truth > 0]):
        here = truth == number
        ids, counts = np.unique(labels[here], return_counts=True)
        best = int(ids[counts.argmax()])
        shared = counts.max() / np.count_nonzero(here | (labels == best))
        if best > 0 and shared > 0.8:
            kept.append(best)
        else:
            drawn.append(here)
    return kept, drawn


def mended_labels(labels, kept, drawn):
    """As in napari: objects erased and painted in the labels themselves."""
    mended = np.where(np.isin(labels, kept), labels, 0)
    for number, here in enumerate(drawn, start=labels.max() + 1):
        mended[here] = number
    return mended.astype(np.uint16)


def mended_rois(path, kept, drawn):
    """As in Fiji's ROI manager: outlines deleted and rectangles drawn."""
    rois = [roi for number, roi in enumerate(roifile.roiread(path), start=1) if number in kept]
    for number, here in enumerate(drawn):
        (top, left), (bottom, right) = np.argwhere(here).min(0), np.argwhere(here).max(0) + 1
        corners = np.array([(left, top), (left, bottom), (right, bottom), (right, top)])
        rois.append(roifile.ImagejRoi.frompoints(corners, name=f"drawn-{number}"))
    return rois


@pytest.mark.parametrize("way", ["labels", "rois"])
def test_predict_correct_and_train_on_makes_unseen_images_better(biounet, make_data, tmp_path, way):
    """A model of bright cells misses dark ones; corrected predictions teach it, and other images show that."""
    on = ("--device", "cpu", "-q")
    small = [part for key in ("width=8", "depth=1") for part in ("--set", f"network.{key}")]
    quick = [*small, "--set", "training.tile=32", "--set", "training.batch_size=2", *on]
    bright = make_data("bright", **{f"b{k}": bright_and_dark(k, dark=False) for k in range(4)})
    untouched = make_data("untouched", **{f"u{k}": bright_and_dark(50 + k, dark=True) for k in range(3)})
    new = {f"n{k}": bright_and_dark(20 + k, dark=True) for k in range(3)}
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert biounet("train", bright, "--out", first, "--steps", "60", *quick).code == 0

    def score(model, out):
        assert biounet("predict", model, untouched / "images", "--out", out, *on).code == 0
        return biounet("evaluate", out, untouched, "--no-warping", "--json", "-q").json["mean"]["seg"]

    before = score(first, tmp_path / "before")
    make_data("new", **new)
    saved = ("--save", "labels,rois", *on)
    assert biounet("predict", first, tmp_path / "new" / "images", "--out", tmp_path / "predicted", *saved).code == 0
    corrected = tmp_path / "corrected"
    corrected.mkdir()
    stayed = added = 0
    for name, (image, truth) in new.items():
        tifffile.imwrite(corrected / f"{name}.tif", image)
        labels = tifffile.imread(tmp_path / "predicted" / f"{name}_labels.tif").astype(np.int32)
        kept, drawn = kept_and_drawn(labels, truth)
        if way == "rois":
            rois = mended_rois(tmp_path / "predicted" / f"{name}_rois.zip", kept, drawn)
            roifile.roiwrite(corrected / f"{name}_rois.zip", rois)
        else:
            tifffile.imwrite(corrected / f"{name}_labels.tif", mended_labels(labels, kept, drawn))
        stayed, added = stayed + len(kept), added + len(drawn)
    assert stayed > 0  # what was right is kept
    assert added >= 18  # the dark cells were missed
    assert biounet("train", corrected, "--out", second, "--from", first, "--steps", "100", *on).code == 0
    after = score(second, tmp_path / "after")
    assert after > before + 0.15, (before, after)
