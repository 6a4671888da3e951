"""Each public set, in its own community's layout, is found, paired and understood."""

import numpy as np
import pytest

from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError
from biounet.labels.meaning import encode, infer_meaning

SETS = {  # folder: layout, images, channels, task, values
    "isbi2012_em": ("stacks", 24, 1, "classes", (0, 255)),
    "DIC-C2DH-HeLa": ("Cell Tracking Challenge", 9, 1, "instances", ()),
    "PhC-C2DH-U373": ("Cell Tracking Challenge", 15, 1, "instances", ()),
    "dsb2018_u2os": ("folders", 40, 1, "instances", ()),
    "dsb2018_mixed": ("folders", 89, 3, "instances", ()),
    "Dataset004_Hippocampus": ("nnU-Net", 24, 1, "classes", (0, 1, 2)),
}


def folder(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"{name} is not among the real images")
    if "Hippocampus" in name:
        pytest.importorskip("nibabel", reason="nibabel is not installed")
    return real_data / name


@pytest.mark.parametrize("name", SETS)
def test_set(real_data, name):
    layout, count, channels, task, values = SETS[name]
    dataset = find_dataset(folder(real_data, name))
    examples = load(dataset)
    assert (dataset.layout, len(examples), dataset.channels) == (layout, count, channels)
    assert dataset.ndim == (3 if "Hippocampus" in name else 2)
    assert len({example.name for example in examples}) == count
    for example in examples:
        assert example.image.shape == (channels, *example.labels.shape)
    meaning = infer_meaning([example.labels for example in examples])
    assert (meaning.task, meaning.values) == (task, values)
    assert dataset.task in (None, task)
    encoded = np.concatenate([np.unique(encode(example.labels, meaning)) for example in examples])
    if task == "classes":
        assert set(encoded.tolist()) == set(range(len(values)))


def test_partial_gold_of_hela(real_data):
    examples = {e.name: e for e in load(find_dataset(folder(real_data, "DIC-C2DH-HeLa")))}
    partial = {name for name, example in examples.items() if example.annotated_share < 1}
    assert partial == {"t034", "t039", "t067"}
    assert len(np.unique(examples["t067"].labels)) == 3 + 2
    assert 0.4 < examples["t067"].annotated_share < 0.55
    assert examples["t067"].notes == ("gold masks for 3 of 18 marked cells, unknown are 15 by their silver masks",)


def test_the_membrane_share_of_isbi(real_data):
    examples = load(find_dataset(folder(real_data, "isbi2012_em")))
    assert [examples[0].name, examples[-1].name] == ["train-volume[00]", "train-volume[23]"]
    assert 0.2 < np.mean([(example.labels == 0).mean() for example in examples]) < 0.24


def test_grey_and_colour_together_are_said(real_data):
    dataset = find_dataset(folder(real_data, "dsb2018_mixed"))
    assert "79 grey images among 10 RGB: grey is repeated to three channels" in dataset.reasons


def test_two_and_three_dimensions_together_are_refused_with_commands_that_work(real_data):
    path = folder(real_data, "stardist_samples")
    with pytest.raises(DataError, match="--ndim 2 .* --ndim 3 --skip-bad"):
        find_dataset(path)
    assert len(load(find_dataset(path, ndim=2))) == 32
    assert [e.labels.shape for e in load(find_dataset(path, ndim=3, skip_bad=True))] == [(31, 61, 57)]
