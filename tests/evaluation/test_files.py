"""Which prediction belongs to which truth; the scores themselves are tested beside their functions."""

import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from biounet.errors import DataError, UsageError
from biounet.evaluation.files import evaluate_files
from biounet.evaluation.pixels import pixel_error
from biounet.images.ome_zarr_labels import write_zarr_labels
from biounet.images.writing import write_labels, write_probabilities


def cells(shift=0, count=9):
    """Squares with ids 1..count, 64 x 72."""
    labels = np.zeros((64, 72), np.int32)
    for index in range(count):
        y, x = divmod(index, 5)
        labels[4 + 14 * y : 14 + 14 * y, 3 + 14 * x : 13 + 14 * x] = index + 1
    return np.roll(labels, shift, axis=1)


@pytest.fixture
def data(tmp_path):
    """A data folder of three images with instance masks, and an empty folder for predictions."""
    truths = {name: cells(shift, count) for name, shift, count in (("a", 0, 9), ("b ü", 1, 12), ("c", 2, 17))}
    for name, truth in truths.items():
        for folder, array in (("images", np.zeros((64, 72), np.uint8)), ("masks", truth.astype(np.uint16))):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / "data" / folder / f"{name}.tif", array)
    (tmp_path / "out").mkdir()
    return truths


def write_all(folder, truths, suffix="_labels"):
    for name, truth in truths.items():
        write_labels(folder / f"{name}{suffix}.tif", truth)


def names(evaluation):
    return [image["name"] for image in evaluation.result["images"]]


def errors(evaluation):
    return {image["name"]: image["pixel_error"] for image in evaluation.result["images"]}


def test_pairs_by_name(data, tmp_path):
    write_all(tmp_path / "out", data)
    found = evaluate_files(tmp_path / "out", tmp_path / "data")
    assert names(found) == ["a", "b ü", "c"]
    assert found.result["task"] == "instances"
    assert {score: found.result["mean"][score] for score in ("seg", "pixel_error", "v_rand", "dice")} == {
        "seg": 1, "pixel_error": 0, "v_rand": 1, "dice": 1,
    }  # fmt: skip
    assert found.result["pooled"]["objects"] == 9 + 12 + 17
    assert any("instances" in line for line in found.statements)
    json.dumps(found.result, allow_nan=False)


def test_each_image_gets_its_own_prediction(data, tmp_path):
    write_all(tmp_path / "out", data)
    wrong = np.where(data["c"] == 3, 0, data["c"])
    write_labels(tmp_path / "out" / "c_labels.tif", wrong)
    found = errors(evaluate_files(tmp_path / "out", tmp_path / "data"))
    assert found == {"a": 0, "b ü": 0, "c": pixel_error(wrong, data["c"])}
    assert found["c"] == 100 / (64 * 72)


def test_images_of_one_name_in_two_folders_have_predictions_of_their_own(tmp_path):
    for folder, count in (("s1", 9), ("s2", 12)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "data" / folder / "x.tif", np.zeros((64, 72), np.uint8))
        tifffile.imwrite(tmp_path / "data" / folder / "drawn.tif", cells(0, count).astype(np.uint16))
    (tmp_path / "data" / "pairs.csv").write_text("s1/x.tif,s1/drawn.tif\ns2/x.tif,s2/drawn.tif\n")
    (tmp_path / "out").mkdir()
    write_all(tmp_path / "out", {"x": cells(0, 9)})
    with pytest.raises(DataError, match="no prediction for s1_x, s2_x"):
        evaluate_files(tmp_path / "out", tmp_path / "data")
    write_all(tmp_path / "out", {"s1_x": cells(0, 9), "s2_x": cells(0, 12)})
    assert errors(evaluate_files(tmp_path / "out", tmp_path / "data")) == {"s1_x": 0, "s2_x": 0}


@pytest.mark.parametrize("suffix", ["", "_labels", "_cp_masks", "_mask", "_seg"])
def test_names_of_other_programs(data, tmp_path, suffix):
    write_all(tmp_path / "out", data, suffix)
    assert evaluate_files(tmp_path / "out", tmp_path / "data").result["mean"]["seg"] == 1


def test_what_else_lies_in_the_folder(data, tmp_path):
    out = tmp_path / "out"
    write_all(out, data)
    write_all(out, {name: truth * 0 for name, truth in data.items()}, "_overlay")
    Image.fromarray(np.zeros((64, 72), np.uint8)).save(out / "a.png")  # the image beside its labels
    (out / "run.json").write_text("{}")
    assert errors(evaluate_files(out, tmp_path / "data")) == {"a": 0, "b ü": 0, "c": 0}


def test_two_predictions_of_one_name_are_not_chosen_between(data, tmp_path):
    write_all(tmp_path / "out", data)
    write_all(tmp_path / "out", {"a": data["a"]}, "_cp_masks")
    with pytest.raises(DataError, match="a_cp_masks.tif and a_labels.tif: both are labels of a; keep one"):
        evaluate_files(tmp_path / "out", tmp_path / "data")


def test_labels_as_tiff_and_as_ome_zarr_are_one_prediction_until_one_is_edited(data, tmp_path):
    import zarr

    write_all(tmp_path / "out", data)
    path, truth = tmp_path / "out" / "a_labels.ome.zarr", data["a"]
    write_zarr_labels(path, lambda a, b: truth[tuple(map(slice, a, b))], truth.shape, largest_id=9)
    assert errors(evaluate_files(tmp_path / "out", tmp_path / "data")) == {"a": 0, "b ü": 0, "c": 0}
    zarr.open_array(path / "0", mode="r+")[:5, :5] = 5
    with pytest.raises(DataError, match=r"a_labels.ome.zarr and a_labels.tif: both are labels of a; keep one"):
        evaluate_files(tmp_path / "out", tmp_path / "data")


def test_only_some(data, tmp_path):
    write_all(tmp_path / "out", {"b ü": data["b ü"]})
    found = evaluate_files(tmp_path / "out", tmp_path / "data", only="b ü")
    assert names(found) == ["b ü"]
    assert "only b ü" in found.statements
    assert names(evaluate_files(tmp_path / "out", tmp_path / "data", only="images 1")) == ["b ü"]
    with pytest.raises(UsageError, match="--only d: no image of this name; there are a, b ü, c"):
        evaluate_files(tmp_path / "out", tmp_path / "data", only="d")


def test_what_the_labels_mean_is_judged_by_all_of_them(data, tmp_path):
    """Of image a alone one object is left: by itself it would be taken for a mask of two values."""
    tifffile.imwrite(tmp_path / "data" / "masks" / "a.tif", (data["a"] == 1).astype(np.uint16))
    write_all(tmp_path / "out", data)
    assert evaluate_files(tmp_path / "out", tmp_path / "data", only="a").result["task"] == "instances"


def test_a_missing_prediction(data, tmp_path):
    write_all(tmp_path / "out", {"a": data["a"], "x": data["c"]})
    with pytest.raises(DataError, match=r"out: no prediction for b ü, c \(looked for NAME_labels.tif\).*--only"):
        evaluate_files(tmp_path / "out", tmp_path / "data")


def test_a_wrong_size(data, tmp_path):
    write_all(tmp_path / "out", {**data, "b ü": data["b ü"][:-1]})
    with pytest.raises(DataError, match=r"b ü_labels.tif: \(63, 72\) pixels, but the truth of b ü has \(64, 72\)"):
        evaluate_files(tmp_path / "out", tmp_path / "data")


def test_folders_that_are_missing_or_empty(data, tmp_path):
    with pytest.raises(DataError, match="gone: there is no such file or folder"):
        evaluate_files(tmp_path / "gone", tmp_path / "data")
    with pytest.raises(DataError, match="gone: there is no such file or folder"):
        evaluate_files(tmp_path / "out", tmp_path / "gone")
    with pytest.raises(DataError, match=r"out: holds no label images \(NAME_labels.tif\); predict first"):
        evaluate_files(tmp_path / "out", tmp_path / "data")
    with pytest.raises(DataError, match="out: the folder is empty"):
        evaluate_files(tmp_path / "data" / "masks", tmp_path / "out")


# -- pages


def write_stack(folder, truth):
    folder.mkdir()
    tifffile.imwrite(folder / "train-volume.tif", np.zeros(truth.shape, np.uint8))
    tifffile.imwrite(folder / "train-labels.tif", truth.astype(np.uint8))


def test_pages_of_a_stack(tmp_path):
    truth = np.stack([np.where(cells(shift) > 0, 255, 0) for shift in range(5)])
    write_stack(tmp_path / "data", truth)
    predicted = (truth > 0).astype(np.int32)
    predicted[3, :10] = 0
    write_labels(tmp_path / "out" / "train-volume_labels.tif", predicted, axes="TYX")
    expected = [pixel_error(p, (t > 0).astype(np.int32)) for p, t in zip(predicted, truth, strict=True)]
    assert [error > 0 for error in expected] == [False, False, False, True, False]
    found = evaluate_files(tmp_path / "out", tmp_path / "data")
    assert names(found) == [f"train-volume[{i:02d}]" for i in range(5)]
    assert list(errors(found).values()) == expected
    assert (
        list(errors(evaluate_files(tmp_path / "out", tmp_path / "data", only="slices 2-3")).values()) == expected[2:4]
    )


def test_too_few_pages(tmp_path):
    truth = np.stack([cells(shift) for shift in range(5)])
    write_stack(tmp_path / "data", truth)
    write_labels(tmp_path / "out" / "train-volume_labels.tif", truth[:3], axes="TYX")
    with pytest.raises(DataError, match="train-volume_labels.tif: has 3 images, the truth asks for number 3"):
        evaluate_files(tmp_path / "out", tmp_path / "data")


def test_probabilities_of_pages(tmp_path):
    truth = np.stack([cells(shift) for shift in range(2)])
    write_stack(tmp_path / "data", truth)
    write_labels(tmp_path / "out" / "train-volume_labels.tif", np.zeros_like(truth), axes="TYX")
    inside = np.stack([truth[0] > 0, truth[1] * 0]).astype(np.float32)  # right on the first page only
    write_probabilities(tmp_path / "out" / "train-volume_probabilities.tif", np.stack([1 - inside, inside]))
    first, second = evaluate_files(tmp_path / "out", tmp_path / "data").result["images"]
    assert first["rand_error"] == 0
    assert second["rand_error"] > 0.5


@pytest.mark.parametrize("told", [True, False])
def test_stacks_that_a_model_learnt_plane_by_plane(tmp_path, told):
    """``run.json`` says it, or the user."""
    stack = np.stack([cells(shift, 9) for shift in range(5)]).astype(np.uint16)
    for folder in ("data/images", "data/masks", "out"):
        (tmp_path / folder).mkdir(parents=True)
    tifffile.imwrite(tmp_path / "data" / "images" / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "data" / "masks" / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    write_labels(tmp_path / "out" / "s_labels.tif", stack)
    assert names(evaluate_files(tmp_path / "out", tmp_path / "data")) == ["s"]
    if told:
        run = {"task": "instances", "classes": ["background", "cell"], "values": [], "ndim": 2}
        (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    found = evaluate_files(tmp_path / "out", tmp_path / "data", ndim=None if told else 2)
    assert names(found) == [f"s[{page:02d}]" for page in range(5)]
    assert found.result["mean"]["seg"] == 1
    assert ("2D, as the model learnt that predicted" in found.statements) == told


@pytest.mark.parametrize("task", [None, "instances", "classes"])
def test_images_without_any_object_can_be_scored(tmp_path, task):
    """Negative controls: whatever is found there is spurious."""
    for folder in ("images", "masks", "out"):
        (tmp_path / folder).mkdir()
    empty = np.zeros((64, 72), np.uint8)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", empty + 3)
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", empty)
    write_all(tmp_path / "out", {"a": cells() > 0 if task == "classes" else cells(), "b": empty})
    found = evaluate_files(tmp_path / "out", tmp_path, task=task)
    assert found.result["task"] == (task or "instances")
    assert errors(found) == {"a": 900 / (64 * 72), "b": 0}
    assert found.result["images"][0]["errors"]["spurious"] == 9
    assert any(line.startswith("nothing is drawn in any mask") for line in found.statements)


def test_volumes(tmp_path):
    truth = np.stack([cells()] * 6)
    tifffile.imwrite(tmp_path / "true.tif", truth.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    write_labels(tmp_path / "out" / "anything.tif", truth)
    found = evaluate_files(tmp_path / "out", tmp_path / "true.tif")
    assert names(found) == ["true"]
    assert found.result["mean"]["seg"] == 1
    assert found.result["pooled"]["objects"] == 9


# -- single files and folders of label images


def test_one_file_with_one_file_whatever_their_names(tmp_path):
    write_labels(tmp_path / "mine.tif", cells())
    write_labels(tmp_path / "yours.tif", cells())
    found = evaluate_files(str(tmp_path / "mine.tif"), str(tmp_path / "yours.tif"))
    assert names(found) == ["yours"]
    assert found.result["mean"]["seg"] == 1


def test_a_folder_of_label_images(tmp_path):
    for folder, suffix in (("true", ""), ("out", "_labels")):
        write_all(tmp_path / folder, {"a": cells(0), "b": cells(3)}, suffix)
    found = evaluate_files(tmp_path / "out", tmp_path / "true")
    assert errors(found) == {"a": 0, "b": 0}
    assert found.statements[0].startswith("2 label files in ")


def test_true_labels_of_one_name_are_not_chosen_between(tmp_path):
    write_all(tmp_path / "true", {"a": cells()}, "")
    Image.fromarray(cells().astype(np.uint8)).save(tmp_path / "true" / "a.png")
    write_labels(tmp_path / "out" / "a_labels.tif", cells())
    with pytest.raises(DataError, match="several true images are called a; name the ones meant with --only"):
        evaluate_files(tmp_path / "out", tmp_path / "true")


def test_a_faulty_data_folder_is_not_taken_for_label_images(tmp_path):
    """Images beside masks, one of another size: the images are no labels."""
    write_all(tmp_path / "data", {"a": cells(), "a_masks": cells(), "b": cells(), "b_masks": cells()[:-4]}, "")
    write_all(tmp_path / "out", {"a": cells(), "b": cells()})
    with pytest.raises(DataError, match=re.escape("1 of 2 images cannot be used (b: b.tif is 64 x 72 pixels, mask")):
        evaluate_files(tmp_path / "out", tmp_path / "data")


# -- drawn objects


def drawn(folder, names):
    """An image with a square cell outlined for each name (None for none); the ids of the cells."""
    ids = cells(count=len(names))
    features = []
    for index, name in enumerate(names):
        (top, left), (bottom, right) = (f(np.argwhere(ids == index + 1), axis=0) for f in (np.min, np.max))
        ring = [[left, top], [right + 1, top], [right + 1, bottom + 1], [left, bottom + 1], [left, top]]
        geometry = {"type": "Polygon", "coordinates": [[[int(x), int(y)] for x, y in ring]]}
        properties = {} if name is None else {"classification": {"name": name}}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / "a.tif", np.zeros(ids.shape, np.uint8))
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return ids


def test_outlines_without_names_are_one_class_of_pixels(tmp_path):
    ids = drawn(tmp_path / "data", [None] * 9)
    write_labels(tmp_path / "out" / "a_labels.tif", ids > 0)
    found = evaluate_files(tmp_path / "out", tmp_path / "data", task="classes")
    assert found.result["mean"]["classes"]["cell"] == {"dice": 1, "iou": 1}
    assert found.result["mean"]["pixel_error"] == 0


def test_outlines_with_names_are_a_class_each(tmp_path):
    ids = drawn(tmp_path / "data", ["ring", "spot", "ring", "spot"])
    write_labels(tmp_path / "out" / "a_labels.tif", np.where(ids > 0, 2 - ids % 2, 0))
    found = evaluate_files(tmp_path / "out", tmp_path / "data", task="classes")
    assert {name: entry["dice"] for name, entry in found.result["mean"]["classes"].items()} == {
        "background": 1, "ring": 1, "spot": 1,
    }  # fmt: skip


def test_more_names_than_classes_can_have(tmp_path):
    ids = drawn(tmp_path / "data", [f"cell {chr(97 + k)}" for k in range(17)])
    write_labels(tmp_path / "out" / "a_labels.tif", ids)
    with pytest.raises(DataError, match=r"17 different names of objects .*, --no-object-classes in evaluate"):
        evaluate_files(tmp_path / "out", tmp_path / "data")
    found = evaluate_files(tmp_path / "out", tmp_path / "data", object_classes=False)
    assert found.result["mean"]["seg"] == 1


# -- values


@pytest.mark.parametrize("drawn", [1, 255])
def test_masks_of_two_values(tmp_path, drawn):
    """0/255 is what other programs write, 0/1 are class ids."""
    write_labels(tmp_path / "true.tif", (cells() > 0) * 255)
    write_labels(tmp_path / "mine.tif", (cells() > 0) * drawn)
    found = evaluate_files(tmp_path / "mine.tif", tmp_path / "true.tif")
    assert found.result["task"] == "classes"
    assert (found.result["mean"]["pixel_error"], found.result["mean"]["dice"]) == (0, 1)
    assert set(found.result["mean"]["classes"]) == {"0", "255"}


def test_class_ids_and_the_annotations_values(tmp_path):
    ids = np.arange(64 * 72, dtype=np.int32).reshape(64, 72) // 700 % 3
    wrong = np.where(np.arange(72) < 10, 0, ids).astype(np.int32)
    write_labels(tmp_path / "true.tif", np.array([0, 80, 200])[ids])
    for predicted in (wrong, np.array([0, 80, 200])[wrong]):
        write_labels(tmp_path / "mine.tif", predicted)
        found = evaluate_files(tmp_path / "mine.tif", tmp_path / "true.tif", task="classes")
        assert found.result["mean"]["pixel_error"] == np.mean(wrong != ids) > 0.05


def two_strips(values, width=24):
    """Vertical strips of these values, 64 x 72."""
    return np.repeat(np.resize(values, 72 // width), width)[None].repeat(64, 0).astype(np.int32)


def tell(folder, **told):
    (folder / "run.json").write_text(json.dumps({"task": "classes"} | told))


def test_values_are_judged_by_all_files(tmp_path):
    """Of b alone 0 and 2 could be class ids; a says that they are the annotation's own."""
    masks = {"a": two_strips([0, 2, 3]), "b": two_strips([0, 2])}
    write_all(tmp_path / "true", masks, "")
    write_all(tmp_path / "out", masks)
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes")
    assert errors(found) == {"a": 0, "b": 0}
    assert "predicted values 0, 2, 3 are the annotation's own" in found.statements


def test_classes_of_a_model_that_the_truth_does_not_show(tmp_path):
    """A model of 0, 1 and 2 that calls class 2 by the name of 1; nothing beside the labels would tell."""
    truth = two_strips([0, 2])
    write_all(tmp_path / "true", {"a": truth}, "")
    write_all(tmp_path / "out", {"a": truth // 2})
    assert evaluate_files(tmp_path / "out", tmp_path / "true", task="classes").result["mean"]["dice"] == 1
    tell(tmp_path / "out", classes=["0", "1", "2"], values=[0, 1, 2])
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes").result["mean"]
    assert found["pixel_error"] == np.mean(truth > 0)
    assert found["classes"] == {
        "0": {"dice": 1, "iou": 1}, "1": {"dice": None, "iou": None}, "2": {"dice": 0, "iou": 0},
    }  # fmt: skip
    assert found["dice"] == 0


@pytest.mark.parametrize("told", [True, False])
def test_a_class_that_the_truth_never_has_is_wrong_and_not_an_error(tmp_path, told):
    truth = two_strips([0, 2])
    wrong = truth.copy()
    wrong[:8, :8] = 1  # on background
    write_all(tmp_path / "true", {"a": truth}, "")
    write_all(tmp_path / "out", {"a": wrong})
    if told:
        tell(tmp_path / "out", classes=["0", "1", "2"], values=[0, 1, 2])
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes").result["mean"]
    assert found["pixel_error"] == 64 / (64 * 72)
    assert found["dice"] == found["classes"]["2"]["dice"] == 1
    assert found["classes"]["1"]["dice"] is None
    assert found["classes"]["0"]["dice"] < 1


@pytest.mark.parametrize("told", [True, False])
def test_scribbles_whose_rest_is_unknown(tmp_path, told):
    """Class 0 and 1 of the model are 1 and 2 of the annotation; 0 is not drawn."""
    full = two_strips([1, 2, 1])
    write_all(tmp_path / "true", {"a": np.where(np.arange(72) % 5, 0, full)}, "")
    write_all(tmp_path / "out", {"a": full - 1})
    if told:
        tell(tmp_path / "out", classes=["1", "2"], values=[1, 2], unlabelled="unknown")
    given = {} if told else {"unlabelled": "unknown"}
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes", **given)
    assert (found.result["mean"]["pixel_error"], found.result["mean"]["dice"]) == (0, 1)
    assert found.meaning.values == (1, 2)
    why = "as the model that predicted learnt it; --unlabelled overrides that" if told else "--unlabelled unknown"
    assert f"what is not drawn is unknown ({why})" in found.statements
    wrong = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes", unlabelled="background")
    assert wrong.result["mean"]["pixel_error"] > 0.4


def test_a_scribble_of_one_class_alone(tmp_path):
    """Value 0, which is unknown, does not become a class."""
    full = two_strips([2, 2, 2])
    write_all(tmp_path / "true", {"a": np.where(np.arange(72) % 5, 0, full)}, "")
    write_all(tmp_path / "out", {"a": full // 2})
    tell(tmp_path / "out", classes=["1", "2"], values=[1, 2], unlabelled="unknown")
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes")
    assert found.meaning.values == (1, 2)
    assert found.result["mean"]["classes"] == {"1": {"dice": None, "iou": None}, "2": {"dice": 1, "iou": 1}}


def test_drawn_classes_are_those_of_the_model_by_name(tmp_path):
    """The model knows rings and spots, as 1 and 2; here are only spots."""
    ids = drawn(tmp_path / "data", ["spot", "spot"])
    write_labels(tmp_path / "out" / "a_labels.tif", (ids > 0) * 2)
    tell(tmp_path / "out", classes=["background", "ring", "spot"], values=[0, 1, 2])
    found = evaluate_files(tmp_path / "out", tmp_path / "data", task="classes").result["mean"]
    assert found["classes"]["spot"]["dice"] == 1
    assert found["classes"]["ring"]["dice"] is None


def test_names_are_no_classes_to_a_model_of_one(tmp_path):
    ids = drawn(tmp_path / "data", [f"cell {chr(97 + k)}" for k in range(17)])
    write_labels(tmp_path / "out" / "a_labels.tif", ids)
    tell(tmp_path / "out", task="instances", classes=["background", "cell"], values=[])
    assert evaluate_files(tmp_path / "out", tmp_path / "data").result["mean"]["seg"] == 1


def test_results_from_before_values_were_told(tmp_path):
    write_all(tmp_path / "true", {"a": two_strips([0, 80, 200])}, "")
    write_all(tmp_path / "out", {"a": two_strips([0, 1, 2])})
    tell(tmp_path / "out", classes=["0", "80", "200"])
    found = evaluate_files(tmp_path / "out", tmp_path / "true", task="classes")
    assert found.result["mean"]["pixel_error"] == 0
    assert any("taken for class ids of 0, 80, 200" in line for line in found.statements)


def test_ids_against_a_mask_of_two_values(tmp_path):
    write_labels(tmp_path / "true.tif", (cells() > 0) * 255)
    write_labels(tmp_path / "mine.tif", cells())
    with pytest.raises(DataError, match=r"mine.tif: label values 1, 2, .*--task instances"):
        evaluate_files(tmp_path / "mine.tif", tmp_path / "true.tif")
    found = evaluate_files(tmp_path / "mine.tif", tmp_path / "true.tif", task="instances")
    assert found.result["mean"]["seg"] == 1
    assert found.result["pooled"]["objects"] == 9


def test_unknown_pixels_count_nowhere(data, tmp_path):
    region = np.ones((64, 72), np.uint8)
    region[:, 40:] = 0
    tifffile.imwrite(tmp_path / "data" / "masks" / "a_region.tif", region)
    write_all(tmp_path / "out", {**data, "a": np.where(region, data["a"], 77)})
    found = evaluate_files(tmp_path / "out", tmp_path / "data", only="a")
    assert found.result["mean"]["pixel_error"] == 0
    assert found.result["mean"]["seg"] == 1


# -- probabilities


def test_probabilities_beside_the_labels_are_used(data, tmp_path):
    write_all(tmp_path / "out", {name: truth * 0 for name, truth in data.items()})
    inside = (data["a"] > 0).astype(np.float32)
    write_probabilities(tmp_path / "out" / "a_probabilities.tif", np.stack([1 - inside, inside]))
    of_a, of_b, _ = evaluate_files(tmp_path / "out", tmp_path / "data").result["images"]
    assert of_a["rand_error"] == 0
    assert of_b["rand_error"] > 0.5
    assert of_a["seg"] == of_b["seg"] == 0


def test_probabilities_of_the_inside_alone(tmp_path):
    write_labels(tmp_path / "true.tif", cells())
    write_labels(tmp_path / "mine_labels.tif", cells() * 0)
    tifffile.imwrite(tmp_path / "mine_probabilities.tif", (cells() > 0).astype(np.float32))
    found = evaluate_files(tmp_path / "mine_labels.tif", tmp_path / "true.tif")
    assert found.result["mean"]["rand_error"] == 0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 63, 72), np.float32), r"shape \(2, 63, 72\) does not fit labels of \(64, 72\); predict again"),
        (np.full((2, 64, 72), np.nan, np.float32), "9216 of 9216 pixels are NaN or infinite"),
    ],
)
def test_probabilities_that_do_not_fit(tmp_path, array, words):
    write_labels(tmp_path / "true.tif", cells())
    write_labels(tmp_path / "mine_labels.tif", cells())
    write_probabilities(tmp_path / "mine_probabilities.tif", array)
    with pytest.raises(DataError, match=f"mine_probabilities.tif: {words}"):
        evaluate_files(tmp_path / "mine_labels.tif", tmp_path / "true.tif")


@pytest.mark.parametrize("shape", [(1, 64, 72), (3, 64, 72)])
def test_probabilities_of_volumes(tmp_path, shape):
    """Files drop axes of one position, so a volume of one plane comes back as a plane."""
    truth = np.broadcast_to(cells(), shape)
    inside = (truth > 0).astype(np.float32)
    tifffile.imwrite(tmp_path / "true.tif", truth.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    write_labels(tmp_path / "mine_labels.tif", truth * 0)
    write_probabilities(tmp_path / "mine_probabilities.tif", np.stack([1 - inside, inside]))
    assert evaluate_files(tmp_path / "mine_labels.tif", tmp_path / "true.tif").result["mean"]["rand_error"] == 0


def test_probabilities_of_several_volumes(tmp_path):
    truth = np.stack([[cells(count=5 + 3 * t)] * 2 for t in range(3)]).astype(np.uint16)
    inside = (truth > 0).astype(np.float32)
    tifffile.imwrite(tmp_path / "true.tif", truth, imagej=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(tmp_path / "mine_labels.tif", truth * 0, imagej=True, metadata={"axes": "TZYX"})
    probabilities = np.stack([1 - inside, inside])
    tifffile.imwrite(tmp_path / "mine_probabilities.tif", probabilities, ome=True, metadata={"axes": "CTZYX"})
    found = evaluate_files(tmp_path / "mine_labels.tif", tmp_path / "true.tif", task="instances", warping=False)
    assert [image["rand_error"] for image in found.result["images"]] == [0, 0, 0]


# -- the result


def test_intervals_follow_from_the_seed(data, tmp_path):
    write_all(tmp_path / "out", {name: np.roll(truth, 1, 0) for name, truth in data.items()})
    first, again, other = (
        evaluate_files(tmp_path / "out", tmp_path / "data", seed=seed, warping=False).result for seed in (0, 0, 1)
    )
    assert first == again
    assert first["mean"] == other["mean"]
    assert first["interval"] != other["interval"]
    assert "warping_error" not in first["mean"]
    assert first["interval_over"] == "blocks"  # of three images no bootstrap over images can be had
    assert first["mean"]["pixel_error"] == np.mean(list(errors_of(first)))


def errors_of(result):
    return (image["pixel_error"] for image in result["images"])


def test_masks_in_colours_that_a_list_beside_them_explains(tmp_path):
    """Two annotators who paint RGB masks."""
    ids = two_strips([0, 1, 2])
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for folder, drawn in (("one", ids), ("two", np.where(np.arange(72) < 24, 1, ids))):
        (tmp_path / folder).mkdir()
        Image.fromarray(palette[drawn]).save(tmp_path / folder / "a.png")
        (tmp_path / folder / "colours.csv").write_text("000000,background\nff0000,axon\n0000ff,myelin\n")
    found = evaluate_files(tmp_path / "two", tmp_path / "one", task="classes")
    assert errors(found) == {"a": 1 / 3}


@pytest.mark.parametrize(("task", "expected"), [("classes", "classes"), ("instances", "instances")])
def test_the_task_is_that_of_the_model_that_predicted(tmp_path, task, expected):
    """One object in each image could be either."""
    ids = (cells(0, 1) > 0).astype(np.uint8)
    for folder in ("data/images", "data/masks", "out"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "ab":
        tifffile.imwrite(tmp_path / "data" / "images" / f"{name}.tif", ids)
        tifffile.imwrite(tmp_path / "data" / "masks" / f"{name}.tif", ids)
    write_all(tmp_path / "out", {"a": ids, "b": cells(0, 3) if task == "instances" else ids})
    values = [] if task == "instances" else [0, 1]
    run = {"task": task, "classes": ["background", "cell"], "values": values}
    (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    found = evaluate_files(tmp_path / "out", tmp_path / "data")
    assert found.result["task"] == expected
    assert any("as the model learnt that predicted (--task overrides that)" in line for line in found.statements)
    other = "instances" if task == "classes" else "classes"
    if task == "classes":
        assert evaluate_files(tmp_path / "out", tmp_path / "data", task=other).result["task"] == other


@pytest.fixture
def sequences(tmp_path):
    """Two sequences with a frame of the same name each, and a third frame of the second."""
    for sequence, frames in (("01", (0,)), ("02", (0, 1))):
        for folder in (sequence, f"{sequence}_GT/SEG", f"found {sequence}"):
            (tmp_path / folder).mkdir(parents=True)
        for frame in frames:
            gold = np.zeros((40, 50), np.uint16)
            gold[5:20, 5 + 5 * frame : 20] = 1 + (sequence == "02")
            tifffile.imwrite(tmp_path / f"{sequence}_GT/SEG/man_seg{frame:03}.tif", gold)
            tifffile.imwrite(tmp_path / sequence / f"t{frame:03}.tif", gold * 50)
            tifffile.imwrite(tmp_path / f"found {sequence}" / f"t{frame:03}_labels.tif", gold)
    return tmp_path


def test_each_sequence_is_scored_from_a_folder_of_its_own(sequences):
    result = evaluate_files(sequences / "found 02", sequences, only="02_t000,02_t001", warping=False).result
    assert [one["name"] for one in result["images"]] == ["02_t000", "02_t001"]
    assert result["mean"]["seg"] == 1
    with pytest.raises(DataError, match="no prediction for 01_t000, 02_t000"):
        evaluate_files(sequences / "found 02", sequences, warping=False)
