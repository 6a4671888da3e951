"""Going on from a trained model: what is kept, what must fit, and that it begins where the model ended."""

from dataclasses import replace

import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.labels.meaning import Meaning
from biounet.model_file import load_model
from biounet.planning.data import read_training_data
from biounet.planning.start import check_start, in_classes_of
from biounet.training.train import train


@pytest.fixture
def trained(finished):
    return load_model(finished(steps=8))


def test_it_begins_with_the_model_s_weights_and_network(trained, cells, tiny, tmp_path):
    """With a rate of nothing the weights are those of the model, whatever the settings of the network."""
    settings = tiny("network.width=3", "training.learning_rate=1e-30", "training.weight_decay=0")
    again = train(cells, settings=settings, steps=1, seed=9, start_from=trained)
    assert again.network == trained.network
    assert again.normalisation == trained.normalisation
    for name, value in trained.weights.items():
        np.testing.assert_allclose(again.weights[name], value, atol=1e-6)
    assert again.training["from"] == trained.sha256
    assert any(
        line.startswith("goes on from the model " + trained.sha256[:12]) for line in again.training["statements"]
    )


def test_statistics_of_the_old_data_set_are_kept(finished, cells, tiny):
    trained = load_model(finished("data.normalisation=dataset", steps=2))
    brighter = [(image * 3 + 50, labels) for image, labels in cells]
    again = train(brighter, settings=tiny("data.normalisation=dataset"), steps=1, start_from=trained)
    assert again.normalisation == trained.normalisation


def test_it_is_resumed_from_the_same_model_only(trained, cells, tiny, tmp_path, stop_at):
    out = tmp_path / "again.safetensors"
    with pytest.raises(RuntimeError, match="stopped"):
        train(
            cells, out, settings=tiny("training.state_seconds=0.001"), steps=6, start_from=trained,
            listen=stop_at(4, RuntimeError("stopped")),
        )  # fmt: skip
    with pytest.raises(UsageError, match="from '"):
        train(cells, out, settings=tiny(), existing="resume")
    resumed = train(cells, out, settings=tiny(), existing="resume", start_from=trained)
    whole = train(cells, settings=tiny(), steps=6, start_from=trained)
    assert all(np.array_equal(resumed.weights[name], value) for name, value in whole.weights.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"task": "classes"}, "task differs: classes in the model, instances in the data"),
        ({"channels": ("0", "1", "2")}, "number of channels differs: 3 in the model, 1 in the data"),
        ({"classes": ("background", "a", "b")}, "number of classes differs: 3 in the model, 2 in the data"),
    ],
)
def test_a_model_for_other_data_is_refused(trained, cells, tiny, change, named):
    with pytest.raises(UsageError, match=named):
        train(cells, settings=tiny(), steps=1, start_from=replace(trained, **change))


def test_names_of_channels_and_classes_are_those_of_the_model(trained, cells, tiny):
    data = read_training_data(cells, tiny().data)
    data = replace(data, examples=tuple(e.with_image(np.repeat(e.image, 2, 0)) for e in data.examples))
    learnt = replace(trained, channels=("DAPI", "GFP"))
    check_start(learnt, replace(data, channel_names=("0", "1")))
    check_start(learnt, replace(data, channel_names=("DAPI", "GFP")))
    with pytest.raises(UsageError, match="the order DAPI, GFP, the data have GFP, DAPI; add --channels DAPI,GFP"):
        check_start(learnt, replace(data, channel_names=("GFP", "DAPI")))
    warned = check_start(learnt, replace(data, channel_names=("Hoechst", "GFP")))
    assert "warning: channels Hoechst, GFP are taken by position, where the model learnt from DAPI, GFP" in warned

    data = replace(data, channel_names=("0", "1"), meaning=replace(data.meaning, cell_classes=("immune", "stroma")))
    cells = replace(learnt, classes=("background", "immune", "stroma"))
    check_start(cells, data)
    with pytest.raises(UsageError, match="list of class names differs: background, cancer, immune in the model"):
        check_start(replace(cells, classes=("background", "cancer", "immune")), data)
    pixels = replace(data, meaning=Meaning("classes", (0, 1), "", value_names=("nerve", "vessel")))
    classes = replace(learnt, task="classes", values=(0, 1), classes=("0", "1"))
    check_start(classes, pixels)
    with pytest.raises(UsageError, match="list of class names"):
        check_start(replace(classes, classes=("vessel", "nerve")), pixels)


def test_another_scale_is_warned_of(trained, cells, tiny):
    data = read_training_data(cells, tiny().data)
    data = replace(data, examples=tuple(replace(e, pixel_size_um=(0.5, 0.5)) for e in data.examples))
    assert not any("warning" in line for line in check_start(replace(trained, pixel_size_um=(0.6, 0.6)), data))
    (warning,) = [line for line in check_start(replace(trained, pixel_size_um=(0.2, 0.2)), data) if "warning" in line]
    assert "pixels of 0.5, 0.5 um, where the model learnt from 0.2, 0.2 um" in warning


def test_a_missing_or_damaged_model_is_said(cells, tiny, tmp_path):
    with pytest.raises(DataError, match="no such model file"):
        train(cells, settings=tiny(), steps=1, start_from=tmp_path / "none.safetensors")


def test_classes_that_the_new_data_lack_are_kept(cells, tiny):
    """Three classes learnt, of which the corrected images show two."""
    three = [(image, (labels > 0).astype(int) * 2 + (labels == 1) * 3) for image, labels in cells]  # 0, 2, 5
    settings = tiny("data.task=classes", "training.learning_rate=1e-30", "training.weight_decay=0")
    learnt = train(three, settings=settings, steps=2)
    assert learnt.values == (0, 2, 5)
    two = [(image, (labels > 1) * 5) for image, labels in cells]  # the last of them, not the middle one
    again = train(two, settings=settings, steps=1, start_from=learnt)
    assert (again.values, again.classes) == (learnt.values, learnt.classes)
    said = again.training["statements"]
    assert "classes as of the model, 0, 2, 5: the data show 0, 5" in said
    assert any("shows 2, so the model may forget that; if others do" in line for line in said)
    data = in_classes_of(learnt, read_training_data(two, settings.data))
    assert [np.unique(example.labels).tolist() for example in data.examples] == [[0, 2]] * len(cells)
    more = [(image, (labels > 0) * 7) for image, labels in cells]
    with pytest.raises(UsageError, match="number of classes differs: 3 in the model, 2 in the data"):
        train(more, settings=settings, steps=1, start_from=learnt)


def test_classes_of_pixels_are_found_by_name_and_unknown_pixels_stay_unknown(trained, cells, tiny):
    model = replace(trained, task="classes", values=(0, 1, 2), classes=("background", "nerve", "vessel"))
    data = read_training_data([(image, (labels > 0) * 1 - (labels == 2) * 2) for image, labels in cells], tiny().data)
    data = replace(data, meaning=replace(data.meaning, value_names=("background", "vessel")))
    found = in_classes_of(model, data)
    assert found.meaning.class_names == model.classes
    for before, after in zip(data.examples, found.examples, strict=True):
        assert set(np.unique(after.labels)) == {-1, 0, 2}
        np.testing.assert_array_equal(after.labels == 2, before.labels == 1)


@pytest.mark.parametrize(
    ("kinds", "said"), [(("b",), "the data show b"), (("2",), "the data show b as 2"), (("1", "2"), "a as 1, b as 2")]
)
def test_classes_of_objects_by_name_or_by_the_number_in_predictions(trained, cells, tiny, kinds, said):
    model = replace(trained, classes=("background", "a", "b"))
    data = read_training_data(cells, tiny().data)
    named = tuple(replace(e, kinds={1: kinds[0], 2: kinds[-1]}) for e in data.examples)
    data = replace(data, examples=named, meaning=replace(data.meaning, cell_classes=kinds))
    found = in_classes_of(model, data)
    assert found.meaning.cell_classes == ("a", "b")
    assert found.examples[0].kinds == {1: "a" if len(kinds) == 2 else "b", 2: "b"}
    assert found.statements[-1].endswith(said)
    check_start(model, found)
