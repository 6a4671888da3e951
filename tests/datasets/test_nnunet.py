import json

import numpy as np
import pytest
import tifffile

from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError
from biounet.planning.data import read_training_data
from biounet.settings import DataSettings

LABELS = np.zeros((18, 20, 22), np.uint8)
LABELS[2:8, 2:9, 2:9], LABELS[9:15, 9:16, 9:16], LABELS[0] = 1, 2, 3


@pytest.fixture
def cases(tmp_path):
    """Two cases of two channels in 3D, value 3 to be ignored."""
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in ("brain_001", "brain_002"):
        for channel in (0, 1):
            volume = rng.integers(0, 99, LABELS.shape).astype(np.uint16) + 1000 * channel
            tifffile.imwrite(tmp_path / "imagesTr" / f"{case}_000{channel}.tif", volume)
        tifffile.imwrite(tmp_path / "labelsTr" / f"{case}.tif", LABELS)
    declare(tmp_path, {"background": 0, "left": 1, "right": 2, "ignore": 3})
    return tmp_path


def declare(folder, labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".tif"}))


def test_channels_labels_and_ignore_value(cases):
    dataset = find_dataset(cases)
    assert (dataset.ndim, dataset.channels, dataset.task, dataset.values) == (3, 2, "classes", (0, 1, 2))
    assert [item.name for item in dataset.items] == ["brain_001", "brain_002"]
    assert "dataset.json declares 3 as ignore label: unknown" in dataset.reasons
    example = load(dataset)[0]
    assert example.image.shape == (2, 18, 20, 22)
    assert example.image[0].max() < 1000 <= example.image[1].min()
    assert np.array_equal(example.labels, np.where(LABELS == 3, -1, LABELS.astype(int)))


def test_a_case_whose_name_ends_as_a_channel(tmp_path):
    for folder, name in (
        ("imagesTr", "cell_0000_0000"),
        ("imagesTr", "x_0000"),
        ("labelsTr", "cell_0000"),
        ("labelsTr", "x"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / folder / f"{name}.tif", np.eye(16, dtype=np.uint8))
    found = find_dataset(tmp_path)
    assert [item.name for item in found.items] == ["cell_0000", "x"]


def test_regions_and_version_one(cases):
    declare(cases, {"background": 0, "whole": [1, 2], "core": [2]})
    assert find_dataset(cases).values == (0, 1, 2)
    declare(cases, {"0": "background", "1": "left", "4": "right"})
    assert find_dataset(cases).values == (0, 1, 4)


def test_without_a_declaration_the_labels_tell(cases):
    (cases / "dataset.json").unlink()
    dataset = find_dataset(cases)
    assert (dataset.task, dataset.values) == (None, ())
    assert load(dataset)[0].labels.max() == 3


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"labels": 3}', '{"labels": {"a": "b"}}', "{}", '{"labels": {"a": null}}']
)
def test_a_broken_declaration_is_one_line(cases, text):
    (cases / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json: not an nnU-Net dataset\.json"):
        find_dataset(cases)


def test_missing_channels_and_masks_are_listed(cases):
    (cases / "imagesTr" / "brain_001_0001.tif").unlink()
    (cases / "labelsTr" / "brain_002.tif").rename(cases / "labelsTr" / "brain_003.tif")
    with pytest.raises(DataError, match="3 of 3 images cannot be used") as caught:
        find_dataset(cases)
    for text in ("brain_001: has the channels [0]", "brain_002: has no mask", "brain_003: is a mask without"):
        assert text in str(caught.value)


def test_names_of_classes_and_channels(cases):
    content = {"labels": {"background": 0, "left": 1, "right": 2, "ignore": 3}, "channel_names": {"0": "T1", "1": "T2"}}
    (cases / "dataset.json").write_text(json.dumps(content))
    dataset = find_dataset(cases)
    assert dataset.value_names == ("background", "left", "right")
    assert dataset.channel_names == ("T1", "T2")
    assert "dataset.json declares the classes 0 background, 1 left, 2 right" in dataset.reasons
    assert "dataset.json names the channels T1, T2" in dataset.reasons
    assert load(dataset)[0].channel_names == ("T1", "T2")
    found = read_training_data(cases, DataSettings())
    assert found.meaning.class_names == ("background", "left", "right")
    assert found.channel_names == ("T1", "T2")
    said = "values 0, 1, 2 are classes: declared by dataset.json; called background, left, right"
    assert said in found.statements
    assert "channels T1, T2, as dataset.json names them" in found.statements
    assert not [line for line in found.statements if "as asked for" in line]
    swapped = read_training_data(cases, DataSettings(channels=("T2", "T1")))
    assert (swapped.examples[0].image == found.examples[0].image[::-1]).all()


def test_version_one_calls_channels_modality(cases):
    content = {
        "labels": {"0": "background", "1": "left", "2": "right", "3": "rest"},
        "modality": {"0": "T1", "1": "T2"},
    }
    (cases / "dataset.json").write_text(json.dumps(content))
    assert find_dataset(cases).channel_names == ("T1", "T2")


@pytest.mark.parametrize("names", [{"0": "T1"}, {"0": "T1", "1": "T1"}, {"0": "T1", "2": "T2"}, {"0": "", "1": "T2"}])
def test_names_that_do_not_fit_the_channels_are_not_used(cases, names):
    content = {"labels": {"background": 0, "left": 1, "right": 2, "ignore": 3}, "channel_names": names}
    (cases / "dataset.json").write_text(json.dumps(content))
    assert find_dataset(cases).channel_names == ()


def test_values_of_regions_have_the_names_of_all(cases):
    declare(cases, {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ring": 1})
    assert find_dataset(cases).value_names == ("background", "whole + ring", "whole + core 2", "whole + core 3")


def test_a_task_that_is_asked_for_is_said_so(cases):
    found = read_training_data(cases, DataSettings(task="classes"))
    assert "values 0, 1, 2 are classes: as asked for; called background, left, right" in found.statements
